"""How soon a search finds good settings: searches replayed on curves that `record_curves.py` recorded.

    python scripts/benchmark_search.py                 the table of docs/search.md, and docs/pictures/search-regret.svg
    python scripts/benchmark_search.py --seeds 5 --problems texts

Ours is the program's own: `search.standing.Standing` draws, pauses, promotes and chooses as for a worker; only a
training is looked up. A setting that a method draws is replaced by the nearest recorded one (each range from 0 to 1, on
its own scale) that it has not tried, and told so. Cost is epochs trained, as a share of training `BUDGET` settings to
their end. What a method has at some cost is the best score on val of any epoch that it has seen.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import optuna
from optuna.samplers._tpe import _truncnorm
from record_curves import CURVES
from scipy.special import log_ndtr

from headstart.config.schema import SearchConfig
from headstart.record.directory import SweepDirectory
from headstart.record.result import DataRecord, Result, Selection
from headstart.record.search import CellRecord, Trial, cell_directory
from headstart.record.variable import Variable
from headstart.search.standing import Standing

BUDGET = 160
"""Settings whose training is the whole cost. More are recorded, so that what is drawn has one of them near it."""
MARKS = (0.1, 0.25, 0.5)
"""Shares of that cost at which methods are compared."""
FULL = 40
"""Settings that random search trains to their end, whose score is to be reached at a third of the cost."""
REPLICATES = SearchConfig().replicates
NUM_FINISHED = 3
"""Settings that one-epoch top-k trains to their end at least."""
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "search-regret.svg"


class Table:
    """Recorded curves of one problem as a search sees them that begins on some seed; 0 is the default's number."""

    def __init__(self, name: str, first: int = 0) -> None:
        self.name = name
        told = json.loads((CURVES / f"{name}.json").read_text(encoding="utf8"))
        self.space = [Variable.from_dict(one) for one in told["space"]]
        keys = [one.key for one in self.space]
        self.points = [dict(zip(keys, values, strict=True)) for values in told["settings"]]
        self.max_epochs = int(told["max_epochs"])
        self.val: dict[tuple[int, int], list[float]] = {}
        self.test: dict[tuple[int, int], list[float]] = {}
        for row in _rows(CURVES / f"{name}.csv"):
            for kind, kept in (("val", self.val), ("test", self.test)):
                texts = [row[f"{kind}_{epoch}"] for epoch in range(1, self.max_epochs + 1)]
                kept[int(row["number"]), int(row["seed"])] = [float(text) for text in texts if text]
        recorded = sorted({seed for _, seed in self.val})
        self.num_bases = sum(all((n, seed) in self.val for n in range(len(self.points))) for seed in recorded)
        first %= self.num_bases
        self.seeds = [*recorded[first:], *recorded[:first]]
        """The first is the trials' own, the next are replicates', what is left is fresh."""
        self.numbers = range(len(self.points))
        self.cost = min(BUDGET, len(self.points)) * self.max_epochs
        self._best = {key: self._running(values) for key, values in self.val.items()}
        self.best = max(self.curve(number)[-1] for number in self.numbers)
        self._places = np.array([self._place(point) for point in self.points])

    def _running(self, values: Sequence[float]) -> list[float]:
        best = list(np.maximum.accumulate(values or [0.0]))
        return [float(one) for one in best] + [float(best[-1])] * (self.max_epochs - len(best))

    def curve(self, number: int, seed: int | None = None) -> list[float]:
        """The best accuracy on val so far, by epoch; a training that diverged stays where it was."""
        return self._best[number, self.seeds[0] if seed is None else seed]

    def tested(self, number: int) -> float:
        """Accuracy on test at the epoch that is best on val, the mean over fresh seeds."""
        found = []
        for seed in self.seeds[REPLICATES:]:
            values = self.val[number, seed]
            found.append(self.test[number, seed][values.index(max(values))] if values else 0.0)
        return fmean(found)

    def nearest(self, point: Mapping[str, Any], tried: set[int]) -> int | None:
        """The recorded setting that is nearest among those not tried."""
        distances = np.square(self._places - self._place(point)).sum(1)
        distances[list(tried)] = np.inf
        return None if np.isinf(distances).all() else int(distances.argmin())

    def _place(self, point: Mapping[str, Any]) -> np.ndarray:
        return np.array([one.share(point[one.key]) for one in self.space])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


class Purse:
    """What a method has paid, and the best that it has seen for it."""

    def __init__(self, table: Table, most: float) -> None:
        self.table, self.most, self.spent, self.best = table, most, 0, 0.0
        self.steps: list[tuple[int, float]] = []
        self.seen: dict[int, int] = {}
        self.chosen: int | None = None
        """The setting that a search of ours ends with; and the one of its finalists with the best mean."""
        self.by_mean: int | None = None

    @property
    def is_empty(self) -> bool:
        return self.spent >= self.most

    def train(self, number: int, epochs: int) -> float:
        """Train a setting on up to an epoch; the best score on val so far."""
        curve = self.table.curve(number)
        for epoch in range(self.seen.get(number, 0), epochs):
            self.spent += 1
            if curve[epoch] > self.best:
                self.best = curve[epoch]
                self.steps.append((self.spent, self.best))
        self.seen[number] = epochs
        return curve[epochs - 1]

    def at(self, cost: float) -> float:
        """The best score for so many epochs."""
        return max((score for spent, score in self.steps if spent <= cost), default=0.0)

    def cost_of(self, score: float) -> float:
        """Epochs after which there was such a score."""
        return next((spent for spent, reached in self.steps if reached >= score), float("inf"))


# ours


class Replayed(Standing):
    """A search whose trials stand in memory."""

    def __init__(self, sweep: SweepDirectory, search: SearchConfig, table: Table) -> None:
        super().__init__(sweep, "cell", search)
        self.table = table
        self.kept: list[Trial] = []
        self.numbers: dict[int, int] = {}
        """Recorded settings by trials."""

    def look(self) -> None:
        self.trials = self.kept

    def is_worked_on(self, trial: Trial) -> bool:
        return False

    def scores_of(self, trial: Trial, done: Result) -> list[float]:
        curve = self.table.curve(self.numbers[trial.number])
        return [curve[rung - 1] for rung in self.rungs if rung <= int(done.cost["epochs"])]

    @property
    def is_exhausted(self) -> bool:
        return len(set(self.numbers.values())) >= len(self.table.numbers)

    def go_on(self, purse: "Purse") -> bool:
        """Do what a worker does next; false if nothing is left."""
        self.look()
        found = self.promotion()
        if found is not None:
            self._end(*found, purse)
            return True
        new = self.next_setting()
        if new is None:
            return False
        trial = self._trial(*new)
        self.kept.append(trial)
        self._end(trial, self.until(trial), purse)
        return True

    def _trial(self, params: dict[str, Any], seed: int, replicate_of: int | None) -> Trial:
        number = len(self.kept)
        if replicate_of is not None:
            self.numbers[number] = self.numbers[replicate_of]
        else:
            tried = {self.numbers[one.number] for one in self.drawn}
            found = self.table.nearest(params, tried) if number else 0
            assert found is not None
            self.numbers[number] = found
            params = dict(self.table.points[found]) if number else {}
        return Trial(number, f"{number:012x}", params, seed, replicate_of)

    def _end(self, trial: Trial, until: int | None, purse: "Purse") -> None:
        """Look a training up, as far as it goes."""
        number, epochs = self.numbers[trial.number], until or self.table.max_epochs
        is_known, value = True, 0.0
        if trial.is_draw:
            value = purse.train(number, epochs)
        else:
            is_known = (number, self.table.seeds[trial.seed]) in self.table.val
            value = self.table.curve(number, self.table.seeds[trial.seed])[-1] if is_known else 0.0
        done = Result(
            run_id=trial.run_id,
            choices={},
            settings={},
            overrides=[],
            data=DataRecord(),
            status="failed" if not is_known else "stopped" if until else "completed",
            metrics={},
            cost={"epochs": epochs, "total_seconds": float(epochs)},
            selection=Selection(metric="val/accuracy", mode="max", value=value),
        )
        self.paused.pop(trial.number, None)
        (self.paused if until else self.ended)[trial.number] = done


def ours(method: str, stopping: str) -> "Method":
    """A search of the program: what it has seen, and the setting that it chooses."""

    def play(table: Table, seed: int, most: float) -> Purse:
        search = SearchConfig(method=method, stopping=stopping, epochs=int(most), replicates=REPLICATES, seed=seed)
        record = CellRecord(
            cell="cell",
            overrides=[],
            choices={},
            space=[one.to_dict() for one in table.space],
            defaults=table.points[0],
            method=method,
            stopping=stopping,
            search_seed=seed,
            seed=0,
            monitor="val/accuracy",
            max_epochs=table.max_epochs,
            is_probe=False,
        )
        with tempfile.TemporaryDirectory() as place:
            sweep = SweepDirectory(Path(place))
            cell_directory(sweep, "cell").write(record, [])
            standing, purse = Replayed(sweep, search, table), Purse(table, most)
            while standing.go_on(purse):
                pass
        means = standing.means()
        best = max(means, key=lambda number: (means[number], -number), default=0)
        purse.by_mean, chosen = standing.numbers[best], standing.chosen
        purse.chosen = 0 if chosen is None else standing.numbers[chosen.number]
        return purse

    return play


# the others

Method = Callable[[Table, int, float], Purse]


def drawn_at_random(table: Table, seed: int) -> Iterator[int]:
    """Recorded settings, each the nearest to a point drawn at random that was not drawn before: as for every method."""
    dice, tried = np.random.default_rng(seed), set[int]()
    while len(tried) < len(table.points):
        shares = map(float, dice.random(len(table.space)))
        point = {one.key: one.at(share) for one, share in zip(table.space, shares, strict=True)}
        number = table.nearest(point, tried)
        assert number is not None
        tried.add(number)
        yield number


def random_search(table: Table, seed: int, most: float) -> Purse:
    """Each drawn by itself, and trained to its end."""
    purse = Purse(table, most)
    for number in drawn_at_random(table, seed):
        if purse.is_empty:
            break
        purse.train(number, table.max_epochs)
    return purse


def default_alone(table: Table, seed: int, most: float) -> Purse:
    """No search."""
    purse = Purse(table, most)
    purse.train(0, table.max_epochs)
    return purse


def top_k(table: Table, seed: int, most: float) -> Purse:
    """All for one epoch, then the best to their end (Egele et al. 2023, arXiv:2307.15422)."""
    purse = Purse(table, most)
    number_tried = max(1, int(most) - NUM_FINISHED * (table.max_epochs - 1))
    tried = list(islice(drawn_at_random(table, seed), number_tried))
    for number in tried:
        purse.train(number, 1)
    for number in sorted(tried, key=lambda number: -table.curve(number)[0]):
        if purse.spent + table.max_epochs - 1 <= most:
            purse.train(number, table.max_epochs)
    return purse


def by_optuna(pruner: Callable[[Table], optuna.pruners.BasePruner]) -> Method:
    """Optuna's TPE (multivariate, group), with a pruner of its own; what is pruned is lost."""

    def play(table: Table, seed: int, most: float) -> Purse:
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner(table))
        space = {one.key: one.distribution() for one in table.space}
        purse, tried = Purse(table, most), set[int]()
        while not purse.is_empty and len(tried) < len(table.numbers):
            trial = study.ask(space)
            number = table.nearest(trial.params, tried)
            assert number is not None
            tried.add(number)
            for key, one in space.items():  # what is tried is the nearest that was recorded
                value = one.to_internal_repr(table.points[number][key])
                study._storage.set_trial_param(trial._trial_id, key, value, one)
            is_pruned = False
            for epoch in range(1, table.max_epochs + 1):
                value = purse.train(number, epoch)
                trial.report(value, epoch)
                if trial.should_prune() and epoch < table.max_epochs:
                    is_pruned = True
                    break
            study.tell(trial, None if is_pruned else value, optuna.trial.TrialState.PRUNED if is_pruned else None)
        return purse

    return play


METHODS: Mapping[str, Method] = {
    "search=tpe search/stopping=halving": ours("tpe", "halving"),
    "search=random search/stopping=halving": ours("random", "halving"),
    "search=tpe": ours("tpe", "none"),
    "one-epoch top-k": top_k,
    "Optuna TPE": by_optuna(lambda table: optuna.pruners.NopPruner()),
    "Optuna TPE + SuccessiveHalvingPruner": by_optuna(
        lambda table: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "Optuna TPE + HyperbandPruner": by_optuna(
        lambda table: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=table.max_epochs, reduction_factor=3)
    ),
    "random search": random_search,
    "default alone": default_alone,
}
DEPENDS_ON_BUDGET = {"one-epoch top-k"}
"""Methods that must know the budget before they begin: replayed for each."""


@dataclass(frozen=True)
class Replays:
    """All replays of one method on one problem."""

    problem: str
    method: str
    by_mark: Mapping[float, Sequence[Purse]]

    def regrets(self, mark: float, share: float | None = None) -> list[float]:
        """How far the best that was seen at a share of the cost lies below the table's best, in points."""
        shown = mark if share is None else share
        return [100 * (purse.table.best - purse.at(shown * purse.table.cost)) for purse in self.by_mark[mark]]

    @cached_property
    def longest(self) -> Sequence[Purse]:
        return self.by_mark[max(self.by_mark)]

    @cached_property
    def shares(self) -> list[float]:
        """Of the cost of `FULL` settings drawn at random, what it takes to have their best score; infinite if it never
        does. The draws are others than those of the method that is measured."""
        found = []
        for seed, purse in enumerate(self.longest):
            full = FULL * purse.table.max_epochs
            found.append(purse.cost_of(random_search(purse.table, 10_000 + seed, full).at(full)) / full)
        return found


def replays(name: str, tables: Sequence[Table], seeds: int) -> Replays:
    """Each begins at one of the recorded seeds in turn."""
    play, cost = METHODS[name], tables[0].cost
    marks = MARKS if name in DEPENDS_ON_BUDGET else MARKS[-1:]
    played = {mark: [play(tables[seed % len(tables)], seed, mark * cost) for seed in range(seeds)] for mark in marks}
    return Replays(tables[0].name, name, {mark: played.get(mark, played[MARKS[-1]]) for mark in MARKS})


def rows(found: Sequence[Replays]) -> Iterator[str]:
    """The table in Markdown; means with standard errors."""
    yield "| problem | method | n | regret at 10% | 25% | 50% | random's score at | of its cost (median) |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    problem = " + ".join(dict.fromkeys(one.problem for one in found))
    for method in dict.fromkeys(one.method for one in found):
        own = [one for one in found if one.method == method]
        shares = [share for one in own for share in one.shares]
        share, reached = median(shares), fmean(np.isfinite(shares))
        told = "–" if method in DEPENDS_ON_BUDGET or not np.isfinite(share) else f"{share:.0%}"
        all_regrets = ([regret for one in own for regret in one.regrets(mark)] for mark in MARKS)
        regrets = " | ".join(f"{fmean(x):.2f} ± {np.std(x) / len(x) ** 0.5:.2f}" for x in all_regrets)
        yield f"| {problem} | {method} | {len(shares)} | {regrets} | {reached:.0%} | {told} |"


def choices(found: Sequence[Replays]) -> Iterator[str]:
    """How often what ours chose is worse than the default on test, over fresh seeds; and what has the best mean."""
    for one in found:
        for kind in ("chosen", "by_mean"):
            numbers = [getattr(purse, kind) for purse in one.longest]
            if None in numbers:
                continue
            tables = [purse.table for purse in one.longest]
            gains = [100 * (t.tested(n) - t.tested(0)) for t, n in zip(tables, numbers, strict=True)]
            worse, same = sum(gain < 0 for gain in gains), sum(number == 0 for number in numbers)
            yield (
                f"{one.problem}, {one.method}, {kind}: worse than the default on test in {worse} of {len(gains)}, the "
                f"default itself in {same}; gain {fmean(gains):+.2f} points on the mean, {min(gains):+.2f} at worst"
            )


def draw(found: Sequence[Replays], path: Path) -> None:
    """Mean regret against cost, a panel a problem."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.problem for one in found))
    figure = Figure(figsize=(1.9 + 2.2 * len(names), 2.8), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    shares = np.linspace(0.01, max(MARKS), 100)
    for panel, name in zip(axes, names, strict=True):
        for one in (one for one in found if one.problem == name):
            if one.method in DEPENDS_ON_BUDGET:
                panel.plot([100 * m for m in MARKS], [fmean(one.regrets(m)) for m in MARKS], "o", label=one.method)
                continue
            means = [fmean(one.regrets(MARKS[-1], share)) for share in shares]
            width = 2.0 if one.method.startswith("search=") else 1.0
            panel.plot(100 * shares, means, linewidth=width, label=one.method)
        panel.set_title(name, fontsize=9)
        panel.set_ylim(0, 4)
        panel.set_xlabel(f"cost, % of {BUDGET} settings'")
        panel.set_ylabel("mean regret on val, points" if name == names[0] else "")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside right upper", fontsize=5.5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--problems", nargs="*", default=[path.stem for path in sorted(CURVES.glob("*.csv"))])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--picture", type=Path, default=PICTURE)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _truncnorm._log_ndtr = (
        log_ndtr  # Optuna's goes number by number, which is most of a replay's time; draws are the same
    )
    found = []
    for problem in chosen.problems:
        tables = [Table(problem, first) for first in range(Table(problem).num_bases)]
        best, default = (fmean(values) for values in zip(*((t.best, t.curve(0)[-1]) for t in tables), strict=True))
        print(f"{problem}: {len(tables[0].points)} settings, best on val {best:.1%}, default {default:.1%}")
        own = []
        for name in chosen.methods:
            own.append(replays(name, tables, chosen.seeds))
            sys.stderr.write(f"{problem}: {name}\n")
        print("\n".join([*rows(own), *choices(own)]), flush=True)
        found += own
        draw(found, chosen.picture)
    print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
