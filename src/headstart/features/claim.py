"""A lock on a name that a dying process lets go of."""

import logging
import os
from pathlib import Path
from types import TracebackType

try:
    import fcntl
except ImportError:  # Windows: no lock, so that work may be done twice, which is correct all the same
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)


class Claim:
    """Held by one process or thread at a time; the others wait. The system frees it when its holder dies.

    On a file system that cannot lock, nobody waits: `is_exclusive` is then false.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_exclusive = False
        self._descriptor = -1

    def __enter__(self) -> "Claim":
        while True:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            self.is_exclusive = self._lock()
            if not self.is_exclusive or self._is_current():
                return self
            os.close(self._descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _lock(self) -> bool:
        if fcntl is None:
            return False
        try:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("Another process is computing the same features; waiting for it.")
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError:
            return False
        return True

    def _is_current(self) -> bool:
        """Whether the file locked is still the one at the path: its last holder removed it on leaving."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False
