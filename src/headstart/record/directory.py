"""Where everything of a run and of a comparison lies: every name of their files stands here, and nowhere else."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from headstart.system.lock import Lock
from headstart.system.places import closed
from headstart.system.process import DRAFT, is_left

CONFIG, RESULT, HISTORY, PLAN = "config.yaml", "result.json", "history.csv", "plan.json"
DRAWING, PREDICTIONS, LOG = "plan.svg", "predictions.npz", "log.txt"
CHECKPOINTS, HARDEST, ADAPTER, ATTEMPTS, RERUNS = "checkpoints", "hardest", "adapter", "attempts", "reruns"
MODEL_FILES = "backbone"
BEST, LAST, FINAL = "best.ckpt", "last.ckpt", "final.ckpt"
LOCK = "claim"
LISTING, REPORT, SEARCH = "sweep.json", "report", "search"
EXPORTS = "exports"
KEPT_BY_ATTEMPTS = (ATTEMPTS, CONFIG, PLAN, DRAWING, ".hydra")
"""What stays where it is when an attempt at a run is set aside: all attempts share it."""


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run; none of them need be there."""

    path: Path

    @property
    def config(self) -> Path:
        """All settings, resolved."""
        return self.path / CONFIG

    @property
    def result(self) -> Path:
        """What the run was and what came of it (see `record.result`); written last."""
        return self.path / RESULT

    @property
    def history(self) -> Path:
        """A row an epoch."""
        return self.path / HISTORY

    @property
    def plan(self) -> Path:
        """What trains when, at which rate."""
        return self.path / PLAN

    @property
    def drawing(self) -> Path:
        """The plan, drawn."""
        return self.path / DRAWING

    @property
    def predictions(self) -> Path:
        """The answers on each test set."""
        return self.path / PREDICTIONS

    @property
    def log(self) -> Path:
        """What was logged while it ran."""
        return self.path / LOG

    @property
    def checkpoints(self) -> Path:
        """The folder of `best`, `last`, `plateau` and `final`."""
        return self.path / CHECKPOINTS

    @property
    def best(self) -> Path:
        """Weights of the selected epoch; of a run that trained a head on features, the head's alone."""
        return self.checkpoints / BEST

    @property
    def last(self) -> Path:
        """Everything that training needs to go on from its last epoch; gone once the run is completed."""
        return self.checkpoints / LAST

    def plateau(self, phase: int) -> Path:
        """The best weights of a phase that waits for a plateau."""
        return self.checkpoints / f"plateau-{phase}.ckpt"

    @property
    def final(self) -> Path:
        """The best weights as the run is to keep them, mixed with the starting ones or with the adapter folded in,
        until they take the place of `best`."""
        return self.checkpoints / FINAL

    @property
    def weights(self) -> Path | None:
        """The weights that the run keeps; `None` if it keeps none."""
        return next((path for path in (self.final, self.best) if path.is_file()), None)

    @property
    def hardest(self) -> Path:
        """The folder of the test examples that the run was least sure of."""
        return self.path / HARDEST

    @property
    def hardest_list(self) -> Path:
        """What is known of each of them."""
        return self.hardest / f"{HARDEST}.json"

    @property
    def earlier_hardest_list(self) -> Path:
        """Where the first versions kept that list."""
        return self.path / f"{HARDEST}.json"

    def hardest_picture(self, number: int) -> Path:
        """The picture of the one of that number."""
        return self.hardest / f"{number}.png"

    @property
    def adapter(self) -> Path:
        """The folder of a trained adapter, as peft reads it."""
        return self.path / ADAPTER

    @property
    def model_files(self) -> Path:
        """The folder of small files that the backbone is made and read for by: a configuration, a tokenizer."""
        return self.path / MODEL_FILES

    @property
    def reruns(self) -> Path:
        """The folder of repetitions of the run."""
        return self.path / RERUNS

    @property
    def exports(self) -> Path:
        """The folder of what was made of it for others to load, one folder a format."""
        return self.path / EXPORTS

    @property
    def lock(self) -> Path:
        """Locked by the one worker that is at the run; left behind by one that died."""
        return self.path / LOCK

    @property
    def attempts(self) -> Path:
        """The folder of earlier attempts: failed or damaged ones that were set aside."""
        return self.path / ATTEMPTS

    def earlier_attempts(self) -> list["RunDirectory"]:
        """Those attempts; none where the folder cannot be read."""
        try:
            return [RunDirectory(path) for path in self.attempts.iterdir()]
        except OSError:
            return []

    @property
    def holds_a_run(self) -> bool:
        """Whether a run was begun here, or is about to be."""
        return any(path.is_file() for path in (self.result, self.config, self.history))

    @property
    def is_begun(self) -> bool:
        """Whether a worker has been at the run."""
        return any(path.exists() for path in (self.lock, self.history, self.plan))

    @property
    def is_left_untidy(self) -> bool:
        """Whether something is here that a completed run does not need."""
        return any(path.exists() for path in (self.lock, self.last, self.final))

    def set_aside(self, keep: Sequence[Path] = ()) -> str:
        """Move an attempt's files to `attempts/<n>/`, which is returned, so that the run can be done again."""
        target = next(place for number in count(1) if not (place := self.attempts / str(number)).exists())
        target.mkdir(parents=True)
        # the result goes last: until then the attempt still counts as failed, and is set aside again after a crash
        for child in sorted(self.path.iterdir(), key=lambda child: child == self.result):
            stays = child.name in KEPT_BY_ATTEMPTS or child in keep or child.name.startswith((LOCK, f".{LOCK}"))
            if not stays:
                child.rename(target / child.name)
        return f"{ATTEMPTS}/{target.name}"

    def remove_drafts(self) -> None:
        """Remove what a process that was killed left half-written."""
        for draft in (*self.path.glob(f".*{DRAFT}"), *self.checkpoints.glob(".*")):
            if not draft.name.startswith(f".{LOCK}") or is_left(draft):  # others may be asking for the lock just now
                draft.unlink(missing_ok=True)

    def tidy(self, keep_checkpoint: bool) -> None:
        """Remove what a completed run needed only while it went on."""
        if not keep_checkpoint:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            return
        if self.final.is_file():  # only now: a run that is resumed needs its best weights as they were trained
            self.final.replace(self.best)
        for path in self.checkpoints.glob("plateau-*.ckpt"):
            path.unlink()
        self.last.unlink(missing_ok=True)

    def finish(self, keep_checkpoint: bool) -> None:
        """Do what the worker of a completed run did not come to if it was killed at the very end."""
        if self.is_left_untidy and not closed(self.path):
            with Lock(self.lock, wait=False) as lock:
                if lock.held:
                    self.remove_drafts()
                    self.tidy(keep_checkpoint)

    def next_rerun(self) -> Path:
        """The first of `reruns/1`, `reruns/2`, … that is not there."""
        return next(place for number in count(1) if not os.path.lexists(place := self.reruns / str(number)))


@dataclass(frozen=True)
class SweepDirectory:
    """The files of a comparison, and the directories of its runs."""

    path: Path

    @property
    def listing(self) -> Path:
        """Which runs belong to it."""
        return self.path / LISTING

    @property
    def damaged_listing(self) -> Path:
        """Where a listing that cannot be read is put."""
        return self.path / f"damaged-{LISTING}"

    @property
    def lock(self) -> Path:
        """Locked while the listing is written."""
        return self.path / f".sweep.{LOCK}"

    @property
    def report(self) -> Path:
        """The folder of the page of evidence."""
        return self.path / REPORT

    @property
    def search(self) -> Path:
        """The folder of what a search drew, by cell (see `record.search`)."""
        return self.path / SEARCH

    @property
    def told(self) -> Path:
        """The digest of what the tracker was told last, so that it is not told again."""
        return self.path / ".told"

    def silent(self, url: str) -> Path:
        """What was found out of a tracker's server that does not answer."""
        return self.path / f".silent-{hashlib.sha256(url.encode()).hexdigest()[:8]}"

    @property
    def is_listed(self) -> bool:
        """Whether it is a comparison's directory, that says which runs it has."""
        return self.listing.is_file()

    def run(self, run_id: str) -> RunDirectory:
        """The directory of one of its runs."""
        return RunDirectory(self.path / run_id)

    def runs(self) -> Iterator[RunDirectory]:
        """Every directory in it that holds a run, whether it is listed or not, by name."""
        for path in sorted(self.path.iterdir()):
            is_hidden = path.name.startswith(".")  # a run's own `.hydra` holds a config too
            if not is_hidden and (directory := RunDirectory(path)).holds_a_run:
                yield directory


def sweep_of(run: Path) -> SweepDirectory:
    """The comparison that the run in a directory is part of, or its own directory."""
    around = SweepDirectory(run.parent)
    return around if around.is_listed else SweepDirectory(run)
