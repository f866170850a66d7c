"""How much of a regret is luck: the best of several noisy scores is better than the best option is.

Whoever knew the true means of a comparison's options would still lose something against the highest of the scores that
came out. That loss, the floor, is the same for all advisers, as none of them saw the noise: what an adviser loses
beyond it is what it really lost, on the mean. It takes several runs of each option.
"""

from collections.abc import Sequence

import numpy as np

DRAWS, NUM_SPREADS = 2_000, 200
_NOTHING = 1e-12
"""A variance that is rounding."""


def adjusted(scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Each option's mean, of runs `(K, S)` by option and seed with gaps (not a number), and the variance of one run.

    A score is taken as its option's and its seed's together (least squares), so that an option which lacks a seed is
    not held to be better for that.
    """
    options, seeds = np.nonzero(np.isfinite(scores))
    num, count = scores.shape
    design = np.zeros((len(options) + 1, num + count))
    design[np.arange(len(options)), options] = design[np.arange(len(options)), num + seeds] = 1
    design[-1, num:] = 1  # effects of seeds come to zero
    values = np.append(scores[options, seeds], 0.0)
    solution = np.linalg.lstsq(design, values, rcond=None)[0]
    left = values - design @ solution
    freedom = len(options) - np.linalg.matrix_rank(design[:-1])
    return solution[:num], float(left[:-1] @ left[:-1] / freedom) if freedom > 0 else float("nan")


def floor(scores: np.ndarray, seed: int = 0) -> float:
    """What an oracle that knows the true means loses against the highest mean of runs `(K, S)`, as is to be expected.

    True means are drawn from their posterior: normal around a common mean, their spread and that mean being drawn too
    (Gelman et al., Bayesian Data Analysis, section 5.4: a flat prior on both).
    """
    means, variance = adjusted(scores)
    noise, num = variance / np.isfinite(scores).sum(1), len(means)
    rng, usual = np.random.default_rng(seed), float(noise.mean())
    if usual <= _NOTHING:
        return 0.0
    squares = float(((means - means.mean()) ** 2).sum())
    spreads = np.linspace(0, 4 * np.sqrt(squares / (num - 1)) + np.sqrt(usual), NUM_SPREADS)
    total = spreads**2 + usual
    likely = -(num - 1) / 2 * np.log(total) - squares / (2 * total)
    weights = np.exp(likely - likely.max())
    spread = rng.choice(spreads, DRAWS, p=weights / weights.sum())
    common = rng.normal(means.mean(), np.sqrt((spread**2 + usual) / num))
    share = spread[:, None] ** 2 / (spread[:, None] ** 2 + noise)
    centre = share * means + (1 - share) * common[:, None]
    drawn = rng.normal(centre, np.sqrt(share * noise))
    return float(means.max() - drawn.max(1).mean())


def most(scores: np.ndarray) -> float:
    """The same from above: what the option that is best on all seeds but one loses on that one, without gaps `(K, S)`.

    The highest mean less that option's score; the option that is truly best would do better still.
    """
    num = scores.shape[1]
    others = [np.delete(scores, seed, 1).mean(1) for seed in range(num)]
    return float(scores.mean(1).max() - np.mean([scores[np.argmax(one), seed] for seed, one in enumerate(others)]))


def without_gaps(scores: np.ndarray) -> np.ndarray:
    """The options `(K', S)` that were run on every seed."""
    return scores[np.isfinite(scores).all(1)]


__all__: Sequence[str] = ("adjusted", "floor", "most", "without_gaps")
