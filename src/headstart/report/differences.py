"""Paired differences of contenders in a condition, with their intervals, tests and verdicts."""

from dataclasses import dataclass
from math import isfinite, nan
from statistics import fmean

import numpy as np

from headstart.report import statistics
from headstart.report.design import Condition, Contender, Design
from headstart.report.evidence import BETTER, practically_equal, resampled_interval, verdict
from headstart.report.pairs import Pairs
from headstart.report.scored import Summary, selected
from headstart.report.statistics import Interval
from headstart.report.stepdown import step_down

ALL_PAIRS_UP_TO = 12
"""Contenders up to which all pairs are shown; above, each is shown against the leader. All are tested either way."""


@dataclass(frozen=True, slots=True)
class Tested:
    """What is tested together in a report."""

    margin: float | None
    """A difference that does not matter in practice; `None` where nobody said which that is."""
    num_comparisons: int
    """Over which p is adjusted."""
    num_verdicts: int
    """Over which verdicts of practical equality are shared out."""


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
    within: bool
    """Whether it is shown to be smaller than the margin, which a difference that is shown may be too."""
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


def differences(
    design: Design, condition: Condition, rows: list[Summary], pairs: Pairs | None, tested: Tested
) -> list[Difference]:
    """All pairs, or with many contenders those of the leader; each seen from the one that is ahead."""
    if pairs is None:
        return []
    shown = len(rows) if len(rows) <= ALL_PAIRS_UP_TO else 1
    ratio, found = _ratio(design, condition.dataset), []
    for i in range(shown):
        for j in range(i + 1, len(rows)):
            row, _ = pairs.row(i, j)
            values = pairs.values[row]
            there = np.isfinite(values)
            sign = -1 if there.any() and values[there].mean() < 0 else 1
            first, second = (rows[i], rows[j]) if sign > 0 else (rows[j], rows[i])
            d = sign * values[there]
            p = float(step_down(d[None], pairs.precision)[0]) if len(d) > 1 else nan
            num_examples = _num_examples(first, second) if design.metric.share else None
            equal = practically_equal(d, tested.margin, tested.num_verdicts, num_examples)
            scores = [np.array(list(row.scores.values())) for row in (first, second)]
            found.append(
                Difference(
                    condition, first.cell.contender, second.cell.contender, d,
                    statistics.t_interval(d) if len(d) else None, _resampled(first, second, ratio, num_examples),
                    p, float(pairs.p_adjusted[row]), verdict(float(pairs.p_adjusted[row]), equal), equal,
                    statistics.improvement_probability(scores[:1], scores[1:]),
                    tested.num_comparisons, int(pairs.unpaired[row]),
                )
            )  # fmt: skip
    return found


def _ratio(design: Design, dataset: str) -> float:
    """Test examples over all others of the pool, as far as the runs tell: those of the largest training set."""
    ratios = [
        run.sizes["test"] / (run.sizes["train"] + run.sizes.get("val", 0.0))
        for (_, condition), cell in design.cells.items() if condition.dataset == dataset
        for run in cell.runs if run.sizes.get("test") and run.sizes.get("train")
    ]  # fmt: skip
    return min(ratios, default=nan)


def _num_examples(first: Summary, second: Summary) -> float | None:
    """The fewest examples that a score of theirs was counted on, as far as the runs tell."""
    runs = [run for row in (first, second) for run in selected(row).values()]
    return min((run.sizes["test"] for run in runs if run.sizes.get("test")), default=None)


def _resampled(first: Summary, second: Summary, ratio: float, num_examples: float | None) -> Interval | None:
    """The interval for other examples, where splits differ: over the mean of each split, so that seeds on one split are
    one draw of examples."""
    by_split: dict[str, list[float]] = {}
    ours, theirs = selected(first), selected(second)
    for number in first.scores.keys() & second.scores.keys():
        if ours[number].split and ours[number].split == theirs[number].split:
            gap = first.scores[number] - second.scores[number]
            by_split.setdefault(ours[number].split, []).append(gap)
    if len(by_split) < 2 or not isfinite(ratio):
        return None
    return resampled_interval([fmean(values) for _, values in sorted(by_split.items())], ratio, num_examples)
