"""A lock on a name that a dying process lets go of."""

import logging
import os
from pathlib import Path
from types import TracebackType

try:
    import fcntl
except ImportError:  # Windows: no lock, so that work may be done twice, which is correct all the same
    fcntl = None  # type: ignore[assignment]

CLAIM = "claim"
"""File in a run's directory that its worker holds locked; left behind by one that died."""

_log = logging.getLogger(__name__)


class Claim:
    """Held by one process or thread at a time. The system frees it when its holder dies.

    The others wait or, with `wait=False`, get a claim that is not `held`. On a file system that cannot lock, nobody
    waits and everybody holds it: `is_exclusive` is then false.
    """

    def __init__(self, path: Path, wait: bool = True) -> None:
        self.path, self.wait = path, wait
        self.held = self.is_exclusive = False
        self._descriptor = -1

    def __enter__(self) -> "Claim":
        while True:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            self._lock()
            if not self.held or not self.is_exclusive or self._is_current():
                return self
            os.close(self._descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.held:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _lock(self) -> None:
        self.held, self.is_exclusive = True, False
        if fcntl is None:
            return
        try:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self.wait:
                    self.held = False
                    return
                _log.info("Another process is at the same work; waiting for it.")
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError:
            return
        self.is_exclusive = True

    def _is_current(self) -> bool:
        """Whether the file locked is still the one at the path: its last holder removed it on leaving."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False


def is_held(path: Path) -> bool:
    """Whether some living process holds the claim at `path`."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
