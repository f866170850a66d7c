"""Every file read once before training; what was found is kept, so that only new and changed files are read again."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from headstart.data.arrow_columns import at
from headstart.data.contents import Contents
from headstart.data.listing import Listing
from headstart.data.parallel import map_threads
from headstart.errors import InputError
from headstart.names import listed
from headstart.system.bounded import DamagedError
from headstart.system.cache import cache_dir, remove_left, replacing
from headstart.system.checksums import read_with_checksum, with_checksum

Facts = Mapping[str, Any]
Verify = Callable[[bytes], Facts | None]
"""Reads the content of a file as training would, raising any exception where it cannot; gives what is odd about it, in
plain JSON."""
_FORMAT = "columns"
"""Of what is kept; that of another one is not read."""
_MOST_BYTES = 4 << 30
_MOST_ROWS = 1000
"""Rows that become one text at a time."""
_DIGITS = 64
"""Of a sha256."""

_log = logging.getLogger(__name__)


_NO_FACTS: Facts = MappingProxyType({})


class Finding(NamedTuple):
    """What was found in a file: the sha256 of its content, and what is odd about it (see `Verify`)."""

    sha256: str
    facts: Facts = _NO_FACTS


class CheckedFiles:
    """Contents as they were checked, by their place: `files(3)` are the bytes of the fourth.

    Raises:
        InputError: where a file is not what it was when it was checked. So nothing that is made of the contents, now or
            in a cache, can be taken for that of others.
    """

    def __init__(self, contents: Contents, sha256s: Sequence[str]) -> None:
        self._contents, self._sha256s = contents, list(sha256s)

    def __len__(self) -> int:
        return len(self._contents)

    def __call__(self, place: int) -> bytes:
        try:
            content = self._contents.read(place)
        except OSError as error:
            name, reason = self._contents.name(place), error.strerror or error
            raise InputError(f"{name} can no longer be read ({reason}). Run the command again.") from error
        if hashlib.sha256(content).hexdigest() != self._sha256s[place]:
            raise InputError(f"{self._contents.name(place)} has changed since it was checked. Run the command again.")
        return content


def check_files(listing: Listing, verify: Verify, reader: str) -> list[Finding]:
    """What is found in each file, after all have been read.

    What was found before is kept, and counts as long as the file's `stamp` (inode, size, times of change) stays as it
    was when reading began. `reader` names and numbers the way of reading: findings of another one do not count.

    Raises:
        InputError: naming the files that cannot be read, and why.
    """
    name = hashlib.sha256(f"{_FORMAT} {reader}\n".encode() + os.fsencode(listing.root.absolute())).hexdigest()[:24]
    keep = cache_dir("checks", f"{name}.checked")
    remove_left(keep.parent)
    known = _load(keep)
    contents, ids = listing.contents, listing.ids
    stamps = list(map_threads(lambda place: _stamp(contents, place), range(len(contents)), "Looking for changes"))
    new = [place for place, (key, mark) in enumerate(zip(ids, stamps, strict=True)) if not known.has(key, mark)]
    if new:
        findings = map_threads(lambda place: _read(contents, place, verify), new, "Checking files")
        for place, finding in zip(new, findings, strict=True):
            known.add(ids[place], stamps[place], *finding)
        _save(keep, known)
    errors = {key: odd["error"] for key, odd in known.odd.items() if "error" in odd}
    bad = [f"{key} ({errors[key]})" for key in ids if key in errors] if errors else []
    if bad:
        raise InputError(
            f"{len(bad)} of {len(ids)} files in {listing.root} cannot be read: {listed(bad)}. Replace or remove them."
        )
    return [Finding(known.sha256(key), known.odd[key]["facts"] if key in known.odd else _NO_FACTS) for key in ids]


@dataclass
class Known:
    """What was found in files, by their ids: in few and small objects, as there may be a million."""

    found: dict[str, str] = field(default_factory=dict)
    """The sha256 of a file's content, and behind it the file's stamp."""
    odd: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of files that cannot be read the `error`, of those about which something is odd the `facts`."""

    def has(self, key: str, mark: str) -> bool:
        """Whether the file with that stamp (which may be empty, where none can be relied on) was read."""
        return bool(mark) and self.found.get(key, "")[_DIGITS:] == mark

    def add(self, key: str, mark: str, sha256: str, odd: dict[str, Any]) -> None:
        self.found[key] = f"{sha256:{_DIGITS}}{mark}"
        self.odd.pop(key, None)
        if odd:
            self.odd[key] = odd

    def sha256(self, key: str) -> str:
        return self.found[key][:_DIGITS]


def content_fingerprint(rows: Sequence[tuple[str, ...]]) -> str:
    """sha256 over rows of text (id, content's sha256, label …) whatever their order."""
    digest, ordered = hashlib.sha256(), sorted(rows)
    for start in range(0, len(ordered), _MOST_ROWS):
        digest.update("".join(map(_as_json, ordered[start : start + _MOST_ROWS])).encode())
    return digest.hexdigest()


def column_fingerprint(ids: Sequence[str], *columns: Sequence[Any]) -> str:
    """As `content_fingerprint` has it of the rows, without having the texts of all of them at once."""
    if len({*ids}) < len(ids):
        return content_fingerprint(list(zip(ids, *columns, strict=True)))
    digest, order = hashlib.sha256(), sorted(range(len(ids)), key=ids.__getitem__)
    for start in range(0, len(order), _MOST_ROWS):
        places = order[start : start + _MOST_ROWS]
        rows = zip(*(at(values, places) for values in (ids, *columns)), strict=True)
        digest.update("".join(map(_as_json, rows)).encode())
    return digest.hexdigest()


def _as_json(row: tuple[Any, ...]) -> str:
    try:
        return f"[{', '.join(map(encode_basestring, row))}]"
    except TypeError:  # a label that is more than one text
        return json.dumps(row, ensure_ascii=False)


def reason(error: Exception) -> str:
    """Why something cannot be read, in a line."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if "_io.BytesIO" in str(error):  # a decoder's words for what has no name to it
        return "it is not what its name says, or damaged"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(words).split())[:160] or type(error).__name__


def _stamp(contents: Contents, place: int) -> str:
    return " ".join(map(str, contents.stamp(place)))


def _read(contents: Contents, place: int, verify: Verify) -> tuple[str, dict[str, Any]]:
    """The sha256 of a content, and what is odd about it, as in `Known`."""
    try:
        content = contents.read(place)
    except OSError as error:
        return "", {"error": error.strerror or type(error).__name__}
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        if not content:
            raise ValueError("empty file")
        facts = verify(content)
    except Exception as error:  # decoders raise all kinds of exceptions on bytes that are not theirs
        return sha256, {"error": reason(error)}
    return sha256, {"facts": dict(facts)} if facts else {}


def _load(path: Path) -> Known:
    """What was found before; nothing where that is not there or, which is said, damaged."""
    try:
        return Known(**json.loads(read_with_checksum(path, _MOST_BYTES)))
    except FileNotFoundError:
        return Known()
    except DamagedError as error:
        _log.warning("What was found in checking files, in %s, is damaged: %s. They are checked again.", path, error)
        return Known()


def _save(path: Path, known: Known) -> None:
    try:
        with replacing(path) as draft:
            draft.write_bytes(with_checksum(json.dumps(vars(known)).encode()))
    except OSError as error:
        _log.warning("What was found in checking files cannot be kept in %s (%s).", path.parent, error)
