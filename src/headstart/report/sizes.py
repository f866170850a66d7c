"""Contenders against feature extraction at every training size of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from headstart.report.crossover import AtSize, Crossover, crossover, turned
from headstart.report.design import Condition, Contender, Design
from headstart.report.evidence import LEVEL
from headstart.report.pairs import Pairs
from headstart.report.scored import Summary, training_size


@dataclass(slots=True)
class BySize:
    """A contender against a reference at every training size of a data set, by examples a class."""

    sizes: dict[float, AtSize]
    overtakes: Crossover | None
    overtaken: Crossover | None
    """Where the reference overtakes the contender."""
    group: str = "class"
    """What sizes count the examples of."""


def by_size(
    design: Design, summaries: Mapping[Condition, list[Summary]], pairs: Mapping[Condition, Pairs]
) -> dict[tuple[str, Contender, Contender], BySize]:
    """For each data set, each contender against feature extraction with the same other factors, size by size."""
    found = {}
    references = {c.values[1:]: c for c in design.contenders if c.lead == "feature_extraction"}
    for contender in design.contenders:
        reference = references.get(contender.values[1:])
        if reference is None or contender is reference:
            continue
        for dataset in dict.fromkeys(condition.dataset for condition in design.conditions):
            sizes = {}
            for condition, rows in summaries.items():
                if condition.dataset == dataset and condition in pairs:
                    at = _at_size(rows, pairs[condition], contender, reference)
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
