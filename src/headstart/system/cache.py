"""Where things are kept between runs that can always be made again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from headstart.system.process import draft_of, left_in


def cache_dir(*parts: str) -> Path:
    """A path under `$HEADSTART_CACHE`, else `$XDG_CACHE_HOME/headstart`, else `~/.cache/headstart`; not created."""
    own = os.environ.get("HEADSTART_CACHE")
    if own:
        return Path(own).expanduser().joinpath(*parts)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().joinpath("headstart", *parts)


@cache
def versions(*packages: str) -> str:
    """Packages with their installed versions, as a part of the key of what they make: an upgrade makes it anew."""
    return " ".join(f"{name}={_version(name)}" for name in packages)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes `path`'s place when the block ends well, else it is removed.

    Nobody ever sees half a file, and of two processes that write the same, the later wins. What processes left there
    that were killed meanwhile is removed.
    """
    with drafted(path) as draft:
        yield draft
        os.replace(draft, path)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """As `replacing`, for a caller who gives what was written its place; what has none at the end is removed."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    remove_left(path.parent)
    draft = draft_of(path)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def remove_left(folder: Path) -> None:
    """Remove what processes left half-written in a folder that were killed; called also where nothing is to be written,
    as two may have written the same, and one of them ended well."""
    with suppress(OSError):
        for left in left_in(folder):
            left.unlink(missing_ok=True)


def stamp(path: str | Path) -> list[int]:
    """What changes whenever a file's content does: its inode, size, and the times of change of content and of inode.

    The last cannot be set by hand, so that a file written anew is noticed even if its size and the time it shows are
    the same. (Windows and FAT drives keep no such time: there a change must show in size or time.)

    Raises:
        OSError: if there is no such file.
    """
    stat = os.stat(path)
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
