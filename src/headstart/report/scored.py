"""A contender's scores and costs in a condition: those of the runs that were selected for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import fmean

import numpy as np

from headstart.report import statistics
from headstart.report.design import ContenderRuns, Design
from headstart.report.metric import Metric, is_baseline
from headstart.report.reading import Run
from headstart.report.statistics import Interval

COSTS = (
    "train_seconds", "feature_seconds", "train_flops", "feature_flops", "trainable_parameters", "peak_memory_bytes",
    "total_seconds",
)  # fmt: skip
WITH_FEATURES = {"seconds": ("train_seconds", "feature_seconds"), "flops": ("train_flops", "feature_flops")}
"""Costs of a run as if it had computed its frozen features alone: whoever shares them pays less, none pays more."""


@dataclass(slots=True)
class Summary:
    """One row of the comparison: the selected runs of a contender in a condition."""

    cell: ContenderRuns
    scores: dict[int, float]
    interval: Interval
    median: float
    best: float
    worst: float
    val: float
    beside: dict[str, float]
    """Test scores by other measures, means over the selected runs that have them."""
    costs: dict[str, float]
    total_seconds: float
    """Of all runs that led here: every candidate and seed, failed ones and earlier attempts too."""

    @property
    def label(self) -> str:
        """The contender's name."""
        return self.cell.contender.label

    @property
    def num_tried(self) -> int:
        """Settings that have a score."""
        return sum(bool(candidate.runs) for candidate in self.cell.candidates)


def summarise(cell: ContenderRuns, design: Design) -> Summary:
    """Scores and costs of a cell's selected candidate."""
    assert cell.selected is not None
    scores = cell.scores(design.metric)
    values = np.array(list(scores.values()))
    runs = cell.selected.runs.values()
    costs = {}
    for key in COSTS:
        found = [run.cost[key] for run in runs if key in run.cost]
        costs[key] = fmean(found) if found else nan
    share = {"seconds": 1.0, "flops": _training_share(list(runs))}
    for key, (training, features) in WITH_FEATURES.items():
        costs[key] = costs[training] + (share[key] * costs[features] if isfinite(costs[features]) else 0.0)
    total = sum(run.cost.get("total_seconds", 0.0) + run.attempt_seconds for run in cell.runs)
    interval = statistics.t_interval(values)
    return Summary(
        cell, scores, interval, float(np.median(values)), float(values.max()), float(values.min()),
        cell.selected.val, _beside(list(runs), design.metric), costs, total,
    )  # fmt: skip


def _training_share(runs: Sequence[Run]) -> float:
    """Training examples over all that a run reads: others are not charged for passes over val and test either."""
    shares = [run.sizes["train"] / sum(run.sizes.values()) for run in runs if run.sizes.get("train")]
    return fmean(shares) if shares else 1.0


def _beside(runs: Sequence[Run], metric: Metric) -> dict[str, float]:
    """Measures of the test set that stand beside the one that runs are compared by: those that are also followed on
    val, and what one constant answer would score."""
    names = dict.fromkeys(
        name
        for run in runs
        for key in run.metrics
        if (name := key[4:]) not in ("loss", metric.name) and key.startswith("val/")
    )
    names |= dict.fromkeys(key[5:] for run in runs for key in run.metrics if is_baseline(key))
    found = {name: [run.metrics[f"test/{name}"] for run in runs if f"test/{name}" in run.metrics] for name in names}
    return {name: fmean(values) for name, values in found.items() if values}


def ordered(rows: list[Summary]) -> list[Summary]:
    """The leader first: the best mean of those with a score in as many replicates as any. Then by how far each is
    from it where both ran, so that what one lacks does not move it."""
    most = max(row.interval.n for row in rows)
    leader = max((row for row in rows if row.interval.n == most), key=lambda row: row.interval.mean)

    def gap(row: Summary) -> float:
        shared = row.scores.keys() & leader.scores.keys()
        if not shared:
            return row.interval.mean - leader.interval.mean
        return fmean(row.scores[number] - leader.scores[number] for number in shared)

    return [leader, *sorted((row for row in rows if row is not leader), key=lambda row: -gap(row))]


def selected(row: Summary) -> Mapping[int, Run]:
    """The runs that stand for a contender, by replicate."""
    assert row.cell.selected is not None
    return row.cell.selected.runs


def shift_names(rows: Sequence[Summary], metric: Metric) -> list[str]:
    """Shifted test sets that any of the selected runs has a score of."""
    suffix = f"/{metric.name}"
    keys = {key for row in rows for run in selected(row).values() for key in run.metrics}
    return sorted(key[6 : -len(suffix)] for key in keys if key.startswith("shift/") and key.endswith(suffix))


def shift_scores(row: Summary, metric: Metric, name: str) -> dict[int, float]:
    """Scores on a shifted test set by replicate."""
    runs = selected(row).items()
    return {number: value for number, run in runs if (value := metric.shift(run, name)) is not None}


def training_size(cell: ContenderRuns) -> float:
    """Training examples a class: `n_per_class`, or for all of them the size of the training set over the classes."""
    if cell.condition.n < inf:
        return cell.condition.n
    for run in cell.runs:
        groups = run.num_classes or run.settings.get("task.bins")
        if run.sizes.get("train") and isinstance(groups, int) and groups > 0:
            return run.sizes["train"] / groups
    return inf
