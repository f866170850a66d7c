"""Files that are written whole or not at all, and how JSON is laid out in them."""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.system.cache import drafted
from headstart.system.checksums import sealed

KINDS = ((str, dict, list), (dict, list))
"""What has a line of its own in a short list, and in a long one."""
LONG_LIST = 24
"""Texts of a list that each have a line of their own; more stand in one."""


def write_json(path: Path, value: Any, durable: bool = False, seal: bool = False) -> None:
    """Write `value` whole or not at all: to a file beside `path`, flushed to the disk if `durable`, then renamed.

    `seal`: with a checksum of itself, against which `checksums.read_json` holds it.
    """
    value = _finite(value)
    if seal:
        value = sealed(json.loads(_ENCODER.encode(value)))
    text = _rendered(value)
    write_bytes(path, (text + "\n").encode(), durable)


def write_bytes(path: Path, content: bytes, durable: bool = False) -> None:
    """Write `content` to `path` whole or not at all; if `durable`, so that it outlasts a power cut."""
    with drafted(path) as part:
        with part.open("xb") as file:  # never what someone else laid there
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)


@dataclass
class Shared:
    """Content of many files, such as the picture of an example that all runs of a comparison find hard."""

    content: bytes
    _written: Path | None = None
    """The first of these files."""
    _as: tuple[int, int, int] = (0, 0, 0)
    """Inode, size and time of change that it had then."""

    def write(self, path: Path) -> None:
        """Write `content` to `path`, or make that another name of the first file, which takes a fiftieth of the time.

        Where the first file is gone or was changed, the disk knows no such links, or something lies at `path`, the
        content is written whole or not at all.
        """
        if self._written is not None:
            with suppress(OSError):
                os.link(self._written, path)
                if _changed(path) == self._as:
                    return
        write_bytes(path, self.content)
        self._written, self._as = path, _changed(path)


def _changed(path: Path) -> tuple[int, int, int]:
    stat = os.stat(path)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _rendered(value: Any, margin: str = "") -> str:
    """As `json.dumps(value, indent=1)`, but numbers that are one after the other, and long lists, take one line."""
    inner = margin + " "
    if isinstance(value, dict) and value:
        items = (f"{_ENCODER.encode(key)}: {_rendered(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(item, KINDS[len(value) > LONG_LIST]) for item in value):
        return "[\n" + ",\n".join(inner + _rendered(item, inner) for item in value) + f"\n{margin}]"
    return _ENCODER.encode(value)


def _finite(value: Any) -> Any:
    # JSON knows no NaN; a reader of another language would choke on it
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return str(value)


_ENCODER = json.JSONEncoder(default=_plain)
"""Made once: `json.dumps` makes one for each call that has a `default`."""
