"""Arrays of decoded examples: in memory or in a memory-mapped file, made once and found again by a key.

A file's name ends in the checksum of its values, against which they are held when it is opened, once in the life of a
process: a third of a second for a gigabyte that lies in the system's memory, else as long as the disk takes to read it.
"""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.errors import InputError
from headstart.system import bounded, memory
from headstart.system.bounded import DamagedError
from headstart.system.cache import cache_dir, drafted, remove_left, stamp
from headstart.system.checksums import crc32_of
from headstart.system.cores import cores
from headstart.system.process import clock_of

CacheBytes = int | Literal["auto"]
Fill = Callable[[np.ndarray], None]
"""Writes every example into the array `(N, …)` it is given."""

_log = logging.getLogger(__name__)
_UNUSED_DAYS = 30
_DAY = 86_400


@dataclass(frozen=True)
class Decoded:
    """Examples as they were decoded: a read-only array, and the checksum of its values."""

    array: np.ndarray
    checksum: str

    def verify(self) -> None:
        """Raise `InputError` if the values are no longer those that were decoded."""
        if _checksum(self.array) != self.checksum:
            raise InputError(
                "Decoded examples have changed while they were read: the disk that they are kept on, or the memory, "
                "is damaged. Start the command again; they are decoded anew then."
            )


def decoded(
    room: str, key: str, shape: tuple[int, ...], fill: Fill, cache_bytes: CacheBytes, dtype: type = np.uint8
) -> Decoded | None:
    """A read-only array of `shape` and `dtype` filled by `fill`, or `None` where neither memory nor disk can hold it.

    It is a memory-mapped file that all runs and workers share, found again by `key`; where there is too little free
    disk for that, an array in memory if it has at most `cache_bytes` ("auto": half of the free memory).
    """
    folder = cache_dir(room)
    remove_left(folder)
    kind = np.dtype(dtype)
    found = _found(folder, key, shape, kind)
    if found is not None:
        return found
    _remove_unused(folder)
    size = int(np.prod(shape)) * kind.itemsize
    if size <= 0.5 * _free_disk(folder):
        try:
            return _made(folder, key, shape, kind, fill)
        except OSError as error:
            _log.warning("Decoded examples cannot be kept in %s (%s).", folder, error)
    if size <= (memory.free_bytes() // 2 if cache_bytes == "auto" else cache_bytes):
        kept = np.empty(shape, kind)
        fill(kept)
        kept.flags.writeable = False
        return Decoded(kept, _checksum(kept))
    _log.warning(
        "Decoded, the examples take %.3g GB, for which there is no room in %s (which may take half of what is free on "
        "its disk) nor in memory: each is decoded whenever it is read. trainer.num_workers=%d reads ahead on all "
        "cores.",
        *(size / 1e9, folder, cores()),
    )
    return None


def named(key: str, kept: Decoded | None) -> str:
    """What names examples of a key, for what is computed of them: with their checksum, where they are kept."""
    return key if kept is None else f"{key}-{kept.checksum}"


def _made(folder: Path, key: str, shape: tuple[int, ...], kind: np.dtype, fill: Fill) -> Decoded:
    with drafted(folder / f"{key}.npy") as draft:
        array = np.lib.format.open_memmap(draft, mode="w+", dtype=kind, shape=shape)
        _reserve(draft)
        fill(array)
        array.flush()
        checksum = _checksum(array)
        del array
        opened = _opened(draft, shape, kind, checksum)  # while it is a draft: others may remove it at any time
        os.replace(draft, folder / f"{key}-{checksum}.npy")
    return opened


def _found(folder: Path, key: str, shape: tuple[int, ...], kind: np.dtype) -> Decoded | None:
    """The array kept under `key`; what is damaged is removed, and said."""
    for path in folder.glob(f"{key}-????????.npy"):
        try:
            found = _opened(path, shape, kind, path.stem[-8:])
        except FileNotFoundError:  # removed meanwhile
            continue
        except DamagedError as error:
            _log.warning("Decoded examples in %s are damaged: %s. They are made again.", path, error)
            with suppress(OSError):
                path.unlink()
            continue
        with suppress(OSError):  # a folder that may only be read keeps no record of use
            if clock_of(folder) - path.stat().st_mtime > _DAY:
                os.utime(path)
        return found
    return None


def _opened(path: Path, shape: tuple[int, ...], kind: np.dtype, checksum: str) -> Decoded:
    array = bounded.mapped_array(path)
    if array.shape != shape or array.dtype != kind:
        raise DamagedError("it is of another shape")
    marks: tuple[str | int, ...] = (checksum, *stamp(path))
    if marks not in _verified:
        if _checksum(array) != checksum:
            raise DamagedError("it is not as it was written")
        _verified.add(marks)
    return Decoded(array, checksum)


_verified: set[tuple[str | int, ...]] = set()
"""Files that were as they had been written when this process read them."""


def _checksum(array: np.ndarray) -> str:
    return f"{crc32_of(array):08x}"


def _reserve(path: Path) -> None:
    """Have room for all of a file now: on a full disk, writing to the memory that it is mapped to ends the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _remove_unused(folder: Path) -> None:
    """Forget arrays that no run has opened for a month."""
    if not folder.is_dir():
        return
    limit = clock_of(folder) - _UNUSED_DAYS * _DAY
    for path in folder.glob("*.npy"):
        try:
            if path.stat().st_mtime < limit:
                path.unlink()
        except OSError:
            continue
