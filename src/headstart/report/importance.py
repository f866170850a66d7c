"""How much of the spread of scores each setting accounts for, by Optuna's PED-ANOVA (Watanabe et al. 2023)."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.record.variable import Variable

if TYPE_CHECKING:
    import optuna

FEWEST = 10
"""Scores below which nothing is said."""
Scored = tuple[Mapping[str, Any], float]
"""A setting, and its score on val."""


def importances(space: Sequence[Variable], scored: Sequence[Scored], maximize: bool) -> Mapping[str, float]:
    """By setting, largest first, adding up to 1: among the better ones; empty where too few lie in the space."""
    usable = [(point, value) for point, value in scored if all(one.holds(point.get(one.key)) for one in space)]
    if len(usable) < FEWEST or len(space) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        try:
            return get_param_importances(study_of(space, usable, maximize), evaluator=PedAnovaImportanceEvaluator())
        except (RuntimeError, ValueError):  # all scores are equal
            return {}


def study_of(space: Sequence[Variable], scored: Sequence[Scored], maximize: bool) -> "optuna.Study":
    """Optuna's study of settings that lie in the space."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    distributions = {one.key: one.distribution() for one in space}
    for point, value in scored:
        params = {one.key: point[one.key] for one in space}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study
