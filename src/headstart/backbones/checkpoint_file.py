"""What a checkpoint holds: its tensors, each under its full name, whatever it lies in. Nothing in it can run code."""

import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from headstart.errors import InputError

_BEGINNINGS = {
    b"version https://git-lfs": "it is a pointer of git-lfs to the file, not the file: fetch it by git lfs pull",
    b"\x1f\x8b": "it is compressed by gzip: unpack it",
    b"7z\xbc\xaf": "it is an archive: unpack it",
    b"\x89HDF": "it is in HDF5, as Keras saves weights, but must be PyTorch's or safetensors",
    b"<": "it is a web page: fetch the file itself",
}
"""What files begin with that are often taken for weights, and what to do about it."""
_USUAL = re.compile(r"torch\.(?!nn\.modules\.).*|collections\..*|_codecs\..*|builtins\.(set|complex|bytearray)")
"""What checkpoints of plain tensors name too."""
_OLD_FORMAT_PICKLES = 4
"""In files from before torch 1.6: a magic number, the version, facts about the machine, and the object."""


@dataclass(frozen=True)
class CheckpointContents:
    """All tensors of a file by their full names: keys of the mappings they lie in and their own, joined by dots."""

    tensors: Mapping[str, Tensor]
    passed_over: tuple[str, ...] = ()
    """Classes of objects in the file that are no tensors; none of them was made."""


def read(path: Path) -> CheckpointContents:
    """The tensors of a safetensors file or of what `torch.save` wrote, mapped from the disk where that can be.

    Objects of other classes (the arguments of the training program, say) are passed over. Raises `InputError` for a
    file that is damaged, is something else, or holds no tensors.
    """
    try:
        content, foreign = _read(path)
    except InputError:
        raise
    except Exception as error:  # each reader raises its own for a damaged file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise _unreadable(path, reason[0].rstrip(".")) from error
    tensors = dict(_flattened(content, ""))
    if not tensors:
        whole = f", but objects of {', '.join(foreign[:5])}" if foreign else ""
        raise InputError(
            f"The weights file {path} holds no state dict (tensors by their names){whole}. Of a model saved whole, "
            "save model.state_dict() instead."
        )
    return CheckpointContents(tensors, tuple(foreign))


def _read(path: Path) -> tuple[Any, list[str]]:
    with path.open("rb") as file:
        start = file.read(300)
    reason = next((reason for bytes_, reason in _BEGINNINGS.items() if start.lstrip().startswith(bytes_)), None)
    if not start:
        reason = "it is empty (0 bytes): fetch it again"
    elif start[257:262] == b"ustar":
        reason = "it is an archive (tar): unpack it"
    if reason is not None:
        raise _unreadable(path, reason)
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path), []
    return _torch_load(path)


def _torch_load(path: Path) -> tuple[Any, list[str]]:
    """The content, with something inert in the place of every object that torch does not itself hold for harmless."""
    import torch

    foreign = sorted(set(_globals(path)))
    # torch's own come first, these are for the rest only
    stand_ins: list[Any] = [(_Inert if name.startswith("numpy.") else _Empty, name) for name in foreign]
    mapped = zipfile.is_zipfile(path)  # files in the format from before torch 1.6 cannot be mapped
    with torch.serialization.safe_globals(stand_ins):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    return content, [name for name in foreign if not _USUAL.fullmatch(name)]


class _Empty:
    """Stands in for a class or function of a pickle: whatever it is called with, it gives an empty mapping.

    A mapping, so that it takes items, as what is kept in a class of its own for settings does.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


class _Inert:
    """The same for numpy's, whose state is none of items or attributes."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _globals(path: Path) -> Iterator[str]:
    """Names of the classes and functions that a pickle asks for, without carrying it out."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            if not pickles:
                held = ", ".join(archive.namelist()[:5])
                raise _unreadable(path, f"it is an archive (zip) that torch.save did not write, with {held}: unpack it")
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise _unreadable(path, "it is a TorchScript program: save the state_dict() of the model instead")
            for name in pickles:
                with archive.open(name) as file:
                    yield from _named(file)
        return
    with path.open("rb") as file:
        for _ in range(_OLD_FORMAT_PICKLES):
            yield from _named(file)


def _named(file: Any) -> Iterator[str]:
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL" and argument is not None:
            module, _, name = argument.partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # of Python 2
            yield f"{module}.{name}"


def _flattened(node: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, Mapping):
        for key, child in node.items():
            yield from _flattened(child, f"{name}.{key}" if name else str(key))


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"The weights file {path} cannot be read: {reason}. It must be a safetensors file or a checkpoint of plain "
        "tensors; of a model saved whole, save model.state_dict() instead."
    )
