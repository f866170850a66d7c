"""Arrays of decoded examples: in memory or in a memory-mapped file, made once and found again by a key."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.system.cache import cache_dir, replacing

CacheBytes = int | Literal["auto"]
Fill = Callable[[np.ndarray], None]
"""Writes every example into the array `(N, …)` it is given."""

_log = logging.getLogger(__name__)
_UNUSED_DAYS = 30


def decoded(room: str, key: str, shape: tuple[int, ...], fill: Fill, cache_bytes: CacheBytes) -> np.ndarray | None:
    """A read-only uint8 array of `shape` filled by `fill`, or `None` where neither memory nor disk can hold it.

    It is a memory-mapped file that all runs and workers share, found again by `key`; where there is too little free
    disk for that, an array in memory if it has at most `cache_bytes` ("auto": half of the free memory).
    """
    path = cache_dir(room, f"{key}.npy")
    found = _open(path, shape)
    if found is not None:
        return found
    _remove_unused(path.parent)
    size = int(np.prod(shape))
    if size <= 0.5 * _free_disk(path.parent):
        try:
            with replacing(path) as draft:
                array = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
                fill(array)
                array.flush()
                del array
            return _open(path, shape)
        except OSError as error:
            _log.warning("Decoded examples cannot be kept in %s (%s).", path.parent, error)
    if size <= (_free_memory() // 2 if cache_bytes == "auto" else cache_bytes):
        kept = np.empty(shape, np.uint8)
        fill(kept)
        kept.flags.writeable = False
        return kept
    return None


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array kept at `path`; `None` if it is not there, damaged or of another shape."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        os.utime(path)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _free_memory() -> int:
    """Bytes of memory that can be had without swapping; 4 GiB where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 << 30


def _remove_unused(folder: Path) -> None:
    """Forget arrays that no run has opened for a month."""
    limit = time.time() - _UNUSED_DAYS * 86_400
    for path in folder.glob("*.npy") if folder.is_dir() else ():
        try:
            if path.stat().st_mtime < limit:
                path.unlink()
        except OSError:
            continue
