"""What a number of trials can be expected to find."""

from dataclasses import dataclass
from math import inf

from headstart.report import statistics
from headstart.report.design import Condition, Contender, Design
from headstart.report.statistics import Interval


@dataclass(slots=True)
class Budget:
    """Expected best validation score by number of trials, for one contender in one condition."""

    contender: Contender
    trials: list[float]
    unbiased: list[float]
    with_replacement: list[float]
    selected_test: Interval


def budgets(design: Design, condition: Condition) -> list[Budget]:
    """Budget curves of the contenders that had at least three trials; a trial's score is its mean val over seeds."""
    found = []
    for cell in design.scored(condition):
        trials = [candidate.val for candidate in cell.candidates if candidate.runs and candidate.val > -inf]
        if len(trials) < 3:
            continue
        sizes = range(1, len(trials) + 1)
        found.append(
            Budget(
                cell.contender, sorted(trials),
                [statistics.expected_best_unbiased(trials, n) for n in sizes],
                [statistics.expected_best(trials, n) for n in sizes],
                statistics.t_interval(list(cell.scores(design.metric).values())),
            )
        )  # fmt: skip
    return found
