"""What is not read, not used, guessed or changed is said: each warning of this program is a note, shown and recorded.

Whoever has something to say logs a warning under its own module's name; nothing has to be handed around. A note is
shown on the screen once in the life of a process, stands in the run's log and in the `notes` of its `result.json`.
"""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from headstart.names import plain_lines

_ours = logging.getLogger("headstart")
_log = logging.getLogger(__name__)


class PlainFormatter(logging.Formatter):
    """What a terminal would obey is shown as what it is: logs are read in terminals."""

    def format(self, record: logging.LogRecord) -> str:
        return plain_lines(super().format(record))


class Notes(logging.Handler):
    """Keeps what is said while it listens, each message once, in order."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self.messages:
            self.messages.append(message)


class Screen(logging.Handler):
    """Shows notes on standard error, each once; a traceback stays in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.shown: set[str] = set()
        self.is_quiet = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if self.is_quiet or message in self.shown or record.levelno >= logging.ERROR:
            return  # a failed run says so itself
        self.shown.add(message)
        clear = "\r\x1b[2K" if sys.stderr.isatty() else ""  # where a line of progress may stand
        sys.stderr.write(f"{clear}note: {plain_lines(message)}\n")
        sys.stderr.flush()


class Relay(logging.Handler):
    """Hands what libraries log as warnings to whoever hears and shows this program's."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        library = record.name.partition(".")[0]
        if library == _ours.name or record.levelno >= logging.ERROR:
            return
        said = logging.LogRecord(record.name, record.levelno, "", 0, f"{library}: {record.getMessage()}", None, None)
        for handler in _ours.handlers:
            handler.handle(said)


@contextmanager
def of_libraries(noise: Iterable[str], changes: Iterable[str]) -> Iterator[None]:
    """Within the block what libraries warn of are notes too.

    Python warnings that match `noise` are passed over; those that match `changes` are raised: by them a library says
    that it does something else than it was asked to.
    """
    relay, root = Relay(), logging.getLogger()
    root.addHandler(relay)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            for words in noise:
                warnings.filterwarnings("ignore", words)
            for words in changes:
                warnings.filterwarnings("error", words)
            warnings.showwarning = lambda message, *where, **more: _log.warning("%s", " ".join(str(message).split()))
            yield
    finally:
        root.removeHandler(relay)


@contextmanager
def listening() -> Iterator[Notes]:
    """What is said within the block, by any thread."""
    heard = Notes()
    _ours.addHandler(heard)
    try:
        yield heard
    finally:
        _ours.removeHandler(heard)


@contextmanager
def heard_alone() -> Iterator[Notes]:
    """In a process that works for another one: nothing is shown or written here, for that one is to say it again."""
    root = logging.getLogger()
    _ours.handlers.clear()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, Relay)]
    with listening() as heard:
        yield heard


def say_again(messages: Iterable[str]) -> None:
    """Repeat what was said when something was first made, for those who get it from memory or from a cache."""
    for message in messages:
        _log.warning("%s", message)


def show() -> Screen:
    """Show notes on the screen from now on; doing so twice is doing it once."""
    for handler in _ours.handlers:
        if isinstance(handler, Screen):
            return handler
    screen = Screen()
    _ours.addHandler(screen)
    return screen


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is shown within the block: it was shown when the runs were drawn up."""
    screen = show()
    before, screen.is_quiet = screen.is_quiet, True
    try:
        yield
    finally:
        screen.is_quiet = before
