"""Mirrors of a run's record in W&B, TensorBoard and the like. One that fails, hangs or is absent never fails a run."""

import logging
import os
import queue
import re
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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


@dataclass(frozen=True)
class Sheet:
    """A table of the report: a number or a text to a cell, `None` where nothing is known."""

    columns: Sequence[str]
    rows: Sequence[Sequence[float | str | None]]


@dataclass(frozen=True)
class Comparison:
    """What a tracker is told about a comparison when its report is written."""

    group: str
    directory: Path
    """The comparison's own; trackers may keep files in it."""
    report: Path
    """The folder that holds `report.html`, `tables/` and `figures/`."""
    answer: Sequence[str]
    """Sentences, the headline first."""
    counts: Mapping[str, int]
    """Runs by status."""
    sheets: Mapping[str, Sheet]

    @property
    def figures(self) -> list[Path]:
        """The report's drawings, as SVG."""
        return sorted((self.report / "figures").glob("*.svg"))


class Tracker(ABC):
    """Receives a run's rows as they come. Instances are configured once and used for one run at a time."""

    package: str | None = None
    """What has to be installed for it, beside what always is; the extra of that name brings it."""
    patience: float = 20.0
    """Seconds that a run waits at its end, at most, until the tracker has taken everything."""

    @abstractmethod
    def start(self, card: RunCard) -> None:
        """Open the run."""

    @abstractmethod
    def log(self, row: Mapping[str, float], epoch: int) -> None:
        """Take note of one epoch."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Close the run with its final numbers; `exit_code` 0 means it completed."""

    def compare(self, comparison: Comparison) -> None:
        """Take note, in a record of its own, of what a comparison came to; not every tracker has a place for that."""
        log.debug("%s keeps no comparisons.", type(self).__name__)


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
        self,
        project: str = "headstart",
        entity: str | None = None,
        offline: bool = True,
        tags: list[str] | None = None,
        log_checkpoints: bool = False,
    ) -> None:
        self.project, self.entity, self.offline, self.tags = project, entity, offline, tags or []
        self.log_checkpoints = log_checkpoints

    def start(self, card: RunCard) -> None:
        self.card = card
        _bound_exit(self.patience)
        self.run = self._open(card.directory, card.group, card.job_type, card.run_id, card.config)

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self.run.log(dict(row), step=epoch)

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        self.run.summary.update(dict(summary))
        best = best_checkpoint(self.card.directory)
        if self.log_checkpoints and exit_code == 0 and best is not None:
            self._keep(f"{self.card.job_type}-{self.card.run_id}", "model", {"best.ckpt": best}, ["best"])
        self.run.finish(exit_code=exit_code)

    def compare(self, comparison: Comparison) -> None:
        """One run of job type `comparison` in the group: tables, figures, and the whole report as an artifact."""
        import wandb

        _bound_exit(self.patience)
        words = "\n".join(comparison.answer)
        self.run = self._open(comparison.directory, comparison.group, "comparison", comparison.group, {}, words)
        self.run.summary.update({f"runs/{status}": number for status, number in comparison.counts.items()})
        self.run.summary["answer"] = comparison.answer[0] if comparison.answer else ""
        shown: dict[str, Any] = {
            name: wandb.Table(columns=list(sheet.columns), data=[list(row) for row in sheet.rows])
            for name, sheet in comparison.sheets.items()
        }
        for path in comparison.figures:
            page = f'<body style="background: white">{path.read_text(encoding="utf8")}</body>'
            shown[f"figures/{path.stem}"] = wandb.Html(page, inject=False)
        self.run.log(shown)
        files = {path.relative_to(comparison.report).as_posix(): path for path in _files(comparison.report)}
        self._keep(f"{comparison.group}-report", "report", files)
        self.run.finish(exit_code=0)

    def _open(
        self, directory: Path, group: str, job_type: str, name: str, config: Mapping[str, Any], notes: str | None = None
    ) -> Any:
        import wandb

        online = not self.offline and bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
        if not self.offline and not online:
            log.warning("logger.offline=false, but nobody is logged in to W&B (`wandb login`); logging offline.")
        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=group,
            job_type=job_type,
            name=f"{job_type}-{name}",
            config=dict(config),
            notes=notes,
            dir=directory.absolute(),  # its own process may have been started elsewhere
            tags=self.tags or None,
            mode="online" if online else "offline",
            reinit="create_new",  # runs that are trained together are open together
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, x_disable_stats=True, save_code=False, init_timeout=30
            ),
        )

    def _keep(self, name: str, kind: str, files: Mapping[str, Path], aliases: Sequence[str] = ()) -> None:
        """Log files as an artifact, kept beside the run's own so that what is sent later is what was logged."""
        import wandb

        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)[:128], type=kind)
        folder = Path(self.run.dir).parent / "artifacts" / kind
        for inside, path in files.items():
            copy = folder / inside
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, copy)  # what we write is replaced whole, never altered
            except OSError:
                shutil.copy2(path, copy)
            artifact.add_file(str(copy), name=inside, policy="immutable", skip_cache=True)
        self.run.log_artifact(artifact, aliases=["latest", *aliases])


@cache
def _bound_exit(patience: float) -> None:
    """Let W&B's own process hold the end of this one for `patience` seconds, at most: its exit hook waits for ever."""

    def wait() -> None:
        threading.main_thread().join()
        time.sleep(patience)
        from wandb.sdk import wandb_setup

        connection: Any = wandb_setup.singleton()._connection
        connection._proc._process.kill()

    threading.Thread(target=wait, name="end of W&B", daemon=True).start()


class TensorBoard(Tracker):
    """Event files in the run's directory."""

    package = "tensorboard"

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


def best_checkpoint(directory: Path) -> Path | None:
    """The weights that a run keeps, the adapter folded in if that was asked for; `None` if it keeps none."""
    folder = directory / "checkpoints"
    return next((path for path in (folder / "folded.ckpt", folder / "best.ckpt") if path.is_file()), None)


def _files(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, but those half written."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


class Mirror:
    """A tracker behind a thread of its own: the run hands things over and never waits, but at the very end.

    The first failure is logged as a warning and silences the tracker for the rest of the run.
    """

    def __init__(self, tracker: Tracker, patience: float | None = None) -> None:
        self.tracker, self.patience = tracker, tracker.patience if patience is None else patience
        self.broken = False
        self.calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    def start(self, card: RunCard) -> None:
        """Open the run in the tracker, in the background."""
        self._begin(lambda: self.tracker.start(card))

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
        self._end("the run goes on without it")

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

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            if self.broken:
                continue
            try:
                call()
            except BaseException as error:  # a tracker may even exit; that is its own affair
                self.broken = True
                log.warning("%s failed and is left out: %r", type(self.tracker).__name__, error)
