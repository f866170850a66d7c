"""Metrics of rankings, for many columns at once; each as in scikit-learn, ties included."""

import numpy as np


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`(L,)`, of scores and 0 or 1 `(N, L)`: the mean precision at each positive; nan for a column without any."""
    order, (_, last) = _ranked(-scores)
    hits = np.take_along_axis(truth.astype(bool), order, 0)
    precision = hits.cumsum(0) / np.arange(1, 1 + len(scores))[:, None]
    with np.errstate(invalid="ignore"):
        return np.where(hits, np.take_along_axis(precision, last, 0), 0).sum(0) / hits.sum(0)


def auroc(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`(L,)`, of scores and 0 or 1 `(N, L)`: how often a positive ranks above a negative; nan without either."""
    order, (first, last) = _ranked(scores)
    positive = np.take_along_axis(truth.astype(bool), order, 0)
    num = positive.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks = np.where(positive, 1 + (first + last) / 2, 0).sum(0)
        return (ranks - num * (num + 1) / 2) / (num * (len(scores) - num))


def _ranked(values: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The order of each column `(N, L)`, and for each place in it the first and the last place of those that tie."""
    order = np.argsort(values, axis=0, kind="stable")
    ranked, places = np.take_along_axis(values, order, 0), np.arange(len(values))[:, None]
    differs, edge = ranked[1:] != ranked[:-1], np.ones_like(ranked[:1], bool)
    first = np.maximum.accumulate(np.where(np.vstack([edge, differs]), places, 0), axis=0)
    ends = np.where(np.vstack([differs, edge]), places, len(values))
    return order, (first, np.minimum.accumulate(ends[::-1], axis=0)[::-1])
