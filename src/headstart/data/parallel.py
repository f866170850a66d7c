"""Work on many files at once, with a progress bar for who is watching."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from headstart.system.cores import cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_CHUNK, _MOST_CHUNKS = 16, 4096
"""How many items a thread takes at a time, and of so many items that this would make more turns than those, more."""
_QUIET_SECONDS = 1.0


def map_threads(function: Callable[[Item], Result], items: Sequence[Item], what: str) -> Iterator[Result]:
    """Results of `function` in the order of `items`; threads, as pictures and files are read outside Python's lock.

    On a terminal a bar headed `what` shows once it has taken more than a second.
    """
    size = max(_CHUNK, len(items) // _MOST_CHUNKS)
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    pool = ThreadPoolExecutor(cores())
    try:
        with shown_progress(what, len(items)) as advance:
            for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
                yield from results
                advance(len(results))
    finally:
        pool.shutdown(cancel_futures=True)


def map_few(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The same for the few of a batch, without a bar: by threads in the process that trains, one by one in those that
    read ahead for it, of which there are as many as are wanted."""
    if len(items) < 2 or cores() < 2 or _reads_ahead():
        return list(map(function, items))
    with ThreadPoolExecutor(min(cores(), len(items))) as pool:
        return list(pool.map(function, items))


def _reads_ahead() -> bool:
    """Whether this process is one that a loader of torch started."""
    loaded = sys.modules.get("torch.utils.data")
    return loaded is not None and loaded.get_worker_info() is not None


@contextmanager
def shown_progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar headed `what` on a terminal, once it has taken more than a second; `total` may not be known."""
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task(what, total=total)
    started = time.monotonic()
    shown = refused = not console.is_terminal

    def advance(count: int) -> None:
        nonlocal shown, refused
        bar.advance(task, count)
        if not shown and time.monotonic() - started > _QUIET_SECONDS:
            shown = True
            try:
                bar.start()
            except LiveError:  # another display has the terminal
                refused = True

    try:
        yield advance
    finally:
        if shown and not refused:
            bar.stop()
        seconds = time.monotonic() - started
        if seconds > _QUIET_SECONDS:
            _log.info("%s: %d in %.1f s", what, bar.tasks[0].completed, seconds)
