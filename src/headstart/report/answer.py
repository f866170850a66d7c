"""The answer in plain words: what is better, by how much, how surely, at what cost, and what the data cannot tell.

Every sentence is made from numbers of the analysis and says no more than they do. Who is better follows from paired
differences and the adjusted test alone, never from the order of two means.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from headstart.names import plural
from headstart.report.analysis import Analysis
from headstart.report.certainty import certainty, limits, spread, to_settle
from headstart.report.design import Condition, Contender
from headstart.report.differences import Difference
from headstart.report.evidence import BETTER, EQUAL, OPEN
from headstart.report.exhibits import Exhibits
from headstart.report.qualifications import (
    completeness,
    constant_answer,
    copies,
    cost,
    listing,
    own_cost,
    phases,
    selection,
    together,
    under_shift,
    where,
    with_less_data,
)  # fmt: skip
from headstart.report.reading import SweepRecords
from headstart.report.scored import Summary
from headstart.report.several import points_over_data, said_over_data


@dataclass(slots=True)
class Answer:
    """A headline and what qualifies it, each point under a word or two."""

    headline: str
    points: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sentences(self) -> list[str]:
        """All of it, for the terminal."""
        return [self.headline, *(text for _, text in self.points)]


def answer(analysis: Analysis, records: SweepRecords, exhibits: Exhibits | None = None) -> Answer:
    """Put an analysis into words; `exhibits` have what is known of single examples."""
    exhibits = exhibits or Exhibits()
    condition = analysis.focus
    if condition is None:
        return _nothing(analysis, records)
    rows = analysis.summaries[condition]
    if analysis.across is not None:
        result = Answer(said_over_data(analysis), points_over_data(analysis))
        for text in _missing_anywhere(analysis):
            _add(result, "Missing runs", text)
        for dataset in dict.fromkeys(condition.dataset for condition in analysis.across.conditions):
            _add(result, f"With less data: {dataset}", with_less_data(analysis, dataset))
        for place in analysis.across.conditions:
            _add(result, f"Under shift: {place.dataset}", under_shift(analysis, place))
    else:
        result = (
            _alone(analysis, rows[0], condition)
            if len(rows) == 1
            else _compared(analysis, records, exhibits, condition)
        )
    _add(result, "Factors together", together(analysis))
    _add(result, "The baseline", constant_answer(rows, analysis.design.metric))
    _add(result, "Phases", phases(analysis))
    _add(result, "Copies", copies(records))
    _add(result, "Selection", selection(analysis, rows))
    _add(result, "Completeness", completeness(records))
    return result


def _add(result: Answer, name: str, text: str | None) -> None:
    if text:
        result.points.append((name, text))


def _nothing(analysis: Analysis, records: SweepRecords) -> Answer:
    done, total = records.count("completed"), len(records.runs)
    if done:
        text = (
            f"{plural(done, 'run')} completed, but none has a test {analysis.design.metric.title}: nothing to compare."
        )
    else:
        text = f"None of {plural(total, 'run')} completed, so there is nothing to compare."
    result = Answer(text)
    _add(result, "Completeness", completeness(records))
    return result


def _score(analysis: Analysis, row: Summary) -> str:
    """`76.5% test accuracy (mean of 5 seeds; 95% interval over seeds 75.7 to 77.2%)`."""
    metric, interval, repeats = analysis.design.metric, row.interval, analysis.design.replicates
    direction = f"{metric.direction}; " if metric.direction else ""
    if not interval.known:
        return f"{metric.text(interval.mean)} test {metric.title} ({direction}one {repeats.unit}, so no interval)"
    beside = f"{direction}mean of {repeats.count(interval.n)}"
    if interval.std == 0:
        beside += ", all with this score"
    elif interval.n == 2:  # of which an interval says next to nothing
        beside += f": {' and '.join(metric.text(score) for score in sorted(row.scores.values()))}"
    else:
        beside += f"; 95% interval over {repeats.unit}s {metric.range(interval.low, interval.high)}"
    return f"{metric.text(interval.mean)} test {metric.title} ({beside})"


def _alone(analysis: Analysis, row: Summary, condition: Condition) -> Answer:
    missing = " ".join(["", *_missing(analysis, condition)])
    headline = f"{row.label} scored {_score(analysis, row)} {where(condition)}; there is nothing to compare it with."
    result = Answer(headline + missing)
    _add(result, "Cost", own_cost(row))
    return result


def _compared(analysis: Analysis, records: SweepRecords, exhibits: Exhibits, condition: Condition) -> Answer:
    leader, *others = analysis.summaries[condition]
    against = {row.cell.contender: _against(analysis, condition, leader, row) for row in others}
    missing = " ".join(["", *_missing(analysis, condition)])
    result = Answer(headline(analysis, condition) + missing)
    _add(result, "How good", f"{leader.label} reaches {_score(analysis, leader)}.")
    _add(result, "How sure", certainty(analysis, leader, others, against, exhibits.crossed))
    _add(result, "What would settle it", to_settle(analysis, records, leader, others[0]))
    _add(result, "At what cost", cost(analysis, leader, others, against))
    _add(result, "Under shift", under_shift(analysis, condition))
    _add(result, "With less data", with_less_data(analysis, condition.dataset))
    _add(result, "What scores vary with", spread(analysis, leader))
    _add(result, "What these data cannot tell", limits(analysis, against[others[0].cell.contender], len(others)))
    return result


def _against(analysis: Analysis, condition: Condition, leader: Summary, row: Summary) -> Difference:
    found = analysis.between(condition, leader.cell.contender, row.cell.contender)
    assert found is not None
    return found


def headline(analysis: Analysis, condition: Condition) -> str:
    """What is better, practically equal, or cannot be told, in one sentence or two."""
    leader, *others = analysis.summaries[condition]
    sorted_out: dict[str, list[Summary]] = {BETTER: [], EQUAL: [], OPEN: []}
    for row in others:
        d = _against(analysis, condition, leader, row)
        ahead = d.seen_from(leader.cell.contender) > 0
        sorted_out[d.verdict if ahead or d.verdict == EQUAL else OPEN].append(row)
    worse, equal, unknown = (sorted_out[kind] for kind in (BETTER, EQUAL, OPEN))
    name, place = leader.label, where(condition)
    if unknown:
        names = [name, *(row.label for row in unknown)]
        if len(unknown) == 1:
            which = (
                f"whether {names[0]} or {names[1]} is better {place}: {_pair(analysis, condition, leader, unknown[0])}"
            )
        else:
            which = f"which of {listing(names)} is best {place}"
            which += f": {analysis.design.metric.text(leader.interval.mean)} for {name}, the best mean"
        rest = _rest(name, worse, equal, analysis)
        return f"It cannot be told {which}.{rest}"
    if equal:
        within = f"within {margin_text(analysis)}"
        if len(equal) == 1:
            text = f"{name} and {equal[0].label} are practically equal {place} ({within}): "
            text += f"{_pair(analysis, condition, leader, equal[0])}."
        else:
            text = f"{name} is practically equal to {listing([row.label for row in equal])} {place} ({within})."
        return text + _rest(name, worse, [], analysis)
    if len(others) == 1:
        text = f"{name} is better than {others[0].label} {place}: {_pair(analysis, condition, leader, others[0])}"
        return f"{text}{_small(analysis, _against(analysis, condition, leader, others[0]))}."
    gap = _gap(analysis, condition, leader, others[0])
    score = analysis.design.metric.text(leader.interval.mean)
    return f"{name} is the best of {len(others) + 1} {place}: {score}, {gap} ahead of {others[0].label}, the next."


def _small(analysis: Analysis, d: Difference) -> str:
    """Whether a difference that is shown is shown to be smaller than what matters, too."""
    if not d.within:
        return ""
    return f", less than the margin of {margin_text(analysis)}"


def _rest(name: str, worse: Sequence[Summary], equal: Sequence[Summary], analysis: Analysis) -> str:
    text = ""
    if equal:
        text += f" {name} is practically equal to {listing([row.label for row in equal])} (within "
        text += f"{margin_text(analysis)})."
    if worse:
        text += f" {name} is better than {listing([row.label for row in worse])}."
    return text


def _pair(analysis: Analysis, condition: Condition, leader: Summary, other: Summary) -> str:
    """`76.5% against 74.0%, 2.5 points apart`; the gap alone, where the two did not run in the same replicates."""
    d, metric = _against(analysis, condition, leader, other), analysis.design.metric
    both = f"{metric.text(leader.interval.mean)} against {metric.text(other.interval.mean)}"
    if d.interval is None:
        return f"{both}, in no pair of runs"
    ahead = "apart" if d.verdict != BETTER or d.seen_from(leader.cell.contender) < 0 else "ahead"
    gap = f"{_gap(analysis, condition, leader, other)} {ahead}"
    if d.num_pairs == leader.interval.n == other.interval.n:
        return f"{both}, {gap}" if d.interval.mean else f"{both}"
    front = f"{other.label} is {_gap(analysis, condition, leader, other)} ahead" if _behind(d, leader) else gap
    return f"{front} in the {analysis.design.replicates.count(d.num_pairs)} that both have"


def _behind(d: Difference, leader: Summary) -> bool:
    return d.seen_from(leader.cell.contender) < 0 and d.interval is not None and d.interval.mean > 0


def _gap(analysis: Analysis, condition: Condition, leader: Summary, other: Summary) -> str:
    d, metric = _against(analysis, condition, leader, other), analysis.design.metric
    return metric.gap(d.interval.mean if d.interval else None, signed=False) + metric.unit


def margin_text(analysis: Analysis) -> str:
    """`1 point`, `0.5 points`, `0.02`."""
    return analysis.design.metric.margin_text(analysis.margin)


def _missing(analysis: Analysis, condition: Condition) -> list[str]:
    """Contenders that lack runs here, and why: they are compared where they ran, and cannot lead."""
    rows = {row.cell.contender: row for row in analysis.summaries.get(condition, [])}
    if not rows:
        return []
    most, repeats = analysis.leader(condition).interval.n, analysis.design.replicates
    said = []
    for contender in analysis.design.contenders:
        cell, row = analysis.design.cell(contender, condition), rows.get(contender)
        if cell is None or (row is not None and row.interval.n >= most):
            continue
        why = _why(contender, analysis, condition)
        if row is None:
            said.append(f"{contender.label} has no score{why}.")
        else:
            alone = "that one" if row.interval.n == 1 else "those"
            said.append(
                f"{contender.label} has a score in {row.interval.n} of {repeats.count(most)}{why}; it is compared in "
                f"{alone} alone, and cannot lead."
            )
    return said


def _why(contender: Contender, analysis: Analysis, condition: Condition) -> str:
    cell = analysis.design.cell(contender, condition)
    assert cell is not None
    failed = [run for run in cell.runs if not run.completed]
    if not failed:
        return ""
    counts = Counter(run.error[0] if run.error and run.status == "failed" else run.status for run in failed)
    kinds = listing([f"{kind}{f' in {count}' if len(counts) > 1 else ''}" for kind, count in counts.most_common(3)])
    return f" ({len(failed)} of {plural(len(cell.runs), 'run')} did not complete: {kinds})"


def _missing_anywhere(analysis: Analysis) -> list[str]:
    assert analysis.across is not None
    found = []
    for condition in analysis.across.conditions:
        found += [f"O{where(condition)[1:]}: {text}" for text in _missing(analysis, condition)]
    return found[:6]
