"""How often the report's words and intervals are right, in comparisons whose truth is known.

    python scripts/simulate_evidence.py            the table of docs/report.md, some minutes
    python scripts/simulate_evidence.py --rounds 60

Scores are simulated, everything after them is the report's own: design, pairs, tests, words. A line gives what is
promised, what came, and the standard error of the simulation.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path

import numpy as np

from headstart.report.analysis import Analysis, analyse
from headstart.report.answer import answer
from headstart.report.design import read_design
from headstart.report.evidence import crossed_interval, practically_equal, replicates_needed, resampled_interval
from headstart.report.qualifications import with_less_data
from headstart.report.reading import Run, SweepRecords
from headstart.report.statistics import t_interval
from headstart.report.stepdown import step_down

TEST = 472
CLAIMS = (" is better than ", " are better than ", " is the best of ", " overtakes ", " worse: ", " worse. ")
"""Words by which the answer says that one does better than another."""


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


def sweep(
    scores: np.ndarray,
    sizes: Sequence[int | None] = (None,),
    data: Sequence[str] = ("d",),
    shifted: np.ndarray | None = None,
) -> SweepRecords:
    """Runs with scores `(data sets, sizes, contenders, seeds)`, the first contender being feature extraction.

    `shifted` `(shifts, data sets, sizes, contenders, seeds)` are their scores on shifted test sets.
    """
    runs = []
    for place in np.ndindex(scores.shape):
        dataset, size, contender, seed = place
        name = "feature_extraction" if contender == 0 else f"strategy_{contender}"
        settings = {"seed": seed, "split.n_per_class": sizes[size]}
        value = float(scores[place])
        shifts = [] if shifted is None else shifted[(slice(None), *place)].tolist()
        runs.append(
            Run(
                "-".join(map(str, place)), Path(), "s", "completed",
                choices={"strategy": name, "data": data[dataset]}, settings=settings, seed=seed,
                metrics={"val/accuracy": value, "test/accuracy": value,
                         **{f"shift/s{i}/accuracy": score for i, score in enumerate(shifts)}}, dataset=data[dataset],
                fingerprint=data[dataset], split=f"{dataset} {size} {seed}", sizes={"train": 900, "test": TEST},
            )
        )  # fmt: skip
    return SweepRecords("s", [], runs, [], [], {})


def analysed(records: SweepRecords) -> Analysis:
    """The report's analysis of these runs."""
    return analyse(read_design(records))


def claims(records: SweepRecords) -> bool:
    """Whether any sentence of the answer says that one does better than another."""
    words = answer(analysed(records), records)
    points = [text for about, text in words.points if about != "Factors together"]  # which have 5% of their own
    return any(claim in f"{text} " for text in [words.headline, *points] for claim in CLAIMS)


def binomial(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Shares right of a test set, with what a seed's split gives to all contenders."""
    chance = np.clip(0.7 + rng.normal(0, 0.02, (*shape[:-2], 1, shape[-1])), 0.05, 0.95)
    return rng.binomial(TEST, np.broadcast_to(chance, shape)) / TEST


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Scores with a long tail downwards: a run in ten goes badly."""
    return binomial(rng, shape) - 0.1 * (rng.random(shape) < 0.1) * rng.random(shape)


def null_claims(rounds: int, contenders: int, seeds: int, draw: Callable[..., np.ndarray]) -> Line:
    """In how many comparisons of equals the headline calls one better."""
    rng = np.random.default_rng([contenders, seeds, rounds])
    false = 0
    for _ in range(rounds):
        false += claims(sweep(draw(rng, (1, 1, contenders, seeds))))
    what = f"any sentence calls one of {contenders} equals better ({seeds} seeds, {draw.__name__} scores)"
    return Line(what, "at most 5%", false / rounds, rounds)


def null_tables(rounds: int, tables: int, seeds: int) -> Line:
    """In how many reports over many tables anything at all is called better."""
    rng, false = np.random.default_rng(tables), 0
    for _ in range(rounds):
        scores = binomial(rng, (tables, 1, 3, seeds))
        records = sweep(scores, data=[f"d{i}" for i in range(tables)])
        tables_claim = any(d.clear for differences in analysed(records).differences.values() for d in differences)
        false += tables_claim or claims(records)
    return Line(
        f"anything is called better in {tables} tables of 3 equals ({seeds} seeds)",
        "at most 5%",
        false / rounds,
        rounds,
    )


def null_shifts(rounds: int, shifts: int, seeds: int) -> Line:
    """In how many reports of equals any sentence calls one better, on the own test set or on a shifted one."""
    rng, false = np.random.default_rng(shifts), 0
    for _ in range(rounds):
        drawn = binomial(rng, (1 + shifts, 1, 1, 3, seeds))
        false += claims(sweep(drawn[0], shifted=drawn[1:] - 0.2))
    what = f"any sentence calls one of 3 equals better, on the own or {shifts} shifted test sets ({seeds} seeds)"
    return Line(what, "at most 5%", false / rounds, rounds)


def null_data_sets(rounds: int, datasets: int, seeds: int) -> Line:
    """In how many comparisons over data sets whose gaps are drawn around zero one is called better over them."""
    rng, false = np.random.default_rng([datasets, seeds]), 0
    for _ in range(rounds):
        scores = binomial(rng, (datasets, 1, 3, seeds)) + rng.normal(0, 0.03, (datasets, 1, 3, 1))
        found = analysed(sweep(scores, data=[f"d{i}" for i in range(datasets)]))
        assert found.across is not None
        false += any(d.clear for d in found.across.differences)
    what = f"one of 3 is called better over {datasets} data sets on which gaps vary around zero ({seeds} seeds)"
    return Line(what, "at most 5%", false / rounds, rounds)


def null_crossovers(rounds: int, seeds: int) -> Line:
    """In how many comparisons of equals at five sizes a crossover is claimed."""
    rng, false, sizes = np.random.default_rng(seeds), 0, (5, 10, 20, 40, 80)
    for _ in range(rounds):
        growth = np.array([0.06 * log(n / 5) for n in sizes])[None, :, None, None]
        found = analysed(sweep(binomial(rng, (1, 5, 3, seeds)) - 0.2 + growth, sizes))
        false += " overtakes " in (with_less_data(found, "d") or "")
    return Line(
        f"a crossover is claimed among 3 equals at 5 sizes ({seeds} seeds)", "at most 5%", false / rounds, rounds
    )


def equal_claims(rounds: int, seeds: int) -> Line:
    """How often two that differ by just the margin are called practically equal."""
    rng = np.random.default_rng(seeds)
    hits = sum(practically_equal(rng.normal(0.01, 0.006, seeds), 0.01) for _ in range(rounds))
    what = f"two that differ by the margin are called practically equal ({seeds} seeds)"
    return Line(what, "at most 5%", hits / rounds, rounds)


def power(rounds: int, contenders: int, seeds: int) -> Line:
    """How often the best of several, 3 points ahead, is told apart from the next."""
    rng, hits = np.random.default_rng(contenders), 0
    first, second = np.triu_indices(contenders, 1)
    for _ in range(rounds):
        scores = rng.normal(0, 0.012, (contenders, seeds))
        scores[0] += 0.03
        hits += bool(step_down(scores[first] - scores[second])[0] <= 0.05)
    return Line(
        f"one of {contenders} that is 3 points ahead is told from the next ({seeds} seeds)", "–", hits / rounds, rounds
    )


def settling(rounds: int, std: float, difference: float) -> Line:
    """How often the number of seeds that the report asks for shows the difference that it names."""
    needed = replicates_needed(std, difference)
    assert needed is not None
    rng = np.random.default_rng(needed)
    hits = sum(step_down(rng.normal(difference, std, (1, needed)))[0] <= 0.05 for _ in range(rounds))
    what = f"the seeds asked for ({needed}) show a difference of {difference / std:.2g} standard deviations"
    return Line(what, "80%", hits / rounds, rounds)


def seeds_coverage(rounds: int, seeds: int) -> Line:
    """On the same data: the interval over seeds holds the mean over all seeds."""
    rng, hits = np.random.default_rng(seeds), 0
    for _ in range(rounds):
        interval = t_interval(rng.normal(0.02, 0.01, seeds))
        hits += interval.low <= 0.02 <= interval.high
    return Line(f'"on other seeds of these data" holds the truth ({seeds} seeds)', "95%", hits / rounds, rounds)


def pool_coverage(rounds: int, seeds: int, training: float) -> Line:
    """On other examples, one pool split anew by each seed: 1,500 examples drawn from endlessly many, 30% for the test.

    `training` is the standard deviation that a seed's training adds, 0.03 being that of the test set's examples.
    """
    rng, hits, pool, share = np.random.default_rng([seeds, int(1e4 * training)]), 0, 1500, 0.3
    test = int(pool * share)
    for _ in range(rounds):
        gaps = rng.choice([-1.0, 0.0, 1.0], pool, p=[0.14, 0.70, 0.16])  # who is right where: +2 points in the long run
        means = [gaps[rng.permutation(pool)[:test]].mean() + rng.normal(0, training) for _ in range(seeds)]
        interval = resampled_interval(means, share / (1 - share))
        hits += interval.low <= 0.02 <= interval.high
    what = f'"on other examples", a pool split anew, holds the truth ({seeds} seeds'
    what += f", {100 * training:g} points by training)"
    return Line(what, "95%", hits / rounds, rounds)


def fixed_coverage(rounds: int, seeds: int) -> Line:
    """On other examples, one fixed test set: examples and seeds both bring their own, and both together."""
    rng, hits = np.random.default_rng(seeds), 0
    for _ in range(rounds):
        chance = np.clip(rng.normal(0.0, 0.35, TEST)[None, :] + rng.normal(0.02, 0.015, seeds)[:, None], -1, 1)
        gaps = np.where(rng.random((seeds, TEST)) < np.abs(chance), np.sign(chance), 0.0)
        interval = crossed_interval(gaps)
        hits += interval.low <= FIXED_TRUTH <= interval.high
    return Line(f'"on other examples", one test set, holds the truth ({seeds} seeds)', "95%", hits / rounds, rounds)


def _fixed_truth() -> float:
    rng = np.random.default_rng(0)
    return float(np.clip(rng.normal(0.0, 0.35, 4_000_000) + rng.normal(0.02, 0.015, 4_000_000), -1, 1).mean())


FIXED_TRUTH = _fixed_truth()


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


def table(rounds: int) -> Iterator[Line]:
    """All lines, each over `rounds` simulated comparisons; those that cost little over ten times as many."""
    for contenders in (2, 3, 6, 12, 20):
        yield null_claims(rounds, contenders, 6, binomial)
    for seeds in (5, 8, 15):
        yield null_claims(rounds, 3, seeds, binomial)
    for contenders in (3, 12):
        yield null_claims(rounds, contenders, 8, skewed)
    for tables in (2, 10):
        yield null_tables(max(20, rounds // 2), tables, 6)
    for shifts in (1, 4):
        yield null_shifts(rounds, shifts, 6)
    for seeds in (2, 6):
        yield null_data_sets(rounds, 8, seeds)
    yield null_crossovers(rounds, 6)
    yield null_crossovers(rounds, 10)
    for seeds in (3, 6, 10):
        yield equal_claims(10 * rounds, seeds)
    for contenders in (2, 3, 6, 12):
        yield power(rounds, contenders, 6)
    for effect in (1.5, 1.0, 0.5):
        yield settling(rounds, 0.01, 0.01 * effect)
    for seeds in (3, 5, 10):
        yield seeds_coverage(10 * rounds, seeds)
    for seeds, training in ((3, 0.0), (5, 0.0), (10, 0.0), (5, 0.015), (10, 0.015)):
        yield pool_coverage(4 * rounds, seeds, training)
    for seeds in (3, 5, 10):
        yield fixed_coverage(4 * rounds, seeds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    print("| what | promised | measured | simulated |\n|---|---|---:|---:|")
    for line in table(rounds):
        print(line.text(), flush=True)
    for contenders in (3, 12):
        chosen, fresh, error = selection_bias(10 * rounds, contenders, 6)
        print(
            f"The best of {contenders} equals is {chosen:.2f} points too high on the 6 seeds that it was chosen on, "
            f"{fresh:.2f} ± {error:.2f} on fresh ones."
        )


if __name__ == "__main__":
    main()
