"""Tables of how contenders differ: in pairs, in rank, over sizes of the training set, on shifted test sets."""

from collections.abc import Sequence
from math import isfinite, nan

from headstart.report.analysis import Analysis
from headstart.report.design import Condition, Contender
from headstart.report.differences import Difference
from headstart.report.evidence import BETTER, EQUAL, effect_size
from headstart.report.figures import place_text
from headstart.report.metric import Metric, number, p_text
from headstart.report.qualifications import listing
from headstart.report.sheets import contender_cell, gap_cell, gap_unit, interval_cell, score_cell, standing, unit
from headstart.report.sizes import BySize
from headstart.report.tables import Cell, Column, Table


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
            contender_cell(across.contenders[i]), listing(wins, 4) or "none", Cell(metric.cell(mean), metric.raw(mean)),
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
                contender_cell(row.cell.contender), words, name, score_cell(metric, interval),
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
            contender_cell(budget.contender), Cell(str(len(budget.trials)), len(budget.trials)),
            *(Cell(metric.cell(value), metric.raw(value)) for value in values),
            Cell(metric.cell(test.mean), metric.raw(test.mean)), interval_cell(metric, test.low, test.high),
        )  # fmt: skip
    return table
