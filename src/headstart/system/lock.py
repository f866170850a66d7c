"""A lock on a name that a dying process lets go of, on one machine or over a shared file system.

Machines that share a file system do not always share its locks (NFS without a lock daemon, Lustre with `localflock`),
and some file systems have none. So it is a lock of the system and a lease beside it: a file that names its holder, made
by one alone (`link` is atomic everywhere) and touched while the holder lives.

Machines do not agree on the time either. A lease of another machine is taken for a dead one's if it stayed as it was
while it was watched for `STALE_SECONDS`, whatever date it bears, or at once if it is older than clocks are apart.
"""

import contextlib
import json
import logging
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from headstart.system import bounded
from headstart.system.process import DRAFT, clock_of, draft_of, host, is_alive, left_in, started

try:
    import fcntl
except ImportError:  # Windows: no lock, only leases
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS = 15.0
"""Time between two signs of life in a lease."""
STALE_SECONDS = 120.0
"""Time without a sign of life after which the holder of a lease, on another machine, is taken for dead."""
CLOCK_SECONDS = 3600.0
"""How far the clocks of two machines may be apart; a lease older than that needs no watching."""
LOOK_SECONDS = 0.1
"""Time between two looks at a lock that another holds."""
MOST_BYTES = 4096
"""Size of a lease."""

_log = logging.getLogger(__name__)


class Lock:
    """Held by one process or thread at a time. It is free again when its holder dies.

    The others wait or, with `wait=False`, get a lock that is not `held`. Where files cannot be locked, the lease alone
    decides.
    """

    def __init__(self, path: Path, wait: bool = True) -> None:
        self.path, self.wait = path, wait
        self.held = False
        self._descriptor = -1
        self._is_locked = False
        self._lease: Path | None = None

    def __enter__(self) -> "Lock":
        told = False
        while not self._enter() and self.wait:
            if not told:
                _log.info("Another process is at the same work; waiting for it.")
            told = True
            os.close(self._descriptor)
            time.sleep(LOOK_SECONDS)
        return self

    def _enter(self) -> bool:
        """Try once; whether it is held now. The lock's file is open in any case."""
        while True:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | _SAFE, 0o666)
            self._lock()
            if not self._is_locked or self._is_current():
                break
            os.close(self._descriptor)
        if self.held:
            self._take_lease()
        if not self.held and self._is_locked and fcntl is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return self.held

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            _Pulse.forget(self._lease)
            self._lease.unlink(missing_ok=True)
        if self.held:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _lock(self) -> None:
        self.held, self._is_locked = True, False
        if fcntl is None:
            return
        try:
            for _ in range(3):
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._is_locked = True
                    return
                except BlockingIOError:
                    if _lives(_read(lease_of(self.path))):
                        break
                    time.sleep(0.02)  # it may only be someone who looks whether it is held
            self.held = False
        except OSError:
            return

    def _take_lease(self) -> None:
        lease = lease_of(self.path)
        draft = draft_of(lease)
        draft.write_text(json.dumps({**_me(), "token": uuid4().hex}), encoding="utf8")
        try:
            while not _link(draft, lease):
                holder = _read(lease)
                if _blocks(lease, holder, locked=self._is_locked):
                    self.held = False
                    return
                _discard(lease, holder)
            self._lease = lease
            _Pulse.keep(lease)
            for left in left_in(lease.parent, f".{lease.name}.*{DRAFT}"):
                left.unlink(missing_ok=True)
        finally:
            draft.unlink(missing_ok=True)

    def _is_current(self) -> bool:
        """Whether the file locked is still the one at the path: its last holder removed it on leaving."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False


def lease_of(path: Path) -> Path:
    """Where the holder of the lock at `path` is named."""
    return path.with_name(f"{path.name}.holder")


def holder(path: Path) -> dict[str, Any]:
    """Who holds or, if it is dead, last held the lock at `path`: host, pid and a token of its own; empty if nobody."""
    return _read(lease_of(path))


def is_held(path: Path) -> bool:
    """Whether some living process holds the lock at `path`."""
    lease = lease_of(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFE)  # to look, one need not be allowed to write
    except OSError:
        return False
    locks = False
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            locks = True
    except BlockingIOError:
        return True
    except OSError:
        locks = False
    finally:
        os.close(descriptor)
    return _blocks(lease, _read(lease), locked=locks)


_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def _blocks(lease: Path, holder: dict[str, Any], locked: bool) -> bool:
    """Whether the holder named in a lease is to be taken for alive, by one who has the lock, if there are locks."""
    if not holder:
        return False
    if holder["host"] == host():
        return not locked and _lives(holder)
    try:
        touched = lease.stat().st_mtime
    except OSError:
        return False
    if clock_of(lease.parent) - touched > CLOCK_SECONDS:
        return False
    sign = (holder["token"], touched)
    before, since = _watched.get(lease, (None, 0.0))
    if before != sign:
        _watched[lease] = sign, time.monotonic()
        return True
    return time.monotonic() - since < STALE_SECONDS


_watched: dict[Path, tuple[Any, float]] = {}
"""The last sign of life of leases of other machines, and when it was first seen, by the clock of this process."""


def _discard(lease: Path, expected: dict[str, Any]) -> None:
    """Remove a dead holder's lease; one that someone else took meanwhile is put back."""
    aside = draft_of(lease)
    try:
        lease.rename(aside)
    except OSError:
        return
    if _read(aside) != expected:
        _link(aside, lease)
    aside.unlink(missing_ok=True)


def _link(draft: Path, lease: Path) -> bool:
    """Give `draft` the name `lease` if nothing has it."""
    try:
        os.link(draft, lease)
    except FileExistsError:
        return False
    except FileNotFoundError:  # the folder is gone
        raise
    except OSError:  # a file system without links
        try:
            descriptor = os.open(lease, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(draft.read_bytes())
    return True


def _read(lease: Path) -> dict[str, Any]:
    try:
        value = bounded.json_object(lease, MOST_BYTES)
    except (OSError, ValueError):
        return {}
    kinds = {"host": str, "pid": int, "token": str}
    return value if all(type(value.get(name)) is kind for name, kind in kinds.items()) else {}


def _lives(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine lives; one of another machine counts as alive."""
    if not holder or holder["host"] != host():
        return bool(holder)
    began = holder.get("started")
    return is_alive(holder["pid"], began if type(began) is int else None)


def _me() -> dict[str, Any]:
    return {"host": host(), "pid": os.getpid(), "started": started(os.getpid())}


class _Pulse(threading.Thread):
    """Touches the leases of this process now and then."""

    leases: set[Path] = set()
    guard = threading.Lock()
    running: "_Pulse | None" = None

    def __init__(self) -> None:
        super().__init__(name="leases", daemon=True)
        self.pid = os.getpid()

    @classmethod
    def keep(cls, lease: Path) -> None:
        with cls.guard:
            if cls.running is None or cls.running.pid != os.getpid():  # a forked process has no threads
                cls.leases, cls.running = set(), cls()
                cls.running.start()
            cls.leases.add(lease)

    @classmethod
    def forget(cls, lease: Path) -> None:
        with cls.guard:
            cls.leases.discard(lease)

    def run(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with self.guard:
                leases = list(self.leases)
            for lease in leases:
                with contextlib.suppress(OSError):
                    os.utime(lease)
