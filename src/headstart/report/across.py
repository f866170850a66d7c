"""Contenders over several data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from headstart.report import statistics
from headstart.report.design import Condition, Contender, Design
from headstart.report.differences import ALL_PAIRS_UP_TO, Difference
from headstart.report.evidence import practically_equal, verdict
from headstart.report.scored import Summary
from headstart.report.statistics import RankTest
from headstart.report.stepdown import step_down


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


def across_data(
    design: Design, summaries: Mapping[Condition, list[Summary]], margin: float | None
) -> AcrossData | None:
    """Contenders that have a score on every data set, compared on the means of each data set."""
    largest: dict[str, Condition] = {}
    versions = design.versions  # of a data set that changed, the one with most counts
    for condition in sorted(summaries, key=lambda one: (len(summaries[one]) * (one.dataset in versions), one.n)):
        largest[versions.get(condition.dataset, condition.dataset)] = condition
    conditions = list(largest.values())
    if len(conditions) < 2:
        return None
    tables = [{row.cell.contender: row for row in summaries[condition]} for condition in conditions]
    contenders = [c for c in design.contenders if all(c in table for table in tables)]
    if len(contenders) < 2:
        return None
    means = np.array([[table[c].interval.mean for c in contenders] for table in tables])
    ranks = statistics.friedman(means) if len(contenders) >= 3 else None
    scores = [[np.array(list(table[c].scores.values())) for table in tables] for c in contenders]
    middle = [statistics.interquartile_interval(tasks) for tasks in scores]
    order = np.argsort(-means.mean(axis=0), kind="stable").tolist()
    return AcrossData(
        conditions, contenders, means, ranks, middle, _over_data(margin, contenders, means, order, scores)
    )


def _over_data(
    margin: float | None,
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
        equal = practically_equal(d, margin, len(pairs))
        found.append(
            Difference(
                Condition("all data sets", inf), contenders[i], contenders[j], d, statistics.t_interval(d), None,
                float(step_down(d[None])[0]), float(p_adjusted),
                verdict(float(p_adjusted), equal), equal, better, len(pairs),
            )
        )  # fmt: skip
    return found
