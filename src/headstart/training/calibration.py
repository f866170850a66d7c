"""How sure a model may be: a temperature, and regions that hold the truth as often as they say.

Both are found on the validation examples, whose outputs are at hand as a run ends; new examples need none of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.errors import InputError
from headstart.names import plural
from headstart.tasks.task import Task

LEVELS = (0.8, 0.9, 0.95)
"""Shares of the truth for which regions are measured on test."""
MOST_KEPT = 400
"""Of the validation examples' conformity scores; of more, evenly spaced ranks are kept."""
NUM_BINS = 15
"""Of confidence, for the calibration error (Guo et al. 2017)."""
COLDEST, HOTTEST = 0.02, 50.0
"""Between these a temperature is looked for."""
_MOST_NUMBERS = 1 << 23
"""Of outputs that a temperature is fitted to; of more, every second, third … example."""
_FEWEST = 10
"""Validation examples without which nothing is fitted."""


@dataclass(frozen=True)
class Conformal:
    """Split conformal prediction at one level (Vovk et al. 2005): `limits` by output, or one for all classes.

    Of classes, those whose (calibrated) probability is at least 1 - limit (Sadinle et al. 2019); never none. Of
    numbers, what is within the limit of the prediction. If validation examples and new ones come
    from the same place, at least `level` of the regions hold the truth, on average over both. As the epoch was selected
    on the same examples, it may be a little less: what was measured on test is in the record.
    """

    level: float
    limits: tuple[float, ...]
    of_numbers: bool

    def region(self, said: np.ndarray, names: Sequence[str]) -> Any:
        """Of what is said of one example `(O,)`: names of classes, the likeliest first; or ends by name of a number."""
        if self.of_numbers:
            return {
                name: (float(value) - limit, float(value) + limit)
                for name, value, limit in zip(names, said, self.limits, strict=True)
            }
        order = np.argsort(-said, kind="stable")
        held = [int(place) for place in order if 1 - said[place] <= self.limits[0]] or [int(order[0])]
        return [names[place] for place in held]


def calibration_of(
    task: Task, val: tuple[Tensor, np.ndarray], test: tuple[Tensor, np.ndarray]
) -> dict[str, Any] | None:
    """What a run keeps, in plain JSON: outputs `(N, O)` and targets of val and test; `None` where val is too small.

    `temperature` divides logits, and `calibration_error` is before and after, on val and on test; where no temperature
    is best, `no_temperature` says why. `conformity` holds sorted scores (see `Conformal`), `coverage` how often regions
    of val hold the truth of test.
    """
    (outputs, targets), (test_outputs, test_targets) = val, test
    if len(outputs) < _FEWEST or not all(bool(torch.isfinite(one).all()) for one in (outputs, test_outputs)):
        return None
    found: dict[str, Any] = {"num_val": len(outputs)}
    if task.outputs == "classes":
        fitted = fitted_temperature(task, outputs, targets)
        tried = [1.0]
        if COLDEST < fitted < HOTTEST:
            found["temperature"] = fitted
            tried = [1.0, fitted]
        else:
            found["no_temperature"] = _without(fitted, len(outputs))
        found["calibration_error"] = {
            name: [calibration_error(task, one / t, truth) for t in tried]
            for name, one, truth in (("val", outputs, targets), ("test", test_outputs, test_targets))
        }
    temperature = found.get("temperature", 1.0)
    scores = conformity(task, outputs / temperature, targets)
    if scores is not None:
        found["conformity"] = [_kept(column) for column in scores.T]
        of_test = conformity(task, test_outputs / temperature, test_targets)
        said = task.said(test_outputs / temperature)
        found["coverage"] = {
            f"{level:g}": _measured(task, found, level, said, of_test) for level in LEVELS if of_test is not None
        }
        found["coverage"] = {level: one for level, one in found["coverage"].items() if one is not None}
    return found


def fitted_temperature(task: Task, outputs: Tensor, targets: np.ndarray) -> float:
    """What logits `(N, O)` are divided by so that the plain loss is least (Guo et al. 2017): convex in 1/T.

    `COLDEST` or `HOTTEST` where it falls up to there: every example is right, say, and the surer the better.
    """
    from scipy.optimize import minimize_scalar

    step = 1 + outputs.numel() // _MOST_NUMBERS
    wide, truth = outputs[::step].double(), torch.from_numpy(targets[::step])

    def loss(log: float) -> float:
        return float(task.plain_loss(wide / math.exp(log), truth))

    found = minimize_scalar(
        loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded", options={"xatol": 1e-5}
    )
    at = float(math.exp(found.x))
    ends = [COLDEST, HOTTEST]  # which the search comes near, and does not try
    return min([at, *(end for end in ends if abs(math.log(at / end)) < 0.01)], key=lambda one: loss(math.log(one)))


def _without(end: float, count: int) -> str:
    surer = end <= COLDEST
    return (
        f"the {'surer' if surer else 'less sure'} the better, by its {plural(count, 'validation example')}, "
        f"{'as they are all answered right' if surer else 'of which its outputs say nothing'}"
    )


def calibration_error(task: Task, outputs: Tensor, targets: np.ndarray) -> float:
    """Expected calibration error: by how much confidence and share of right answers differ, over bins of confidence.

    Of one class each, of the class that is said; of several labels, of each label's probability.
    """
    said = task.said(outputs)
    if targets.ndim == 1:
        confidence, right = said.max(1), said.argmax(1) == targets
    else:
        confidence, right = said.ravel(), targets.ravel() > 0
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def conformity(task: Task, outputs: Tensor, targets: np.ndarray) -> np.ndarray | None:
    """How badly the truth fits what is said `(N, 1)` or, of numbers, `(N, T)`; `None` for several labels."""
    said = task.said(outputs)
    if task.outputs == "targets":
        return np.abs(said - targets)
    if targets.ndim > 1:
        return None
    return 1 - said[np.arange(len(said)), targets][:, None]


def conformal(calibration: Mapping[str, Any], level: float, of_numbers: bool) -> Conformal | None:
    """Regions at `level` from what a run kept; `None` if it had too few validation examples for it."""
    count = int(calibration["num_val"])
    rank = _whole((count + 1) * level)
    if rank > count:
        return None
    place = int(np.searchsorted(_ranks(count), rank))
    return Conformal(level, tuple(float(scores[place]) for scores in calibration["conformity"]), of_numbers)


def needed(level: float) -> int:
    """Validation examples without which there are no regions at `level`."""
    return _whole(level / (1 - level))


def _whole(number: float) -> int:
    """The next whole number, rounding aside: 0.9 / 0.1 is 9.000000000000002 to a computer."""
    return math.ceil(number - 1e-9)


def check_kept(calibration: Mapping[str, Any] | None, where: str, num_val: int | None) -> None:
    """Raise `InputError` if a run of `num_val` validation examples kept nothing of how sure it may be."""
    if calibration is None and num_val is not None and num_val < _FEWEST:
        raise InputError(
            f"How sure a model may be is found on {_FEWEST} validation examples or more, but {where} had {num_val}. "
            "Train with a larger split.val_fraction, or on more examples."
        )
    if calibration is None:
        raise InputError(
            f"{where} keeps no calibration: it was done by an earlier version, or its outputs are not finite. Do it "
            "again (headstart rerun)."
        )


def check_tempered(calibration: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` if no temperature was best on val."""
    if "temperature" not in calibration:
        why = calibration.get("no_temperature", "its record says none")
        raise InputError(
            f"{where} has no temperature that is best on val: {why}. Leave out what calibrates, or train with a larger "
            "split.val_fraction. Regions (an interval of 0.9, say) do without."
        )


def _measured(
    task: Task, found: Mapping[str, Any], level: float, said: np.ndarray, scores: np.ndarray
) -> dict[str, Any] | None:
    """On test: the share of regions that hold the truth (of several numbers, of each), and how large they are."""
    regions = conformal(found, level, of_numbers=task.outputs == "targets")
    if regions is None:
        return None
    limits = np.array(regions.limits)
    if regions.of_numbers:
        return {"covered": (scores <= limits).mean(0).tolist(), "size": (2 * limits).tolist()}
    sizes = (1 - said <= limits[0]).sum(1)
    first = (sizes == 0) & (scores[:, 0] <= 1 - said.max(1))
    return {"covered": float(((scores[:, 0] <= limits[0]) | first).mean()), "size": float(np.maximum(sizes, 1).mean())}


def _ranks(count: int) -> np.ndarray:
    """Of sorted scores, the ranks (from 1) that are kept."""
    if count <= MOST_KEPT:
        return np.arange(1, count + 1)
    return np.ceil(np.linspace(1, count, MOST_KEPT)).astype(int)


def _kept(scores: np.ndarray) -> list[float]:
    ordered = np.sort(scores)
    return [float(ordered[rank - 1]) for rank in _ranks(len(ordered))]
