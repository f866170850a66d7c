"""Every file read once before training; what was found is kept, so that only new and changed files are read again."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
_MOST_BYTES = 4 << 30

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """What was found in a file: the sha256 of its content, and what is odd about it (see `Verify`)."""

    sha256: str
    facts: Facts = field(default_factory=dict)


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
    name = hashlib.sha256(f"{reader}\n".encode() + os.fsencode(listing.root.absolute())).hexdigest()[:24]
    keep = cache_dir("checks", f"{name}.checked")
    remove_left(keep.parent)
    known = _load(keep)
    contents = listing.contents
    stamps = [contents.stamp(place) for place in range(len(contents))]
    new = [
        place
        for place, (key, stat) in enumerate(zip(listing.ids, stamps, strict=True))
        if not stat or known.get(key, {}).get("stat") != stat
    ]
    if new:
        findings = map_threads(lambda place: _read(contents, place, verify), new, "Checking files")
        for place, finding in zip(new, findings, strict=True):
            known[listing.ids[place]] = {"stat": stamps[place], **finding}
        _save(keep, known)
    bad = [f"{key} ({known[key]['error']})" for key in listing.ids if known[key]["error"] is not None]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(listing.ids)} files in {listing.root} cannot be read: {listed(bad)}. "
            "Replace or remove them."
        )
    return [Finding(known[key]["sha256"], known[key].get("facts", {})) for key in listing.ids]


def content_fingerprint(rows: Sequence[tuple[str, ...]]) -> str:
    """sha256 over rows of text (id, content's sha256, label …) whatever their order."""
    digest = hashlib.sha256()
    for row in sorted(rows):
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()


def reason(error: Exception) -> str:
    """Why something cannot be read, in a line."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if "_io.BytesIO" in str(error):  # a decoder's words for what has no name to it
        return "it is not what its name says, or damaged"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(words).split())[:160] or type(error).__name__


def _read(contents: Contents, place: int, verify: Verify) -> dict[str, Any]:
    try:
        content = contents.read(place)
    except OSError as error:
        return {"sha256": "", "error": error.strerror or type(error).__name__}
    finding: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "error": None}
    try:
        if not content:
            raise ValueError("empty file")
        facts = verify(content)
    except Exception as error:  # decoders raise all kinds of exceptions on bytes that are not theirs
        finding["error"] = reason(error)
    else:
        if facts:
            finding["facts"] = dict(facts)
    return finding


def _load(path: Path) -> dict[str, dict[str, Any]]:
    """What was found before; nothing where that is not there or, which is said, damaged."""
    try:
        return json.loads(read_with_checksum(path, _MOST_BYTES))
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        _log.warning("What was found in checking files, in %s, is damaged: %s. They are checked again.", path, error)
        return {}


def _save(path: Path, known: dict[str, dict[str, Any]]) -> None:
    try:
        with replacing(path) as draft:
            draft.write_bytes(with_checksum(json.dumps(known).encode()))
    except OSError as error:
        _log.warning("What was found in checking files cannot be kept in %s (%s).", path.parent, error)
