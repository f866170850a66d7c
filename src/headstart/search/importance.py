"""How much of the spread of scores each setting accounts for, by Optuna's PED-ANOVA (Watanabe et al. 2023)."""

import warnings
from collections.abc import Mapping

from headstart.search.draws import Tried, study_of
from headstart.search.standing import Standing

FEWEST = 10
"""Scores below which nothing is said."""


def importances(standing: Standing) -> Mapping[str, float]:
    """By setting, largest first, adding up to 1: among the better trials; empty where too few have a score."""
    scored = [one for one in standing.tried() if one.value is not None and not one.is_running]
    usable: list[Tried] = [one for one in scored if all(v.holds(one.params.get(v.key)) for v in standing.space)]
    if len(usable) < FEWEST or len(standing.space) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        study = study_of(standing.space, usable, standing.is_maximized)
        try:
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        except (RuntimeError, ValueError):  # all scores are equal
            return {}
