"""Metrics by name: how they are written, which way is better, and which epoch is best by one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np

SMALLER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "perplexity", "calibration_error", "ece")
SHARES = (
    "accuracy",
    "f1",
    "auroc",
    "precision",
    "recall",
    "specificity",
    "average_precision",
    "map",
    "exact_match",
    "share",
)
"""Endings of the names of metrics that are shares of 1, written as percentages."""
WORDS = {"f1": "F1", "auroc": "AUROC", "rmse": "RMSE", "mae": "MAE", "mse": "MSE", "r2": "R²", "pearson": "Pearson's r",
         "spearman": "Spearman's ρ"}  # fmt: skip
"""Words of a metric's name that are not written as they stand."""


def mode(metric: str) -> Literal["max", "min"]:
    """Whether the largest or the smallest value is the best."""
    return "min" if _is_one_of(metric, SMALLER_IS_BETTER) else "max"


def sign(metric: str) -> int:
    """1 where more is better, -1 where less is: scores are values times this."""
    return 1 if mode(metric) == "max" else -1


def is_share(metric: str) -> bool:
    """Whether it is a share of 1, written as a percentage."""
    return _is_one_of(metric, SHARES)


def bounds(metric: str) -> tuple[float, float]:
    """The least and the most that it can be."""
    if is_share(metric):
        return 0.0, 1.0
    if _is_one_of(metric, SMALLER_IS_BETTER):
        return 0.0, inf
    if _is_one_of(metric, ("pearson", "spearman", "kappa")):
        return -1.0, 1.0
    return -inf, 1.0 if _is_one_of(metric, ("r2",)) else inf


def counts_right(metric: str) -> bool:
    """Whether it is the share of examples that were answered rightly."""
    return metric.rpartition("/")[2] in ("accuracy", "exact_match")


def chance(metric: str, num_classes: int | None) -> float | None:
    """What one and the same answer scores whatever the data, where the metric alone says so."""
    name = metric.rpartition("/")[2]
    if name == "balanced_accuracy" and num_classes:
        return 1 / num_classes
    return 0.5 if name == "auroc" else None


def title(metric: str) -> str:
    """The name in plain words: `balanced accuracy` for `val/balanced_accuracy`."""
    return " ".join(WORDS.get(word, word) for word in metric.rpartition("/")[2].split("_"))


def text(metric: str, value: float) -> str:
    """A value as the reader sees it: `84.2%`, or `0.431` for what is no share."""
    return f"{value:.1%}" if is_share(metric) else f"{value:.3f}"


def shown(metric: str, value: float) -> str:
    """A value with its name, which accuracy goes without: `val 89.1%`, `val balanced accuracy 61.0%`."""
    part, _, name = metric.rpartition("/")
    return f"{part} {text(metric, value)}" if name == "accuracy" else f"{part} {title(metric)} {text(metric, value)}"


def named(metric: str, value: float) -> str:
    """A value with its name after it, which accuracy goes without: `89.1%`, `61.0% balanced accuracy`."""
    name = metric.rpartition("/")[2]
    return text(metric, value) if name == "accuracy" else f"{text(metric, value)} {title(metric)}"


@dataclass
class Watch:
    """Follows a metric from epoch to epoch: the best so far, and for how many epochs it has not been beaten.

    Every choice by a metric is made here: the epoch that is selected, the end of training, plateaus that thaw.
    """

    metric: str
    min_delta: float = 0.0
    """By how much more than this a value must be better."""
    best: float = -inf
    """The best score so far: a value, or its negative where less is better."""
    waited: int = 0
    """Epochs since."""

    def see(self, value: float) -> bool:
        """Take note of an epoch's value; whether it is the best so far. One that is not a number never is."""
        score = sign(self.metric) * value
        is_best = score > self.best + self.min_delta
        self.best, self.waited = (score, 0) if is_best else (self.best, self.waited + 1)
        return is_best


def best_epoch(rows: Sequence[Mapping[str, Any]], monitor: str) -> int:
    """The place of the row that is best by `monitor`, the earliest of equals."""
    watch, best = Watch(monitor), 0
    for place, row in enumerate(rows):
        if watch.see(row[monitor]):
            best = place
    return best


def counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Of each class the examples `(..., 3, C)` that were recognised, predicted and there at all.

    `labels` are `(N,)`, `predicted` `(..., N)`.
    """
    rows = predicted.reshape(-1, len(labels))
    places = np.arange(len(rows))[:, None] * num_classes
    shape = (len(rows), num_classes)

    def count(which: np.ndarray) -> np.ndarray:
        return np.bincount(which.ravel(), minlength=len(rows) * num_classes).reshape(shape)

    found = [
        count((rows + places)[rows == labels]),
        count(rows + places),
        np.broadcast_to(np.bincount(labels, minlength=num_classes), shape),
    ]
    return np.stack(found, axis=1).reshape(*predicted.shape[:-1], 3, num_classes)


def of_classes(counted: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics `(...)` in which classes weigh the same however many examples they have, from `counts` `(..., 3, C)`.

    `balanced_accuracy` is the mean recall of the classes that there are examples of, `macro_f1` the mean F1 of those
    that there are examples of or that were predicted; as in scikit-learn.
    """
    right, predicted, present = np.moveaxis(counted, -2, 0)
    recall = right / np.maximum(present, 1)
    f1 = 2 * right / np.maximum(predicted + present, 1)
    return {
        "balanced_accuracy": _sum(recall) / (present > 0).sum(-1),
        "macro_f1": _sum(f1) / (predicted + present > 0).sum(-1),
    }


def _sum(values: np.ndarray) -> np.ndarray:
    """Over the last axis from first to last, so that a row's sum does not depend on how many rows there are."""
    return values.cumsum(-1)[..., -1]


def _is_one_of(metric: str, names: Sequence[str]) -> bool:
    last = metric.rpartition("/")[2]
    return any(last == name or last.endswith(f"_{name}") for name in names)
