"""What the numbers of a design say: summaries, paired differences, costs, across data sets, budgets, shifts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from statistics import fmean

import numpy as np

from headstart.report import statistics
from headstart.report.crossover import AtSize, Crossover, crossover, turned
from headstart.report.design import Condition, Contender, ContenderRuns, Design
from headstart.report.evidence import BETTER, LEVEL, OPEN, resampled_interval, verdict
from headstart.report.metric import Metric, is_baseline
from headstart.report.pairs import Pairs, adjust, make_pairs
from headstart.report.reading import Run
from headstart.report.statistics import Interval, RankTest
from headstart.report.stepdown import step_down

ALL_PAIRS_UP_TO = 12
"""Contenders up to which all pairs are shown; above, each is shown against the leader. All are tested either way."""
COSTS = (
    "train_seconds", "feature_seconds", "train_flops", "feature_flops", "trainable_parameters", "peak_memory_bytes",
    "total_seconds",
)  # fmt: skip
WITH_FEATURES = {"seconds": ("train_seconds", "feature_seconds"), "flops": ("train_flops", "feature_flops")}
"""Costs of a run as if it had computed its frozen features alone: whoever shares them pays less, none pays more."""
MARGIN = 0.01
"""A difference of shares that does not matter in practice, unless the reader names another: one point."""
OWN = ""
"""The name of the own test set among those that pairs are tested on; shifted ones have names."""


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


@dataclass(slots=True)
class Difference:
    """`first` against `second` in a condition, paired by seed and split; `first` is ahead on average."""

    condition: Condition
    first: Contender
    second: Contender
    values: np.ndarray
    """(pairs,) differences, one a replicate."""
    interval: Interval | None
    """Of the mean over other replicates on these data."""
    resampled: Interval | None
    """Of the mean over other examples like these, where each replicate splits one pool anew."""
    p: float
    p_adjusted: float
    verdict: str
    improvement: float
    family: int = 1
    """Comparisons that p is adjusted for."""
    unpaired: int = 0
    """Replicates that both have, but on different splits."""

    @property
    def num_pairs(self) -> int:
        """Replicates that both have, on the same split."""
        return len(self.values)

    @property
    def clear(self) -> bool:
        """Whether the adjusted test tells the two apart at 5%."""
        return self.verdict == BETTER

    def seen_from(self, contender: Contender) -> int:
        """1 where `contender` is the one ahead, else -1."""
        return 1 if contender is self.first else -1


@dataclass(slots=True)
class AcrossData:
    """Contenders over several data sets, each at its largest training size."""

    conditions: list[Condition]
    contenders: list[Contender]
    means: np.ndarray
    """(data sets, contenders)."""
    ranks: RankTest | None
    middle: list[tuple[float, float, float]]
    differences: list[Difference]


@dataclass(slots=True)
class Budget:
    """Expected best validation score by number of trials, for one contender in one condition."""

    contender: Contender
    trials: list[float]
    unbiased: list[float]
    with_replacement: list[float]
    selected_test: Interval


@dataclass(slots=True)
class BySize:
    """A contender against a reference at every training size of a data set, by examples a class."""

    sizes: dict[float, AtSize]
    overtakes: Crossover | None
    overtaken: Crossover | None
    """Where the reference overtakes the contender."""
    group: str = "class"
    """What sizes count the examples of."""


@dataclass(slots=True)
class Shifted:
    """Scores on a shifted test set, and who is told apart there from the leader on the own one."""

    intervals: dict[Contender, Interval]
    against: dict[Contender, tuple[float, bool]]
    """By other contender: what it is ahead of the leader by, in pairs, and whether that is told apart."""


@dataclass(slots=True)
class Analysis:
    """Everything computed, for words, tables and figures."""

    design: Design
    summaries: dict[Condition, list[Summary]]
    """The leader first, then by the paired difference to it."""
    differences: dict[Condition, list[Difference]]
    focus: Condition | None
    across: AcrossData | None
    margin: float | None = MARGIN
    """A difference that does not matter in practice; `None` where nobody said which that is."""
    num_tables: int = 0
    """Tables over which comparisons are adjusted together: one for each data set, size and test set, own or shifted."""
    num_comparisons: int = 0
    num_verdicts: int = 0
    """Comparisons on own test sets, over which verdicts of practical equality are shared out."""
    by_size: dict[tuple[str, Contender, Contender], BySize] = field(default_factory=dict)
    budgets: dict[Condition, list[Budget]] = field(default_factory=dict)
    shifts: dict[Condition, dict[str, Shifted]] = field(default_factory=dict)

    def leader(self, condition: Condition) -> Summary:
        """Of the contenders that have a score in as many replicates as any, the one with the best mean."""
        return self.summaries[condition][0]

    def between(self, condition: Condition, one: Contender, other: Contender) -> Difference | None:
        """The difference of two contenders, whichever is ahead."""
        return next((d for d in self.differences[condition] if {d.first, d.second} == {one, other}), None)


def analyse(design: Design, margin: float | None = None) -> Analysis:
    """Compute everything the report shows from the runs' scores and costs.

    `margin` is the difference that does not matter in practice, in the measure's own unit; by default a point of a
    share, and none for what is no share.
    """
    if margin is None and design.metric.share:
        margin = MARGIN
    summaries = {
        condition: [summarise(cell, design) for cell in design.scored(condition)] for condition in design.conditions
    }
    summaries = {condition: _ordered(rows) for condition, rows in summaries.items() if rows}
    analysis = Analysis(design, summaries, {}, _focus(summaries), None, margin)
    tables = _tables(design, summaries)
    analysis.num_comparisons, analysis.num_tables = adjust(list(tables.values())), len(tables)
    analysis.num_verdicts = sum(len(pairs.values) for (_, name), pairs in tables.items() if name == OWN)
    for condition, rows in summaries.items():
        analysis.differences[condition] = _differences(analysis, condition, rows, tables.get((condition, OWN)))
        if budgets := _budgets(design, condition):
            analysis.budgets[condition] = budgets
        if shifts := _shifts(design, condition, rows, tables):
            analysis.shifts[condition] = shifts
    analysis.across = _across(analysis)
    analysis.by_size = _by_size(analysis, tables)
    return analysis


def _ordered(rows: list[Summary]) -> list[Summary]:
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


def _tables(design: Design, summaries: Mapping[Condition, list[Summary]]) -> dict[tuple[Condition, str], Pairs]:
    """All pairs of each condition on its own and on each shifted test set."""
    numbers = sorted(design.replicates.names)
    found: dict[tuple[Condition, str], Pairs] = {}
    for condition, rows in summaries.items():
        splits = [{number: run.split for number, run in _selected(row).items()} for row in rows]
        made = make_pairs([row.scores for row in rows], splits, numbers)
        if made is None:
            continue
        found[condition, OWN] = made
        for name in shift_names(rows, design.metric):
            scores = [_shift_scores(row, design.metric, name) for row in rows]
            shifted = make_pairs(scores, splits, numbers)
            if shifted is not None and np.isfinite(shifted.values).any():
                found[condition, name] = shifted
    return found


def _selected(row: Summary) -> Mapping[int, Run]:
    assert row.cell.selected is not None
    return row.cell.selected.runs


def shift_names(rows: Sequence[Summary], metric: Metric) -> list[str]:
    """Shifted test sets that any of the selected runs has a score of."""
    suffix = f"/{metric.name}"
    keys = {key for row in rows for run in _selected(row).values() for key in run.metrics}
    return sorted(key[6 : -len(suffix)] for key in keys if key.startswith("shift/") and key.endswith(suffix))


def _shift_scores(row: Summary, metric: Metric, name: str) -> dict[int, float]:
    runs = _selected(row).items()
    return {number: value for number, run in runs if (value := metric.shift(run, name)) is not None}


def _focus(summaries: Mapping[Condition, list[Summary]]) -> Condition | None:
    """The condition the answer speaks of: most contenders, then the largest training set, then most seeds."""
    if not summaries:
        return None
    return max(
        summaries,
        key=lambda condition: (len(summaries[condition]), condition.n, sum(r.interval.n for r in summaries[condition])),
    )


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


def _differences(
    analysis: Analysis, condition: Condition, rows: list[Summary], pairs: Pairs | None
) -> list[Difference]:
    """All pairs, or with many contenders those of the leader; each seen from the one that is ahead."""
    if pairs is None:
        return []
    shown = len(rows) if len(rows) <= ALL_PAIRS_UP_TO else 1
    ratio, found = _ratio(analysis, condition.dataset), []
    for i in range(shown):
        for j in range(i + 1, len(rows)):
            row, _ = pairs.row(i, j)
            values = pairs.values[row]
            there = np.isfinite(values)
            sign = -1 if there.any() and values[there].mean() < 0 else 1
            first, second = (rows[i], rows[j]) if sign > 0 else (rows[j], rows[i])
            d = sign * values[there]
            p = float(step_down(d[None], pairs.precision)[0]) if len(d) > 1 else nan
            words = verdict(d, float(pairs.p_adjusted[row]), analysis.margin, analysis.num_verdicts) if len(d) else OPEN
            scores = [np.array(list(row.scores.values())) for row in (first, second)]
            found.append(
                Difference(
                    condition, first.cell.contender, second.cell.contender, d,
                    statistics.t_interval(d) if len(d) else None, _resampled(first, second, ratio),
                    p, float(pairs.p_adjusted[row]), words,
                    statistics.improvement_probability(scores[:1], scores[1:]),
                    analysis.num_comparisons, int(pairs.unpaired[row]),
                )
            )  # fmt: skip
    return found


def _ratio(analysis: Analysis, dataset: str) -> float:
    """Test examples over all others of the pool, as far as the runs tell: those of the largest training set."""
    ratios = [
        run.sizes["test"] / (run.sizes["train"] + run.sizes.get("val", 0.0))
        for (_, condition), cell in analysis.design.cells.items() if condition.dataset == dataset
        for run in cell.runs if run.sizes.get("test") and run.sizes.get("train")
    ]  # fmt: skip
    return min(ratios, default=nan)


def _resampled(first: Summary, second: Summary, ratio: float) -> Interval | None:
    """The interval for other examples, where splits differ: over the mean of each split, so that seeds on one split are
    one draw of examples."""
    by_split: dict[str, list[float]] = {}
    ours, theirs = _selected(first), _selected(second)
    for number in first.scores.keys() & second.scores.keys():
        if ours[number].split and ours[number].split == theirs[number].split:
            gap = first.scores[number] - second.scores[number]
            by_split.setdefault(ours[number].split, []).append(gap)
    if len(by_split) < 2 or not isfinite(ratio):
        return None
    return resampled_interval([fmean(values) for _, values in sorted(by_split.items())], ratio)


def _across(analysis: Analysis) -> AcrossData | None:
    """Contenders that have a score on every data set, compared on the means of each data set."""
    largest: dict[str, Condition] = {}
    versions, rows = (
        analysis.design.versions,
        analysis.summaries,
    )  # of a data set that changed, the one with most counts
    for condition in sorted(
        rows, key=lambda condition: (len(rows[condition]) * (condition.dataset in versions), condition.n)
    ):
        largest[versions.get(condition.dataset, condition.dataset)] = condition
    conditions = list(largest.values())
    if len(conditions) < 2:
        return None
    tables = [{row.cell.contender: row for row in analysis.summaries[condition]} for condition in conditions]
    contenders = [c for c in analysis.design.contenders if all(c in table for table in tables)]
    if len(contenders) < 2:
        return None
    means = np.array([[table[c].interval.mean for c in contenders] for table in tables])
    ranks = statistics.friedman(means) if len(contenders) >= 3 else None
    scores = [[np.array(list(table[c].scores.values())) for table in tables] for c in contenders]
    middle = [statistics.interquartile_interval(tasks) for tasks in scores]
    order = np.argsort(-means.mean(axis=0), kind="stable").tolist()
    return AcrossData(
        conditions, contenders, means, ranks, middle, _over_data(analysis, contenders, means, order, scores)
    )


def _over_data(
    analysis: Analysis,
    contenders: Sequence[Contender],
    means: np.ndarray,
    order: Sequence[int],
    scores: Sequence[Sequence[np.ndarray]],
) -> list[Difference]:
    """Differences of means of data sets, a data set being a pair; a family of tests of its own."""
    pairs = [(i, j) for place, i in enumerate(order) for j in order[place + 1 :]]
    adjusted = step_down(np.array([means[:, i] - means[:, j] for i, j in pairs]))
    found = []
    for (i, j), p_adjusted in zip(pairs, adjusted, strict=True):
        if len(order) > ALL_PAIRS_UP_TO and i != order[0]:
            continue
        d = means[:, i] - means[:, j]
        better = statistics.improvement_probability(scores[i], scores[j])
        found.append(
            Difference(
                Condition("all data sets", inf), contenders[i], contenders[j], d, statistics.t_interval(d), None,
                float(step_down(d[None])[0]), float(p_adjusted),
                verdict(d, float(p_adjusted), analysis.margin, len(pairs)), better, len(pairs),
            )
        )  # fmt: skip
    return found


def _by_size(
    analysis: Analysis, tables: Mapping[tuple[Condition, str], Pairs]
) -> dict[tuple[str, Contender, Contender], BySize]:
    """For each data set, each contender against feature extraction with the same other factors, size by size."""
    design, found = analysis.design, {}
    references = {c.values[1:]: c for c in design.contenders if c.lead == "feature_extraction"}
    for contender in design.contenders:
        reference = references.get(contender.values[1:])
        if reference is None or contender is reference:
            continue
        for dataset in dict.fromkeys(condition.dataset for condition in design.conditions):
            sizes = {}
            for condition, rows in analysis.summaries.items():
                if condition.dataset == dataset and (condition, OWN) in tables:
                    at = _at_size(rows, tables[condition, OWN], contender, reference)
                    size = next((training_size(row.cell) for row in rows if row.cell.contender is contender), inf)
                    if at is not None and 0 < size < inf:
                        sizes[size] = at
            if len(sizes) > 1:
                found[dataset, reference, contender] = BySize(
                    sizes, crossover(sizes), crossover(turned(sizes)), design.conditions[0].group
                )
    return found


def _at_size(rows: Sequence[Summary], pairs: Pairs, contender: Contender, reference: Contender) -> AtSize | None:
    places = {row.cell.contender: place for place, row in enumerate(rows)}
    if contender not in places or reference not in places:
        return None
    row, sign = pairs.row(places[contender], places[reference])
    values = pairs.values[row][np.isfinite(pairs.values[row])]
    if not len(values):
        return None
    gap = sign * float(values.mean())
    clear = pairs.p_adjusted[row] <= LEVEL
    return AtSize(gap, int(np.sign(gap)) if clear else 0, len(values))


def training_size(cell: ContenderRuns) -> float:
    """Training examples a class: `n_per_class`, or for all of them the size of the training set over the classes."""
    if cell.condition.n < inf:
        return cell.condition.n
    for run in cell.runs:
        groups = run.num_classes or run.settings.get("task.bins")
        if run.sizes.get("train") and isinstance(groups, int) and groups > 0:
            return run.sizes["train"] / groups
    return inf


def _budgets(design: Design, condition: Condition) -> list[Budget]:
    """Budget curves of the contenders that had at least three trials; a trial's score is its mean val over seeds."""
    found = []
    for cell in design.scored(condition):
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


def _shifts(
    design: Design, condition: Condition, rows: list[Summary], tables: Mapping[tuple[Condition, str], Pairs]
) -> dict[str, Shifted]:
    """By shifted test set, the scores there; pairs are those with the leader on the own test set."""
    found: dict[str, Shifted] = {}
    for name in shift_names(rows, design.metric):
        values = {row.cell.contender: list(_shift_scores(row, design.metric, name).values()) for row in rows}
        shifted = Shifted({c: statistics.t_interval(v) for c, v in values.items() if v}, {})
        pairs = tables.get((condition, name))
        for j in range(1, len(rows) if pairs is not None else 0):
            assert pairs is not None
            row, _ = pairs.row(0, j)
            d = pairs.values[row][np.isfinite(pairs.values[row])]
            if len(d):
                shifted.against[rows[j].cell.contender] = -float(d.mean()), bool(pairs.p_adjusted[row] <= LEVEL)
        found[name] = shifted
    return found
