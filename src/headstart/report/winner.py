"""A run within the comparison that it comes from: how it was chosen, and the runs that repeat it."""

from dataclasses import dataclass
from pathlib import Path

from headstart.names import plural
from headstart.record.directory import sweep_of
from headstart.report.design import read_design
from headstart.report.metric import Metric
from headstart.report.reading import Run, read_sweeps
from headstart.report.selected import selected


@dataclass(frozen=True)
class Chosen:
    """A run of a comparison, with the runs that differ from it only in seed or fold."""

    run: Run
    metric: Metric
    """By which runs of the comparison are compared."""
    replicates: tuple[Run, ...]
    """The run itself among them."""
    words: tuple[str, ...]
    """How it was chosen, and from how many, in sentences."""


def winner(directory: Path) -> Chosen:
    """The run that a comparison selects on val (see `selected`).

    Raises:
        InputError: if it selects none.
    """
    picked = selected(directory)
    found = _within(directory, picked.runs[0].name, picked.words)
    assert found is not None
    return found


def chosen_from(run_directory: Path) -> Chosen | None:
    """A run that was named, within the comparison that it lies in; `None` where it lies in none."""
    around = sweep_of(run_directory)
    return None if around.path == run_directory else _within(around.path, run_directory.name, None)


def _within(directory: Path, run_id: str, words: str | None) -> Chosen | None:
    records = read_sweeps([directory])
    design = read_design(records)
    tried = f"{plural(records.count('completed'), 'completed run')} of the comparison {records.name}"
    how = f"It was named by whoever exported it, out of {tried}." if words is None else f"{words} Out of {tried}."
    for cell in design.cells.values():
        for candidate in cell.candidates:
            mine = [run for run in candidate.runs.values() if run.directory.name == run_id]
            if mine:
                return Chosen(mine[0], design.metric, tuple(candidate.runs.values()), (how,))
    return None
