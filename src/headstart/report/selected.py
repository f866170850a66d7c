"""The contender that a comparison selects on val, and its runs: what is meant where a model of it is asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.errors import InputError
from headstart.names import agreeing, listed, plural
from headstart.record.directory import RunDirectory, SweepDirectory
from headstart.report.design import ContenderRuns, read_design
from headstart.report.reading import read_sweeps


@dataclass(frozen=True)
class Selected:
    """The contender with the best mean on val among those with the most replicates."""

    runs: tuple[Path, ...]
    """Directories of its runs, the best one on val first."""
    words: str
    """What was chosen, from how many, and by what."""


def is_comparison(directory: Path) -> bool:
    """Whether a directory holds the runs of a comparison, and is not that of a run."""
    if not directory.is_dir() or RunDirectory(directory).holds_a_run:
        return False
    return SweepDirectory(directory).is_listed or any(SweepDirectory(directory).runs())


def selected(directory: Path) -> Selected:
    """What the comparison in `directory` selects; test scores play no part.

    Raises:
        InputError: if it has no completed run with a score on val, or compares on several data sets.
    """
    design = read_design(read_sweeps([directory]))
    conditions = [condition for condition in design.conditions if design.scored(condition)]
    data = list(dict.fromkeys(condition.dataset for condition in conditions))
    if len(data) > 1:
        raise InputError(
            f"{directory} compares on {len(data)} data sets ({listed(data, 5)}), so that no one run is meant. Name a "
            "run's directory in it."
        )
    if not conditions:
        raise InputError(f"{directory} has no completed run yet: see headstart status {directory}.")
    condition = max(conditions, key=lambda condition: condition.n)
    cells = [cell for cell in design.scored(condition) if cell.selected and np.isfinite(cell.selected.val)]
    if not cells:
        raise InputError(f"No run in {directory} has a score on val to select by. Name a run's directory in it.")
    most = max(_num_runs(cell) for cell in cells)
    best = max((cell for cell in cells if _num_runs(cell) == most), key=_val)
    chosen = best.selected
    assert chosen is not None
    metric = design.metric
    scores = {run.run_id: metric.val(run) for run in chosen.runs.values()}
    runs = sorted(chosen.runs.values(), key=lambda run: -np.inf if (val := scores[run.run_id]) is None else -val)
    size = f" at {condition.size_text} examples a class" if len(conditions) > 1 else ""
    setting = f" ({chosen.label})" if chosen.label else ""
    left = sum(_num_runs(cell) < most for cell in cells)
    fewer = f" ({left} with fewer runs set aside)" if left else ""
    tied = sum(_num_runs(cell) == most and _val(cell) == _val(best) for cell in cells) - 1
    level = f" ({agreeing(tied, 'so have')} {plural(tied, 'other')}: the first is taken)" if tied else ""
    words = (
        f"{best.contender.label}{setting}{size} is selected of {plural(len(cells), 'contender')}{fewer} by mean "
        f"{metric.title} on val, {metric.text(chosen.val)} over {plural(most, 'run')}{level}. Its best run on val is "
        f"{runs[0].run_id} (seed {runs[0].seed}, {metric.text(metric.val(runs[0]))})."
    )
    return Selected(tuple(run.directory for run in runs), words)


def _num_runs(cell: ContenderRuns) -> int:
    return len(cell.selected.runs) if cell.selected else 0


def _val(cell: ContenderRuns) -> float:
    return cell.selected.val if cell.selected else -np.inf
