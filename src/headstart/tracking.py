"""Mirrors of a run's record in W&B, TensorBoard and the like. One that fails, hangs or is absent never fails a run."""

import logging
import os
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunCard:
    """What a tracker is told about a run when it starts."""

    run_id: str
    directory: Path
    group: str
    job_type: str
    config: Mapping[str, Any]


class Tracker(ABC):
    """Receives a run's rows as they come. Instances are configured once and used for one run at a time."""

    @abstractmethod
    def start(self, card: RunCard) -> None:
        """Open the run."""

    @abstractmethod
    def log(self, row: Mapping[str, float], epoch: int) -> None:
        """Take note of one epoch."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Close the run with its final numbers; `exit_code` 0 means it completed."""


class NoTracker(Tracker):
    """Keeps nothing: `history.csv` and `result.json` are always written."""

    def start(self, card: RunCard) -> None:
        pass

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        pass

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        pass


class WandB(Tracker):
    """Weights & Biases: group = the comparison, job type = the strategy. Online only if asked for and logged in."""

    def __init__(
        self, project: str = "headstart", entity: str | None = None, offline: bool = True, tags: list[str] | None = None
    ) -> None:
        self.project, self.entity, self.offline, self.tags = project, entity, offline, tags or []

    def start(self, card: RunCard) -> None:
        import wandb

        online = not self.offline and bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
        if not self.offline and not online:
            log.warning("logger.offline=false, but nobody is logged in to W&B (`wandb login`); logging offline.")
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=card.group,
            job_type=card.job_type,
            name=f"{card.job_type}-{card.run_id}",
            config=dict(card.config),
            dir=card.directory,
            tags=self.tags or None,
            mode="online" if online else "offline",
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, x_disable_stats=True, save_code=False, init_timeout=30
            ),
        )

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self.run.log(dict(row), step=epoch)

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        self.run.summary.update(dict(summary))
        self.run.finish(exit_code=exit_code)


class TensorBoard(Tracker):
    """Event files in the run's directory."""

    def start(self, card: RunCard) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(card.directory / "tensorboard"))
        self.card = card

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        for name, value in row.items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(name, value, epoch)

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        hparams = {k: v for k, v in self.card.config.items() if isinstance(v, (bool, str, float, int))}
        metrics = {f"final/{k}": v for k, v in summary.items() if isinstance(v, (int, float))}
        self.writer.add_hparams(hparams, metrics, run_name=".")
        self.writer.close()


class Mirror:
    """A tracker behind a thread of its own: the run hands things over and never waits, but at the very end.

    The first failure is logged as a warning and silences the tracker for the rest of the run.
    """

    def __init__(self, tracker: Tracker, patience: float = 20.0) -> None:
        self.tracker, self.patience = tracker, patience
        self.broken = False
        self.calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    def start(self, card: RunCard) -> None:
        """Open the run in the tracker, in the background."""
        if isinstance(self.tracker, NoTracker):
            return
        self.thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self.thread.start()
        self.calls.put(lambda: self.tracker.start(card))

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        """Hand one epoch's row over."""
        row = dict(row)
        self.calls.put(lambda: self.tracker.log(row, epoch))

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Hand the summary over and wait, at most `patience` seconds, until the tracker has taken everything."""
        if self.thread is None:
            return
        summary = dict(summary)
        self.calls.put(lambda: self.tracker.finish(summary, exit_code))
        self.calls.put(None)
        self.thread.join(self.patience)
        if self.thread.is_alive():
            log.warning("The tracker did not finish within %.0f s; the run goes on without it.", self.patience)

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            if self.broken:
                continue
            try:
                call()
            except BaseException as error:  # a tracker may even exit; that is its own affair
                self.broken = True
                log.warning("%s failed and is left out of this run: %r", type(self.tracker).__name__, error)
