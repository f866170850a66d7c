"""The answer over several data sets: what happened on each, and what, if anything, holds for others."""

from collections.abc import Sequence
from math import isfinite
from statistics import fmean

from headstart.report.across import AcrossData
from headstart.report.analysis import Analysis
from headstart.report.design import Condition, Contender
from headstart.report.differences import Difference
from headstart.report.evidence import EQUAL, LEVEL
from headstart.report.metric import p_equals, p_text, seconds_text
from headstart.report.qualifications import listing
from headstart.report.stepdown import smallest_p


def _across(analysis: Analysis) -> AcrossData:
    assert analysis.across is not None
    return analysis.across


def _first_two(across: AcrossData) -> tuple[int, int]:
    order = sorted(range(len(across.contenders)), key=lambda i: -across.means[:, i].mean())
    return order[0], order[1]


def _on_each(analysis: Analysis, one: Contender, other: Contender) -> dict[str, list[tuple[Condition, Difference]]]:
    """The data sets by what they show of `one` against `other`."""
    found: dict[str, list[tuple[Condition, Difference]]] = {"better": [], "worse": [], "equal": [], "open": []}
    for condition in _across(analysis).conditions:
        d = analysis.between(condition, one, other)
        if d is None:
            continue
        kind = "open" if not d.clear else "better" if d.first is one else "worse"
        found["equal" if d.verdict == EQUAL else kind].append((condition, d))
    return found


def said_over_data(analysis: Analysis) -> str:
    """What is shown of the two with the best means on each data set, and over data sets."""
    across, metric = _across(analysis), analysis.design.metric
    first, second = _first_two(across)
    names = [across.contenders[i].label for i in (first, second)]
    count = len(across.conditions)
    on = _on_each(analysis, across.contenders[first], across.contenders[second])
    d = across.differences[0]
    means = [metric.text(float(across.means[:, i].mean())) for i in (first, second)]
    if d.clear:
        best = (
            f"{names[0]} is better than {names[1]} over {count} data sets: {means[0]} on average, against {means[1]}."
        )
        return f"{best} {_tally(on, count)}"
    if len(on["better"]) == count:
        gaps = _gaps(analysis, on["better"])
        every = "both" if count == 2 else f"each of {count}"
        return f"{names[0]} is better than {names[1]} on {every} data sets: {gaps}."
    text = f"{names[0]} has the best mean over {count} data sets, {means[0]} against {means[1]} for {names[1]}."
    return f"{text} {_tally(on, count)}"


def _gaps(analysis: Analysis, on: Sequence[tuple[Condition, Difference]]) -> str:
    metric = analysis.design.metric
    said = [
        f"{metric.gap(d.interval.mean, signed=False)}{metric.unit} ahead on {condition.dataset}"
        for condition, d in on if d.interval is not None
    ]  # fmt: skip
    return listing(said)


def _tally(on: dict[str, list[tuple[Condition, Difference]]], count: int) -> str:
    """`It is better on a and b, worse on c; on the other 2 that cannot be told.`"""
    parts = [
        f"{word} on {listing([condition.dataset for condition, _ in on[kind]])}"
        for kind, word in (("better", "better"), ("worse", "worse"), ("equal", "practically equal"))
        if on[kind]
    ]
    if not parts:
        return "Which of the two is better cannot be told on any of them."
    left = len(on["open"])
    rest = f"; on {'the other' if left == 1 else f'the other {left}'} it cannot be told" if left else ""
    return f"Of the two it is {listing(parts)}{rest}."


def points_over_data(analysis: Analysis) -> list[tuple[str, str]]:
    """The points under the headline."""
    across = _across(analysis)
    first, second = _first_two(across)
    points = [("On each data set", _each(analysis, across.contenders[first]))]
    points.append(("How sure", _sure(analysis, across.contenders[first], across.contenders[second])))
    price = _cost(analysis, across.contenders[first], across.contenders[second])
    if price:
        points.append(("At what cost", price))
    floor, count = smallest_p(len(across.conditions)), len(across.conditions)
    limit = (
        f"{count} data sets are the sample here, and say little of others: the smallest p they can give is "
        f"{p_text(floor)}"
    )
    limit += ", so nothing can be claimed for data sets in general." if floor > LEVEL else "."
    points.append(("What these data cannot tell", f"{limit} {analysis.design.replicates.meaning}"))
    return points


def _each(analysis: Analysis, first: Contender) -> str:
    """Whom each data set shows to be best, and where the order turns."""
    across, said = _across(analysis), []
    wins = dict.fromkeys(across.contenders, 0)
    for condition in across.conditions:
        rows = [row for row in analysis.summaries[condition] if row.cell.contender in wins]
        found = [analysis.between(condition, rows[0].cell.contender, row.cell.contender) for row in rows[1:]]
        if found and all(d is not None and d.clear and d.first is rows[0].cell.contender for d in found):
            wins[rows[0].cell.contender] += 1
    for contender, count in sorted(wins.items(), key=lambda item: -item[1]):
        if count:
            said.append(f"{contender.label} is shown to be the best on {count}")
    total = len(across.conditions)
    left = total - sum(wins.values())
    text = (f"Of {total} data sets, " + listing(said) if said else f"On none of {total} data sets is one shown to be "
            "better than all others") + (f"; {left} leave it open." if said and left else ".")  # fmt: skip
    turns = _turns(analysis, first)
    return f"{text} {turns}" if turns else text


def _turns(analysis: Analysis, first: Contender) -> str:
    """Contenders against which the order is shown to turn from one data set to another."""
    for other in _across(analysis).contenders:
        if other is first:
            continue
        on = _on_each(analysis, first, other)
        if on["better"] and on["worse"]:
            ahead, behind = (listing([condition.dataset for condition, _ in on[kind]]) for kind in ("better", "worse"))
            return (
                f"The order turns with the data: {first.label} is better than {other.label} on {ahead}, worse on "
                f"{behind}."
            )
    return ""


def _sure(analysis: Analysis, first: Contender, second: Contender) -> str:
    across, metric = _across(analysis), analysis.design.metric
    said = []
    for condition in across.conditions[:8]:
        d = analysis.between(condition, first, second)
        if d is not None and d.interval is not None and d.interval.known:
            sign = d.seen_from(first)
            low, high = sorted((sign * d.interval.low, sign * d.interval.high))
            said.append(
                f"{condition.dataset} {metric.gap(sign * d.interval.mean)} ({metric.gap(low)} to {metric.gap(high)}; "
                f"{p_equals(d.p_adjusted)})"
            )
    unit = analysis.design.replicates.unit
    text = f"{first.label} against {second.label}, paired by {unit}, with 95% intervals over {unit}s of these data"
    text += f"{' in points' if metric.share else ''}: {listing(said, 8)}. p is adjusted for all "
    text += f"{analysis.num_comparisons:,} comparisons in {analysis.num_tables} tables."
    d = across.differences[0]
    assert d.interval is not None
    if d.interval.known:
        text += f" Over data sets, each counted once: {metric.gap(d.interval.mean)}{metric.unit} ("
        if smallest_p(d.num_pairs) <= LEVEL:
            text += f"95% interval {metric.gap(d.interval.low)} to {metric.gap(d.interval.high)}; "
        text += f"{p_equals(d.p_adjusted)})."
    if across.ranks:
        text += (
            f" By ranks, in a test of its own: Friedman {p_equals(across.ranks.p)}; two differ at 5% where their mean "
            f"ranks are {across.ranks.critical_difference:.2f} apart."
        )
    return text


def _cost(analysis: Analysis, first: Contender, second: Contender) -> str | None:
    """Training seconds of a run, its features included, averaged over the data sets."""
    across, means = _across(analysis), []
    for contender in (first, second):
        rows = [
            row
            for condition in across.conditions
            for row in analysis.summaries[condition]
            if row.cell.contender is contender
        ]
        means.append(fmean(row.costs["seconds"] for row in rows))
    if not all(isfinite(mean) for mean in means):
        return None
    return (
        f"Averaged over the data sets, one run of {first.label} took {seconds_text(means[0])}, one of "
        f"{second.label} {seconds_text(means[1])}, features included."
    )
