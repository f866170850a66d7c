"""How often intervals hold the truth, how often what is there is shown, and whether estimates are right on average."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from headstart.report import certainty
from headstart.report.analysis import MARGIN
from headstart.report.evidence import (
    answers_interval,
    detectable,
    practically_equal,
    replicates_needed,
    resampled_interval,
)
from headstart.report.statistics import compare_examples, interquartile_interval, interquartile_mean, t_interval
from headstart.report.stepdown import step_down

TEST = 472
MOST_SEEDS = 300
"""Seeds up to which comparisons are repeated with as many as the report asks for."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    promised: str
    measured: float
    rounds: int

    @property
    def error(self) -> float:
        """Standard error of a measured share."""
        return sqrt(self.measured * (1 - self.measured) / self.rounds)

    def text(self) -> str:
        """As a row in Markdown."""
        return f"| {self.what} | {self.promised} | {self.measured:.1%} ± {self.error:.1%} | {self.rounds:,} |"


def equal_claims(rounds: int, seeds: int) -> Line:
    """How often two that differ by just the margin are called practically equal."""
    rng = np.random.default_rng(seeds)
    hits = sum(practically_equal(rng.normal(MARGIN, 0.006, seeds), MARGIN) for _ in range(rounds))
    what = f"two that differ by the margin are called practically equal ({seeds} seeds)"
    return Line(what, "at most 5%", hits / rounds, rounds)


def equal_claims_on_few(rounds: int, seeds: int, examples: int) -> Line:
    """The same of two that differ on just those examples that the margin is made of, by scores on few examples."""
    rng = np.random.default_rng([seeds, examples])
    gaps = rng.binomial(examples, MARGIN, (rounds, seeds)) / examples
    hits = sum(practically_equal(row, MARGIN, num_examples=examples) for row in gaps)
    what = f"two that differ by the margin are called practically equal ({seeds} seeds, {examples} test examples)"
    return Line(what, "at most 5%", hits / rounds, rounds)


def example_claims(rounds: int, accuracy: float, examples: int = TEST) -> list[Line]:
    """Two models that are right as often: McNemar's p below 5%, and the interval over examples holding zero."""
    rng, false, held = np.random.default_rng([int(100 * accuracy), examples]), 0, 0
    for _ in range(rounds):
        found = compare_examples(rng.random(examples) < accuracy, rng.random(examples) < accuracy)
        false += found.p <= 0.05
        held += found.low <= 0 <= found.high
    place = f"of two models that are right on {accuracy:.0%} of {examples}"
    return [
        Line(f"McNemar's p {place} is at most 5%", "at most 5%", false / rounds, rounds),
        Line(f"the interval over examples {place} holds zero", "95%", held / rounds, rounds),
    ]


def power(rounds: int, contenders: int, seeds: int) -> Line:
    """How often the best of several, 3 points ahead, is told apart from the next."""
    rng, hits = np.random.default_rng(contenders), 0
    first, second = np.triu_indices(contenders, 1)
    for _ in range(rounds):
        scores = rng.normal(0, 0.012, (contenders, seeds))
        scores[0] += 0.03
        hits += bool(step_down(scores[first] - scores[second])[0] <= 0.05)
    what = f"one of {contenders} that is 3 points ahead is told from the next ({seeds} seeds)"
    return Line(what, "–", hits / rounds, rounds)


def settling(rounds: int, seeds: int, effect: float) -> Line:
    """How often as many seeds as the report asks for, having seen so many, show the difference that it names."""
    rng, hits = np.random.default_rng([seeds, int(10 * effect)]), 0
    for _ in range(rounds):
        seen = float(rng.normal(0, 1, seeds).std(ddof=1))
        needed = min(MOST_SEEDS, replicates_needed(seen, effect, 1, seeds) or MOST_SEEDS)
        hits += step_down(rng.normal(effect, 1, (1, needed)))[0] <= 0.05
    what = f"the seeds asked for after {seeds} show the difference named, {effect:g} of its standard deviation"
    return Line(what, "80%", hits / rounds, rounds)


def settled(rounds: int, seeds: int, effect: float, contenders: int = 2, tables: int = 1) -> Line:
    """After what cannot be told, as many seeds more as the report asks for: how often the first two are told apart.

    In other `tables` all are equal. What is named is the difference that was seen, or the margin; the true one is
    `effect` standard deviations of it.
    """
    rng, hits, asked, std = np.random.default_rng([seeds, int(10 * effect), contenders, tables]), 0, 0, 0.017
    first, second = np.triu_indices(contenders, 1)
    while asked < rounds:
        draw = np.random.default_rng(rng.integers(1 << 60))
        scores = draw.normal(0, std / sqrt(2), (tables, contenders, MOST_SEEDS))
        scores[0, 0] += effect * std
        pairs = (scores[:, first] - scores[:, second]).reshape(-1, MOST_SEEDS)
        gap = pairs[0, :seeds]
        if step_down(pairs[:, :seeds])[0] <= 0.05:
            continue
        target = max(MARGIN, abs(float(gap.mean())))
        needed = replicates_needed(float(gap.std(ddof=1)), target, tables * (contenders - 1), seeds)
        asked += 1
        hits += step_down(pairs[:, : max(seeds, min(MOST_SEEDS, needed or MOST_SEEDS))])[0] <= 0.05
    what = f"as many more as asked for tell apart what {seeds} seeds could not (2 of {contenders}, {effect:g} standard "
    what += "deviations)" if tables == 1 else f"deviations, {tables} tables)"
    return Line(what, "80%", hits / rounds, rounds)


def detecting(rounds: int, seeds: int) -> Line:
    """How often the difference that the report says so many seeds show is shown by others like them."""
    rng, hits, of_one = np.random.default_rng(seeds), 0, detectable(1.0, seeds, 1, seeds)
    for _ in range(rounds):
        least = of_one * float(rng.normal(0, 1, seeds).std(ddof=1))
        hits += step_down(rng.normal(least, 1, (1, seeds)))[0] <= 0.05
    return Line(f"the difference that {seeds} seeds are said to show is shown", "80%", hits / rounds, rounds)


def seeds_coverage(rounds: int, seeds: int) -> Line:
    """On the same data: the interval over seeds holds the mean over all seeds."""
    rng, hits = np.random.default_rng(seeds), 0
    for _ in range(rounds):
        interval = t_interval(rng.normal(0.02, 0.01, seeds))
        hits += interval.low <= 0.02 <= interval.high
    return Line(f'"on other seeds of these data" holds the truth ({seeds} seeds)', "95%", hits / rounds, rounds)


def pool_coverage(rounds: int, seeds: int, training: float, pool: int = 1500, differ: float = 0.3) -> Line:
    """On other examples, one pool split anew by each seed: examples drawn from endlessly many, 30% for the test.

    The two differ on a share of `differ` of examples, one being right on 2 points more where that share allows it.
    `training` is the standard deviation that a seed's training adds, 0.03 being that of the test set's examples.
    """
    rng, hits, share = np.random.default_rng([seeds, int(1e4 * training), pool, int(1e4 * differ)]), 0, 0.3
    test, truth = int(pool * share), min(0.02, differ / 2)
    chances = [(differ - truth) / 2, 1 - differ, (differ + truth) / 2]  # who is right where
    for _ in range(rounds):
        gaps = rng.choice([-1.0, 0.0, 1.0], pool, p=chances)
        means = [gaps[rng.permutation(pool)[:test]].mean() + rng.normal(0, training) for _ in range(seeds)]
        interval = resampled_interval(means, share / (1 - share), test)
        hits += interval.low <= truth <= interval.high
    what = f'"on other examples", a pool of {pool} split anew, {1 - differ:.0%} alike, holds the truth ({seeds} seeds'
    what += f", {100 * training:g} points by training)"
    return Line(what, "95%", hits / rounds, rounds)


@dataclass(frozen=True)
class Models:
    """Two contenders' models: how hard examples are for both, for each, and what seeds do, all in logits."""

    middle: float
    gap: float
    examples: float = 1.5
    own: float = 0.7
    seeds: float = 0.1
    both: float = 0.3

    def differences(self, rng: np.random.Generator, seeds: int, examples: int) -> np.ndarray:
        """Right minus right `(seeds, examples)`."""
        hard = rng.normal(0, self.examples, examples) + rng.normal(0, self.own, (2, 1, examples))
        luck = rng.normal(0, self.seeds, (2, seeds, 1)) + rng.normal(0, self.both, (2, seeds, examples))
        middle = self.middle + np.array([0.5, -0.5]).reshape(2, 1, 1) * self.gap
        right = rng.random((2, seeds, examples)) < 1 / (1 + np.exp(-(middle + hard + luck)))
        return right[0].astype(float) - right[1]

    def truth(self) -> tuple[float, float]:
        """How often each is right in the long run (Gauss and Hermite's quadrature)."""
        at, weights = np.polynomial.hermite_e.hermegauss(80)
        spread = sqrt(self.examples**2 + self.own**2 + self.seeds**2 + self.both**2)
        ends = [self.middle + side * self.gap + spread * at for side in (0.5, -0.5)]
        first, second = (float(weights @ (1 / (1 + np.exp(-end)))) / float(weights.sum()) for end in ends)
        return first, second


ORDINARY, NEARLY_RIGHT, NEARLY_WRONG = Models(1.0, 0.2), Models(5.0, 0.5), Models(-4.5, 0.4)


def fixed_coverage(rounds: int, models: Models, seeds: int, examples: int, bootstrap: bool = False) -> Line:
    """On other examples, one fixed test set: examples and seeds both bring their own, and both together.

    With `bootstrap`, the two-way bootstrap over examples and seeds in place of the report's formula.
    """
    rng, hits = np.random.default_rng([seeds, examples]), 0
    first, second = models.truth()
    for _ in range(rounds):
        gaps = models.differences(rng, seeds, examples)
        if bootstrap:
            low, high = two_way_bootstrap(gaps, rng)
        else:
            interval = answers_interval(gaps)
            low, high = interval.low, interval.high
        hits += low <= first - second <= high
    how = "a two-way bootstrap" if bootstrap else '"on other examples"'
    what = f"{how}, one test set of {examples}, {first:.0%} right, holds the truth ({seeds} seeds)"
    return Line(what, "–" if bootstrap else "95%", hits / rounds, rounds)


def agreeing_coverage(rounds: int, seeds: int, examples: int, differ: float) -> Line:
    """The same where seeds agree, as heads on frozen features do: on a share of examples one alone is right."""
    rng, hits = np.random.default_rng([seeds, examples, int(1e4 * differ)]), 0
    for _ in range(rounds):
        interval = answers_interval(np.tile(rng.random(examples) < differ, (seeds, 1)))
        hits += interval.low <= differ <= interval.high
    what = f'"on other examples", one test set of {examples}, {seeds} seeds that agree, {differ:.0%} apart, holds the'
    what += " truth"
    return Line(what, "95%", hits / rounds, rounds)


def two_way_bootstrap(gaps: np.ndarray, rng: np.random.Generator, draws: int = 300) -> tuple[float, float]:
    """Ends of 95% of means over drawn seeds and drawn examples of `(seeds, examples)`, both with replacement."""
    seeds, examples = gaps.shape
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    by_example = rng.multinomial(examples, np.full(examples, 1 / examples), draws) / examples
    low, high = np.quantile(((by_seed @ gaps) * by_example).sum(1), [0.025, 0.975])
    return float(low), float(high)


def middle_coverage(rounds: int, datasets: int, seeds: int) -> Line:
    """The interquartile mean over data sets, their means given."""
    rng, hits = np.random.default_rng([datasets, seeds]), 0
    for _ in range(rounds):
        means = rng.normal(0.7, 0.05, (datasets, 1))
        truth = float(interquartile_mean((means + rng.normal(0, 0.012, (datasets, 4000))).ravel()))
        _, low, high = interquartile_interval(list(means + rng.normal(0, 0.012, (datasets, seeds))), 400)
        hits += low <= truth <= high
    return Line(f"the interval of the IQM over {datasets} data sets ({seeds} seeds)", "95%", hits / rounds, rounds)


def selection_bias(rounds: int, contenders: int, seeds: int) -> tuple[float, float, float]:
    """What the best of equals is too high by, on the seeds that it was chosen on and on fresh ones, in points; the
    standard error of the latter."""
    rng = np.random.default_rng(contenders)
    chosen, fresh = [], []
    for _ in range(rounds):
        scores = rng.normal(0, 0.012, (contenders, 2 * seeds))
        best = scores[:, :seeds].mean(1).argmax()
        chosen.append(scores[best, :seeds].mean())
        fresh.append(scores[best, seeds:].mean())
    return 100 * float(np.mean(chosen)), 100 * float(np.mean(fresh)), 100 * float(np.std(fresh)) / sqrt(rounds)


def optimism(rounds: int, settings: int, seeds: int) -> tuple[float, float]:
    """What val scores of the best of equal settings are too high by, and what *Selection* says that they are (val less
    test), both on average and in points."""
    rng, true, said = np.random.default_rng(settings), 0.0, 0.0
    for _ in range(rounds):
        right = rng.normal(0.7, 0.01, (settings, seeds))
        val, test = (rng.binomial(n, right) / n for n in (236, TEST))
        best = val.mean(1).argmax()
        true += float((val - right)[best].mean())
        said += float((val - test)[best].mean())
    return 100 * true / rounds, 100 * said / rounds


def examples_share(rounds: int, seeds: int, std: float) -> tuple[float, float]:
    """Which share of the variance of scores is the choice of test examples, and what *What scores vary with* says, as
    the median."""
    rng, said = np.random.default_rng(seeds), []
    for _ in range(rounds):
        scores = rng.binomial(TEST, np.clip(rng.normal(0.7, std, seeds), 0, 1)) / TEST
        drawn = sqrt(scores.mean() * (1 - scores.mean()) / TEST)
        said.append(certainty.examples_share(drawn, float(scores.std(ddof=1)), seeds))
    drawn = 0.21 / TEST
    return drawn / (drawn + std**2 * (1 - 1 / TEST)), float(np.median(said))


def powers(rounds: int) -> Iterator[Line]:
    """What is called equal, and how often what is there is shown."""
    for seeds in (3, 6, 10):
        yield equal_claims(10 * rounds, seeds)
    for seeds, examples in ((3, 6), (3, 50), (5, 100), (10, 200)):
        yield equal_claims_on_few(10 * rounds, seeds, examples)
    for accuracy in (0.7, 0.95):
        for examples in (6, 20, TEST):
            yield from example_claims(2 * rounds, accuracy, examples)
    for contenders in (2, 3, 6, 12):
        yield power(rounds, contenders, 6)
    for seeds, effect in ((3, 1.0), (6, 1.5), (6, 1.0), (6, 0.5), (10, 0.5)):
        yield settling(rounds, seeds, effect)
    for seeds, effect, contenders in ((3, 1.0, 2), (6, 1.0, 2), (6, 0.6, 2), (6, 1.0, 3), (6, 1.0, 6)):
        yield settled(rounds, seeds, effect, contenders)
    yield settled(rounds, 6, 0.6, 2, tables=5)
    for seeds in (6, 10):
        yield detecting(rounds, seeds)


def coverages(rounds: int) -> Iterator[Line]:
    """How often intervals hold what they are of."""
    for seeds in (3, 5, 10):
        yield seeds_coverage(10 * rounds, seeds)
    for seeds, training in ((3, 0.0), (5, 0.0), (10, 0.0), (5, 0.015), (10, 0.015)):
        yield pool_coverage(4 * rounds, seeds, training)
    for pool, differ in ((40, 0.3), (40, 0.08), (40, 0.02), (300, 0.02)):
        for seeds in (3, 5, 10):
            yield pool_coverage(2 * rounds, seeds, 0.0, pool, differ)
    for models in (ORDINARY, NEARLY_RIGHT, NEARLY_WRONG):
        for examples in (6, 20, 50, 100, 472, 2000):
            for seeds in (3, 5, 10):
                yield fixed_coverage(2 * rounds, models, seeds, examples)
    for examples, differ in ((20, 0.05), (50, 0.02), (100, 0.02), (100, 0.05), (472, 0.02)):
        for seeds in (3, 10):
            yield agreeing_coverage(2 * rounds, seeds, examples, differ)
    for models, examples in ((ORDINARY, 472), (NEARLY_RIGHT, 100)):
        for seeds in (3, 10):
            yield fixed_coverage(rounds, models, seeds, examples, bootstrap=True)
    for datasets, seeds in ((3, 3), (8, 3), (3, 10)):
        yield middle_coverage(rounds, datasets, seeds)


def numbers(rounds: int) -> Iterator[str]:
    """Estimates beside their truth, in sentences."""
    for contenders in (3, 12):
        chosen, fresh, error = selection_bias(10 * rounds, contenders, 6)
        yield (
            f"The best of {contenders} equals is {chosen:.2f} points too high on the 6 seeds that it was chosen on, "
            f"{fresh:.2f} ± {error:.2f} on fresh ones."
        )
    for settings in (3, 12):
        true, said = optimism(10 * rounds, settings, 3)
        yield (
            f"Validation scores of the best of {settings} equal settings are {true:.2f} points too high; val less "
            f"test, which is said, is {said:.2f} on average."
        )
    for seeds in (5, 10):
        true, said = examples_share(4 * rounds, seeds, 0.015)
        yield f"Test examples make {true:.0%} of the variance of scores; what is said of {seeds} seeds is {said:.0%}."
