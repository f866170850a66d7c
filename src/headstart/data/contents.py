"""Contents of examples as bytes, wherever they lie: in files, or in the cells of a table."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from headstart.system.cache import stamp

_SETTLED_SECONDS = 2.0
"""Within the grain of a file system's clock (two seconds on FAT, a hundredth elsewhere) a file may change twice and
show one time; what was found of a file that had only just changed is therefore not relied on."""


class Contents(Protocol):
    """Contents by their place. Several threads may read at once."""

    def __len__(self) -> int: ...

    def read(self, place: int) -> bytes:
        """Raises `OSError` where it cannot be read."""

    def stamp(self, place: int) -> list[int | str]:
        """What stays the same as long as the content does; nothing where that cannot be told."""

    def name(self, place: int) -> str:
        """What it is called in messages."""


class Files:
    """Contents of files."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = tuple(os.fspath(path) for path in paths)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, place: int) -> bytes:
        with open(self._paths[place], "rb") as file:
            return file.read()

    def stamp(self, place: int) -> list[int | str]:
        return settled_stamp(self._paths[place])

    def name(self, place: int) -> str:
        return self._paths[place]


def settled_stamp(path: str | Path) -> list[int | str]:
    """The file's stamp; nothing where there is none that can be relied on."""
    try:
        found = stamp(path)
    except OSError:
        return []
    now = time.time()
    return [*found] if all(abs(now - nanoseconds / 1e9) > _SETTLED_SECONDS for nanoseconds in found[2:]) else []
