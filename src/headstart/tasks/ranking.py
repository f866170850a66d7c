"""Metrics of rankings, for many columns at once; each as in scikit-learn, ties included."""

import numpy as np


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`(L,)`, of scores and 0 or 1 `(N, L)`: the mean precision at each positive; nan for a column without any."""
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked, hits = np.take_along_axis(scores, order, 0), np.take_along_axis(truth.astype(bool), order, 0)
    places = np.arange(len(scores))[:, None]
    ends = np.where(np.vstack([ranked[:-1] != ranked[1:], np.ones_like(hits[:1])]), places, len(scores))
    last = np.minimum.accumulate(ends[::-1], axis=0)[::-1]  # of those that tie with each
    precision = hits.cumsum(0) / (places + 1)
    with np.errstate(invalid="ignore"):
        return np.where(hits, np.take_along_axis(precision, last, 0), 0).sum(0) / hits.sum(0)


def auroc(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`(L,)`, of scores and 0 or 1 `(N, L)`: how often a positive ranks above a negative; nan without either."""
    from scipy.stats import rankdata

    positive = truth.astype(bool)
    num = positive.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks = np.where(positive, rankdata(scores, axis=0), 0).sum(0)
        return (ranks - num * (num + 1) / 2) / (num * (len(scores) - num))
