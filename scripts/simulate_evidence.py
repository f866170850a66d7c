"""How often the report's words and intervals are right, in comparisons whose truth is known.

    python scripts/simulate_evidence.py            the table of docs/report.md, some minutes
    python scripts/simulate_evidence.py --rounds 60

Scores are simulated, everything after them is the report's own: design, pairs, tests, words. A line gives what is
promised, what came, and the standard error of the simulation. Claims of the words stand here, intervals and numbers
in `simulate_intervals.py`.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import log
from pathlib import Path

import numpy as np
from simulate_intervals import Line, coverages, numbers, powers

from headstart.report.analysis import Analysis, analyse
from headstart.report.answer import answer
from headstart.report.design import read_design
from headstart.report.qualifications import together, with_less_data
from headstart.report.reading import Run, SweepRecords

TEST = 472
SIZES = (5, 10, 20, 40, 80)
CLAIMS = re.compile(
    r" (is|are) better (than|on) | is (shown to be )?the best (of|on) | overtakes |: better (with|on) |: worse with "
    r"|; worse with | worse(: |\. )|it is (practically equal on [^;]*)?(better|worse) on |worse on "
)
"""Words by which the answer says that one does better than another."""
OPEN = re.compile(r"whether \S+ or \S+ is better|whether it is worse")
"""Words by which it says that this cannot be told."""
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
PLAIN = "feature_extraction"


def strategies(number: int) -> list[dict[str, str]]:
    """Choices of so many strategies, the first being feature extraction."""
    return [{"strategy": f"strategy_{i}" if i else PLAIN} for i in range(number)]


def sweep(
    scores: np.ndarray,
    sizes: Sequence[int | None] = (None,),
    data: Sequence[str] = ("d",),
    shifted: np.ndarray | None = None,
    contenders: Sequence[Mapping[str, str]] = (),
) -> SweepRecords:
    """Runs with scores `(data sets, sizes, contenders, seeds)`.

    `shifted` `(shifts, data sets, sizes, contenders, seeds)` are their scores on shifted test sets; `contenders` are
    what each chose, else so many strategies.
    """
    runs = []
    contenders = contenders or strategies(scores.shape[2])
    for place in np.ndindex(scores.shape):
        dataset, size, contender, seed = place
        settings = {"seed": seed, "split.n_per_class": sizes[size]}
        value = float(scores[place])
        shifts = [] if shifted is None else shifted[(slice(None), *place)].tolist()
        runs.append(
            Run(
                "-".join(map(str, place)), Path(), "s", "completed",
                choices={**contenders[contender], "data": data[dataset]}, settings=settings, seed=seed,
                metrics={"val/accuracy": value, "test/accuracy": value,
                         **{f"shift/s{i}/accuracy": score for i, score in enumerate(shifts)}}, dataset=data[dataset],
                fingerprint=data[dataset], split=f"{dataset} {size} {seed}", sizes={"train": 900, "test": TEST},
            )
        )  # fmt: skip
    return SweepRecords("s", [], runs, [], [], {})


def analysed(records: SweepRecords) -> Analysis:
    """The report's analysis of these runs."""
    return analyse(read_design(records))


def claiming(text: str) -> bool:
    """Whether a text says that one does better than another."""
    return CLAIMS.search(f"{OPEN.sub('', text)} ") is not None


def claims(records: SweepRecords) -> bool:
    """Whether any sentence of the answer says that one does better than another.

    What is said over data sets has 5% of its own, and so has whether the effect of a factor depends on another.
    """
    found = analysed(records)
    words = answer(found, records)
    over = found.across is not None and found.across.differences[0].clear
    return any(claiming(text) for text in [*([] if over else [words.headline]), *(text for _, text in words.points)])


def binomial(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Shares right of a test set, with what a seed's split gives to all contenders."""
    return counted(rng, np.zeros(shape))


def counted(rng: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    """Shares right of a test set: of 70%, effects `(…, contenders, seeds)`, and what a seed's split gives to all."""
    split = rng.normal(0, 0.02, (*effects.shape[:-2], 1, effects.shape[-1]))
    return rng.binomial(TEST, np.clip(0.7 + split + effects, 0.02, 0.98)) / TEST


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Scores with a long tail downwards: a run in ten goes badly."""
    return gone_badly(rng, binomial(rng, shape))


def gone_badly(rng: np.random.Generator, scores: np.ndarray) -> np.ndarray:
    """The same with a run in ten up to 10 points worse."""
    return scores - 0.1 * (rng.random(scores.shape) < 0.1) * rng.random(scores.shape)


def null_claims(rounds: int, contenders: int, seeds: int, draw: Draw) -> Line:
    """In how many comparisons of equals any sentence calls one better."""
    rng = np.random.default_rng([contenders, seeds, rounds])
    false = sum(claims(sweep(draw(rng, (1, 1, contenders, seeds)))) for _ in range(rounds))
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
    what = f"anything is called better in {tables} tables of 3 equals ({seeds} seeds)"
    return Line(what, "at most 5%", false / rounds, rounds)


def null_shifts(rounds: int, shifts: int, seeds: int) -> Line:
    """In how many reports of equals any sentence calls one better, on the own test set or on a shifted one."""
    rng, false = np.random.default_rng(shifts), 0
    for _ in range(rounds):
        drawn = binomial(rng, (1 + shifts, 1, 1, 3, seeds))
        false += claims(sweep(drawn[0], shifted=drawn[1:] - 0.2))
    what = f"any sentence calls one of 3 equals better, on the own or {shifts} shifted test sets ({seeds} seeds)"
    return Line(what, "at most 5%", false / rounds, rounds)


def null_data_sets(rounds: int, datasets: int, seeds: int) -> list[Line]:
    """Over data sets whose gaps are drawn around zero: how often one is called better over them, and how often
    their ranks differ."""
    rng, false, ranked = np.random.default_rng([datasets, seeds]), 0, 0
    for _ in range(rounds):
        scores = binomial(rng, (datasets, 1, 3, seeds)) + rng.normal(0, 0.03, (datasets, 1, 3, 1))
        found = analysed(sweep(scores, data=[f"d{i}" for i in range(datasets)]))
        assert found.across is not None
        assert found.across.ranks is not None
        false += any(d.clear for d in found.across.differences)
        ranked += found.across.ranks.p <= 0.05
    place = f"over {datasets} data sets on which gaps vary around zero ({seeds} seeds)"
    return [
        Line(f"one of 3 is called better {place}", "at most 5%", false / rounds, rounds),
        Line(f"Friedman's p of the ranks of 3 is at most 5% {place}", "at most 5%", ranked / rounds, rounds),
    ]


def null_sizes(rounds: int, seeds: int) -> list[Line]:
    """In how many comparisons of equals at five sizes anything is claimed, and a crossover."""
    rng, false, crossed = np.random.default_rng(seeds), 0, 0
    growth = np.array([0.06 * log(n / 5) for n in SIZES])[None, :, None, None]
    for _ in range(rounds):
        records = sweep(counted(rng, np.zeros((1, len(SIZES), 3, seeds)) - 0.2 + growth), SIZES)
        false += claims(records)
        crossed += " overtakes " in (with_less_data(analysed(records), "d") or "")
    return [
        Line(f"any sentence calls one of 3 equals better at 5 sizes ({seeds} seeds)", "at most 5%", false / rounds,
             rounds),
        Line(f"a crossover is claimed among 3 equals at 5 sizes ({seeds} seeds)", "at most 5%", crossed / rounds,
             rounds),
    ]  # fmt: skip


def parallel_crossovers(rounds: int, seeds: int, gap: float) -> Line:
    """How often a crossover is claimed where one is ahead by as much at every size."""
    rng, false = np.random.default_rng([seeds, int(1000 * gap)]), 0
    for _ in range(rounds):
        effects = np.zeros((1, len(SIZES), 2, seeds))
        effects[:, :, 1] = gap
        false += " overtakes " in (with_less_data(analysed(sweep(counted(rng, effects), SIZES)), "d") or "")
    what = f"a crossover is claimed where one of 2 is {100 * gap:g} points ahead at 5 sizes ({seeds} seeds)"
    return Line(what, "at most 5%", false / rounds, rounds)


GRIDS: dict[str, tuple[int, int, int, int]] = {
    "strategy and backbone": (1, 1, 3, 2),
    "strategy, backbone and size": (1, 3, 3, 2),
    "strategy and data": (4, 1, 3, 1),
}
"""Data sets, sizes, strategies and backbones of what is simulated of factors."""


def grid(rng: np.random.Generator, name: str, seeds: int, turn: float, badly: bool = False) -> SweepRecords:
    """A comparison over factors whose effects add up; and with `turn`, half that by which strategies change places
    between the first backbone, or data set, and the others."""
    num_data, num_sizes, num_strategies, num_backbones = GRIDS[name]
    kinds = list(product(range(num_strategies), range(num_backbones)))
    effects = np.zeros((num_data, num_sizes, len(kinds), seeds))
    for place, (strategy, backbone) in enumerate(kinds):
        for data, size in product(range(num_data), range(num_sizes)):
            sums = 0.02 * (strategy == 1) + 0.05 * backbone + 0.04 * data + 0.05 * size - 0.1
            side = 1 if (backbone if num_backbones > 1 else min(data, 1)) else -1
            effects[data, size, place] = sums if not turn else side * turn / 2 * (strategy == 1)
    scores = counted(rng, effects)
    contenders = [
        {**strategies(num_strategies)[s], **({"backbone": f"backbone_{b}"} if num_backbones > 1 else {})}
        for s, b in kinds
    ]
    sizes: Sequence[int | None] = (10, 20, 40)[:num_sizes] if num_sizes > 1 else (None,)
    data_names = [f"d{i}" for i in range(num_data)]
    return sweep(gone_badly(rng, scores) if badly else scores, sizes, data_names, contenders=contenders)


def together_words(records: SweepRecords) -> tuple[bool, bool]:
    """Whether *Factors together* says that an effect depends on another factor, and that an order turns."""
    text = together(analysed(records)) or ""
    return " depends on " in text, ", worse with " in text


def null_factors(rounds: int, name: str, seeds: int, badly: bool = False) -> list[Line]:
    """How often words say that effects depend on one another, or that an order turns, where effects add up."""
    rng = np.random.default_rng([len(name), seeds])
    said = np.array([together_words(grid(rng, name, seeds, 0.0, badly)) for _ in range(rounds)])
    place = f"where effects of {name} add up ({seeds} seeds{', skewed' * badly})"
    return [
        Line(f"one effect is said to depend on another factor {place}", "at most 5%", said[:, 0].mean(), rounds),
        Line(f"an order is said to turn {place}", "at most 5%", said[:, 1].mean(), rounds),
    ]


def factors_power(rounds: int, name: str, seeds: int, turn: float) -> list[Line]:
    """How often words say so where two strategies change places."""
    rng = np.random.default_rng([len(name), seeds, int(1000 * turn)])
    said = np.array([together_words(grid(rng, name, seeds, turn)) for _ in range(rounds)])
    other = "backbone" if "backbone" in name else "data set"
    place = f"where a strategy is {50 * turn:g} points ahead with one {other}, behind with another ({seeds} seeds)"
    return [
        Line(f"one effect is said to depend on another factor {place}", "–", said[:, 0].mean(), rounds),
        Line(f"an order is said to turn {place}", "–", said[:, 1].mean(), rounds),
    ]


def equal_words(rounds: int, contenders: int, seeds: int) -> Line:
    """How often words call two equal within the margin, or nearer than it, that are apart by just the margin."""
    rng, false = np.random.default_rng([contenders, seeds]), 0
    for _ in range(rounds):
        scores = rng.normal(0.7, 0.02, (1, 1, 1, seeds)) + rng.normal(0, 0.004, (1, 1, contenders, seeds))
        scores[0, 0, 0] += 0.01
        records = sweep(scores)
        text = " ".join(answer(analysed(records), records).sentences)
        false += " practically equal" in text or "less than the margin" in text
    what = f"the first is called practically equal to any of {contenders - 1}, all behind by the margin ({seeds} seeds)"
    return Line(what, "at most 5%", false / rounds, rounds)


def claim_lines(rounds: int) -> Iterator[Line]:
    """What words claim without there being anything to claim."""
    for contenders in (2, 3, 6, 12, 20):
        yield null_claims(rounds, contenders, 6, binomial)
    for seeds in (5, 8, 15):
        yield null_claims(rounds, 3, seeds, binomial)
    for contenders in (3, 12):
        yield null_claims(rounds, contenders, 8, skewed)
    for tables, times in ((2, 3), (10, 1)):
        yield null_tables(times * rounds, tables, 6)
    for shifts in (1, 4):
        yield null_shifts(rounds, shifts, 6)
    for seeds in (2, 6):
        yield from null_data_sets(rounds, 8, seeds)
    for seeds in (6, 10):
        yield from null_sizes(rounds, seeds)
    yield parallel_crossovers(rounds, 6, 0.03)
    for name in GRIDS:
        yield from null_factors(rounds, name, 7)
    yield from null_factors(rounds, "strategy and backbone", 8, badly=True)
    for seeds in (6, 10):
        for turn in (0.06, 0.12):
            yield from factors_power(rounds, "strategy and backbone", seeds, turn)
    yield from factors_power(rounds, "strategy and data", 6, 0.12)
    for contenders in (2, 4):
        yield equal_words(rounds, contenders, 6)


def table(rounds: int) -> Iterator[Line]:
    """All lines, each over `rounds` simulated comparisons; those that cost little over more."""
    yield from claim_lines(rounds)
    yield from powers(rounds)
    yield from coverages(rounds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    print("| what | promised | measured | simulated |\n|---|---|---:|---:|")
    for line in table(rounds):
        print(line.text(), flush=True)
    for sentence in numbers(rounds):
        print(sentence, flush=True)


if __name__ == "__main__":
    main()
