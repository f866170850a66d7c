"""Judges advice by comparisons that were recorded, beside rules of thumb, and writes what advice goes by from then on.

    python scripts/judge_advice.py                   the table
    python scripts/judge_advice.py --write           also src/headstart/advice/rule.json

Reads `scripts/comparisons/` (see `record_comparisons.py`). Whatever is fitted is fitted on the other data sets alone
(all sizes of a data set, and other labels of the same examples, are left out together), so that advice is judged on
data that it knows nothing of. Which of the
ways of advising is gone by is chosen in the same manner: `advice` in the table goes, on each data set, by the way that
lost least on the others. How much of a regret is luck: see `luck.py`.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import luck
import numpy as np
from record_comparisons import PROBLEMS

from headstart.advice import order
from headstart.advice.next import to_compare
from headstart.advice.order import FORETOLD, LARGEST, LARGEST_OF_EQUALS, WEIGHED, Looked, Order, Prior
from headstart.advice.rule import FILE, PROBE, Recorded, Rule, fitted
from headstart.record.writing import write_json
from headstart.report.statistics import t_interval

PLACE = Path(__file__).parent / "comparisons"
FLAT = 1e6
"""Shrinkage at which a gain depends on nothing: the mean."""
TUNING = ("fine_tune", "lp_ft", "lora")
TEXTS = ("problem", "size", "backbone", "measure", "by_fold")
"""Columns of what was measured that hold no number."""
OptionKey = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """A data set at a size: what its options scored, what they took, and what was measured before."""

    problem: str
    size: int
    scores: Mapping[OptionKey, float]
    """Test scores by backbone and contender, means over seeds, as `luck.adjusted` has them."""
    measured: Mapping[str, Mapping[str, float]]
    """By backbone."""
    by_fold: Mapping[str, np.ndarray]
    """The probe's cross-validated scores `(K,)` by backbone."""
    runs: np.ndarray
    """`(K, S)`, by option, in the order of `scores`, and seed; not a number where there is none."""
    vals: np.ndarray
    """The same on val."""
    costs: Mapping[OptionKey, float]
    """Seconds of each option's run on the first seed."""

    @property
    def modality(self) -> str:
        return PROBLEMS[self.problem].modality

    @property
    def seconds(self) -> float:
        """Of all options on one seed."""
        return sum(self.costs.values())

    @property
    def source(self) -> str:
        return PROBLEMS[self.problem].source

    @property
    def per_class(self) -> float:
        one = next(iter(self.measured.values()))
        return one["num_train"] / one["num_classes"]

    def normed(self, backbone: str) -> bool:
        """Whether it has batch norms."""
        return bool(self.measured[backbone]["batch_norm"])

    @property
    def looked(self) -> list[Looked]:
        return [
            Looked(name, known["num_parameters"], known["foretold"], self.by_fold[name])
            for name, known in self.measured.items()
        ]

    @property
    def is_repeated(self) -> bool:
        """Whether a backbone's options were run on several seeds."""
        return self.runs.shape[1] > 1 and len(luck.without_gaps(self.runs)) > 1

    def selected(self, options: Sequence[OptionKey], seeds: int | None = None) -> OptionKey:
        """The one of `options` that is best on val, on the mean over the first so many seeds."""
        places = [list(self.scores).index(key) for key in options]
        means = luck.adjusted(self.vals[places][:, :seeds])[0]
        return options[int(np.argmax(means))]

    def regret(self, option: OptionKey) -> float:
        """Points of the test score that are lost against the best option."""
        return 100 * (max(self.scores.values()) - self.scores[option])


def read() -> list[Comparison]:
    """Those in which every contender was run; of backbones, those that were run on its seeds."""
    runs, measured = _rows("runs.csv"), _rows("measured.csv")
    found = []
    for problem, size in dict.fromkeys((row["problem"], row["size"]) for row in measured):
        known = {row["backbone"]: row for row in measured if (row["problem"], row["size"]) == (problem, size)}
        mine = [row for row in runs if (row["problem"], row["size"]) == (problem, size) and row["backbone"] in known]
        by_run = {(row["backbone"], row["contender"], row["seed"]): row for row in mine}
        ran = {key[:2] for key in by_run}
        whole = [name for name in known if all((name, one) in ran for one in (PROBE, *TUNING))]
        keys = [key for key in dict.fromkeys((row["backbone"], row["contender"]) for row in mine) if key[0] in whole]
        if not keys:
            continue
        seeds = sorted({seed for *key, seed in by_run if tuple(key) in keys})
        table, vals = (_table(by_run, keys, seeds, column) for column in ("test", "val"))
        means = luck.adjusted(table)[0].tolist()
        values = {name: {k: float(v) for k, v in known[name].items() if k not in TEXTS} for name in whole}
        by_fold = {name: np.array(known[name]["by_fold"].split(), dtype=float) for name in whole}
        first = [row for row in mine if row["seed"] == seeds[0] and row["backbone"] in whole]
        costs = {(row["backbone"], row["contender"]): float(row["seconds"]) for row in first}
        scores = dict(zip(keys, means, strict=True))
        found.append(Comparison(problem, int(size), scores, values, by_fold, table, vals, costs))
    return found


def _table(
    by_run: Mapping[tuple[str, ...], Mapping[str, str]], keys: Sequence[OptionKey], seeds: Sequence[str], column: str
) -> np.ndarray:
    """`(K, S)`, not a number where there was no run."""
    none = {column: "nan"}
    return np.array([[float(by_run.get((*key, seed), none)[column]) for seed in seeds] for key in keys])


def _rows(name: str) -> list[dict[str, str]]:
    with (PLACE / name).open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def rule_of(
    comparisons: Sequence[Comparison], shrinkage: float = 1.0, by_modality: bool = True, by_norm: bool = True
) -> Rule:
    """Gains over the probe as those comparisons have them, and how far their backbones were apart."""
    points: dict[str, list[Recorded]] = defaultdict(list)
    for one in comparisons:
        modality = one.modality if by_modality else ""
        for (backbone, contender), score in one.scores.items():
            if contender != PROBE:
                gain = score - one.scores[backbone, PROBE]
                before = one.per_class, one.measured[backbone]["foretold"], modality
                points[contender].append(Recorded(*before, gain, not by_norm or one.normed(backbone)))
    prior = order.fitted([_by_backbone(one) for one in comparisons])
    fits = {name: fitted(known, shrinkage) for name, known in sorted(points.items())}
    return Rule(fits, Order(prior=prior), {})


def _by_backbone(one: Comparison) -> tuple[list[float], list[float]]:
    """Parameters, and scores, the means over strategies."""
    sizes = [known["num_parameters"] for known in one.measured.values()]
    return sizes, [fmean(score for key, score in one.scores.items() if key[0] == name) for name in one.measured]


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
        gain = rule.gain(contender, one.per_class, known["foretold"], one.modality, one.normed(backbone))
        assert gain is not None
        below = np.hypot(known["foretold"] - known["low"], gain.mean - gain.low)
        above = np.hypot(known["high"] - known["foretold"], gain.high - gain.mean)
        score = known["foretold"] + gain.mean
        found[backbone, contender] = Told(score, score - float(below), score + float(above))
    return found


Adviser = Callable[[Comparison, Sequence[Comparison]], Mapping[OptionKey, float]]
"""Scores of options, the highest being advised, from a comparison's measurements and other data sets' comparisons."""


@dataclass
class ByRule:
    """A way of advising that the program knows: gains and an order, fitted on the others."""

    shrinkage: float = 1.0
    first: str | None = None
    backbones: str = FORETOLD
    by_modality: bool = False
    """Whether gains on pictures, texts and sounds may differ."""
    by_norm: bool = False
    """Whether gains of backbones with batch norms and without may differ."""

    def __call__(self, one: Comparison, others: Sequence[Comparison]) -> Mapping[OptionKey, float]:
        rule = known_rule(others, self.shrinkage, self.by_modality, self.by_norm)
        gains = {}
        for key in one.scores:
            gain = rule.gain(key[1], one.per_class, one.measured[key[0]]["foretold"], one.modality, one.normed(key[0]))
            assert gain is not None
            gains[key] = gain
        return self.order(rule).values(one.looked, gains)

    def order(self, rule: Rule) -> Order:
        return Order(self.first, self.backbones, rule.order.prior)


_RULES: dict[tuple[frozenset[tuple[str, int]], float, bool, bool], Rule] = {}


def known_rule(others: Sequence[Comparison], shrinkage: float, by_modality: bool, by_norm: bool) -> Rule:
    """Fitted once for each set of comparisons."""
    key = frozenset((one.problem, one.size) for one in others), shrinkage, by_modality, by_norm
    if key not in _RULES:
        _RULES[key] = rule_of(others, shrinkage, by_modality, by_norm)
    return _RULES[key]


def fixed(strategy: str, backbone: str = "num_parameters") -> Adviser:
    """One strategy always, of the backbone that is best by a measurement; the others by it too."""

    def advise(one: Comparison, others: Sequence[Comparison]) -> Mapping[OptionKey, float]:
        most = max(known[backbone] for known in one.measured.values())
        least = min(known[backbone] for known in one.measured.values())
        place = {name: (known[backbone] - least) / (most - least or 1) for name, known in one.measured.items()}
        return {key: place[key[0]] + 2 * (key[1] == strategy) for key in one.scores}

    return advise


WAYS: Mapping[str, ByRule] = {
    "gains fitted": ByRule(),
    "mean gains": ByRule(FLAT),
    **{f"gains fitted, {name} first": ByRule(first=name) for name in TUNING},
    "backbones weighed": ByRule(backbones=WEIGHED),
    "backbones weighed, lora first": ByRule(first="lora", backbones=WEIGHED),
    "lora first, the largest that is not told to be worse": ByRule(first="lora", backbones=LARGEST_OF_EQUALS),
    "lora first, the largest": ByRule(first="lora", backbones=LARGEST),
    "gains by modality": ByRule(by_modality=True),
    "gains by modality, lora first": ByRule(first="lora", by_modality=True),
    "gains by modality, the largest that is not told to be worse": ByRule(
        backbones=LARGEST_OF_EQUALS, by_modality=True
    ),
    "gains by modality, lora first, the largest that is not told to be worse": ByRule(
        first="lora", backbones=LARGEST_OF_EQUALS, by_modality=True
    ),
    "gains by modality and norm": ByRule(by_modality=True, by_norm=True),
    "gains by modality and norm, backbones weighed": ByRule(backbones=WEIGHED, by_modality=True, by_norm=True),
    "gains by modality and norm, the largest that is not told to be worse": ByRule(
        backbones=LARGEST_OF_EQUALS, by_modality=True, by_norm=True
    ),
}
"""Those that were tried."""


def chosen(one: Comparison, others: Sequence[Comparison]) -> Mapping[OptionKey, float]:
    """By the way that lost least on the other data sets, each judged without its own."""
    return WAYS[best_way(others)](one, others)


_BEST: dict[frozenset[tuple[str, int]], str] = {}


def best_way(comparisons: Sequence[Comparison]) -> str:
    """The first of equals."""
    key = frozenset((one.problem, one.size) for one in comparisons)
    if key not in _BEST:
        _BEST[key] = min(WAYS, key=lambda name: fmean(regrets(WAYS[name], comparisons)))
    return _BEST[key]


RIVALS: Mapping[str, Adviser] = {
    "always fine_tune, the largest": fixed("fine_tune"),
    "always lp_ft, the largest": fixed("lp_ft"),
    "always lora, the largest": fixed("lora"),
    "always the probe, the largest": fixed(PROBE),
    "the probe of the best by neighbours": fixed(PROBE, "neighbours"),
    "the probe of the best by LogME": fixed(PROBE, "log_me"),
    "the probe of the best by H-score": fixed(PROBE, "h_score"),
}


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
    for one in comparisons:
        said, keys = adviser(one, apart_from(one, comparisons)), list(one.scores)
        taus.append(float(weightedtau([said[key] for key in keys], [one.scores[key] for key in keys]).statistic))
    lost = regrets(adviser, comparisons)
    within = sum(regret <= 1 for regret in lost)
    known = [tau for tau in taus if tau == tau]  # options that are all held alike have no order
    return Verdict(fmean(known) if known else float("nan"), fmean(lost), max(lost), within, lost)


def regrets(adviser: Adviser, comparisons: Sequence[Comparison]) -> list[float]:
    """What its first option lost in each, in points."""
    found = []
    for one in comparisons:
        said = adviser(one, apart_from(one, comparisons))
        found.append(one.regret(max(one.scores, key=lambda key: said[key])))
    return found


def apart_from(one: Comparison, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those of other examples."""
    return [other for other in comparisons if other.source != one.source]


def by_chance(comparisons: Sequence[Comparison]) -> Verdict:
    """An option drawn by lot."""
    regrets = [[one.regret(key) for key in one.scores] for one in comparisons]
    means = [fmean(each) for each in regrets]
    within = round(sum(fmean([regret <= 1 for regret in each]) for each in regrets))
    return Verdict(0.0, fmean(means), max(means), within, means)


def coverage(
    comparisons: Sequence[Comparison], shrinkage: float, by_modality: bool, by_norm: bool
) -> tuple[float, float]:
    """Shares of runs of probes, and of all options, whose score lies in the interval that was foretold."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for one in comparisons:
        rule = known_rule(apart_from(one, comparisons), shrinkage, by_modality, by_norm)
        for (key, told), runs in zip(foretold(one, rule).items(), one.runs, strict=True):
            hits[key[1] == PROBE] += [bool(told.low <= score <= told.high) for score in runs[np.isfinite(runs)]]
    return fmean(hits[True]), fmean([*hits[True], *hits[False]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write what advice goes by")
    given = parser.parse_args()
    comparisons = read()
    verdicts = {"advice": judge(chosen, comparisons)}
    verdicts |= {f"advice: {name}": judge(way, comparisons) for name, way in WAYS.items()}
    verdicts |= {name: judge(adviser, comparisons) for name, adviser in RIVALS.items()}
    verdicts["an option by lot"] = by_chance(comparisons)
    options, runs = sum(len(one.scores) for one in comparisons), sum(np.isfinite(one.runs).sum() for one in comparisons)
    sets = len({one.problem for one in comparisons})
    print(f"{len(comparisons)} comparisons of {sets} data sets, {options} options, {runs} runs\n")
    repeated = [place for place, one in enumerate(comparisons) if one.is_repeated]
    print(
        "| | weighted tau | regret@1, points | on several seeds | worst | within a point |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    for name, one in verdicts.items():
        several = fmean(one.regrets[place] for place in repeated)
        print(
            f"| {name} | {one.tau:.2f} | {one.regret:.2f} | {several:.2f} | {one.worst:.1f} | "
            f"{one.within} of {len(comparisons)} |"
        )
    least = min(RIVALS, key=lambda name: fmean(verdicts[name].regrets[place] for place in repeated))
    lost = fmean(verdicts[least].regrets[place] for place in repeated)
    print(f"\nOf the rules of thumb {least} lost least on several seeds: {lost:.2f} points")
    print(f"\n{luck_of([comparisons[place] for place in repeated])}")
    print(f"\n{by_size(comparisons, verdicts)}")
    print(f"\n{carried_out(comparisons)}")
    rival = best_rival(verdicts)
    print(f"\n{apart('advice', rival, comparisons, verdicts)}")
    print(f"\nThe way that advice goes by from now on: {best_way(comparisons)}, of {len(WAYS)} that were tried")
    shares = [sum(known["seconds"] for known in one.measured.values()) / one.seconds for one in comparisons]
    for name, *how in (
        ("fitted", 1.0, False, False),
        ("by modality", 1.0, True, False),
        ("by modality and norm", 1.0, True, True),
        ("mean", FLAT, False, False),
    ):
        probes, everything = coverage(comparisons, *how)
        print(f"\nCoverage, gains {name}: {probes:.0%} of probes' runs, {everything:.0%} of all runs")
    print(
        f"\nCost of neighbours, probes and scores: {np.median(shares):.1%} of the comparison's training seconds on one "
        "seed (median); features are those of the comparison's probes, and a few steps of each strategy come on top"
    )
    if given.write:
        write(comparisons, verdicts)


def by_size(comparisons: Sequence[Comparison], verdicts: Mapping[str, Verdict]) -> str:
    """What advice and the best rule of thumb lost on the mean, and how many backbones there were."""
    rival, told = best_rival(verdicts), []
    for size in sorted({one.size for one in comparisons}):
        here = [place for place, one in enumerate(comparisons) if one.size == size]
        mine, theirs = (fmean(verdicts[name].regrets[place] for place in here) for name in ("advice", rival))
        several = sum(len(comparisons[place].measured) > 1 for place in here)
        told.append(
            f"{size} of a class ({len(here)} comparisons, {several} with several backbones) {mine:.1f} and {theirs:.1f}"
        )
    return f"Lost by advice and by {rival}, points: {'; '.join(told)}"


def carried_out(comparisons: Sequence[Comparison]) -> str:
    """What is lost by who runs the comparison that advice prints, or all options, and goes by val."""
    lost, shares, whole, once = [], [], [], []
    for one in comparisons:
        said, options = chosen(one, apart_from(one, comparisons)), list(one.scores)
        known = [key for key in sorted(options, key=lambda key: -said[key]) if key[1] in (PROBE, *TUNING)]
        backbones, tuned = to_compare(known)
        compared = [*((name, PROBE) for name in backbones), *tuned]
        lost.append(one.regret(one.selected(compared)))
        shares.append(sum(one.costs[key] for key in compared) / one.seconds)
        whole.append(one.regret(one.selected(options)))
        once.append(one.regret(one.selected(options, 1)))
    return (
        f"Who runs the comparison that advice prints, and takes what is best on val, loses {fmean(lost):.2f} points, "
        f"at {np.median(shares):.0%} of what all options take (median); who runs all on as many seeds "
        f"{fmean(whole):.2f}; who runs all on one seed {fmean(once):.2f}"
    )


def floors(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """In points, the mean of what an oracle loses by luck, and the most that it can be among options without gaps."""
    told = [luck.floor(one.runs) for one in comparisons]
    most = [luck.most(luck.without_gaps(one.runs)) for one in comparisons]
    return 100 * fmean(told), 100 * fmean(most)


def luck_of(comparisons: Sequence[Comparison]) -> str:
    known, most = floors(comparisons)
    return (
        f"Floor, on the {len(comparisons)} comparisons of several seeds: who knew the true means would lose "
        f"{known:.1f} points by luck alone; crossing seeds, among options that were run on all of them: {most:.1f}"
    )


def best_rival(verdicts: Mapping[str, Verdict]) -> str:
    """The best rule of thumb."""
    return min(RIVALS, key=lambda name: verdicts[name].regret)


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
    """What advice goes by: the way that lost least, fitted on all."""
    name, rival = best_way(comparisons), best_rival(verdicts)
    way, verdict = WAYS[name], verdicts["advice"]
    rule = rule_of(comparisons, way.shrinkage, way.by_modality, way.by_norm)
    fits = {name: {"weights": [round(w, 5) for w in fit.weights], "spread": round(fit.spread, 5), "num": fit.num}
            for name, fit in rule.fits.items()}  # fmt: skip
    prior = {key: round(value, 5) for key, value in asdict(rule.order.prior or Prior(0, 0, 0, 0)).items()}
    repeated = [one for one in comparisons if one.is_repeated]
    record = {
        "comparisons": len(comparisons),
        "data_sets": len({one.problem for one in comparisons}),
        "within_a_point": verdict.within,
        "regret": round(verdict.regret, 2),
        "rival": rival,
        "rival_regret": round(verdicts[rival].regret, 2),
        "told_apart": not apart("advice", rival, comparisons, verdicts).endswith("not told apart"),
        "way": name,
        "tried": len(WAYS),
        "floor": round(floors(repeated)[0], 2),
        "most_per_class": max(one.per_class for one in comparisons),
        "normed": {
            modality: sorted(
                {one.normed(name) for one in comparisons if one.modality == modality for name in one.measured}
            )
            for modality in ("vision", "text", "audio")
        },
    }
    given = {"first": way.first, "backbones": way.backbones, "prior": prior}
    write_json(FILE, {"order": given, "fits": fits, "record": record})
    print(f"\nWritten: {FILE} ({name})")


if __name__ == "__main__":
    main()
