"""Which setting is tried next: what was tried of a cell goes in, a point of its space comes out.

Nothing is kept between two draws but what can be made again from the disk."""

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from headstart.search.space import Variable

if TYPE_CHECKING:
    import optuna

STARTUP = 10
"""Trials that are spread evenly before a model of the others is asked."""
ATTEMPTS = 20
"""Draws before a point that was not tried is looked for one by one."""
Point = Mapping[str, Any]


@dataclass(frozen=True)
class Tried:
    """A setting that was drawn. `value` is its score on val, `None` while it is under way or if there is none."""

    params: Point
    value: float | None = None
    is_running: bool = False


class Draws:
    """Draws points of one cell's space.

    Args:
        space: what varies.
        method: random, qmc, tpe or gp.
        key: what else the dice follow: the seed of the search, and the cell.
        maximize: whether higher scores are better.
    """

    def __init__(self, space: Sequence[Variable], method: str, key: str, maximize: bool) -> None:
        self.space, self.method, self.key, self.maximize = list(space), method, key, maximize
        self._study: optuna.Study | None = None
        self._known: list[Tried] = []
        self._ids: list[int] = []

    def next(self, number: int, tried: Sequence[Tried]) -> dict[str, Any] | None:
        """The point of trial `number`, which none of `tried` has; `None` if there is none left."""
        known = {_key(one.params) for one in tried}
        for attempt in range(ATTEMPTS):
            point = self._drawn(number, attempt, tried)
            if _key(point) not in known:
                return point
        counts = [variable.num_values for variable in self.space]
        if not math.isfinite(math.prod(counts)):
            return self._random(number, ATTEMPTS)  # the same again, which numbers cut short may come to
        for places in product(*(range(int(count)) for count in counts)):  # few are left
            point = {one.key: one.nth(place) for one, place in zip(self.space, places, strict=True)}
            if _key(point) not in known:
                return point
        return None

    def _drawn(self, number: int, attempt: int, tried: Sequence[Tried]) -> dict[str, Any]:
        """Spread evenly at first, then by the model; a point that was tried gives way to a random one."""
        if attempt or self.method == "random":
            return self._random(number, attempt)
        if self.method == "qmc" or number <= STARTUP or not any(one.value is not None for one in tried):
            return self._spread(number)
        return self._modelled(number, tried)

    def _random(self, number: int, attempt: int) -> dict[str, Any]:
        import numpy as np

        shares = np.random.default_rng(self._seed(number, attempt)).random(len(self.space))
        return {variable.key: variable.at(float(share)) for variable, share in zip(self.space, shares, strict=True)}

    def _spread(self, number: int) -> dict[str, Any]:
        """Scrambled Sobol points (Owen 1998), one after the other."""
        from scipy.stats import qmc

        points = qmc.Sobol(len(self.space), scramble=True, seed=self._seed(0, 0))
        if number > 1:  # trial 0 is the default
            points.fast_forward(number - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few points are not balanced
            shares = points.random(1)[0]
        return {variable.key: variable.at(float(share)) for variable, share in zip(self.space, shares, strict=True)}

    def _modelled(self, number: int, tried: Sequence[Tried]) -> dict[str, Any]:
        """By Optuna's sampler, made anew for each draw, over a study of what was tried."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = self._study_of(tried)
            seed = self._seed(number, 0) % 2**31
            study.sampler = (
                optuna.samplers.GPSampler(seed=seed, n_startup_trials=1)
                if self.method == "gp"
                else optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
            )
            asked = study.ask({variable.key: variable.distribution() for variable in self.space})
            study.tell(asked, state=optuna.trial.TrialState.FAIL)  # what comes of it is told by the disk
        return {variable.key: variable.rounded(asked.params[variable.key]) for variable in self.space}

    def _study_of(self, tried: Sequence[Tried]) -> "optuna.Study":
        """The study of what was tried; what it knows of the last draw is added to, as long as nothing changed."""
        import optuna

        usable = [one for one in tried if self._fits(one) and (one.value is not None or one.is_running)]
        ended = [one for one in usable if not one.is_running]
        running = [one for one in usable if one.is_running]
        if self._study is None or self._known != ended[: len(self._known)]:
            self._study, self._known = optuna.create_study(direction=self.direction), []
        for one in ended[len(self._known) :]:
            _add(self._study, self.space, one)
        self._known = ended
        if not running:
            return self._study
        study = optuna.create_study(direction=self.direction)  # running trials come and go: a study for this draw
        study.add_trials(self._study.get_trials(deepcopy=False))
        for one in running:
            _add(study, self.space, one)
        return study

    def _fits(self, one: Tried) -> bool:
        return all(variable.holds(one.params.get(variable.key)) for variable in self.space)

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return "maximize" if self.maximize else "minimize"

    def _seed(self, number: int, attempt: int) -> int:
        text = f"{self.key}/{number}/{attempt}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _key(point: Point) -> str:
    return repr(sorted(point.items()))


def study_of(space: Sequence[Variable], tried: Sequence[Tried], maximize: bool) -> "optuna.Study":
    """Optuna's study of what was tried; all of it must lie in the space."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    for one in tried:
        _add(study, space, one)
    return study


def _add(study: "optuna.Study", space: Sequence[Variable], one: Tried) -> None:
    from optuna.trial import TrialState, create_trial

    state = TrialState.RUNNING if one.is_running else TrialState.COMPLETE
    distributions = {variable.key: variable.distribution() for variable in space}
    params = {variable.key: one.params[variable.key] for variable in space}
    study.add_trial(create_trial(state=state, params=params, distributions=distributions, value=one.value))
