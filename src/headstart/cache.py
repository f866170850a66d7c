"""Where things are kept between runs that can always be made again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def cache_dir(*parts: str) -> Path:
    """A path under `$HEADSTART_CACHE`, else `$XDG_CACHE_HOME/headstart`, else `~/.cache/headstart`; not created."""
    own = os.environ.get("HEADSTART_CACHE")
    if own:
        return Path(own).expanduser().joinpath(*parts)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().joinpath("headstart", *parts)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes `path`'s place when the block ends well, else it is removed.

    Nobody ever sees half a file, and of two processes that write the same, the later wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
