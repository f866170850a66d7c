"""Scores of features in closed form: how well a linear model of them may tell the targets, nothing being trained."""

from collections.abc import Callable

import numpy as np

MOST_ITERATIONS = 300
TOLERANCE = 1e-7
_NONE = 1e-12
"""Share of the largest below which a direction counts as none."""


def h_score(features: np.ndarray, targets: np.ndarray) -> float:
    """The shrunk H-score (Ibrahim et al. 2022, arXiv:2110.06893, section 3): `tr(Σ_α⁻¹ (1 - α) Σ_z)`.

    `Σ_z` is the covariance of what the targets explain of the features (of class means, for one-hot targets), `Σ_α` the
    features' own, shrunk as Ledoit and Wolf (2004) have it. Without shrinkage it is Pillai's trace.

    Args:
        features: `(n, D)`.
        targets: `(n, O)`: one-hot classes, labels of 0 and 1, or numbers.
    """
    x, y = _centred(features), _centred(targets)
    shrinkage = ledoit_wolf(x)
    covariance = x.T @ x / len(x)
    shrunk = (1 - shrinkage) * covariance
    shrunk[np.diag_indices_from(shrunk)] += shrinkage * np.trace(covariance) / len(covariance)
    return float((1 - shrinkage) * _explained(x, y, shrunk))


def pillai(features: np.ndarray, targets: np.ndarray) -> float:
    """Pillai's trace: the H-score without shrinkage, of more examples than features."""
    x, y = _centred(features), _centred(targets)
    return _explained(x, y, x.T @ x / len(x))


def _explained(x: np.ndarray, y: np.ndarray, covariance: np.ndarray) -> float:
    cross = x.T @ y / len(x)
    inner = cross.T @ np.linalg.solve(covariance, cross)
    return float(np.trace(np.linalg.pinv(y.T @ y / len(y), rcond=1e-10, hermitian=True) @ inner))


def ledoit_wolf(x: np.ndarray) -> float:
    """The share of a multiple of the identity in the best estimate of the covariance of centred `x` `(n, D)`."""
    num, width = x.shape
    squares = x**2
    trace = squares.sum() / num
    gram = x @ x.T if num < width else x.T @ x
    among = float((gram**2).sum()) / num**2  # the sum of squares of the covariance's entries
    of_squares = float((squares.sum(1) ** 2).sum()) / num  # of the means of products
    beta = (of_squares - among) / (width * num)
    delta = (among - trace**2 / width) / width
    return 0.0 if delta <= 0 else float(np.clip(min(beta, delta) / delta, 0.0, 1.0))


def log_me(features: np.ndarray, targets: np.ndarray) -> float:
    """The log of the evidence of a Bayesian linear model, an example, the mean over targets (You et al. 2021,
    arXiv:2102.11005).

    For each target the precisions of weights and noise are those that maximise the evidence, as scikit-learn's
    `BayesianRidge` finds them; features and targets are centred in place of an intercept. Not a number where there are
    as many features as examples: without noise these are fitted exactly, and the evidence has no maximum.
    """
    x, y = _centred(features), _centred(targets)
    if x.shape[1] >= len(x) - 1:
        return float("nan")
    y = y[:, np.ptp(y, axis=0) > 0]
    if not y.shape[1]:
        return float("nan")
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    kept = singular > _NONE * max(singular[0], 1e-300)
    spectrum = singular[kept] ** 2
    projected = (left[:, kept].T @ y) ** 2
    rest = np.maximum((y**2).sum(0) - projected.sum(0), 0.0)
    return float(np.mean([_evidence(spectrum, p, r, *x.shape) for p, r in zip(projected.T, rest, strict=True)]))


def _evidence(spectrum: np.ndarray, projected: np.ndarray, rest: float, num: int, width: int) -> float:
    """The largest evidence of one target, an example: its projections' squares and what no feature explains."""
    total = projected.sum() + rest
    alpha, beta = 1.0, num / total  # of weights, and of noise
    before = -np.inf
    for _ in range(MOST_ITERATIONS):
        ridge = alpha + beta * spectrum
        squared = (beta**2 * spectrum * projected / ridge**2).sum()  # of the weights
        error = max((projected * (alpha / ridge) ** 2).sum() + rest, _NONE * total)
        log_evidence = 0.5 * (
            num * np.log(beta / (2 * np.pi))
            + width * np.log(alpha)
            - beta * error
            - alpha * squared
            - np.log(ridge).sum()
            - (width - len(spectrum)) * np.log(alpha)
        )
        if abs(log_evidence - before) <= TOLERANCE * abs(log_evidence):
            break
        before = log_evidence
        used = (beta * spectrum / ridge).sum()  # effective number of weights
        alpha = used / max(squared, 1e-300)
        beta = max(num - used, _NONE * num) / error
    return float(log_evidence / num)


def jackknifed(
    score: Callable[[np.ndarray, np.ndarray], float], features: np.ndarray, targets: np.ndarray, folds: np.ndarray
) -> tuple[float, np.ndarray]:
    """A score of all examples, and of all but each fold `(K,)`: what its interval comes from."""
    without = [score(features[folds != fold], targets[folds != fold]) for fold in np.unique(folds)]
    return score(features, targets), np.array(without)


def _centred(values: np.ndarray) -> np.ndarray:
    wide = np.asarray(values, dtype=np.float64)
    return wide - wide.mean(0)
