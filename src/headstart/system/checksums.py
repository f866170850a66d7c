"""Checksums of what is kept between runs: a bit that has changed since it was written is noticed, and said.

A file is read for its checksum once in the life of a process, as long as its `stamp` stays the same: at more than a
gigabyte a second where it lies in the system's memory.
"""

import json
import zlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.cache import stamp

_CHUNK = 1 << 24
SEAL = "checksum"
"""Key of a JSON object that holds the checksum of all the rest of it."""


def crc32_of_file(path: Path) -> int:
    """CRC-32 of the file's bytes."""
    seen: tuple[str | int, ...] = (path.name, *stamp(path))  # which stay when its folder is moved
    if seen not in _crc32s:
        value = 0
        with open(path, "rb") as file:
            while data := file.read(_CHUNK):
                value = zlib.crc32(data, value)
        _crc32s[seen] = value
    return _crc32s[seen]


_crc32s: dict[tuple[str | int, ...], int] = {}


def crc32_of(*arrays: np.ndarray) -> int:
    """CRC-32 of the values of arrays, one after the other."""
    value = 0
    for array in arrays:
        rows = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, len(rows), _CHUNK):
            value = zlib.crc32(rows[start : start + _CHUNK].data, value)
    return value


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of itself."""
    return {**value, SEAL: _sum_of(value)}


def read_sealed(path: Path, most: int = bounded.MOST_LISTED) -> dict[str, Any]:
    """The JSON object in a file that was `sealed`, without its checksum.

    Raises:
        FileNotFoundError: if it is not there.
        DamagedError: if it is not as it was written.
    """
    value = bounded.json_object(path, most)
    if SEAL not in value:
        raise DamagedError("it has no checksum")
    return _unsealed(value)


def read_json(path: Path, most: int = bounded.MOST_BYTES) -> dict[str, Any]:
    """As `bounded.json_object`, held against its checksum if it has one: older files, and those by hand, do not."""
    value = bounded.json_object(path, most)
    if SEAL in value:
        return _unsealed(value)
    if value and _is_seal_of(value, next(reversed(value))):  # whose name a bit has changed
        raise DamagedError("it is not as it was written")
    return value


def _unsealed(value: dict[str, Any]) -> dict[str, Any]:
    if value.pop(SEAL) != _sum_of(value):
        raise DamagedError("it is not as it was written")
    return value


def _is_seal_of(value: Mapping[str, Any], last: str) -> bool:
    """Whether the last entry is the checksum of all the others."""
    rest = {name: entry for name, entry in value.items() if name != last}
    return isinstance(value[last], str) and len(value[last]) == 64 and value[last] == _sum_of(rest)


def with_checksum(content: bytes) -> bytes:
    """Content with a first line that holds its checksum."""
    return sha256(content).hexdigest().encode() + b"\n" + content


def read_with_checksum(path: Path, most: int) -> bytes:
    """The content of a file `with_checksum`.

    Raises:
        FileNotFoundError: if it is not there.
        DamagedError: if it is not as it was written.
    """
    checksum, _, content = bounded.content(path, most).partition(b"\n")
    if checksum != sha256(content).hexdigest().encode():
        raise DamagedError("it is not as it was written")
    return content


def _sum_of(value: Mapping[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
