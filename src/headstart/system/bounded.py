"""Files of this program's own kinds, read within bounds: a directory may come from anyone, or from a bad disk.

Only regular files are read, of a size, depth and number of parts that such a file can have, and all that can be wrong
with one is a `DamagedError`. A file that is not there is a `FileNotFoundError`, as ever.
"""

import csv
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

MOST_BYTES = 64 * 2**20
"""Size of a file that is read whole, unless its reader says otherwise."""
MOST_LISTED = 512 * 2**20
"""Size of a file that lists the runs of a comparison: some kilobytes each."""
MOST_UNPACKED = 512 * 2**20
"""Bytes of all arrays of an archive."""
MOST_EXTRA = 28
"""Bytes that an archive's entry has beside its name: sizes and a place of 64 bits."""
MOST_DEPTH = 60
"""How deep values may lie in one another."""
MOST_PARTS = 1_000_000
"""Lists and mappings in one file, aliases written out."""


class DamagedError(ValueError):
    """A file that is there but is not what it should be; the message says why, in words that follow its name."""


def content(path: Path, most: int = MOST_BYTES) -> bytes:
    """All bytes of a regular file of at most `most` bytes.

    Raises:
        FileNotFoundError: if it is not there.
        DamagedError: if it is something else (a pipe or a device would be waited for without end), larger, or cannot
            be read.
    """
    with opened(path, most) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise DamagedError(f"it has more than {most:,} bytes")
    return found


@contextmanager
def opened(path: Path, most: int) -> Iterator[IO[bytes]]:
    """The file, open for reading, if it is a regular one of at most `most` bytes."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: that alone can act on a device
            raise DamagedError("it is no regular file")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise DamagedError("it is no regular file")
            if facts.st_size > most:
                raise DamagedError(f"it has {facts.st_size:,} bytes, and {most:,} is the most that is read")
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(2, "No such file or directory", str(path)) from None
    except OSError as error:
        raise DamagedError(f"it cannot be read ({error.strerror or type(error).__name__})") from error


def text(path: Path, most: int = MOST_BYTES) -> str:
    """The file as UTF-8."""
    try:
        return content(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(f"it is not UTF-8 (byte {error.start})") from None


def json_object(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in the file."""
    value = json_value(path, most)
    if not isinstance(value, dict):
        raise DamagedError("it is not a JSON object")
    return value


def json_value(path: Path, most: int = MOST_BYTES) -> Any:
    """The JSON in the file; numbers are finite and fit 64 bits."""
    data = content(path, most)
    if not data.strip():
        raise DamagedError("it is empty")
    parts = data.count(b"[") + data.count(b"{")  # as many as there can be, whatever lies in quotes
    if parts > MOST_PARTS:
        raise DamagedError(f"it has more than {MOST_PARTS:,} lists and mappings")
    try:
        value = json.loads(data, parse_float=_finite, parse_int=_whole, parse_constant=_no_number)
    except DamagedError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"it is not whole JSON: {error}") from None
    if parts > MOST_DEPTH:
        _check_depth(value)
    return value


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _whole(text: str) -> int:
    if len(text) < 20 and -(2**63) <= (value := int(text)) < 2**63:
        return value
    return _no_number(text)


def _no_number(text: str) -> Any:
    raise DamagedError(f"it holds {text[:12]}{'…' if len(text) > 12 else ''}, which is no number that is read")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in (dict, list)
        ]
        if not level:
            return
    raise DamagedError(f"values lie more than {MOST_DEPTH} deep in one another")


def yaml_value(path: Path, load: Callable[[str], Any], most: int = MOST_BYTES) -> Any:
    """What `load` makes of the YAML in the file."""
    import yaml

    words = text(path, most)
    try:
        check_yaml(words)
        return load(words)
    except yaml.YAMLError as error:
        raise DamagedError(f"it is not YAML: {' '.join(str(error).split())[:200]}") from None
    except (ValueError, TypeError, RecursionError) as error:  # of a key or a value that its type does not take
        raise error if isinstance(error, DamagedError) else DamagedError(f"it is not YAML: {error}") from None


def check_yaml(words: str, most: int = MOST_PARTS) -> None:
    """Raise `DamagedError` for YAML that is too deep, on which the parser in C crashes, or that aliases make too large.

    Raises:
        yaml.YAMLError: if it is none.
    """
    import yaml

    sizes: dict[str | None, int] = {}
    inside: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(words, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                inside.append((event.anchor, total - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = inside.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        if len(inside) > MOST_DEPTH:
            raise DamagedError(f"values lie more than {MOST_DEPTH} deep in one another")
        if total > most:
            raise DamagedError(f"with its aliases written out it has more than {most:,} values")


def csv_rows(path: Path, most: int = MOST_BYTES) -> list[dict[str, str]]:
    """The rows of a table by the names in its first line; what a row lacks or has beyond them is left out."""
    words = content(path, most).decode("utf-8", errors="replace").replace("\0", "")
    try:
        header, *rows = csv.reader(io.StringIO(words, newline=""))
    except csv.Error as error:
        raise DamagedError(f"it is no table ({error})") from None
    except ValueError:
        raise DamagedError("it is empty") from None
    return [dict(zip(header, row, strict=False)) for row in rows if row]


def arrays(path: Path, most: int = MOST_UNPACKED) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` archive of at most `most` bytes unpacked, their checksums verified."""
    with opened(path, most) as file, _as_damaged(), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > most:
            raise DamagedError(f"unpacked it has more than {most:,} bytes")
        for member in members:
            if member.comment or len(member.extra) > MOST_EXTRA:  # by a wrong length it has taken the next one's entry
                raise DamagedError(f"{member.filename} has an entry that is too long")
            with archive.open(member) as data:
                _check_header(data, member.file_size)
        return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as data:
        found = np.lib.format.read_array(data, allow_pickle=False)
        if data.read(1):  # also makes it compare the checksum
            raise DamagedError(f"{member.filename} is longer than it says")
    return found


def mapped_array(path: Path, mode: str = "r") -> np.ndarray:
    """The array of a `.npy` file, memory-mapped; the file is as long as its header says."""
    with opened(path, 2**63) as file, _as_damaged():
        size = os.fstat(file.fileno()).st_size
        shape, is_fortran, dtype = _check_header(file, size)
        start = size - dtype.itemsize * prod(shape)
        if not prod(shape):
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, mode, start, shape, "F" if is_fortran else "C")  # type: ignore[call-overload]


def _check_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type by the header of a `.npy` file of `size` bytes, before room is made for what it says."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise DamagedError(f"its format {version} is not read")
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise DamagedError("it holds Python objects, which are not read")
    if any(length < 0 for length in shape) or file.tell() + dtype.itemsize * prod(shape) != size:
        raise DamagedError(f"it has {size:,} bytes, not those of the {'×'.join(map(str, shape))} values it speaks of")
    return shape, is_fortran, dtype


@contextmanager
def _as_damaged() -> Iterator[None]:
    try:
        yield
    except (DamagedError, FileNotFoundError):
        raise
    except Exception as error:  # damaged archives raise what zipfile, zlib, struct, tokenize and numpy raise
        raise DamagedError(f"it cannot be read ({type(error).__name__}: {str(error)[:100]})") from error
