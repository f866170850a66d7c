"""Which process made a file, and whether it lives: what a killed one left half-written can be told from the rest."""

import contextlib
import hashlib
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from uuid import uuid4

DRAFT = ".part"
"""End of the names of files and folders that are being written."""
LEFT_SECONDS = 86_400.0
"""Age at which what a process of another machine, or of who knows where, left half-written is taken for abandoned."""
_MARK = re.compile(r"\.([0-9a-f]{8})-(\d+)-(\d+)\.[0-9a-f]{8}" + re.escape(DRAFT))


@cache
def host() -> str:
    """This machine since it was started, and the container, within which process ids mean something."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf8").strip()[:8])
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def started(pid: int) -> int | None:
    """When a process of this machine began, in ticks since the machine did; `None` if it is gone or cannot be asked.

    Process ids are used again; two processes of one id began at different times.
    """
    state, began = _facts(pid)
    return None if state in ("Z", "X") else began


def is_alive(pid: int, began: int | None) -> bool:
    """Whether the process `pid` of this machine that began at `began` (`None`: not known) lives."""
    state, found = _facts(pid)
    if found is not None:
        return state not in ("Z", "X") and began in (None, found)
    try:
        if pid > 0:
            os.kill(pid, 0)
        return pid > 0
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True


def end_with(pid: int, began: int | None, look_seconds: float = 1.0) -> None:
    """End this process soon after the process `pid` of this machine has ended, however it did; see `is_alive`."""

    def watch() -> None:
        while is_alive(pid, began):
            time.sleep(look_seconds)
        os._exit(1)

    threading.Thread(target=watch, name=f"end with {pid}", daemon=True).start()


def _facts(pid: int) -> tuple[str, int | None]:
    """State and start of a process, where the system tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf8", errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return "", None


def draft_of(path: Path) -> Path:
    """A name beside `path` for what is to take its place, which tells the process that writes it."""
    mark = f"{_host_digest()}-{os.getpid()}-{_own_start()}"
    return path.with_name(f".{path.name}.{mark}.{uuid4().hex[:8]}{DRAFT}")


@cache
def _own_start() -> int:
    """When this process began, or 0: asked once, as the system takes its time to answer."""
    return started(os.getpid()) or 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own_start.cache_clear)


def is_left(draft: Path) -> bool:
    """Whether a draft's process is gone: by its mark if it was of this machine, else by the draft's age."""
    mark = _MARK.search(draft.name)
    if mark and mark[1] == _host_digest():
        return not is_alive(int(mark[2]), int(mark[3]) or None)
    try:
        newest = max(path.stat().st_mtime for path in (draft, *(draft.iterdir() if draft.is_dir() else ())))
    except OSError:
        return False
    return clock_of(draft.parent) - newest > LEFT_SECONDS


def clock_of(folder: Path) -> float:
    """The time by the clock that the files in `folder` are dated by, which may be another machine's.

    By this machine's own where nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def left_in(folder: Path, pattern: str = f".*{DRAFT}") -> Iterable[Path]:
    """What dead processes left half-written in a folder."""
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as listed:
        names += [entry.name for entry in listed if entry.name.endswith(DRAFT)]
    return [folder / name for name in names if fnmatchcase(name, pattern) and is_left(folder / name)]


@cache
def _host_digest() -> str:
    return hashlib.sha256(host().encode()).hexdigest()[:8]
