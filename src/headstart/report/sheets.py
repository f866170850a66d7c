"""Tables of the comparison, filled from an analysis."""

from collections.abc import Sequence
from math import inf, isfinite, nan

import numpy as np

from headstart.names import plural
from headstart.report.analysis import Analysis
from headstart.report.design import Condition, Contender
from headstart.report.differences import Difference
from headstart.report.evidence import BETTER, EQUAL, effect_size
from headstart.report.factors import cells, marginal
from headstart.report.figures import place_text
from headstart.report.metric import BASELINES, Metric, number, p_text, scaled, seconds_text
from headstart.report.qualifications import listing
from headstart.report.reading import Run
from headstart.report.replicates import KINDS
from headstart.report.scored import Summary
from headstart.report.sizes import BySize
from headstart.report.statistics import Interval
from headstart.report.tables import Cell, Column, Table

SECONDS, BYTES = "seconds of one run, mean over runs", "of one run, mean over runs"
COST_COLUMNS = (
    Column("trainable_parameters", "Trainable", True, "trainable parameters, mean over runs", detail=True),
    Column("feature_seconds", "Features", True, "seconds of the frozen backbone's one pass, shared by all that read it",
           detail=True),
    Column("train_flops", "FLOPs", True, "floating-point operations of training one run", detail=True),
    Column("peak_memory_bytes", "Memory", True, "peak memory of one run", detail=True),
    Column("total_seconds", "In all", True, "seconds of all runs of this row, failed ones too", detail=True),
)  # fmt: skip
SETTINGS = ("optimizer.lr", "optimizer.weight_decay", "trainer.max_epochs", "trainer.batch_size", "data.size")
"""Settings that a reader looks for first; those in which contenders differ come besides."""
MOST_SETTINGS, MOST_BRIEF = 12, 3
"""Of others in which contenders differ, so many are shown, and so many at first sight."""


def unit(metric: Metric) -> str:
    """What scores are counted in, for the heading of a CSV file."""
    return "percent" if metric.share else ""


def gap_unit(metric: Metric) -> str:
    """What differences are counted in."""
    return "points" if metric.share else ""


def comparison(analysis: Analysis) -> Table:
    """One row a contender and condition: what is shown of it against the leader, its score, and at what cost."""
    design, metric, repeat = analysis.design, analysis.design.metric, analysis.design.replicates.unit
    chosen = any(row.num_tried > 1 for rows in analysis.summaries.values() for row in rows)
    several, group = len(analysis.summaries) > 1, design.conditions[0].group if design.conditions else "class"
    columns = [
        Column("contender", "Contender" if len(design.factors) > 1 else design.lead.capitalize()),
        Column("verdict", "Verdict", about="against the first of its data and size, by the adjusted test"),
        *([Column("place", "Data")] * several),
        Column("mean,half_width", f"Test {metric.heading}", True,
               f"mean ± half of the 95% interval over {repeat}s", unit(metric)),
        Column("num_seeds", f"{repeat.capitalize()}s", True, detail=several),
        Column("tried", "Tried", True, "settings, the best of which on val is scored", detail=not chosen),
        Column("train_seconds", "Training", True, "seconds of training of one run, mean over runs", detail=chosen),
        Column("mean_rank", "Mean rank", True, f"over the {repeat}s that all of its data and size have; 1 is best",
               detail=True),
        Column("num_best", "Best in", True, f"{repeat}s in which none scored better, of those that all have",
               detail=True),
        Column("dataset", "Data set", detail=True),
        Column("n_per_class", f"Per {group}", True, f"training examples a {group}", detail=True),
        Column("ci95_low,ci95_high", "95% interval", True, f"Student t-interval of the mean over {repeat}s",
               unit(metric), True),
        *(Column(key, title, True, about, unit(metric), True) for key, title, about in (
            ("median", "Median", ""), ("best", "Best", ""), ("worst", "Worst", ""),
            ("val_mean", "Val mean", "what settings were selected on"),
        )),
    ]  # fmt: skip
    beside = _beside(analysis)
    columns += [_beside_column(other) for other in beside]
    columns += [Column("selected", "Settings", detail=True)]
    columns += COST_COLUMNS
    table = Table("comparison", f"Test {metric.heading} of the selected settings, with cost", columns, shown=400)
    for condition, rows in _largest_first(analysis):
        places = ranks_by_replicate(rows)
        for i, row in enumerate(rows):
            table.add(
                _contender(row.cell.contender), standing(analysis, condition, row),
                *([place_text(condition)] * several), score_cell(metric, row.interval, row is rows[0]),
                Cell(str(row.interval.n), row.interval.n),
                Cell(str(row.num_tried), row.num_tried),
                Cell(seconds_text(row.costs["train_seconds"]), row.costs["train_seconds"]),
                *_stability(places, i), condition.dataset,
                Cell(condition.size_text, condition.size_text if condition.n == inf else condition.n),
                interval_cell(metric, row.interval.low, row.interval.high),
                *(Cell(metric.cell(value), metric.raw(value)) for value in (row.median, row.best, row.worst, row.val)),
                *(_beside_cell(other, row.beside.get(other.name, nan)) for other in beside),
                _selected(row), *_cost_cells(row),
            )  # fmt: skip
    table.note = (
        f"± is half of the 95% interval (Student t) of the mean over {repeat}s; pairs are compared in the table of "
        "differences. First and bold: the best mean of those with the most runs, whether or not it is shown to be "
        f"better.{' Less is better.' * (metric.sign < 0)}"
    )
    return table


def ranks_by_replicate(rows: Sequence[Summary]) -> np.ndarray:
    """Ranks `(contenders, replicates)` within each replicate that all have, 1 the best, ties their mean."""
    from scipy.stats import rankdata

    shared = sorted(set.intersection(*(set(row.scores) for row in rows)))
    scores = np.array([[row.scores[number] for number in shared] for row in rows]).reshape(len(rows), len(shared))
    return rankdata(-scores, axis=0) if shared else scores


def _stability(ranks: np.ndarray, row: int) -> tuple[Cell, Cell]:
    """How steady a contender's place is: its mean rank, and in how many replicates none is better."""
    if not ranks.shape[1] or len(ranks) < 2:
        return Cell("–", nan), Cell("–", nan)
    mean, best = float(ranks[row].mean()), int(np.sum(ranks[row] == ranks.min(axis=0)))
    return Cell(f"{mean:.2f}", mean), Cell(f"{best} of {ranks.shape[1]}", best)


def standing(analysis: Analysis, condition: Condition, row: Summary) -> str:
    """What is shown of a contender against the leader of its condition."""
    leader, *others = analysis.summaries[condition]
    if row is leader:
        found = [analysis.between(condition, leader.cell.contender, other.cell.contender) for other in others]
        best = bool(found) and all(d is not None and d.clear and d.first is leader.cell.contender for d in found)
        return "best" if best else "best mean" if others else "–"
    d = analysis.between(condition, leader.cell.contender, row.cell.contender)
    if d is None or d.interval is None:
        return "not paired"
    if d.clear:
        return "worse" if d.first is leader.cell.contender else "ahead where both ran"
    return d.verdict


def score_cell(metric: Metric, interval: Interval, strong: bool = False) -> Cell:
    """`76.5 ± 0.8`, in the unit of the heading."""
    half = metric.raw(interval.high) - metric.raw(interval.mean) if interval.known else nan
    text = metric.cell(interval.mean)
    if interval.known:
        text += f" ± {metric.gap(interval.half_width, signed=False)}"
    return Cell(text, (metric.raw(interval.mean), abs(half)), strong)


def settings(analysis: Analysis) -> Table | None:
    """What each contender ran with, in a row: what readers ask for, and that in which contenders differ."""
    runs: dict[Contender, tuple[Summary, Run]] = {}
    for _, rows in _largest_first(analysis):
        for row in rows:
            assert row.cell.selected is not None
            first = next(iter(row.cell.selected.runs.values()), None)
            if first is not None and first.settings:
                runs.setdefault(row.cell.contender, (row, first))
    if not runs:
        return None
    keys = dict.fromkeys(key for _, run in runs.values() for key in run.settings)
    differing = [
        key for key in keys
        if key not in ("seed", *SETTINGS, *KINDS) and "_target_" not in key
        and len({str(run.settings.get(key)) for _, run in runs.values()}) > 1
    ]  # fmt: skip
    shown = [key for key in SETTINGS if key in keys] + differing[:MOST_SETTINGS]
    columns = [Column("contender", "Contender")]
    columns += [Column(key, key, True, detail=key in differing[MOST_BRIEF:]) for key in shown]
    columns += [Column("train_examples", "Training examples", True), Column("selected", "Selected", detail=True)]
    table = Table("settings", "Settings of each contender", columns, shown=200)
    for contender, (row, run) in runs.items():
        table.add(
            _contender(contender), *(_setting_cell(run.settings.get(key)) for key in shown),
            Cell(number(run.sizes.get("train", nan), 6), run.sizes.get("train", nan)), _selected(row),
        )  # fmt: skip
    more = len(differing) - MOST_SETTINGS
    table.note = (
        f"Of its largest training set. {plural(more, 'setting')} more differ{'s' * (more == 1)}." if more > 0 else ""
    )
    return table


def factors(analysis: Analysis) -> Table | None:
    """Each level of the first factor, averaged over all that every level was run with."""
    means, metric = marginal(analysis), analysis.design.metric
    if not means:
        return None
    places = list(next(iter(means.values())))[1:]
    names, _ = cells(analysis)
    columns = [
        Column("level", names[0].capitalize()),
        Column("mean", "Mean", True, "over all that stand beside", unit(metric)),
        *(Column(place, place, True, "", unit(metric), len(places) > 3) for place in places),
    ]  # fmt: skip
    table = Table("factors", f"Test {metric.heading} by {names[0]}, over {' and '.join(names[1:])}", columns)
    for level, values in sorted(means.items(), key=lambda item: -item[1][""]):
        table.add(level, *(Cell(metric.cell(value), metric.raw(value)) for value in values.values()))
    table.note = "Means of means; the order is not tested. Only what every row was run with is counted."
    return table


def _setting_cell(value: object) -> Cell:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return Cell("–" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
    return Cell(f"{value:g}", float(value)) if isinstance(value, int | float) else Cell(str(value))


def _beside(analysis: Analysis) -> list[Metric]:
    """The other measures of the test set, each written in one way in all rows."""
    rows = [row.beside for rows in analysis.summaries.values() for row in rows]
    return [Metric.fitting(name, (row.get(name) for row in rows)) for name in dict.fromkeys(n for r in rows for n in r)]


def _beside_column(other: Metric) -> Column:
    title = other.title[:1].upper() + other.title[1:]
    about = "on test, of the one constant answer that is best for training"
    return Column(other.name, title, True, about if other.name.startswith(BASELINES) else "on test", unit(other), True)


def _beside_cell(other: Metric, value: float) -> Cell:
    return Cell(other.cell(other.sign * value), other.raw(other.sign * value))


def interval_cell(metric: Metric, low: float, high: float) -> Cell:
    """An interval of scores, in the measure's own direction."""
    return Cell(metric.range(low, high).removesuffix("%"), metric.ends(low, high))


def gap_cell(metric: Metric, low: float, high: float) -> Cell:
    """An interval of differences."""
    scale = 100 if metric.share else 1
    return Cell(f"{metric.gap(low)} to {metric.gap(high)}" if isfinite(low) else "–", (low * scale, high * scale))


def _largest_first(analysis: Analysis) -> list[tuple[Condition, list[Summary]]]:
    return sorted(analysis.summaries.items(), key=lambda item: (item[0].dataset, -item[0].n))


def _contender(contender: Contender) -> Cell:
    return Cell(contender.label, contender.label)


def _selected(row: Summary) -> Cell:
    assert row.cell.selected is not None
    return Cell(row.cell.selected.label or "as given")


def _cost_cells(row: Summary) -> list[Cell]:
    costs = row.costs
    return [
        Cell(scaled(costs["trainable_parameters"]), costs["trainable_parameters"]),
        Cell(seconds_text(costs["feature_seconds"]) if costs["feature_seconds"] else "–", costs["feature_seconds"]),
        Cell(scaled(costs["train_flops"]), costs["train_flops"]),
        Cell(scaled(costs["peak_memory_bytes"], "B", binary=True), costs["peak_memory_bytes"]),
        Cell(seconds_text(row.total_seconds), row.total_seconds),
    ]


def pairwise(analysis: Analysis, found: Sequence[Difference], name: str, place: str, repeat: str = "") -> Table:
    """Paired differences that read as sentences, with both intervals, p and effect sizes."""
    metric = analysis.design.metric
    repeat = repeat or analysis.design.replicates.unit
    scale, points = 100 if metric.share else 1, gap_unit(metric)
    family = max((d.family for d in found), default=1)
    columns = [
        Column("better", "Contender"), Column("verdict", "Verdict"), Column("other", "Against"),
        Column("difference,half_width", "Ahead by", True, f"mean ± half of the 95% interval over {repeat}s", points),
        Column("p_adjusted", "p", True, f"two-sided, exact paired test, adjusted for {family:,} comparisons"),
        Column("pairs", f"Paired {repeat}s", True, detail=True),
        Column("ci95_low,ci95_high", f"On other {repeat}s", True, "95% interval on the same data", points, True),
        Column("examples_low,examples_high", "On other examples", True,
               "95% interval for other examples like these, where each run splits one pool anew", points, True),
        Column("p", "p alone", True, "not adjusted", detail=True),
        Column("effect_size", "Effect", True, "mean over standard deviation of the paired differences", detail=True),
        Column("probability_of_improvement", "P(better)", True,
               "how often a run of the first does better than a run of the second", detail=True),
    ]  # fmt: skip
    table = Table(name, f"Differences in test {metric.title}{metric.unit and ' (points)'}: {place}", columns, shown=120)
    for d in found:
        interval, other, effect = d.interval, d.resampled, effect_size(d.interval)
        ends = [(i.low, i.high) if i else (nan, nan) for i in (interval, other)]
        half = interval.half_width if interval and interval.known else nan
        gap = metric.gap(interval.mean if interval else nan)
        table.add(
            d.first.label, words_of(d, repeat), d.second.label,
            Cell(f"{gap} ± {metric.gap(half, False)}" if isfinite(half) else gap,
                 ((interval.mean if interval else nan) * scale, half * scale)),
            Cell(p_text(d.p_adjusted), d.p_adjusted, d.clear), Cell(str(d.num_pairs), d.num_pairs),
            gap_cell(metric, *ends[0]), gap_cell(metric, *ends[1]), Cell(p_text(d.p), d.p),
            Cell(number(effect, 2), effect), Cell(f"{d.improvement:.2f}", d.improvement),
        )  # fmt: skip
    return table


def words_of(d: Difference, repeat: str = "seed") -> str:
    """What a difference shows, between the names of its two contenders."""
    if d.interval is None:
        return f"no {repeat} on the same split as" if d.unpaired else f"no {repeat} in common with"
    if not d.interval.known:
        return "one pair, no test, with"
    return {BETTER: "better than", EQUAL: "practically equal to"}.get(d.verdict, "cannot be told from")


def ranking(analysis: Analysis) -> Table | None:
    """Contenders over data sets: mean of means, mean rank, interquartile mean."""
    across, metric = analysis.across, analysis.design.metric
    if across is None:
        return None
    columns = [
        Column("contender", "Contender"), Column("verdict", "Best on", about="where it is shown to be better than all"),
        Column("mean", "Mean", True, "", unit(metric)), Column("mean_rank", "Mean rank", True),
        *(Column(condition.dataset, condition.dataset, True, "", unit(metric), len(across.conditions) > 2)
          for condition in across.conditions),
        Column("iqm", "IQM", True, "mean of the middle half of all runs", unit(metric), True),
        Column("iqm_low,iqm_high", "95% interval", True, "of the IQM, over runs of these data", unit(metric), True),
    ]  # fmt: skip
    table = Table("data-sets", f"Test {metric.heading} over {len(across.conditions)} data sets", columns)
    ranks = across.ranks.mean_ranks if across.ranks else [nan] * len(across.contenders)
    for i in sorted(range(len(across.contenders)), key=lambda i: -across.means[:, i].mean()):
        mean, *values = (float(value) for value in (across.means[:, i].mean(), *across.means[:, i]))
        wins = [
            condition.dataset for condition in across.conditions if _best_on(analysis, condition, across.contenders[i])
        ]
        table.add(
            _contender(across.contenders[i]), listing(wins, 4) or "none", Cell(metric.cell(mean), metric.raw(mean)),
            Cell(number(ranks[i], 3), ranks[i]), *(Cell(metric.cell(value), metric.raw(value)) for value in values),
            Cell(metric.cell(across.middle[i][0]), metric.raw(across.middle[i][0])),
            interval_cell(metric, *across.middle[i][1:]),
        )  # fmt: skip
    table.note = (
        "IQM: interquartile mean over all runs and data sets (Agarwal et al. 2021). Its interval is from a bootstrap "
        "of runs within each data set, widened for their number."
    )
    return table


def _best_on(analysis: Analysis, condition: Condition, contender: Contender) -> bool:
    """Whether a contender is shown to be better than all others of a condition."""
    leader = analysis.leader(condition)
    return leader.cell.contender is contender and standing(analysis, condition, leader) == "best"


def crossovers(analysis: Analysis) -> Table | None:
    """Each contender against feature extraction, size by size, and where the order is shown to turn."""
    if not analysis.by_size:
        return None
    group = analysis.design.conditions[0].group
    columns = [
        Column("contender", "Contender"), Column("verdict", "Verdict"), Column("reference", "Against"),
        Column("sizes", f"By examples a {group}"), Column("between,and", "Turns between", True, f"examples a {group}"),
        Column("dataset", "Data", detail=True), Column("estimate", "At about", True, detail=True),
    ]  # fmt: skip
    table = Table("crossovers", "Where a contender overtakes feature extraction, or is overtaken", columns)
    for (dataset, reference, contender), by in analysis.by_size.items():
        crossing = by.overtakes or by.overtaken
        low, high = (crossing.low, crossing.high) if crossing else (nan, nan)
        table.add(
            contender.label, turn_words(by), reference.label, _sizes(by, analysis.design.metric),
            Cell(f"{number(low, 3)} and {number(high, 3)}" if crossing else "–", (low, high)), dataset,
            Cell(number(crossing.place if crossing else None, 2), (crossing.place if crossing else None) or nan),
        )  # fmt: skip
    table.note = (
        "An order counts where the adjusted test shows it. A crossover is claimed where one contender is shown to be "
        "behind at a smaller size and ahead at the largest; that it lies between two sizes assumes that the curves "
        "cross once there."
    )
    return table


def _sizes(by: BySize, metric: Metric) -> str:
    """`5: −5.0, 10: (+0.3)`: what it is ahead by at each size, in brackets where that is not shown."""
    found = [(n, at, metric.gap(at.gap)) for n, at in sorted(by.sizes.items())]
    return ", ".join(f"{number(n, 3)}: {gap if at.state else f'({gap})'}" for n, at, gap in found)


def turn_words(by: BySize) -> str:
    """What the sizes show, in a word or two."""
    if by.overtakes:
        return "overtakes"
    if by.overtaken:
        return "is overtaken by"
    states = {at.state for at in by.sizes.values()}
    return {frozenset({1}): "better at every size than", frozenset({-1}): "worse at every size than"}.get(
        frozenset(states), "no crossover shown with"
    )


def shifts(analysis: Analysis, condition: Condition) -> Table | None:
    """Scores on the own and on shifted test sets, and what is shown there against the leader on the own one."""
    found, metric = analysis.shifts.get(condition), analysis.design.metric
    if not found:
        return None
    columns = [
        Column("contender", "Contender"), Column("verdict", "Verdict", about="against the leader on the own test set"),
        Column("shift", "Test set"),
        Column("mean,half_width", f"{metric.heading[:1].upper()}{metric.heading[1:]}", True, "", unit(metric)),
        Column("change", "Change", True, "against the own test set", gap_unit(metric)),
    ]  # fmt: skip
    table = Table("shifts", f"Test {metric.heading} on shifted test sets: {place_text(condition)}", columns)
    leader = analysis.leader(condition)
    for name, shifted in found.items():
        for row in analysis.summaries[condition]:
            interval = shifted.intervals.get(row.cell.contender)
            if interval is None:
                continue
            gap, clear = shifted.against.get(row.cell.contender, (0.0, False))
            words = "–" if row is leader else "cannot tell" if not clear else "better" if gap > 0 else "worse"
            change = interval.mean - row.interval.mean
            table.add(
                _contender(row.cell.contender), words, name, score_cell(metric, interval),
                Cell(metric.gap(change), change * (100 if metric.share else 1)),
            )  # fmt: skip
    return table


def budgets(analysis: Analysis, condition: Condition) -> Table | None:
    """Expected best validation score after 1, 2, 5, … settings, and the test score of the one selected."""
    found, metric = analysis.budgets.get(condition), analysis.design.metric
    if not found:
        return None
    most = max(len(budget.trials) for budget in found)
    steps = [n for n in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if n < most] + [most]
    columns = [Column("contender", "Contender"), Column("trials", "Settings tried", True)]
    columns += [
        Column(f"val_best_of_{n}", f"Best of {n}", True, "", unit(metric), n not in (1, steps[-1])) for n in steps
    ]
    columns += [
        Column("test_mean", "Test of the selected", True, "", unit(metric)),
        Column("test_low,test_high", "95% interval", True, "", unit(metric), True),
    ]
    title = f"Expected best val {metric.heading} by number of settings tried: {place_text(condition)}"
    table = Table("budgets", title, columns, note="Unbiased estimate without replacement (Tang et al. 2020).")
    for budget in found:
        values = [budget.unbiased[n - 1] if n <= len(budget.trials) else nan for n in steps]
        test = budget.selected_test
        table.add(
            _contender(budget.contender), Cell(str(len(budget.trials)), len(budget.trials)),
            *(Cell(metric.cell(value), metric.raw(value)) for value in values),
            Cell(metric.cell(test.mean), metric.raw(test.mean)), interval_cell(metric, test.low, test.high),
        )  # fmt: skip
    return table
