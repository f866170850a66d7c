"""The answer in plain words: what won, by how much, how surely, at what cost, and what the data cannot tell.

Every sentence is made from numbers of the analysis and says no more than they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean

import numpy as np

from headstart.report.analysis import Analysis, Difference, Summary
from headstart.report.design import Contender, Scene
from headstart.report.metric import p_equals, p_text, plural, seconds_text
from headstart.report.qualifications import (
    completeness,
    copies,
    cost,
    limits,
    listing,
    majority,
    own_cost,
    phases,
    selection,
    under_shift,
    where,
    with_less_data,
)  # fmt: skip
from headstart.report.reading import Ledger
from headstart.report.statistics import smallest_p


@dataclass(slots=True)
class Answer:
    """A headline and what qualifies it, each point under a word or two."""

    headline: str
    points: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sentences(self) -> list[str]:
        """All of it, for the terminal."""
        return [self.headline, *(text for _, text in self.points)]


def answer(analysis: Analysis, ledger: Ledger) -> Answer:
    """Put an analysis into words."""
    scene = analysis.focus
    if scene is None:
        return _nothing(analysis, ledger)
    rows = analysis.summaries[scene]
    result = _across_data(analysis) if analysis.across else None
    if result is None:
        result = _alone(analysis, rows[0], scene) if len(rows) == 1 else _won(analysis, rows, scene)
    _add(result, "The majority", majority(rows, analysis.design.metric))
    _add(result, "Phases", phases(analysis))
    _add(result, "Copies", copies(ledger))
    _add(result, "Selection", selection(analysis, rows))
    _add(result, "Completeness", completeness(ledger))
    return result


def _add(result: Answer, name: str, text: str | None) -> None:
    if text:
        result.points.append((name, text))


def _nothing(analysis: Analysis, ledger: Ledger) -> Answer:
    done, total = ledger.count("completed"), len(ledger.runs)
    if done:
        text = (
            f"{plural(done, 'run')} completed, but none has a test {analysis.design.metric.title}: nothing to compare."
        )
    else:
        text = f"None of {plural(total, 'run')} completed, so there is nothing to compare."
    result = Answer(text)
    _add(result, "Completeness", completeness(ledger))
    return result


def _score(analysis: Analysis, row: Summary) -> str:
    """`76.5% test accuracy (mean of 5 seeds; 95% t-interval 75.7 to 77.2%)`."""
    metric, interval, repeats = analysis.design.metric, row.interval, analysis.design.replicates
    if not interval.known:
        return f"{metric.text(interval.mean)} test {metric.title} (one {repeats.unit}, so no interval)"
    spread = metric.range(interval.low, interval.high)
    of = repeats.count(interval.n)
    return f"{metric.text(interval.mean)} test {metric.title} (mean of {of}; 95% t-interval {spread})"


def _alone(analysis: Analysis, row: Summary, scene: Scene) -> Answer:
    name = row.cell.contender.label
    result = Answer(f"{name} scored {_score(analysis, row)} {where(scene)}; there is nothing to compare it with.")
    _add(result, "Cost", own_cost(row))
    return result


def _won(analysis: Analysis, rows: Sequence[Summary], scene: Scene) -> Answer:
    leader = analysis.best(scene)
    ordered = sorted((row for row in rows if row is not leader), key=lambda row: -row.interval.mean)
    second = ordered[0]
    against = {
        d.second if d.first is leader.cell.contender else d.first: d
        for d in analysis.differences[scene]
        if leader.cell.contender in (d.first, d.second)
    }
    next_one = against[second.cell.contender]
    result = Answer(_headline(analysis, rows, leader, second, next_one, scene))
    _add(result, "How good", f"{leader.cell.contender.label} reaches {_score(analysis, leader)}.")
    _add(result, "How sure", _certainty(analysis, leader, next_one, list(against.items())))
    _add(result, "At what cost", cost(analysis, leader, ordered, against))
    _add(result, "Under shift", under_shift(analysis, scene))
    _add(result, "With less data", with_less_data(analysis, leader, scene))
    _add(result, "What these data cannot tell", limits(analysis, next_one, list(against.values())))
    return result


def _headline(
    analysis: Analysis, rows: Sequence[Summary], leader: Summary, second: Summary, d: Difference, scene: Scene
) -> str:
    metric, first, other = analysis.design.metric, leader.cell.contender.label, second.cell.contender.label
    score, runner_up = metric.text(leader.interval.mean), metric.text(second.interval.mean)
    gap = metric.gap(leader.interval.mean - second.interval.mean, signed=False) + metric.unit
    if d.clear:
        return f"{first} won {where(scene)}: {score}, {gap} ahead of {other}."
    level = [row.cell.contender.label for row in rows if metric.text(row.interval.mean) == score]
    if len(level) > 1 and not (d.interval and d.interval.excludes_zero):
        return f"{listing(level)} scored the same {where(scene)}: {score}."
    if d.interval is None or not d.interval.known:
        return (
            f"{first} scored highest {where(scene)}, {score} against {runner_up} for {other}; "
            "nothing shows that it would again."
        )
    if d.interval.excludes_zero and d.interval.mean > 0:
        reach = smallest_p(d.num_pairs) * d.family <= 0.05
        among = f" among {d.family} comparisons" if d.family > 1 else ""
        confirm = "The test does not" if reach else f"{analysis.design.replicates.count(d.num_pairs)} cannot"
        return f"{first} scored highest {where(scene)}: {score}, {gap} ahead of {other}. {confirm} confirm it{among}."
    return f"{first} ({score}) and {other} ({runner_up}) cannot be told apart {where(scene)}."


def _certainty(
    analysis: Analysis, leader: Summary, d: Difference, against: Sequence[tuple[Contender, Difference]]
) -> str:
    metric, interval = analysis.design.metric, d.interval
    other = d.second.label if d.first is leader.cell.contender else d.first.label
    if interval is None:
        reason = "ran on different splits" if d.unpaired else f"share no {analysis.design.replicates.unit}"
        return f"{leader.cell.contender.label} and {other} {reason}, so they cannot be compared in pairs."
    if not interval.known:
        return f"The lead over {other} rests on one pair of runs: there is no interval and no test."
    low, high = interval.low, interval.high
    if d.first is not leader.cell.contender:
        low, high = -high, -low
    text = (
        f"Against {other}, paired over {analysis.design.replicates.count(interval.n)}, the difference is "
        f"{metric.gap(abs(interval.mean), False)}{metric.unit} (95% interval {metric.gap(low)} to {metric.gap(high)}; "
        f"exact {p_equals(d.p)}"
    )
    text += f", {p_text(d.p_adjusted)} after Holm for {d.family} comparisons)." if d.family > 1 else ")."
    clear = [c.label for c, x in against if x.clear]
    hinted = [c.label for c, x in against if not x.clear and x.interval and x.interval.excludes_zero]
    open_ones = [c.label for c, x in against if c.label not in clear and c.label not in hinted]
    if len(against) > 1:
        parts = [f"told apart at 5%: {listing(clear)}"] if clear else []
        parts += [f"interval without zero, but the test does not reach 5%: {listing(hinted)}"] if hinted else []
        parts += [f"order open: {listing(open_ones)}"] if open_ones else []
        text += f" Of the {len(against)} others, " + "; ".join(parts) + "."
    return text


def _across_data(analysis: Analysis) -> Answer | None:
    across, metric = analysis.across, analysis.design.metric
    assert across is not None
    order = sorted(range(len(across.contenders)), key=lambda i: -across.means[:, i].mean())
    first, second, count = order[0], order[1], len(across.scenes)
    d = across.differences[0]
    means = [metric.text(float(across.means[:, i].mean())) for i in (first, second)]
    names = [across.contenders[i].label for i in (first, second)]
    place = f"over {count} data sets"
    own, others = across.means[:, first], np.delete(across.means, first, axis=1).max(axis=1)
    if d.clear:
        headline = f"{names[0]} won {place}: {means[0]} on average, against {means[1]} for {names[1]}."
    else:
        headline = (
            f"{names[0]} has the highest mean {place}, {means[0]} against {means[1]} for {names[1]}; not settled."
        )
    result = Answer(headline)
    ahead, level = (int(found.sum()) for found in (own > others, own == others))
    ties = f", and as high as another on {level}" if level else ""
    _add(result, "How often", f"It scored highest on {ahead} of {count} data sets{ties}.")
    assert d.interval is not None
    text = (
        f"The mean difference to {names[1]} is {metric.gap(d.interval.mean)}{metric.unit} (95% t-interval over data "
        f"sets {metric.gap(d.interval.low)} to {metric.gap(d.interval.high)}; exact {p_equals(d.p)}, "
        f"{p_text(d.p_adjusted)} after Holm)."
    )
    if across.ranks:
        ranks = across.ranks
        said = "differ" if ranks.p <= 0.05 else "cannot be told apart"
        text += (
            f" By ranks the contenders {said} (Friedman {p_equals(ranks.p)}); two differ at 5% where their mean ranks "
            f"are {ranks.critical_difference:.2f} apart."
        )
    _add(result, "How sure", text)
    _add(result, "At what cost", _cost_across(analysis, across.contenders[first], across.contenders[second]))
    floor = smallest_p(count)
    limit = f"{count} data sets are the sample here: the smallest p they can give is {p_text(floor)}"
    _add(result, "What these data cannot tell", limit + (", so no difference could reach 5%." if floor > 0.05 else "."))
    return result


def _cost_across(analysis: Analysis, first: Contender, second: Contender) -> str | None:
    """Training seconds of a run, its features included, averaged over the data sets."""
    across = analysis.across
    assert across is not None
    means = []
    for contender in (first, second):
        rows = [row for scene in across.scenes for row in analysis.summaries[scene] if row.cell.contender is contender]
        means.append(fmean(row.costs["seconds"] for row in rows))
    if not all(isfinite(mean) for mean in means):
        return None
    return (
        f"Averaged over the data sets, one run of {first.label} took {seconds_text(means[0])}, one of "
        f"{second.label} {seconds_text(means[1])}, features included."
    )
