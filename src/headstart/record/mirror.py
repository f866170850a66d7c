"""A tracker that no run waits for: one that fails, hangs or is absent never fails a run."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from headstart.record.trackers import Comparison, NoTracker, RunCard, Tracker

log = logging.getLogger(__name__)


class Mirror:
    """A tracker behind a thread of its own: the run hands things over and never waits, but at the very end.

    The first failure is logged as a warning and silences the tracker for the rest of the run.
    """

    def __init__(self, tracker: Tracker, patience: float | None = None) -> None:
        self.tracker, self.patience = tracker, tracker.patience if patience is None else patience
        self.broken = False
        self.calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self.rows: list[tuple[Mapping[str, float], int]] = []

    def start(self, card: RunCard) -> None:
        """Open the run in the tracker, in the background."""
        self._begin(lambda: self.tracker.start(card))

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        """Hand one epoch's row over."""
        row = dict(row)
        self.rows.append((row, epoch))
        self.calls.put(lambda: self.tracker.log(row, epoch))

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Hand the summary over and wait, at most `patience` seconds, until the tracker has taken everything."""
        if self.thread is None:
            return
        summary = dict(summary)
        self.calls.put(lambda: self.tracker.finish(summary, exit_code))
        if not self._end("the run goes on without it"):
            self._rescue(summary, exit_code)

    def compare(self, comparison: Comparison) -> bool:
        """Hand a comparison over and wait, at most `patience` seconds; whether the tracker has taken it."""
        self._begin(lambda: self.tracker.compare(comparison))
        return self._end("the comparison ends without it")

    def _begin(self, call: Callable[[], None]) -> None:
        if isinstance(self.tracker, NoTracker):
            return
        self.thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self.thread.start()
        self.calls.put(call)

    def _end(self, consequence: str) -> bool:
        """Wait until everything is done; whether it was, and well."""
        if self.thread is None:
            return not self.broken
        self.calls.put(None)
        self.thread.join(self.patience)
        if self.thread.is_alive():
            log.warning("The tracker did not finish within %.0f s; %s.", self.patience, consequence)
            return False
        return not self.broken

    def _rescue(self, summary: Mapping[str, Any], exit_code: int) -> None:
        try:
            how = self.tracker.rescue(self.rows, summary, exit_code)
        except Exception as error:
            log.warning("%s could not keep the run to be sent later: %r", type(self.tracker).__name__, error)
        else:
            if how:
                log.warning("The run is kept for %s. %s", type(self.tracker).__name__, how)

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            if self.broken:
                continue
            try:
                call()
            except BaseException as error:  # a tracker may even exit; that is its own affair
                self.broken = True
                log.warning("%s failed and is left out: %r", type(self.tracker).__name__, error)
