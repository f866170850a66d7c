"""What the numbers of a design say: summaries, paired differences, costs, across data sets, budgets, shifts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from statistics import fmean

import numpy as np

from headstart.report import statistics
from headstart.report.crossover import Crossover, crossover
from headstart.report.design import Cell, Contender, Design, Scene
from headstart.report.metric import Metric
from headstart.report.reading import Run
from headstart.report.statistics import Interval, RankTest

ALL_PAIRS_UP_TO = 12
"""Contenders up to which all pairs are compared; above, each is compared with the leader alone."""
COSTS = (
    "train_seconds", "feature_seconds", "train_flops", "feature_flops", "trainable_parameters", "peak_memory_bytes",
    "total_seconds",
)  # fmt: skip
BESIDE = ("accuracy", "balanced_accuracy", "macro_f1", "majority_accuracy")
"""Measures of the test set that are shown beside the one that runs are compared by."""
WITH_FEATURES = {"seconds": ("train_seconds", "feature_seconds"), "flops": ("train_flops", "feature_flops")}
"""Costs of a run as if it had computed its frozen features alone: whoever shares them pays less, none pays more."""


@dataclass(slots=True)
class Summary:
    """One row of the comparison: the selected runs of a contender in a scene."""

    cell: Cell
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


@dataclass(slots=True)
class Difference:
    """`first` against `second` in a scene, paired by seed and split; positive where `first` is better."""

    scene: Scene
    first: Contender
    second: Contender
    num_pairs: int
    interval: Interval | None
    p: float
    p_adjusted: float
    improvement: float
    family: int = 1
    unpaired: int = 0
    """Seeds that both have, but on different splits."""

    @property
    def clear(self) -> bool:
        """Whether the adjusted test tells the two apart at 5%."""
        return self.p_adjusted <= 0.05


@dataclass(slots=True)
class AcrossData:
    """Contenders over several data sets, each at its largest training size."""

    scenes: list[Scene]
    contenders: list[Contender]
    means: np.ndarray
    """(data sets, contenders)."""
    ranks: RankTest | None
    middle: list[tuple[float, float, float]]
    differences: list[Difference]


@dataclass(slots=True)
class Budget:
    """Expected best validation score by number of trials, for one contender in one scene."""

    contender: Contender
    trials: list[float]
    unbiased: list[float]
    with_replacement: list[float]
    selected_test: Interval


@dataclass(slots=True)
class Analysis:
    """Everything computed, for words, tables and figures."""

    design: Design
    summaries: dict[Scene, list[Summary]]
    differences: dict[Scene, list[Difference]]
    focus: Scene | None
    across: AcrossData | None
    crossovers: dict[tuple[str, Contender, Contender], Crossover] = field(default_factory=dict)
    budgets: dict[Scene, list[Budget]] = field(default_factory=dict)
    shifts: dict[Scene, dict[Contender, dict[str, Interval]]] = field(default_factory=dict)

    def best(self, scene: Scene) -> Summary:
        """The contender with the highest mean; one with a single seed only where all have but one."""
        rows = self.summaries[scene]
        return max([row for row in rows if row.interval.n > 1] or rows, key=lambda row: row.interval.mean)


def analyse(design: Design) -> Analysis:
    """Compute everything the report shows from the runs' scores and costs."""
    summaries = {scene: [summarise(cell, design) for cell in design.scored(scene)] for scene in design.scenes}
    summaries = {scene: rows for scene, rows in summaries.items() if rows}
    analysis = Analysis(design, summaries, {}, _focus(summaries), None)
    for scene, rows in summaries.items():
        analysis.differences[scene] = _differences(analysis, scene, rows)
        if budgets := _budgets(design, scene):
            analysis.budgets[scene] = budgets
        if shifts := _shifts(design, rows):
            analysis.shifts[scene] = shifts
    analysis.across = _across(analysis)
    analysis.crossovers = _crossovers(analysis)
    return analysis


def _focus(summaries: Mapping[Scene, list[Summary]]) -> Scene | None:
    """The scene the answer speaks of: most contenders, then the largest training set, then most seeds."""
    if not summaries:
        return None
    return max(
        summaries, key=lambda scene: (len(summaries[scene]), scene.n, sum(r.interval.n for r in summaries[scene]))
    )


def summarise(cell: Cell, design: Design) -> Summary:
    """Scores and costs of a cell's selected candidate."""
    assert cell.selected is not None
    scores = cell.scores(design.metric)
    values = np.array(list(scores.values()))
    runs = cell.selected.runs.values()
    costs = {}
    for key in COSTS:
        found = [run.cost[key] for run in runs if key in run.cost]
        costs[key] = fmean(found) if found else nan
    for key, (training, features) in WITH_FEATURES.items():
        costs[key] = costs[training] + (costs[features] if isfinite(costs[features]) else 0.0)
    total = sum(run.cost.get("total_seconds", 0.0) + run.attempt_seconds for run in cell.runs)
    interval = statistics.t_interval(values)
    return Summary(
        cell, scores, interval, float(np.median(values)), float(values.max()), float(values.min()),
        cell.selected.val, _beside(list(runs), design.metric), costs, total,
    )  # fmt: skip


def _beside(runs: Sequence[Run], metric: Metric) -> dict[str, float]:
    found = {
        name: [run.metrics[f"test/{name}"] for run in runs if f"test/{name}" in run.metrics]
        for name in BESIDE
        if name != metric.name
    }
    return {name: fmean(values) for name, values in found.items() if values}


def paired(first: Cell, second: Cell, design: Design) -> tuple[dict[int, float], int]:
    """Differences by seed where both cells ran on the same split, and the number of seeds with other splits."""
    assert first.selected is not None
    assert second.selected is not None
    ours, theirs, metric = first.selected.runs, second.selected.runs, design.metric
    differences, unpaired = {}, 0
    for seed in ours.keys() & theirs.keys():
        x, y = metric.test(ours[seed]), metric.test(theirs[seed])
        if x is None or y is None:
            continue
        if ours[seed].split != theirs[seed].split:
            unpaired += 1
        else:
            differences[seed] = x - y
    return dict(sorted(differences.items())), unpaired


def _differences(analysis: Analysis, scene: Scene, rows: list[Summary]) -> list[Difference]:
    design = analysis.design
    ordered = sorted(rows, key=lambda row: -row.interval.mean)
    leader = analysis.best(scene)
    if len(rows) <= ALL_PAIRS_UP_TO:
        pairs = [(first, second) for i, first in enumerate(ordered) for second in ordered[i + 1 :]]
    else:
        pairs = [(leader, second) for second in ordered if second is not leader]
    found = []
    for first, second in pairs:
        values, unpaired = paired(first.cell, second.cell, design)
        d = np.array(list(values.values()))
        interval = statistics.t_interval(d) if len(d) else None
        p = statistics.sign_flip_p(d) if len(d) > 1 else nan
        scores = [np.array(list(row.scores.values())) for row in (first, second)]
        better = statistics.improvement_probability(scores[:1], scores[1:])
        found.append(
            Difference(
                scene, first.cell.contender, second.cell.contender, len(d), interval, p, nan, better, 1, unpaired
            )
        )
    _adjust(found)
    return found


def _adjust(found: list[Difference]) -> None:
    family = sum(not np.isnan(difference.p) for difference in found)
    for difference, p in zip(found, statistics.holm([difference.p for difference in found]), strict=True):
        difference.p_adjusted, difference.family = p, family


def _across(analysis: Analysis) -> AcrossData | None:
    """Contenders that have a score on every data set, compared on the means of each data set."""
    largest: dict[str, Scene] = {}
    versions, rows = (
        analysis.design.versions,
        analysis.summaries,
    )  # of a data set that changed, the one with most counts
    for scene in sorted(rows, key=lambda scene: (len(rows[scene]) * (scene.dataset in versions), scene.n)):
        largest[versions.get(scene.dataset, scene.dataset)] = scene
    scenes = list(largest.values())
    if len(scenes) < 2:
        return None
    tables = [{row.cell.contender: row for row in analysis.summaries[scene]} for scene in scenes]
    contenders = [c for c in analysis.design.contenders if all(c in table for table in tables)]
    if len(contenders) < 2:
        return None
    means = np.array([[table[c].interval.mean for c in contenders] for table in tables])
    ranks = statistics.friedman(means) if len(contenders) >= 3 else None
    scores = [[np.array(list(table[c].scores.values())) for table in tables] for c in contenders]
    middle = [statistics.interquartile_interval(tasks) for tasks in scores]
    order = np.argsort(-means.mean(axis=0), kind="stable")
    differences = []
    for place, i in enumerate(order):
        for j in order[place + 1 :] if len(order) <= ALL_PAIRS_UP_TO or place == 0 else []:
            d = means[:, i] - means[:, j]
            better = statistics.improvement_probability(scores[i], scores[j])
            found = statistics.t_interval(d), statistics.sign_flip_p(d)
            differences.append(
                Difference(Scene("all data sets", inf), contenders[i], contenders[j], len(d), *found, nan, better)
            )
    _adjust(differences)
    return AcrossData(scenes, contenders, means, ranks, middle, differences)


def _crossovers(analysis: Analysis) -> dict[tuple[str, Contender, Contender], Crossover]:
    """For each data set, where each contender overtakes feature extraction with the same other factors."""
    design, found = analysis.design, {}
    references = {c.values[1:]: c for c in design.contenders if c.lead == "feature_extraction"}
    for contender in design.contenders:
        reference = references.get(contender.values[1:])
        if reference is None or contender is reference:
            continue
        for dataset in dict.fromkeys(scene.dataset for scene in design.scenes):
            by_size = {}
            for scene in design.scenes:
                ours, theirs = design.cell(contender, scene), design.cell(reference, scene)
                if scene.dataset == dataset and ours and theirs and ours.selected and theirs.selected:
                    differences, _ = paired(ours, theirs, design)
                    if differences:
                        by_size[training_size(ours)] = differences
            result = crossover({size: values for size, values in by_size.items() if 0 < size < inf})
            if result is not None:
                found[dataset, reference, contender] = result
    return found


def training_size(cell: Cell) -> float:
    """Training examples a class: `n_per_class`, or for all of them the size of the training set over the classes."""
    if cell.scene.n < inf:
        return cell.scene.n
    for run in cell.runs:
        if run.sizes.get("train") and run.num_classes:
            return run.sizes["train"] / run.num_classes
    return inf


def _budgets(design: Design, scene: Scene) -> list[Budget]:
    """Budget curves of the contenders that had at least three trials; a trial's score is its mean val over seeds."""
    found = []
    for cell in design.scored(scene):
        trials = [candidate.val for candidate in cell.candidates if candidate.runs and candidate.val > -inf]
        if len(trials) < 3:
            continue
        sizes = range(1, len(trials) + 1)
        found.append(
            Budget(
                cell.contender, sorted(trials),
                [statistics.expected_best_unbiased(trials, n) for n in sizes],
                [statistics.expected_best(trials, n) for n in sizes],
                statistics.t_interval(list(cell.scores(design.metric).values())),
            )
        )  # fmt: skip
    return found


def _shifts(design: Design, rows: list[Summary]) -> dict[Contender, dict[str, Interval]]:
    found: dict[Contender, dict[str, Interval]] = {}
    suffix = f"/{design.metric.name}"
    for row in rows:
        assert row.cell.selected is not None
        runs = list(row.cell.selected.runs.values())
        keys = dict.fromkeys(key for run in runs for key in run.metrics)
        for name in sorted(key[6 : -len(suffix)] for key in keys if key.startswith("shift/") and key.endswith(suffix)):
            values = [value for run in runs if (value := design.metric.shift(run, name)) is not None]
            found.setdefault(row.cell.contender, {})[name] = statistics.t_interval(values)
    return found
