"""Judges advice by comparisons that were recorded, beside rules of thumb, and writes what advice goes by from then on.

    python scripts/judge_advice.py                   the table
    python scripts/judge_advice.py --write           also src/headstart/advice/rule.json

Reads `scripts/comparisons/` (see `record_comparisons.py`). Gains over the probe are fitted on the other data sets alone
(all sizes of a data set are left out together), so that advice is judged on data that it knows nothing of.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from headstart.advice.rule import FILE, PROBE, Rule, fitted
from headstart.record.writing import write_json
from headstart.report.statistics import t_interval

PLACE = Path(__file__).parent / "comparisons"
FLAT = 1e6
"""Shrinkage at which a gain depends on nothing: the mean."""
TUNING = ("fine_tune", "lp_ft", "lora")
AHEAD = 100.0
"""Beyond all scores."""
OptionKey = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """A data set at a size: what its options scored, what they took, and what was measured before."""

    problem: str
    size: int
    scores: Mapping[OptionKey, float]
    """Test scores by backbone and contender, means over seeds."""
    seconds: float
    measured: Mapping[str, Mapping[str, float]]
    """By backbone."""

    @property
    def per_class(self) -> float:
        one = next(iter(self.measured.values()))
        return one["num_train"] / one["num_classes"]

    @property
    def largest(self) -> str:
        return max(self.measured, key=lambda name: self.measured[name]["num_parameters"])

    def regret(self, option: OptionKey) -> float:
        """Points of the test score that are lost against the best option."""
        return 100 * (max(self.scores.values()) - self.scores[option])


def read() -> list[Comparison]:
    """Those in which every contender was run."""
    with (PLACE / "runs.csv").open(encoding="utf8", newline="") as file:
        runs = list(csv.DictReader(file))
    with (PLACE / "measured.csv").open(encoding="utf8", newline="") as file:
        measured = list(csv.DictReader(file))
    texts = ("problem", "size", "backbone", "measure")
    known: dict[tuple[str, str], dict[str, dict[str, float]]] = defaultdict(dict)
    for row in measured:
        known[row["problem"], row["size"]][row["backbone"]] = {k: float(v) for k, v in row.items() if k not in texts}
    found = []
    for (problem, size), backbones in known.items():
        mine = [
            row for row in runs if (row["problem"], row["size"]) == (problem, size) and row["backbone"] in backbones
        ]
        tests: dict[OptionKey, list[float]] = defaultdict(list)
        for row in mine:
            tests[row["backbone"], row["contender"]].append(float(row["test"]))
        scores = {key: fmean(values) for key, values in tests.items()}
        whole = {name for name in backbones if all((name, one) in scores for one in (PROBE, *TUNING))}
        scores = {key: score for key, score in scores.items() if key[0] in whole}
        if scores:
            seconds = sum(float(row["seconds"]) for row in mine)
            kept = {name: one for name, one in backbones.items() if name in whole}
            found.append(Comparison(problem, int(size), scores, seconds, kept))
    return found


def rule_of(comparisons: Sequence[Comparison], shrinkage: float = 1.0) -> Rule:
    """Gains over the probe as those comparisons have them."""
    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for one in comparisons:
        for (backbone, contender), score in one.scores.items():
            if contender != PROBE:
                gain = score - one.scores[backbone, PROBE]
                points[contender].append((one.per_class, one.measured[backbone]["foretold"], gain))
    return Rule({name: fitted(known, shrinkage) for name, known in sorted(points.items())}, None, {})


@dataclass(frozen=True)
class Told:
    """An option's score as it was foretold, with its interval."""

    score: float
    low: float
    high: float


def foretold(one: Comparison, rule: Rule) -> dict[OptionKey, Told]:
    """As `headstart.advice.choice` has it."""
    found = {}
    for backbone, contender in one.scores:
        known = one.measured[backbone]
        gain = rule.gain(contender, one.per_class, known["foretold"])
        assert gain is not None
        below = np.hypot(known["foretold"] - known["low"], gain.mean - gain.low)
        above = np.hypot(known["high"] - known["foretold"], gain.high - gain.mean)
        score = known["foretold"] + gain.mean
        found[backbone, contender] = Told(score, score - float(below), score + float(above))
    return found


Adviser = Callable[[Comparison, Sequence[Comparison]], Mapping[OptionKey, float]]
"""Scores of options, the highest being advised, from a comparison's measurements and other data sets' comparisons."""


def by_rule(shrinkage: float, first: str | None = None) -> Adviser:
    """`first`: a strategy that comes first wherever it is foretold to gain anything, as in advice."""

    def advise(one: Comparison, others: Sequence[Comparison]) -> Mapping[OptionKey, float]:
        told = foretold(one, rule_of(others, shrinkage))
        gains = {key: each.score > one.measured[key[0]]["foretold"] for key, each in told.items()}
        return {key: each.score + AHEAD * (key[1] == first and gains[key]) for key, each in told.items()}

    return advise


def fixed(strategy: str, backbone: str = "num_parameters") -> Adviser:
    """One strategy always, of the backbone that is best by a measurement; the others by it too."""

    def advise(one: Comparison, others: Sequence[Comparison]) -> Mapping[OptionKey, float]:
        most = max(known[backbone] for known in one.measured.values())
        least = min(known[backbone] for known in one.measured.values())
        place = {name: (known[backbone] - least) / (most - least or 1) for name, known in one.measured.items()}
        return {key: place[key[0]] + 2 * (key[1] == strategy) for key in one.scores}

    return advise


ADVISERS: Mapping[str, Adviser] = {
    "advice: gains fitted": by_rule(1.0),
    "advice: mean gains": by_rule(FLAT),
    **{f"advice: gains fitted, {name} first": by_rule(1.0, name) for name in TUNING},
    "always fine_tune, the largest": fixed("fine_tune"),
    "always lp_ft, the largest": fixed("lp_ft"),
    "always lora, the largest": fixed("lora"),
    "always the probe, the largest": fixed(PROBE),
    "the probe of the best by neighbours": fixed(PROBE, "neighbours"),
    "the probe of the best by LogME": fixed(PROBE, "log_me"),
    "the probe of the best by H-score": fixed(PROBE, "h_score"),
}
FIRST = {f"advice: gains fitted, {name} first": name for name in TUNING}


@dataclass(frozen=True)
class Verdict:
    """How an adviser did over all comparisons."""

    tau: float
    regret: float
    worst: float
    within: int
    """Comparisons in which it lost at most a point."""
    regrets: Sequence[float] = ()
    """Of each comparison."""


def judge(adviser: Adviser, comparisons: Sequence[Comparison]) -> Verdict:
    from scipy.stats import weightedtau

    taus: list[float] = []
    regrets: list[float] = []
    for one in comparisons:
        said = adviser(one, [other for other in comparisons if other.problem != one.problem])
        keys = list(one.scores)
        best = max(keys, key=lambda key: said[key])
        regrets.append(one.regret(best))
        taus.append(float(weightedtau([said[key] for key in keys], [one.scores[key] for key in keys]).statistic))
    within = sum(regret <= 1 for regret in regrets)
    known = [tau for tau in taus if tau == tau]  # options that are all held alike have no order
    return Verdict(fmean(known) if known else float("nan"), fmean(regrets), max(regrets), within, regrets)


def by_chance(comparisons: Sequence[Comparison]) -> Verdict:
    """An option drawn by lot."""
    regrets = [[one.regret(key) for key in one.scores] for one in comparisons]
    means = [fmean(each) for each in regrets]
    within = round(sum(fmean([regret <= 1 for regret in each]) for each in regrets))
    return Verdict(0.0, fmean(means), max(means), within)


def coverage(comparisons: Sequence[Comparison], shrinkage: float) -> tuple[float, float]:
    """Shares of probes, and of all options, whose score lies in the interval that was foretold."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for one in comparisons:
        rule = rule_of([other for other in comparisons if other.problem != one.problem], shrinkage)
        for key, told in foretold(one, rule).items():
            hits[key[1] == PROBE].append(told.low <= one.scores[key] <= told.high)
    return fmean(hits[True]), fmean([*hits[True], *hits[False]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write what advice goes by")
    given = parser.parse_args()
    comparisons = read()
    verdicts = {name: judge(adviser, comparisons) for name, adviser in ADVISERS.items()}
    verdicts["an option by lot"] = by_chance(comparisons)
    problems = {one.problem for one in comparisons}
    options = sum(len(one.scores) for one in comparisons)
    print(f"{len(comparisons)} comparisons of {len(problems)} data sets, {options} options\n")
    print("| | weighted tau | regret@1, points | worst | within a point |\n|---|---:|---:|---:|---:|")
    for name, one in verdicts.items():
        print(f"| {name} | {one.tau:.2f} | {one.regret:.2f} | {one.worst:.1f} | {one.within} of {len(comparisons)} |")
    advice, rival = used(verdicts)
    print(f"\n{apart(advice, rival, comparisons, verdicts)}")
    shares = [sum(known["seconds"] for known in one.measured.values()) / one.seconds for one in comparisons]
    for name, shrinkage in (("fitted", 1.0), ("mean", FLAT)):
        probes, everything = coverage(comparisons, shrinkage)
        print(f"\nCoverage, gains {name}: {probes:.0%} of probes, {everything:.0%} of all options")
    print(
        f"\nCost of neighbours, probes and scores: {np.median(shares):.1%} of the comparison's training seconds "
        "(median); features are those of the comparison's probes, and a few steps of each strategy come on top"
    )
    if given.write:
        write(comparisons, verdicts)


def used(verdicts: Mapping[str, Verdict]) -> tuple[str, str]:
    """The adviser that lost least among those that advice can go by, and the best rule of thumb."""
    advisers = [name for name in verdicts if name.startswith("advice")]
    rivals = [name for name in verdicts if not name.startswith("advice")]
    winner = min(advisers, key=lambda name: verdicts[name].regret)
    return winner, min(rivals, key=lambda name: verdicts[name].regret)


def apart(first: str, second: str, comparisons: Sequence[Comparison], verdicts: Mapping[str, Verdict]) -> str:
    """How much more or less than the first the second lost, the mean over data sets, with a t-interval over these."""
    gaps = defaultdict(list)
    for one, mine, theirs in zip(comparisons, verdicts[first].regrets, verdicts[second].regrets, strict=True):
        gaps[one.problem].append(theirs - mine)
    found = t_interval([fmean(each) for each in gaps.values()])
    told = "" if found.excludes_zero else ": not told apart"
    word, mean, low, high = "more", found.mean, found.low, found.high
    if mean < 0:
        word, mean, low, high = "less", -mean, -high, -low
    return f"{second} lost {mean:.1f} points {word} than {first} ({low:.1f} to {high:.1f}){told}"


def write(comparisons: Sequence[Comparison], verdicts: Mapping[str, Verdict]) -> None:
    """The rule of the adviser that lost least."""
    winner, rival = used(verdicts)
    verdict = verdicts[winner]
    rule = rule_of(comparisons, FLAT if winner.endswith("mean gains") else 1.0)
    fits = {name: {"weights": [round(w, 5) for w in fit.weights], "spread": round(fit.spread, 5), "num": fit.num}
            for name, fit in rule.fits.items()}  # fmt: skip
    record = {
        "comparisons": len(comparisons),
        "data_sets": len({one.problem for one in comparisons}),
        "within_a_point": verdict.within,
        "regret": round(verdict.regret, 2),
        "rival": rival,
        "rival_regret": round(verdicts[rival].regret, 2),
        "told_apart": not apart(winner, rival, comparisons, verdicts).endswith("not told apart"),
        "rule": winner,
        "most_per_class": max(one.per_class for one in comparisons),
    }
    write_json(FILE, {"first": FIRST.get(winner), "fits": fits, "record": record})
    print(f"\nWritten: {FILE} ({winner})")


if __name__ == "__main__":
    main()
