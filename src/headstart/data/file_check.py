"""Every file read once before training; what was found is kept, so that only new and changed files are read again."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headstart.cache import cache_dir, replacing
from headstart.data.listing import Listing
from headstart.data.parallel import map_threads
from headstart.data.table import listed
from headstart.errors import InputError

Verify = Callable[[bytes], None]
"""Reads the content of a file as training would; raises any exception where it cannot."""

_log = logging.getLogger(__name__)


def check_files(listing: Listing, verify: Verify, reader: str) -> list[str]:
    """The sha256 of each file's content, after all have been read.

    `reader` names and numbers the way of reading: findings of another one do not count. A finding also counts only as
    long as the file's size and time of change stay as they were.

    Raises:
        InputError: naming the files that cannot be read, and why.
    """
    keep = cache_dir(
        "checks", hashlib.sha256(f"{reader}\n{listing.root.absolute()}".encode()).hexdigest()[:24] + ".json"
    )
    known = _load(keep)
    stats = [_stat(path) for path in listing.paths]
    new = [
        place
        for place, (key, stat) in enumerate(zip(listing.ids, stats, strict=True))
        if known.get(key, {}).get("stat") != stat
    ]
    if new:
        findings = map_threads(lambda place: _read(listing.paths[place], verify), new, "Checking files")
        for place, finding in zip(new, findings, strict=True):
            known[listing.ids[place]] = {"stat": stats[place], **finding}
        _save(keep, known)
    bad = [f"{key} ({known[key]['error']})" for key in listing.ids if known[key]["error"] is not None]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(listing.ids)} files in {listing.root} cannot be read: {listed(bad)}. "
            "Replace or remove them."
        )
    return [known[key]["sha256"] for key in listing.ids]


def content_fingerprint(rows: Sequence[tuple[str, ...]]) -> str:
    """sha256 over rows of text (id, content's sha256, label …) whatever their order."""
    digest = hashlib.sha256()
    for row in sorted(rows):
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _read(path: Path, verify: Verify) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        return {"sha256": "", "error": error.strerror or type(error).__name__}
    finding: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "error": None}
    try:
        if not content:
            raise ValueError("empty file")
        verify(content)
    except Exception as error:  # decoders raise all kinds of exceptions on bytes that are not theirs
        finding["error"] = " ".join(str(error).split())[:120] or type(error).__name__
    return finding


def _load(path: Path) -> dict[str, dict[str, Any]]:
    """What was found before; nothing where that is not there or damaged."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(key): finding
            for key, finding in known.items()
            if isinstance(finding["stat"], list)
            and isinstance(finding["sha256"], str)
            and isinstance(finding["error"], str | None)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _save(path: Path, known: dict[str, dict[str, Any]]) -> None:
    try:
        with replacing(path) as draft:
            draft.write_text(json.dumps(known), encoding="utf-8")
    except OSError as error:
        _log.warning("What was found in checking files cannot be kept in %s (%s).", path.parent, error)
