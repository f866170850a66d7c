"""One worker of a search: it draws the next trial for the cell that is furthest behind, runs it, and goes on.

Any number of them, on any machines that share the folder, work on one search until there is nothing left to draw."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from headstart import notes
from headstart.config import recorded
from headstart.config.schema import SearchConfig
from headstart.errors import InputError
from headstart.metrics import shown
from headstart.names import plain_lines
from headstart.record import result
from headstart.record.directory import RunDirectory, SweepDirectory
from headstart.record.search import Trial, lock_of
from headstart.run import experiment
from headstart.run.findings import Findings
from headstart.run.job import Job
from headstart.run.prepare import prepare
from headstart.search.cells import config_number, trial_config
from headstart.search.halving import most_promising
from headstart.search.standing import Standing, budget_words
from headstart.sweep.fuse import features_of
from headstart.sweep.sweeper import ELSEWHERE_SECONDS
from headstart.system.lock import Lock, is_held

log = logging.getLogger(__name__)

TOGETHER = 64
"""Heads on stored features that are drawn and trained at once."""


@dataclass(frozen=True)
class Claim:
    """Trials that this worker holds the locks of, with what it takes to run them."""

    standing: Standing
    trials: Sequence[Trial]
    jobs: Sequence[Job]
    until: int | None = None
    """The epoch at which the trial is paused."""


@dataclass(frozen=True)
class Work:
    """What a launcher calls in each worker: the trials of `cells`, one after the other, until all are drawn."""

    place: Path
    cells: tuple[str, ...]
    search: SearchConfig

    def __call__(self, cfg: DictConfig) -> None:
        notes.show()
        Worker(SweepDirectory(self.place), self.cells, self.search).run()


class Worker:
    """Draws and runs trials."""

    def __init__(self, sweep: SweepDirectory, cells: Sequence[str], search: SearchConfig) -> None:
        self.sweep, self.search = sweep, search
        self.standings = [Standing(sweep, cell, search) for cell in cells]
        self.findings = Findings()
        self.bases: dict[Path, DictConfig] = {}
        self.drawn_jobs: dict[str, Job] = {}
        """Of trials that are just being drawn, by run."""

    def run(self) -> None:
        """Go on until the search is done; what waits for others' trials is looked for now and then."""
        while True:
            with ExitStack() as locks:
                claim = self.claim(locks)
                if claim is not None:
                    self.carry_out(claim)
                elif all(standing.is_done for standing in self.standings):
                    return
            if claim is None:
                time.sleep(ELSEWHERE_SECONDS)

    def claim(self, locks: ExitStack) -> Claim | None:
        """The next trials: those that a dead worker left, else new ones of the cell that is furthest behind.

        `locks` keeps the right to work on them.
        """
        with Lock(lock_of(self.sweep)):
            for standing in self.standings:
                standing.look()
            for standing in self.standings:
                left = self._left_behind(standing, locks)
                if left:
                    return left
            for standing in sorted(self.standings, key=lambda one: one.share):
                found = self._promoted(standing, locks) or self._drawn(standing, locks)
                if found:
                    return found
        return None

    def _left_behind(self, standing: Standing, locks: ExitStack) -> Claim | None:
        free = [one for one in standing.open if not is_held(self.sweep.run(one.run_id).lock)]
        most = TOGETHER if standing.record.is_probe else 1
        return self._held(standing, free, locks, most)

    def _promoted(self, standing: Standing, locks: ExitStack) -> Claim | None:
        """A paused trial that goes on."""
        found = standing.promotion()
        if found is None:
            return None
        trial, until = found
        claim = self._held(standing, [trial], locks, 1)
        return None if claim is None else replace(claim, until=until)

    def _drawn(self, standing: Standing, locks: ExitStack) -> Claim | None:
        """New trials of a cell, noted down and locked; none if there is nothing to draw (yet)."""
        most = TOGETHER if standing.record.is_probe else 1
        new: list[Trial] = []
        while len(new) < most:
            trial = self._next(standing)
            if trial is None:
                break
            standing.directory.append(trial)
            standing.look()
            if trial.invalid is None:
                new.append(trial)
        claim = self._held(standing, new, locks, most)
        self.drawn_jobs.clear()
        return claim

    def _next(self, standing: Standing) -> Trial | None:
        new = standing.next_setting()
        return None if new is None else self._trial(standing, len(standing.trials), *new)

    def _trial(
        self, standing: Standing, number: int, params: dict, seed: int, replicate_of: int | None = None
    ) -> Trial:
        try:
            job = self._job(standing, params, seed)
        except InputError as error:
            log.warning("Trial %d of %s cannot be run: %s", number, standing.record.label, error)
            return Trial(number, "", params, seed, replicate_of, invalid=str(error))
        self.drawn_jobs[job.run_id] = job
        return Trial(number, job.run_id, params, seed, replicate_of)

    def _job(self, standing: Standing, params: dict, seed: int) -> Job:
        path = standing.directory.config(config_number(standing.space, params))
        if path not in self.bases:
            self.bases[path] = recorded.composed(path)
        with notes.quiet():
            return prepare(trial_config(self.bases[path], params, seed), findings=self.findings)

    def _held(self, standing: Standing, trials: Sequence[Trial], locks: ExitStack, most: int) -> Claim | None:
        """Of `trials`, the first and those that can be trained with it, as far as no one else is at them."""
        mine: list[Trial] = []
        jobs: list[Job] = []
        shared: str | None = None
        for trial in trials:
            if len(mine) == most:
                break
            job = self.drawn_jobs.get(trial.run_id) or self._job(standing, dict(trial.params), trial.seed)
            if job.run_id != trial.run_id:
                raise InputError(
                    f"Trial {trial.number} of {standing.record.label} is run {trial.run_id}, but its config, data or "
                    f"weights now make run {job.run_id}: they were changed after the search began. Start it anew "
                    "in another folder (name=…), or put them back."
                )
            features = features_of(job)
            if mine and (features is None or features != shared):
                continue
            directory = self.sweep.run(trial.run_id)
            directory.path.mkdir(parents=True, exist_ok=True)
            if not locks.enter_context(Lock(directory.lock, wait=False)).held:
                continue
            done = result.read(directory, trial.run_id)
            if done is not None and done.status != "stopped":
                continue
            directory.remove_drafts()
            shared = features
            mine.append(trial)
            jobs.append(job)
        return Claim(standing, mine, jobs, standing.until(mine[0])) if mine else None

    def carry_out(self, claim: Claim) -> None:
        sys.stderr.write(plain_lines(announcement(claim)) + "\n")
        directories = [self.sweep.run(trial.run_id) for trial in claim.trials]
        with logging_to(directories[0]), notes.quiet():
            for message in claim.jobs[0].notes:
                notes.say_again([message])
            experiment.run(claim.jobs, directories, claim.until)
        if claim.until is not None:
            self._make_room(claim.standing)

    def _make_room(self, standing: Standing) -> None:
        """Remove checkpoints of paused trials beyond what they may take, of the least promising first."""
        with Lock(lock_of(self.sweep)):
            standing.look()
            room = self.search.paused_gb * 1e9 / len(self.standings)
            for one in most_promising(standing.reached()):
                directory = self.sweep.run(standing.drawn_number(one.number).run_id)
                directory.best.unlink(missing_ok=True)  # no trial is scored by its weights
                room -= directory.last.stat().st_size if directory.last.is_file() else 0
                if room < 0 and directory.last.is_file():
                    directory.last.unlink()
                    log.warning("The checkpoint of paused trial %d was removed: search.paused_gb is full.", one.number)


def announcement(claim: Claim) -> str:
    """`── fine_tune: trial 7 of 40; best val/accuracy so far 81.2% (trial 3)`."""
    standing, first = claim.standing, claim.trials[0]
    several = f"trial {first.number}"
    if len(claim.trials) > 1:
        several = f"trials {first.number} to {claim.trials[-1].number}"
    elif not first.is_draw:
        several = f"trial {first.replicate_of} again, on seed {first.seed}"
    elif not first.number:
        several = "trial 0, the default"
    if claim.until is not None:
        several += f" to epoch {claim.until}"
    best = standing.best
    value = None if best is None else standing.value(best)
    told = (
        ""
        if best is None or value is None
        else (f"; best {shown(standing.record.monitor, value)} so far (trial {best.number})")
    )
    spent = budget_words(standing.search, standing.amount, standing.spent)
    return f"── {standing.record.label}: {several}, {spent}{told}"


@contextmanager
def logging_to(directory: RunDirectory) -> Iterator[None]:
    """What is logged within the block goes to a run's own log too."""
    handler = logging.FileHandler(directory.log, encoding="utf8")
    handler.setFormatter(notes.PlainFormatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
