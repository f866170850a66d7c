"""Servers that never answer: asked within bounds, and not again by every run of a comparison."""

import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from headstart.record.directory import sweep_of
from headstart.record.writing import write_bytes
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.waiting import within

ANSWER_SECONDS = 5.0
"""How long a tracker's server may take to say anything."""
SILENT_SECONDS = 3600.0
"""How long one that did not is not asked again by other runs of the comparison."""
MOST_BYTES = 4096
_log = logging.getLogger(__name__)


def answers(url: str, seconds: float) -> bool:
    """Whether a server says anything at all within some seconds, be it that it refuses."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                return True
        except urllib.error.HTTPError:
            return True
        except urllib.error.URLError as error:
            return isinstance(error.reason, ssl.SSLError)  # it speaks, and W&B may know its certificate
        except http.client.HTTPException:
            return True
        except OSError:
            return False

    try:
        return bool(within(seconds, ask))
    except TimeoutError:
        return False


def found(directory: Path, url: str) -> str | None:
    """What another run of the same comparison has found out, not long ago, of a server that takes nothing."""
    path = sweep_of(directory).silent(url)
    try:
        is_recent = abs(time.time() - path.stat().st_mtime) < SILENT_SECONDS  # by clocks that need not agree
        return bounded.text(path, MOST_BYTES) if is_recent else None
    except (OSError, DamagedError):
        return None


def remember(directory: Path, url: str, what: str) -> None:
    """Spare the other runs of the comparison the waiting, for an hour or until the file is removed."""
    if found(directory, url) is not None:
        return
    try:
        write_bytes(sweep_of(directory).silent(url), what.encode())
    except OSError as error:
        _log.debug("That a server is silent cannot be kept: %s", error)
