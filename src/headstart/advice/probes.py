"""Exact linear probes, cross-validated, on nested subsets of what each fold trains on."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headstart.advice.sample import FOLDS, Sample
from headstart.seeding import stream
from headstart.tasks.task import Task
from headstart.training.solver import TRIED, solve

TOLERANCE = 1e-5
"""Of the gradient, per training example: scores no longer change there, and it takes a fraction of the steps."""
MOST_WORK = 3e8
"""Multiplications of one pass over a fold beyond which the penalty is chosen on the first fold alone."""


@dataclass(frozen=True)
class Probed:
    """Scores `(K, P)` by fold and number of training examples, as `on_the_level` has them."""

    sizes: Sequence[int]
    scores: np.ndarray
    is_nested: bool
    """Whether each fold chose its own penalty; else all took the first one's."""
    num_steps: int = 0
    """Of the solver on the largest subset of the first fold, over all penalties that were tried."""


def divided(sample: Sample, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places in the sample that train, that choose the penalty, and that are scored: three folds, one and one."""
    assert sample.folds is not None
    chooses = (fold + 1) % FOLDS
    train = np.flatnonzero((sample.folds != fold) & (sample.folds != chooses))
    return train, np.flatnonzero(sample.folds == chooses), np.flatnonzero(sample.folds == fold)


def num_training(sample: Sample) -> int:
    """Examples that every fold can train on."""
    return min(len(divided(sample, fold)[0]) for fold in range(FOLDS))


def nested(train: np.ndarray, strata: np.ndarray, size: int, fold: int) -> np.ndarray:
    """`size` of the places, such that a smaller number is part of a larger one, and classes come as evenly as they are.

    Examples of one class each are taken in turns, class after class, in a drawn order.
    """
    order = stream(0, "advice curve", fold).permutation(train)
    if strata.ndim > 1:
        return np.sort(order[:size])
    labels = strata[order]
    position = np.empty(len(order))
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        position[here] = (np.arange(len(here)) + 0.5) / len(here)
    return np.sort(order[np.argsort(position, kind="stable")][:size])


def probed(
    features: Tensor, targets: Tensor, num_outputs: int, task: Task, sample: Sample, sizes: Sequence[int]
) -> Probed:
    """The score of an exact linear probe on each fold, trained on subsets of each of `sizes`.

    The penalty is chosen on a fold that is neither trained nor scored on.
    """
    is_nested = num_training(sample) * features.shape[1] * num_outputs <= MOST_WORK
    chosen: dict[int, float] = {}
    num_steps = 0
    scores, whole = np.zeros((FOLDS, len(sizes))), task.fitted(targets.numpy(), num_outputs)
    held_out = torch.zeros(len(sizes), len(sample), num_outputs, dtype=torch.float64)
    for fold in range(FOLDS):
        train, val, test = divided(sample, fold)
        for column, size in enumerate(sizes):
            places = nested(train, sample.strata, size, fold)
            fitted = task.fitted(targets[places].numpy(), num_outputs)
            l2 = "auto" if is_nested or size not in chosen else chosen[size] * _spread(features[places])
            found = solve(features, targets, places, val, num_outputs, l2, fitted, tolerance=TOLERANCE, says=False)  # type: ignore[arg-type]
            if found.best_state is None or found.l2 is None:
                raise RuntimeError("the loss of a linear probe is not finite on these features")
            num_steps = found.num_steps if fold == 0 else num_steps  # sizes ascend
            chosen.setdefault(size, found.l2 / _spread(features[places]))
            weight, bias = found.best_state["weight"], found.best_state["bias"]
            outputs = features[test].float() @ weight.T + bias
            scores[fold, column] = rated(fitted, outputs, targets[test])
            held_out[column, test] = fitted.in_terms_of(whole, outputs.double())
    together = np.array([rated(whole, outputs, targets) for outputs in held_out])
    return Probed(list(sizes), on_the_level(scores, together), is_nested, num_steps)


def on_the_level(scores: np.ndarray, together: "np.ndarray | float") -> np.ndarray:
    """Scores by fold `(K, …)`, moved such that their mean is what all held-out answers score together.

    Of few examples average precision is too high on the mean, as even chance finds one of few quickly, and R² too low,
    as their own mean is nearer to them than that of all: with 60 examples by 20 points.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no fold's score is a number
        return scores + (together - np.nanmean(scores, axis=0))


def rated(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """The measure by which features are rated, more being better; not a number where targets are all the same, say."""
    return float(task.measured(outputs.double(), targets, [task.rated])[task.rated])


def _spread(inputs: Tensor) -> float:
    wide = inputs.double()
    return float((wide - wide.mean(0)).square().sum(1).mean()) or 1.0


__all__ = ["TRIED", "Probed", "divided", "nested", "num_training", "on_the_level", "probed", "rated"]
