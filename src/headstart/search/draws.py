"""Which setting is tried next: what was tried of a cell goes in, a point of its space comes out.

Nothing is kept between two draws but what can be made again from the disk."""

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.record.variable import Variable
from headstart.search.tried import Tried

if TYPE_CHECKING:
    from headstart.search.model import Model

STARTUP = 10
"""Trials that are spread, around the default if there is one, before a model of the others is asked."""
SPREAD = 0.2
"""Standard deviation of these, of each range."""
ATTEMPTS = 20
"""Draws before a point that was not tried is looked for one by one."""
MODELLED = frozenset({"tpe", "gp", "cmaes"})
"""Methods that go by what came of other draws."""


class Draws:
    """Draws points of one cell's space.

    Args:
        space: what varies.
        method: random, qmc, tpe, gp or cmaes.
        key: what else the dice follow: the seed of the search, and the cell.
        maximize: whether higher scores are better.
        defaults: what varies, as it is where nothing is searched; the first draws lie around it.
    """

    def __init__(
        self,
        space: Sequence[Variable],
        method: str,
        key: str,
        maximize: bool,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.space, self.method, self.key, self.maximize = list(space), method, key, maximize
        self.defaults = dict(defaults or {})
        self._model: Model | None = None

    def next(self, number: int, tried: Sequence[Tried]) -> dict[str, Any] | None:
        """The point of trial `number`, which none of `tried` has; `None` if there is none left."""
        known = [one.params for one in tried]
        for attempt in range(ATTEMPTS):
            point = self._drawn(number, attempt, tried)
            if point not in known:
                return point
        counts = [variable.num_values for variable in self.space]
        if not math.isfinite(math.prod(counts)):
            return self._random(number, ATTEMPTS)  # the same again, which numbers cut short may come to
        for places in product(*(range(int(count)) for count in counts)):  # few are left
            point = {one.key: one.nth(place) for one, place in zip(self.space, places, strict=True)}
            if point not in known:
                return point
        return None

    def _drawn(self, number: int, attempt: int, tried: Sequence[Tried]) -> dict[str, Any]:
        """Spread at first, then by the model; a point that was tried gives way to a random one."""
        if attempt or self.method == "random":
            return self._random(number, attempt)
        if self.method == "qmc":
            return self._at(self._spread(number))
        if number <= STARTUP or not any(one.value is not None for one in tried):
            return self._at(
                [self._nearer(one, share) for one, share in zip(self.space, self._spread(number), strict=True)]
            )
        return self._modelled(number, tried)

    def _random(self, number: int, attempt: int) -> dict[str, Any]:
        import numpy as np

        return self._at(np.random.default_rng(self._seed(number, attempt)).random(len(self.space)).tolist())

    def _at(self, shares: Sequence[float]) -> dict[str, Any]:
        return {variable.key: variable.at(share) for variable, share in zip(self.space, shares, strict=True)}

    def _nearer(self, variable: Variable, share: float) -> float:
        """A share that is spread evenly from 0 to 1, drawn to the default: a normal distribution around it, cut off at
        the ends. A default that is not in the range says nothing, nor is one name near to another."""
        from scipy.stats import truncnorm

        default = self.defaults.get(variable.key)
        if variable.values is not None or not variable.holds(default):
            return share
        middle = variable.share(default)  # type: ignore[arg-type]
        found = truncnorm.ppf(share, -middle / SPREAD, (1 - middle) / SPREAD, loc=middle, scale=SPREAD)
        return min(float(found), 1 - 1e-9)

    def _spread(self, number: int) -> list[float]:
        """Scrambled Sobol points (Owen 1998), one after the other."""
        from scipy.stats import qmc

        points = qmc.Sobol(len(self.space), scramble=True, seed=self._seed(0, 0))
        if number > 1:  # trial 0 is the default
            points.fast_forward(number - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few points are not balanced
            return [float(share) for share in points.random(1)[0]]

    def _modelled(self, number: int, tried: Sequence[Tried]) -> dict[str, Any]:
        from headstart.search.model import Model

        if self._model is None:
            self._model = Model(self.space, self.method, self.maximize)
        return self._model.draw(tried, self._seed(number, 0) % 2**31)

    def _seed(self, number: int, attempt: int) -> int:
        text = f"{self.key}/{number}/{attempt}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def check_method(method: str, space: Sequence[Variable]) -> None:
    """Raise `InputError` if a method cannot search such a space, or lacks its package."""
    if method != "cmaes":
        return
    named = [one.key for one in space if one.values is not None]
    if named:
        raise InputError(
            f"search=cmaes needs numbers, but {', '.join(named)} is chosen by name. Use search=tpe, or list the values "
            "to compare them."
        )
    if len(space) < 2:
        raise InputError(f"search=cmaes needs at least two ranges, but there is {space[0].key} alone. Use search=tpe.")
    if find_spec("cmaes") is None:
        raise InputError("search=cmaes needs the package cmaes: pip install 'headstart[cmaes]', or use search=tpe.")
