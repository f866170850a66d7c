"""Which finalist is chosen, by scores on several seeds: the default, unless another is clearly ahead of it."""

from collections.abc import Mapping
from statistics import fmean, stdev

Scores = Mapping[int, Mapping[int, float]]
"""On val, by the number of a trial and by seed."""

FEWEST_SEEDS = 4
"""On which finalists were measured before one that is clearly behind is measured no more."""
BEHIND = 0.05
"""Level of the test, on one side, by which a finalist is clearly behind another."""


def clearly_behind(scores: Scores, is_maximized: bool) -> set[int]:
    """Who is out of the race, by scores by seed of each: behind another on the same seeds, of which there are at least
    `FEWEST_SEEDS`, by a paired t-test at 5% on one side. Never 0, the default, which all are held against."""
    from scipy.stats import t

    sign = 1 if is_maximized else -1
    out = set()
    for number, own in scores.items():
        for rival in scores.values():
            ahead = [sign * (rival[seed] - own[seed]) for seed in own.keys() & rival.keys()]
            if number and len(ahead) >= FEWEST_SEEDS and fmean(ahead) > 0:
                error = stdev(ahead) / len(ahead) ** 0.5
                if fmean(ahead) > error * t.ppf(1 - BEHIND, len(ahead) - 1):
                    out.add(number)
    return out


def winner(scores: Scores, own_seed: int, is_maximized: bool, level: float, num_others: int) -> int | None:
    """The finalist that is chosen, all having a score on every seed; `None` if there is none.

    The seed of the search, `own_seed`, chose the finalists and so speaks too well of them: the best other takes the
    default's place if it is ahead on the seeds that came after, by a t-test on one side whose noise is what is left of
    all finalists' scores without their means and those of the seeds (a two-way layout). `level` is how often that may
    happen by chance if none of `num_others` is better, among which it is shared out (Bonferroni). At 1, or with fewer
    than two such seeds, which tell nothing of noise, the best mean is chosen.
    """
    sign = 1 if is_maximized else -1
    seeds = sorted(set.intersection(*(set(own) for own in scores.values()))) if scores else []
    later = [seed for seed in seeds if seed != own_seed]
    is_tested = level < 1 and 0 in scores and len(scores) > 1 and len(later) > 1
    means = {n: sign * fmean(own[seed] for seed in (later if is_tested else seeds)) for n, own in scores.items()}
    best = max(means, key=lambda number: (means[number], -number), default=None)
    if not is_tested or not best:
        return best
    return best if means[best] - means[0] > clear_lead(scores, later, level / max(1, num_others)) else 0


def clear_lead(scores: Scores, seeds: list[int], level: float) -> float:
    """How far a mean over `seeds` must be ahead of the default's to be told from it."""
    from scipy.stats import t

    skill = {number: fmean(own[seed] for seed in seeds) for number, own in scores.items()}
    luck = {seed: fmean(own[seed] for own in scores.values()) for seed in seeds}
    grand, freedom = fmean(luck.values()), (len(scores) - 1) * (len(seeds) - 1)
    rest = [own[seed] - skill[number] - luck[seed] + grand for number, own in scores.items() for seed in seeds]
    error = (sum(one * one for one in rest) / freedom * 2 / len(seeds)) ** 0.5
    return float(error * t.ppf(1 - level, freedom))
