"""What searches tried, as their files tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.metrics import mode
from headstart.record import result
from headstart.record.directory import SweepDirectory
from headstart.record.search import CellRecord, cells_of
from headstart.record.variable import Variable
from headstart.report.importance import importances
from headstart.system.bounded import DamagedError


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting that a search tried on one seed."""

    number: int
    params: dict[str, Any]
    status: str
    value: float | None
    """On val; of a paused trial so far."""
    epochs: float
    seconds: float
    finished: str
    """When, as ISO 8601; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A cell's search, as far as its files tell."""

    record: CellRecord
    name: str
    tried: list[Tried]

    @property
    def space(self) -> list[Variable]:
        """What was searched."""
        return [Variable.from_dict(one) for one in self.record.space]

    @property
    def is_maximized(self) -> bool:
        return mode(self.record.monitor) == "max"

    @property
    def importances(self) -> Mapping[str, float]:
        """Of each setting, where that can be told."""
        scored = [(one.params, one.value) for one in self.scored if one.value is not None]
        return importances(self.space, scored, self.is_maximized)

    @property
    def at_bounds(self) -> list[Variable]:
        """Settings of which the best trial's lies at an end of the range."""
        if self.best is None or not self.best.number:
            return []
        return [one for one in self.space if one.is_at_bound(self.best.params.get(one.key))]

    @property
    def scored(self) -> list[Tried]:
        """Trials that came to their end with a score, in order."""
        return [one for one in self.tried if one.value is not None and one.status == "completed"]

    @property
    def best(self) -> Tried | None:
        """The best of them, the first of equals."""
        sign = -1 if self.is_maximized else 1
        return min(self.scored, key=lambda one: (sign * (one.value or 0.0), one.number), default=None)


def read_searches(directories: Sequence[Path]) -> list[Searched]:
    """Every search in directories of comparisons."""
    found = []
    for sweep in map(SweepDirectory, directories):
        for record, directory in cells_of(sweep):
            try:
                trials = [trial for trial in directory.trials() if trial.is_draw]
            except DamagedError:  # which is among the notes
                continue
            tried = []
            for trial in trials:
                done = result.read(sweep.run(trial.run_id), trial.run_id) if trial.run_id else None
                status = "refused" if not trial.run_id else "unfinished" if done is None else done.status
                selection, cost = (None, {}) if done is None else (done.selection, done.cost)
                value = None if selection is None else selection.value
                params = dict(trial.params if trial.number else record.defaults)
                epochs, seconds = (float(cost.get(name) or 0.0) for name in ("epochs", "total_seconds"))
                finished = "" if done is None else done.finished or ""
                tried.append(Tried(trial.number, params, status, value, epochs, seconds, finished))
            found.append(Searched(record, record.label, tried))
    return found
