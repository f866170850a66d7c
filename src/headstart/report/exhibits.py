"""The files of the runs that are shown: which runs those are, and what their files hold."""

from dataclasses import dataclass, field

import numpy as np

from headstart.report.analysis import Analysis
from headstart.report.artifacts import (
    AppliedPlan,
    Curve,
    Details,
    Hard,
    Predictions,
    each_usable,
    read_details,
    read_hardest,
    read_history,
    read_plan,
    read_predictions,
    usable,
)  # fmt: skip
from headstart.report.curves import MOST_PANELS
from headstart.report.design import Condition, Contender
from headstart.report.evidence import answers_interval
from headstart.report.reading import Run
from headstart.report.replicates import NO_SEED
from headstart.report.scored import Summary
from headstart.report.statistics import ExampleTest, Interval, compare_examples

MOST_SEEDS = 10
MOST_EXAMPLES = 16
MOST_PAIRED = 50
"""Replicates whose predictions are read for the interval over examples."""


@dataclass(slots=True)
class Exhibits:
    """What is shown of single runs; every file that should be there and is not, or is broken, has a note."""

    curves: dict[Contender, list[Curve]] = field(default_factory=dict)
    plans: dict[Contender, AppliedPlan] = field(default_factory=dict)
    best: Run | None = None
    best_label: str = ""
    details: Details | None = None
    hardest: list[Hard] = field(default_factory=list)
    pair: tuple[Contender, Contender] | None = None
    examples: dict[int, ExampleTest] = field(default_factory=dict)
    crossed: Interval | None = None
    """What the first of the pair is ahead by, with its interval over seeds and examples, where all were tested on the
    same ones; seen from the one that is ahead."""
    notes: list[str] = field(default_factory=list)


def gather(analysis: Analysis) -> Exhibits:
    """Read what the focus condition's selected runs have kept."""
    exhibits, condition = Exhibits(), analysis.focus
    if condition is None:
        return exhibits
    rows = analysis.summaries[condition]
    for row in rows[:MOST_PANELS]:
        contender, runs = row.cell.contender, _by_val(row, analysis)
        if curves := list(each_usable(read_history, runs[:MOST_SEEDS], exhibits.notes)):
            exhibits.curves[contender] = curves
        plan = usable(read_plan, runs[0], exhibits.notes)
        if plan is not None:
            exhibits.plans[contender] = plan
    _show_best(exhibits, analysis, condition)
    if len(rows) > 1:
        _compare(exhibits, rows[0], rows[1], analysis)
    return exhibits


def _by_val(row: Summary, analysis: Analysis) -> list[Run]:
    """The selected runs, the best on validation first."""
    assert row.cell.selected is not None
    metric, runs = analysis.design.metric, list(row.cell.selected.runs.values())
    return sorted(runs, key=lambda run: -(metric.val(run) if metric.val(run) is not None else -np.inf))  # type: ignore[operator]


def _show_best(exhibits: Exhibits, analysis: Analysis, condition: Condition) -> None:
    leader = analysis.leader(condition)
    run = _by_val(leader, analysis)[0]
    assert leader.cell.selected is not None
    number = next(number for number, one in leader.cell.selected.runs.items() if one is run)
    which = "" if number == NO_SEED else f", {analysis.design.replicates.name(number)}"
    exhibits.best, exhibits.best_label = run, f"{leader.cell.contender.label}{which}"
    exhibits.details = usable(read_details, run, exhibits.notes)
    exhibits.hardest = usable(read_hardest, run, exhibits.notes) or []
    if not exhibits.hardest:
        predictions = usable(read_predictions, run, exhibits.notes)
        if predictions is not None:
            exhibits.hardest = _hardest(predictions, exhibits.details)


def _hardest(predictions: Predictions, details: Details | None) -> list[Hard]:
    """The examples whose own class got the lowest probability, by name alone."""
    labels, classes = predictions.labels, [] if details is None else details.classes
    found = predictions.probabilities
    if labels.ndim != 1 or (found is None and predictions.own is None):
        return []
    width = len(classes) if found is None else found.shape[1]
    if not ((labels >= 0) & (labels < width)).all():
        return []
    own = predictions.own if found is None else found[np.arange(len(labels)), labels.astype(int)]
    assert own is not None
    own = own.astype(float)
    answers = predictions.answers
    names = classes if len(classes) == width else [str(i) for i in range(width)]
    wrong = [i for i in np.argsort(own, kind="stable") if answers[i] != labels[i]][:MOST_EXAMPLES]
    return [
        Hard(str(predictions.ids[i]), names[int(labels[i])], names[int(answers[i])], float(own[i]), None, "")
        for i in wrong
    ]


def _compare(exhibits: Exhibits, first: Summary, second: Summary, analysis: Analysis) -> None:
    """The first two on the same test examples, for each replicate that both have."""
    assert first.cell.selected is not None
    assert second.cell.selected is not None
    repeats = analysis.design.replicates
    ours, theirs = first.cell.selected.runs, second.cell.selected.runs
    exhibits.pair = first.cell.contender, second.cell.contender
    tested: dict[tuple[str, ...], list[np.ndarray]] = {}
    shared = sorted(ours.keys() & theirs.keys())
    for seed in shared[:MOST_PAIRED]:
        kept = [usable(read_predictions, run, exhibits.notes) for run in (ours[seed], theirs[seed])]
        if kept[0] is None or kept[1] is None:
            continue
        order = [np.argsort(predictions.ids, kind="stable") for predictions in kept]
        same = all(
            np.array_equal(getattr(kept[0], name)[order[0]], getattr(kept[1], name)[order[1]])
            for name in ("ids", "labels")
        )
        if not same:
            exhibits.notes.append(
                f"The runs of {repeats.name(seed)} were tested on other examples and were not compared by them."
            )
            continue
        if kept[0].right is None or kept[1].right is None:
            continue
        right = [kept[0].right[order[0]], kept[1].right[order[1]]]
        tested.setdefault(tuple(kept[0].ids[order[0]]), []).append(right[0].astype(float) - right[1])
        if len(exhibits.examples) < MOST_SEEDS:
            exhibits.examples[seed] = compare_examples(*right)
    if len(tested) == 1 and analysis.design.metric.counts_right:
        (found,) = tested.values()
        if len(found) == len(shared):
            gaps = np.array(found)
            exhibits.crossed = answers_interval(gaps if gaps.mean() >= 0 else -gaps)
