"""What the numbers of a design say: summaries, paired differences, costs, across data sets, budgets, shifts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from headstart.report import statistics
from headstart.report.across import AcrossData, across_data
from headstart.report.budgets import Budget, budgets
from headstart.report.design import Condition, Contender, Design
from headstart.report.differences import Difference, Tested, differences
from headstart.report.evidence import LEVEL
from headstart.report.pairs import Pairs, adjust, make_pairs
from headstart.report.scored import Summary, ordered, selected, shift_names, shift_scores, summarise
from headstart.report.sizes import BySize, by_size
from headstart.report.statistics import Interval

MARGIN = 0.01
"""A difference of shares that does not matter in practice, unless the reader names another: one point."""
OWN = ""
"""The name of the own test set among those that pairs are tested on; shifted ones have names."""


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
    summaries = {condition: ordered(rows) for condition, rows in summaries.items() if rows}
    analysis = Analysis(design, summaries, {}, _focus(summaries), None, margin)
    tables = _tables(design, summaries)
    analysis.num_comparisons, analysis.num_tables = adjust(list(tables.values())), len(tables)
    own = {condition: pairs for (condition, name), pairs in tables.items() if name == OWN}
    analysis.num_verdicts = sum(len(pairs.values) for pairs in own.values())
    tested = Tested(margin, analysis.num_comparisons, analysis.num_verdicts)
    for condition, rows in summaries.items():
        analysis.differences[condition] = differences(design, condition, rows, own.get(condition), tested)
        if found := budgets(design, condition):
            analysis.budgets[condition] = found
        if shifts := _shifts(design, condition, rows, tables):
            analysis.shifts[condition] = shifts
    analysis.across = across_data(design, summaries, margin)
    analysis.by_size = by_size(design, summaries, own)
    return analysis


def _tables(design: Design, summaries: Mapping[Condition, list[Summary]]) -> dict[tuple[Condition, str], Pairs]:
    """All pairs of each condition on its own and on each shifted test set."""
    numbers = sorted(design.replicates.names)
    found: dict[tuple[Condition, str], Pairs] = {}
    for condition, rows in summaries.items():
        splits = [{number: run.split for number, run in selected(row).items()} for row in rows]
        made = make_pairs([row.scores for row in rows], splits, numbers)
        if made is None:
            continue
        found[condition, OWN] = made
        for name in shift_names(rows, design.metric):
            scores = [shift_scores(row, design.metric, name) for row in rows]
            shifted = make_pairs(scores, splits, numbers)
            if shifted is not None and np.isfinite(shifted.values).any():
                found[condition, name] = shifted
    return found


def _focus(summaries: Mapping[Condition, list[Summary]]) -> Condition | None:
    """The condition the answer speaks of: most contenders, then the largest training set, then most seeds."""
    if not summaries:
        return None
    return max(
        summaries,
        key=lambda condition: (len(summaries[condition]), condition.n, sum(r.interval.n for r in summaries[condition])),
    )


def _shifts(
    design: Design, condition: Condition, rows: list[Summary], tables: Mapping[tuple[Condition, str], Pairs]
) -> dict[str, Shifted]:
    """By shifted test set, the scores there; pairs are those with the leader on the own test set."""
    found: dict[str, Shifted] = {}
    for name in shift_names(rows, design.metric):
        values = {row.cell.contender: list(shift_scores(row, design.metric, name).values()) for row in rows}
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
