"""Which tar archives are the shards of a data set, and what lies where in each: read once, and kept."""

import glob
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headstart.data.contents import settled_stamp
from headstart.data.labelled import PARTS
from headstart.data.parallel import map_threads
from headstart.data.tar import Archive, Member, read_archive
from headstart.errors import InputError
from headstart.names import listed, plural
from headstart.system.bounded import DamagedError
from headstart.system.cache import cache_dir, remove_left, replacing
from headstart.system.checksums import read_with_checksum, with_checksum

SUFFIX = ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_MOST_BYTES = 4 << 30
_MOST_NAMES = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WORDS = re.compile(r"[^a-z]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shards:
    """Archives in the order of their names, below the folder that all lie in."""

    root: Path
    paths: tuple[str, ...]
    names: tuple[str, ...]
    """Their paths below `root`, with forward slashes."""
    parts: tuple[str, ...]
    """`train`, `val`, `test` or `""` of each."""
    remarks: tuple[str, ...] = ()


def find_shards(where: str | Sequence[str], setting: str) -> Shards:
    """The archives that `where` names: each a folder, an archive, or a pattern with braces (`a-{000..009}.tar`) or `*`.

    Raises:
        InputError: if there are none, or some cannot be read one member at a time.
    """
    words = [where] if isinstance(where, str) else list(where)
    found: list[str] = []
    problems: list[str] = []
    for word in words:
        try:
            found += _of_word(word, setting)
        except InputError as error:
            problems += error.messages
    packed = [path for path in found if path.lower().endswith(PACKED)]
    if packed:
        problems.append(
            f"Shards must be plain {SUFFIX} archives, since members of packed ones cannot be read one by one, but "
            f"{setting} names {plural(len(packed), 'packed one')}: {listed(packed, 3)}. Unpack them (gunzip, or "
            "zstd -d for .zst); pictures are packed in themselves."
        )
    if problems or not found:
        raise InputError(*(problems or [f"{setting} names no shards."]))
    once = list({os.path.realpath(path): path for path in reversed(found)}.values())
    root = Path(os.path.commonpath([os.path.abspath(os.path.dirname(path)) for path in once]))
    names = sorted((Path(os.path.relpath(path, root)).as_posix(), path) for path in once)
    remarks = []
    if len(once) < len(found):
        more = plural(len(found) - len(once), "shard")
        remarks.append(f"{setting} names {more} more than once: each is read once.")
    parts = _parts([name for name, _ in names], setting)
    return Shards(root, tuple(path for _, path in names), tuple(name for name, _ in names), parts, tuple(remarks))


def _of_word(word: str, setting: str) -> list[str]:
    path = Path(word).expanduser()
    if path.is_dir():
        inside = sorted(str(one) for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        shards = [one for one in inside if one.lower().endswith((SUFFIX, *PACKED))]
        if not shards:
            there = f"{plural(len(inside), 'other file')}" if inside else "no files"
            raise InputError(
                f"{path} has no {SUFFIX} archives, but {there}: {setting} must name a folder of shards, or shards. "
                "Class folders are read by data=image_folder data.root=FOLDER."
            )
        return shards
    if path.exists():
        return [str(path)]
    names = list(_written_out(str(path)))
    found = [match for name in names for match in (sorted(glob.glob(name)) if "*" in name else [name])]
    lost = [name for name in found if not os.path.isfile(name)]
    if lost or not found:
        raise InputError(
            f"{setting} must name shards that are there, a folder of them, or a pattern like "
            f"'train-{{000..009}}.tar', but there is no {listed(lost or [word], 3)}."
        )
    return found


def _written_out(pattern: str) -> Iterator[str]:
    """Every name that a pattern with braces stands for: `{a,b}` one of some words, `{08..11}` numbers from to."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, after = pattern[: match.start()], pattern[match.end() :]
    numbers = _RANGE.fullmatch(match[1])
    choices = match[1].split(",")
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) > _MOST_NAMES:
            raise InputError(f"{pattern} stands for {abs(last - first) + 1:,} names: more than {_MOST_NAMES:,}.")
        steps = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        choices = [f"{number:0{len(numbers[1])}}" for number in steps]
    for choice in choices:
        yield from _written_out(before + choice + after)


def _parts(names: Sequence[str], setting: str) -> tuple[str, ...]:
    """The part that each shard is of, by a folder or a word of its name; none where no shard is for training.

    Raises:
        InputError: if some say it and others do not.
    """
    found = [_part(name) for name in names]
    if "train" not in found:
        return ("",) * len(names)
    bare = [name for name, part in zip(names, found, strict=True) if not part]
    if bare:
        raise InputError(
            f"The names of shards must say train, val or test, each of them or none, but of those that {setting} names "
            f"{len(found) - len(bare)} do and {len(bare)} do not: {listed(bare, 3)}. Name the others otherwise, or "
            "leave them out."
        )
    return tuple(found)


def _part(name: str) -> str:
    """The part that the last word of a shard's path says that names one."""
    words = [PARTS[word] for word in _WORDS.split(name.lower()) if word in PARTS]
    return words[-1] if words else ""


class PackedFile(NamedTuple):
    """A file within an archive."""

    archive: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        return read_at(self.archive, self.offset, self.size)


class ShardMembers:
    """Contents in shards, each read where it lies when it is asked for.

    Args:
        paths: The shards.
        stamps: What tells whether each has changed (see `settled_stamp`).
        names: What each member is called.
        shards, offsets, sizes: `(N,)`, in which shard it lies, where, and how long it is.
    """

    def __init__(
        self,
        paths: Sequence[str],
        stamps: Sequence[list[int | str]],
        names: Sequence[str],
        shards: np.ndarray,
        offsets: np.ndarray,
        sizes: np.ndarray,
    ) -> None:
        self._paths, self._stamps, self._names = tuple(paths), tuple(stamps), names
        self._shards, self._offsets, self._sizes = shards, offsets, sizes

    def __len__(self) -> int:
        return len(self._names)

    def read(self, place: int) -> bytes:
        return read_at(self._paths[self._shards[place]], int(self._offsets[place]), int(self._sizes[place]))

    def stamp(self, place: int) -> list[int | str]:
        stamp = self._stamps[self._shards[place]]
        return [*stamp, int(self._offsets[place]), int(self._sizes[place])] if stamp else []

    def name(self, place: int) -> str:
        return f"{self._names[place]} in {self._paths[self._shards[place]]}"


def read_at(path: str, offset: int, size: int) -> bytes:
    """Bytes of a file from a place on. It is opened anew each time: that takes microseconds, and processes that read
    ahead share no place in it."""
    with open(path, "rb", buffering=0) as file:
        if hasattr(os, "pread"):
            return os.pread(file.fileno(), size, offset)
        file.seek(offset)
        return file.read(size) or b""


def read_shards(shards: Shards) -> tuple[list[Archive], list[list[int | str]]]:
    """What lies where in each shard, and their stamps, from before they were read. What was found is kept by these.

    Raises:
        InputError: naming shards that are none, or not whole.
    """
    remove_left(cache_dir("shards"))
    stamps = [settled_stamp(path) for path in shards.paths]
    places = range(len(shards.paths))
    found = list(map_threads(lambda place: _known(shards.paths[place], stamps[place]), places, "Reading shards"))
    bad = [f"{name} ({one})" for name, one in zip(shards.names, found, strict=True) if isinstance(one, str)]
    if bad:
        raise InputError(
            f"{len(bad)} of {plural(len(found), 'shard')} in {shards.root} cannot be read: {listed(bad, 10)}. Copy or "
            "write them anew, or leave them out."
        )
    return [one for one in found if isinstance(one, Archive)], stamps


def _known(path: str, stamp: list[int | str]) -> Archive | str:
    """What an archive holds, or why it cannot be read."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:24]
    keep = cache_dir("shards", f"{name}.index")
    found = _load(keep, stamp) if stamp else None
    if found is not None:
        return found
    try:
        found = read_archive(path)
    except DamagedError as error:
        return str(error)
    except OSError as error:
        return error.strerror or type(error).__name__
    if stamp:
        _save(keep, stamp, found)
    return found


def _load(keep: Path, stamp: list[int | str]) -> Archive | None:
    try:
        kept = json.loads(read_with_checksum(keep, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except DamagedError as error:
        _log.warning("What lies where in a shard, in %s, is damaged: %s. It is read again.", keep, error)
        return None
    if kept["stamp"] != stamp:
        return None
    return Archive([Member(*one) for one in kept["members"]], kept["links"], kept["is_ended"])


def _save(keep: Path, stamp: list[int | str], found: Archive) -> None:
    try:
        with replacing(keep) as draft:
            draft.write_bytes(with_checksum(json.dumps({"stamp": stamp, **vars(found)}).encode()))
    except OSError as error:
        _log.warning("What lies where in shards cannot be kept in %s (%s).", keep.parent, error)
