"""Which run of a comparison to use: chosen on val alone, so that its test score stays an honest one."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from headstart.errors import InputError
from headstart.names import listed
from headstart.record.directory import RunDirectory, SweepDirectory, sweep_of
from headstart.report.design import Cell, Design, Scene, read_design
from headstart.report.metric import Metric, plural
from headstart.report.reading import Ledger, Run, read_sweeps


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


def is_sweep(directory: Path) -> bool:
    """Whether a directory is a comparison's rather than a run's."""
    place = SweepDirectory(directory)
    if place.is_listed:
        return True
    return directory.is_dir() and not RunDirectory(directory).holds_a_run and any(True for _ in place.runs())


def winner(directory: Path) -> Chosen:
    """The run of a comparison to use: of the contender with the highest mean val, the run with the highest val.

    Settings of what is tuned are those that were selected on val within each contender. Where training sizes differ,
    only runs on the most data count.

    Raises:
        InputError: if there is no comparison, no completed run in it, or it is on several data sets.
    """
    ledger = read_sweeps([directory])
    design = read_design(ledger)
    scene = _scene(directory, design)
    cells = [cell for cell in design.scored(scene) if cell.selected is not None]
    best = max(cells, key=lambda cell: cell.selected.val if cell.selected else -inf)
    return _chosen(ledger, design, scene, best, cells)


def chosen_from(run_directory: Path) -> Chosen | None:
    """A run within the comparison that it lies in; `None` where it lies in none."""
    around = sweep_of(run_directory)
    if around.path == run_directory:
        return None
    ledger = read_sweeps([around.path])
    design = read_design(ledger)
    for cell in design.cells.values():
        for candidate in cell.candidates:
            mine = [run for run in candidate.runs.values() if run.directory.name == run_directory.name]
            if mine:
                words = f"It was named by whoever exported it, out of {_count(ledger)} of the comparison {ledger.name}."
                return Chosen(mine[0], design.metric, tuple(candidate.runs.values()), (words,))
    return None


def _scene(directory: Path, design: Design) -> Scene:
    scenes = [scene for scene in design.scenes if design.scored(scene)]
    if not scenes:
        raise InputError(f"{directory} has no completed run with a score. Finish the comparison first.")
    names = list(dict.fromkeys(scene.dataset for scene in scenes))
    if len(names) > 1:
        raise InputError(
            f"{directory} compares on {len(names)} data sets ({listed(names, 5)}), and each has a winner of its own: "
            "name the directory of one run."
        )
    return max(scenes, key=lambda scene: scene.n)


def _chosen(ledger: Ledger, design: Design, scene: Scene, best: Cell, cells: Sequence[Cell]) -> Chosen:
    metric, candidate = design.metric, best.selected
    assert candidate is not None
    runs = tuple(candidate.runs.values())
    run = max(runs, key=lambda one: metric.val(one) if metric.val(one) is not None else float("-inf"))
    settings = f" with {candidate.label}" if candidate.label else ""
    rivals = f"the highest of {plural(len(cells), 'contender')}" if len(cells) > 1 else "the only contender"
    tried = sum(bool(one.runs) for one in best.candidates)
    sizes = {one.n for one in design.scenes}
    words = [
        f"Chosen on val, out of {_count(ledger)} of {ledger.name}: {best.contender.label}{settings} has a mean "
        f"val {metric.title} of {metric.text(candidate.val)} over {plural(len(runs), 'run')}, {rivals}.",
        f"Of these, run {run.run_id} (seed {run.seed}) has the highest val {metric.title}, "
        f"{metric.text(metric.val(run))}." if len(runs) > 1 else f"That is run {run.run_id} (seed {run.seed}).",
        *([f"Its settings were selected on val out of {tried}."] if tried > 1 else []),
        *([f"Only runs on the most training data ({scene.size_text} a class) count."] if len(sizes) > 1 else []),
    ]  # fmt: skip
    return Chosen(run, metric, runs, tuple(words))


def _count(ledger: Ledger) -> str:
    return f"{plural(ledger.count('completed'), 'completed run')}"
