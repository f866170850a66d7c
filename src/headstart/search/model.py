"""Draws by what came of others: Optuna's samplers and CMA-ES, asked anew for each draw over the whole history."""

import warnings
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from headstart.record.variable import Variable
from headstart.search.tried import Tried

SIGMA = 0.25
"""How far CMA-ES spreads its first points, of each range: its authors' advice for bounded spaces."""
NUM_GOOD, NUM_LATEST = 25, 500
"""Of a long history the best and the latest so many trials are looked at."""
EPOCH = datetime(2000, 1, 1)


class History(InMemoryStorage):
    """What was tried, as Optuna's samplers read it; they are asked directly, so that nothing is copied or kept."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self.trials = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self.trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Samplers tell other processes of their draws here; ours read the disk."""


class Model:
    """Draws points of a space by Optuna's sampler (tpe, gp), or by CMA-ES (cmaes)."""

    def __init__(self, space: Sequence[Variable], method: str, maximize: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.method, self.maximize = list(space), method, maximize
        self.distributions = {one.key: one.distribution() for one in space}
        self._frozen: list[tuple[Tried, FrozenTrial | None]] = []

    def draw(self, tried: Sequence[Tried], seed: int) -> dict[str, Any]:
        """A point, by those of `tried` that lie in the space and have a value, or are under way."""
        if self.method == "cmaes":
            return evolved(self.space, [one for one in tried if self._fits(one)], self.maximize, seed)
        trials = most_telling(self._trials(tried), self.maximize)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(storage=History(trials), direction=self.direction)
            sampler = (
                optuna.samplers.GPSampler(seed=seed, n_startup_trials=1)
                if self.method == "gp"
                else optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
            )
            asked = self._frozen_trial(len(tried), {}, None, TrialState.RUNNING)
            found = sampler.sample_relative(study, asked, self.distributions)
        return {one.key: one.rounded(found[one.key]) for one in self.space}

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return "maximize" if self.maximize else "minimize"

    def _fits(self, one: Tried) -> bool:
        return all(variable.holds(one.params.get(variable.key)) for variable in self.space)

    def _trials(self, tried: Sequence[Tried]) -> list[FrozenTrial]:
        """Only what changed since the last draw is made anew."""
        del self._frozen[len(tried) :]
        for place, one in enumerate(tried):
            if place == len(self._frozen) or self._frozen[place][0] != one:
                self._frozen[place : place + 1] = [(one, self._frozen_of(place, one))]
        return [trial for _, trial in self._frozen if trial is not None]

    def _frozen_of(self, number: int, one: Tried) -> FrozenTrial | None:
        if (one.value is None and not one.is_running) or not self._fits(one):
            return None
        state = TrialState.RUNNING if one.is_running else TrialState.COMPLETE
        params = {variable.key: one.params[variable.key] for variable in self.space}
        return self._frozen_trial(number, params, None if one.is_running else one.value, state)

    def _frozen_trial(self, number: int, params: dict[str, Any], value: float | None, state: TrialState) -> FrozenTrial:
        ended = None if state == TrialState.RUNNING else EPOCH
        known = self.distributions if params else {}
        return FrozenTrial(number, state, value, EPOCH, ended, params, known, {}, {}, {}, number)


def most_telling(trials: list[FrozenTrial], maximize: bool) -> list[FrozenTrial]:
    """The best and the latest, in order, so that a draw takes as long after thousands as after hundreds.

    The sampler holds the `NUM_GOOD` best against all others, and gives these the less weight the older they are.
    """
    if len(trials) <= NUM_GOOD + NUM_LATEST:
        return trials
    scored = [trial for trial in trials[:-NUM_LATEST] if trial.value is not None]
    best = sorted(scored, key=lambda one: -(one.value or 0.0) if maximize else (one.value or 0.0))[:NUM_GOOD]
    kept = {trial.number for trial in (*best, *trials[-NUM_LATEST:])}
    return [trial for trial in trials if trial.number in kept]


def evolved(space: Sequence[Variable], tried: Sequence[Tried], maximize: bool, seed: int) -> dict[str, Any]:
    """A point by CMA-ES (Hansen & Ostermeier 2001) over the ranges, each from 0 to 1.

    Each generation is told as soon as so many trials have ended, in their order, whoever drew them: nothing waits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cmaes import CMA

    ended = [one for one in tried if one.value is not None and not one.is_running]
    start = np.array([one.share(ended[0].params[one.key]) for one in space]) if ended else np.full(len(space), 0.5)
    bounds = np.array([[0.0, 1.0]] * len(space))
    optimizer = CMA(mean=np.clip(start, 0.01, 0.99), sigma=SIGMA, bounds=bounds, seed=0)
    size = optimizer.population_size
    for begin in range(0, len(ended) - size + 1, size):
        if optimizer.should_stop():
            break
        sign = -1.0 if maximize else 1.0
        generation = ended[begin : begin + size]
        optimizer.tell(
            [
                (np.array([one.share(t.params[one.key]) for one in space]), sign * float(t.value or 0.0))
                for t in generation
            ]
        )
    optimizer.reseed_rng(seed)
    return {one.key: one.at(min(float(share), 1 - 1e-9)) for one, share in zip(space, optimizer.ask(), strict=True)}
