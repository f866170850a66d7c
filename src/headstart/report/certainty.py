"""How sure an answer is, in words: on other seeds, on other examples, and how many seeds more would settle it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from statistics import fmean

import numpy as np

from headstart.names import plural
from headstart.report.analysis import Analysis
from headstart.report.design import Contender
from headstart.report.differences import Difference
from headstart.report.evidence import BETTER, EQUAL, LEVEL, OPEN, detectable, replicates_needed
from headstart.report.metric import p_equals, p_text, seconds_text
from headstart.report.qualifications import listing
from headstart.report.reading import SweepRecords
from headstart.report.scored import Summary
from headstart.report.statistics import SAME, Interval
from headstart.report.stepdown import smallest_p

FEWEST_PAIRS = 6
"""Pairs with which the paired test can reach 5%."""
SEEDS = re.compile(r"^seed=(range\(.*\)|[\d,\s]+)$")


def certainty(
    analysis: Analysis,
    leader: Summary,
    others: Sequence[Summary],
    against: Mapping[Contender, Difference],
    crossed: Interval | None,
) -> str:
    """The first two with both intervals and the test; then which verdict each of the others has."""
    d = against[others[0].cell.contender]
    text = _first_two(analysis, leader, others[0], d, crossed)
    if len(others) > 1 and any(d.verdict != OPEN for d in against.values()):
        text += f" Of the {len(others)} others, {_sorted_out(analysis, leader, others, against)}."
    text += _interval_and_test(against)
    first, level, shared = first_in([leader, *others])
    if shared > 1:
        text += f" {leader.label} scored best in {first} of {analysis.design.replicates.count(shared)}"
        text += f" (in {level:,} of them no better than another)." if level else "."
    return text


def _first_two(analysis: Analysis, leader: Summary, other: Summary, d: Difference, crossed: Interval | None) -> str:
    metric, repeats = analysis.design.metric, analysis.design.replicates
    if d.interval is None:
        reason = "ran on different splits" if d.unpaired else f"share no {repeats.unit}"
        return f"{leader.label} and {other.label} {reason}, so they cannot be compared in pairs."
    first, second = d.first.label, d.second.label
    said = f"{first} is {metric.gap(d.interval.mean, signed=False)}{metric.unit} ahead of {second}"
    if _is_none(d):
        said = f"{first} and {second} score the same{' on average' * (d.interval.std > 0)}"
    if not d.interval.known:
        return f"{said} in one pair of runs: there is no interval and no test."
    text = f"{said}, paired over {repeats.count(d.num_pairs)}. On other {repeats.unit}s of these data: "
    if d.interval.std == 0:
        text += f"no interval, as all pairs differ by the same, {p_equals(d.p)}"
    else:
        text += f"95% interval {_ends(analysis, d.interval)}, {p_equals(d.p)}"
    if analysis.num_comparisons > 1:
        tables = f" in {plural(analysis.num_tables, 'table')}" * (analysis.num_tables > 1)
        text += f" ({p_text(d.p_adjusted)} adjusted for all {analysis.num_comparisons:,} comparisons{tables})"
    text += ". " + _other_examples(analysis, d, crossed)
    return text


def _is_none(d: Difference) -> bool:
    """Whether the two score the same on average."""
    return abs(float(d.values.mean())) <= SAME * float(np.abs(d.values).max())


def _interval_and_test(against: Mapping[Contender, Difference]) -> str:
    """Why an interval may leave out zero where the verdict is open, and what the verdict leans on; once."""
    torn = [d for d in against.values() if d.verdict == OPEN and d.interval is not None and d.interval.excludes_zero]
    if not torn:
        return ""
    which = f"the interval of {torn[0].first.label} against {torn[0].second.label} leaves out"
    which = which if len(torn) == 1 else f"{len(torn)} intervals here leave out"
    return (
        " Verdicts lean on the test, not on intervals: an interval takes differences to be normally distributed and "
        f"looks at one pair alone, the test does neither. So {which} zero though p is above 5%."
    )


def _ends(analysis: Analysis, interval: Interval, sign: int = 1) -> str:
    metric = analysis.design.metric
    low, high = sorted((sign * interval.low, sign * interval.high))
    if metric.share:  # no two shares are further apart
        low, high = max(low, -1.0), min(high, 1.0)
    return f"{metric.gap(low)} to {metric.gap(high)}"


def _other_examples(analysis: Analysis, d: Difference, crossed: Interval | None) -> str:
    """The second interval, and whether it bears the verdict out."""
    interval = d.resampled or crossed
    if interval is None or not interval.known:
        return (
            "On other examples like these: not known, as the runs kept no predictions of one test set and no sizes "
            "of several splits. What is said holds for other "
            f"{analysis.design.replicates.unit}s of these data."
        )
    text = f"On other examples like these: 95% interval {_ends(analysis, interval)}"
    if d.verdict == BETTER:
        unit = analysis.design.replicates.unit
        if interval.low > 0:
            return text + ", which leaves out zero too."
        return text + f", which holds zero: the verdict is for other {unit}s of these data, not for other examples."
    return text + "."


def _sorted_out(
    analysis: Analysis, leader: Summary, others: Sequence[Summary], against: Mapping[Contender, Difference]
) -> str:
    found: dict[str, list[str]] = {BETTER: [], EQUAL: [], OPEN: []}
    for row in others:
        d = against[row.cell.contender]
        ahead = d.seen_from(leader.cell.contender) > 0 or d.verdict == EQUAL
        found[d.verdict if ahead else OPEN].append(row.label)
    margin = analysis.design.metric.margin_text(analysis.margin)
    words = {BETTER: "worse", EQUAL: f"practically equal (within {margin})", OPEN: "cannot be told"}
    return "; ".join(f"{words[kind]}: {listing(names)}" for kind, names in found.items() if names)


def to_settle(analysis: Analysis, records: SweepRecords, leader: Summary, other: Summary) -> str | None:
    """How many seeds more would show the difference seen, or the margin where that is larger; hours and the command."""
    assert analysis.focus is not None
    metric, repeats = analysis.design.metric, analysis.design.replicates
    d = analysis.between(analysis.focus, leader.cell.contender, other.cell.contender)
    if d is None or d.interval is None or d.verdict != OPEN or repeats.unit in ("fold", "validation fold"):
        return None
    have = d.num_pairs
    if have >= FEWEST_PAIRS and d.interval.std == 0:
        if _is_none(d):
            return (
                f"In all {have} pairs the two score the same, so that nothing is known of how much they vary: what "
                f"might tell them apart is more test examples, not more {repeats.unit}s."
            )
        return (
            f"All {have} pairs differ by the same, so that nothing is known of how much others would: how many more "
            f"{repeats.unit}s would show it cannot be told."
        )
    if have < 2 or d.interval.std == 0:
        more = max(1, FEWEST_PAIRS - have)
        text = f"With so few pairs nothing is known of how much they vary. {FEWEST_PAIRS} are the fewest that can show"
        return f"{text} anything at 5%: {repeats.count(more)} more.{_price(records, analysis, more, FEWEST_PAIRS)}"
    target, name = abs(d.interval.mean), "the one seen"
    if analysis.margin is not None and analysis.margin >= target:
        target, name = analysis.margin, "the margin"
    size = metric.gap(target, signed=False) + metric.unit
    comparisons = _leaders(analysis, len(analysis.summaries[analysis.focus]) - 1)
    needed = replicates_needed(d.interval.std, target, comparisons, have)
    said = f"a true difference of {size} ({name})"
    if needed is None:
        return f"More {repeats.unit}s would not: to show {said} takes more than 1,000 that vary as these do."
    if needed <= have:
        return (
            f"{repeats.count(have)} would show {said} in at least 80% of such comparisons; more {repeats.unit}s are "
            "needed only to show a smaller one."
        )
    more = needed - have
    return (
        f"To show {said} in 80% of such comparisons takes about {repeats.count(needed)} that vary as these do: "
        f"{more:,} more.{_price(records, analysis, more, needed)}"
    )


def _leaders(analysis: Analysis, num_others: int) -> int:
    """Comparisons whose adjustment takes as much power as the joint one does: the leader's, in every table."""
    return max(1, num_others) * max(1, analysis.num_tables)


def _price(records: SweepRecords, analysis: Analysis, more: int, in_all: int) -> str:
    """What so many replicates more take, and the command."""
    counted = [run for run in records.runs if run.completed and run.fresh == analysis.design.fresh]
    done = len({run.seed for run in counted}) if analysis.design.fresh else len(analysis.design.replicates.names)
    seconds = sum(run.cost.get("total_seconds", 0.0) for run in counted) / max(1, done)
    text = f" They take about {seconds_text(more * seconds)}, by the time of these." if seconds > 0 else ""
    command = more_seeds(records, in_all)
    return text + (f" The command: {command}" if command else "")


def more_seeds(records: SweepRecords, in_all: int) -> str:
    """The command of the comparison with so many seeds; those that are done are not run again. Empty if not known."""
    if any(run.fresh for run in records.runs):
        return _more_fresh_seeds(records, in_all)
    if len(records.commands) != 1:
        return ""
    words = shlex.split(records.commands[0])
    seeds = sorted({run.seed for run in records.runs if run.seed is not None})
    if seeds != list(range(len(seeds))):
        return ""
    asked = f"seed=range({in_all})"
    places = [i for i, word in enumerate(words) if word.startswith("seed=")]
    if len(places) > 1 or any(not SEEDS.match(words[i]) for i in places) or "…" in records.commands[0]:
        return ""
    kept = [word for i, word in enumerate(words) if i not in places]
    return shlex.join([*kept, asked]).replace(f"'{asked}'", f"'{asked}'")


def _more_fresh_seeds(records: SweepRecords, in_all: int) -> str:
    """The last command that asked for fresh seeds, with so many; those that selected stay as they are."""
    flag = "--fresh-seeds"
    asked = [words for words in map(shlex.split, records.commands) if any(w.partition("=")[0] == flag for w in words)]
    kept = [word for word in asked[-1] if word.partition("=")[0] != flag] if asked else []
    return shlex.join([*kept, f"{flag}={in_all}"]) if kept else ""


def limits(analysis: Analysis, d: Difference, num_others: int) -> str:
    """What so many pairs can show at all, and what repeating the runs stands for."""
    metric, repeats, pairs = analysis.design.metric, analysis.design.replicates, d.num_pairs
    parts = []
    if pairs < 2:
        parts.append("With fewer than two pairs of runs there is no telling any difference from chance.")
    elif smallest_p(pairs) > LEVEL:
        parts.append(
            f"With {pairs} pairs the smallest p that the exact test can give is {p_text(smallest_p(pairs))}, so no "
            f"difference between these two could reach 5%; that takes at least {repeats.count(FEWEST_PAIRS)}."
        )
    elif d.interval is not None and d.interval.std > 0:
        least = detectable(d.interval.std, pairs, _leaders(analysis, num_others), pairs)
        if isfinite(least):
            parts.append(
                f"With {repeats.count(pairs)} that vary as these do, a true difference of "
                f"{metric.gap(least, signed=False)}{metric.unit} between the first two is shown in 80% of comparisons, "
                "a smaller one less often."
            )
    if d.unpaired:
        parts.append("Some contenders ran on different splits and could not be paired.")
    parts.append(repeats.meaning)
    return " ".join(parts)


def spread(analysis: Analysis, row: Summary) -> str | None:
    """How much of the scatter of the leader's scores is the seed's, the split's and the choice of test examples."""
    metric, repeats = analysis.design.metric, analysis.design.replicates
    if not row.interval.known or row.interval.std == 0 or row.cell.selected is None:
        return None
    unit, std = repeats.unit, row.interval.std
    runs = row.cell.selected.runs
    text = f"Scores of {row.label} scatter by {_points(analysis, std)} (standard deviation) from {unit} to {unit}"
    by_split: dict[str, list[float]] = {}
    for number, score in row.scores.items():
        by_split.setdefault(runs[number].split, []).append(score)
    tests = [run.sizes.get("test", 0.0) for run in runs.values()]
    drawn = None
    if metric.counts_right and min(tests) > 0 and 0 < row.interval.mean < 1:
        drawn = sqrt(row.interval.mean * (1 - row.interval.mean) / fmean(tests))
    if len(by_split) == 1 and "" not in by_split:
        text += ", all on one split"
        if drawn:
            text += f"; drawing {fmean(tests):,.0f} other test examples would make {_points(analysis, drawn)} besides"
        return text + "."
    if 1 < len(by_split) < len(row.scores):
        parts = components([np.array(values) for values in by_split.values()])
        text += f": {_points(analysis, parts[0])} from split to split, {_points(analysis, parts[1])} within a split"
    if drawn:
        examples = f"drawing {fmean(tests):,.0f} test examples makes"
        share = examples_share(drawn, std, row.interval.n)
        if share < 1:
            text += f". About {share:.0%} of that variance is what {examples}"
        else:
            text += f", which is no more than {examples} by itself ({_points(analysis, drawn)})"
    return text + "."


def examples_share(drawn: float, std: float, num_scores: int) -> float:
    """The share of a variance that drawing test examples makes, whose own standard deviation is `drawn`.

    Of few scores the variance found is mostly below the true one, and the share would mostly be too large: both are
    told apart at the median of what is found (normal theory).
    """
    from scipy.special import chdtri

    return drawn**2 / std**2 * float(chdtri(num_scores - 1, 0.5)) / (num_scores - 1)


def components(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """Standard deviations between and within groups: one-way random effects by analysis of variance."""
    sizes = np.array([len(group) for group in groups], dtype=float)
    total, count = sizes.sum(), len(groups)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / max(1.0, total - count)
    grand = np.concatenate(groups).mean()
    between = sum(size * (group.mean() - grand) ** 2 for size, group in zip(sizes, groups, strict=True)) / (count - 1)
    typical = (total - (sizes**2).sum() / total) / (count - 1)
    return sqrt(max(0.0, (between - within) / typical)), sqrt(within)


def _points(analysis: Analysis, value: float) -> str:
    metric = analysis.design.metric
    return metric.gap(value, signed=False) + metric.unit


def first_in(rows: Sequence[Summary]) -> tuple[int, int, int]:
    """In how many of the replicates that all have the first row is first, ties counted; in how many of these it shares
    that place; and how many replicates there are."""
    shared = set.intersection(*(set(row.scores) for row in rows))
    leads = [min(rows[0].scores[n] - row.scores[n] for row in rows[1:]) for n in shared]
    return sum(lead >= 0 for lead in leads), sum(lead == 0 for lead in leads), len(shared)
