"""How soon a search finds good settings: searches replayed on curves that `record_curves.py` recorded.

    python scripts/benchmark_search.py                 the table of docs/search.md, and docs/pictures/search-regret.svg
    python scripts/benchmark_search.py --seeds 5 --problems texts

Ours is the program's own: `search.standing.Standing` draws, pauses, promotes and chooses as for a worker; only a
training is looked up. A setting that a method draws is replaced by the nearest recorded one (each range from 0 to 1, on
its own scale) that it has not tried, and told so. Cost is epochs trained, as a share of training every recorded setting
to its end. What a method has at some cost is the best score on val of any epoch that it has seen.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import optuna
from record_curves import CURVES, SEEDS

from headstart.config.schema import SearchConfig
from headstart.record.directory import SweepDirectory
from headstart.record.result import DataRecord, Result, Selection
from headstart.record.search import CellRecord, Trial, cell_directory
from headstart.record.variable import Variable
from headstart.search.standing import Standing

MARKS = (0.1, 0.25, 0.5)
"""Shares of the table's cost at which methods are compared."""
FULL = 40
"""Settings that random search trains to their end, whose score is to be reached at a third of the cost."""
NUM_FINISHED = 3
"""Settings that one-epoch top-k trains to their end at least."""
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "search-regret.svg"


class Table:
    """Recorded curves of one problem; settings by number, 0 being the default."""

    def __init__(self, name: str) -> None:
        self.name = name
        told = json.loads((CURVES / f"{name}.json").read_text(encoding="utf8"))
        self.space = [Variable.from_dict(one) for one in told["space"]]
        self.defaults, self.max_epochs = told["defaults"], int(told["max_epochs"])
        self.val: dict[tuple[int, int], list[float]] = {}
        self.test: dict[tuple[int, int], list[float]] = {}
        self.points: dict[int, dict[str, Any]] = {}
        for row in _rows(CURVES / f"{name}.csv"):
            number, seed = int(row["number"]), int(row["seed"])
            for kind, kept in (("val", self.val), ("test", self.test)):
                texts = [row[f"{kind}_{epoch}"] for epoch in range(1, self.max_epochs + 1)]
                kept[number, seed] = [float(text) for text in texts if text]
            self.points[number] = {one.key: _read(one, row[one.key]) for one in self.space}
        self.numbers = sorted(number for number, seed in self.val if seed == SEEDS[0])
        self.cost = len(self.numbers) * self.max_epochs
        self.best = max(max(self.curve(number)) for number in self.numbers)
        self._places = np.array([self._place(self.points[number]) for number in self.numbers])

    def curve(self, number: int, seed: int = SEEDS[0]) -> list[float]:
        """Accuracy on val, by epoch; a training that diverged stays where it was."""
        values = self.val[number, seed]
        return values + [values[-1] if values else 0.0] * (self.max_epochs - len(values))

    def tested(self, number: int) -> float:
        """Accuracy on test at the epoch that is best on val, the mean over all seeds."""
        found = []
        for seed in SEEDS:
            values = self.val.get((number, seed), [])
            if values:
                found.append(self.test[number, seed][values.index(max(values))])
        return fmean(found) if found else 0.0

    def nearest(self, point: Mapping[str, Any], tried: set[int]) -> int | None:
        """The recorded setting that is nearest among those not tried."""
        distances = np.square(self._places - self._place(point)).sum(1)
        distances[[number in tried for number in self.numbers]] = np.inf
        return None if np.isinf(distances).all() else self.numbers[int(distances.argmin())]

    def _place(self, point: Mapping[str, Any]) -> np.ndarray:
        return np.array([one.share(point[one.key]) for one in self.space])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def _read(one: Variable, text: str) -> Any:
    return int(text) if one.whole else float(text)


class Purse:
    """What a method has paid, and the best that it has seen for it."""

    def __init__(self, table: Table, most: float) -> None:
        self.table, self.most, self.spent, self.best = table, most, 0, 0.0
        self.steps: list[tuple[int, float]] = []
        self.seen: dict[int, int] = {}

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
        return max(curve[:epochs])

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
        return [max(curve[:rung]) for rung in self.rungs if rung <= int(done.cost["epochs"])]

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
        if trial.is_draw:
            value = purse.train(number, epochs)
        else:
            value = max(self.table.curve(number, trial.seed)) if (number, trial.seed) in self.table.val else 0.0
        done = Result(
            run_id=trial.run_id,
            choices={},
            settings={},
            overrides=[],
            data=DataRecord(),
            status="stopped" if until else "completed",
            metrics={},
            cost={"epochs": epochs, "total_seconds": float(epochs)},
            selection=Selection(metric="val/accuracy", mode="max", value=value),
        )
        self.paused.pop(trial.number, None)
        (self.paused if until else self.ended)[trial.number] = done


def ours(method: str, stopping: str) -> "Method":
    """A search of the program: what it has seen, and the setting that it chooses."""

    def play(table: Table, seed: int, most: float) -> Purse:
        search = SearchConfig(method=method, stopping=stopping, epochs=int(most), replicates=len(SEEDS), seed=seed)
        record = CellRecord(
            cell="cell",
            overrides=[],
            choices={},
            space=[one.to_dict() for one in table.space],
            defaults=table.defaults,
            method=method,
            stopping=stopping,
            search_seed=seed,
            seed=SEEDS[0],
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
        chosen = standing.chosen
        purse.chosen = 0 if chosen is None else standing.numbers[chosen.number]  # type: ignore[attr-defined]
        return purse

    return play


# the others

Method = Callable[[Table, int, float], Purse]


def random_search(table: Table, seed: int, most: float) -> Purse:
    """Each drawn by itself, and trained to its end."""
    purse = Purse(table, most)
    for number in np.random.default_rng(seed).permutation(table.numbers):
        if not purse.is_empty:
            purse.train(int(number), table.max_epochs)
    return purse


def default_alone(table: Table, seed: int, most: float) -> Purse:
    """No search."""
    purse = Purse(table, most)
    purse.train(0, table.max_epochs)
    return purse


def top_k(table: Table, seed: int, most: float) -> Purse:
    """All for one epoch, then the best to their end (Egele et al. 2023, arXiv:2307.15422)."""
    purse = Purse(table, most)
    order = [int(number) for number in np.random.default_rng(seed).permutation(table.numbers)]
    tried = order[: max(1, int(most) - NUM_FINISHED * (table.max_epochs - 1))]
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
            drawn = study.ask(space)
            study.tell(drawn, state=optuna.trial.TrialState.FAIL)  # what is tried is the nearest that was recorded
            number = table.nearest(drawn.params, tried)
            assert number is not None
            tried.add(number)
            study.enqueue_trial(table.points[number])
            trial = study.ask(space)
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
    "tpe + halving (ours)": ours("tpe", "halving"),
    "random + halving (ours)": ours("random", "halving"),
    "tpe (ours)": ours("tpe", "none"),
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

    method: str
    table: Table
    by_mark: Mapping[float, Sequence[Purse]]

    def regrets(self, mark: float) -> list[float]:
        """How far the best that was seen at a share of the table's cost lies below the table's best, in points."""
        return [100 * (self.table.best - purse.at(mark * self.table.cost)) for purse in self.by_mark[mark]]

    @cached_property
    def longest(self) -> Sequence[Purse]:
        return self.by_mark[max(self.by_mark)]


def replays(name: str, table: Table, seeds: int) -> Replays:
    play = METHODS[name]
    if name in DEPENDS_ON_BUDGET:
        return Replays(name, table, {m: [play(table, s, m * table.cost) for s in range(seeds)] for m in MARKS})
    played = [play(table, seed, max(MARKS) * table.cost) for seed in range(seeds)]
    return Replays(name, table, dict.fromkeys(MARKS, played))


def rows(found: Sequence[Replays]) -> Iterator[str]:
    """The table in Markdown."""
    yield "| problem | method | regret at 10% | 25% | 50% | random's score at | of its cost (median) |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for one in found:
        table = one.table
        blind = [random_search(table, seed, FULL * table.max_epochs) for seed in range(len(one.longest))]
        targets = [purse.at(FULL * table.max_epochs) for purse in blind]
        costs = [purse.cost_of(target) for purse, target in zip(one.longest, targets, strict=True)]
        share = median(costs) / (FULL * table.max_epochs)
        reached = sum(np.isfinite(costs)) / len(costs)
        told = "–" if one.method in DEPENDS_ON_BUDGET or not np.isfinite(share) else f"{share:.0%}"
        regrets = " | ".join(f"{fmean(one.regrets(mark)):.2f}" for mark in MARKS)
        yield f"| {table.name} | {one.method} | {regrets} | {reached:.0%} | {told} |"


def choices(found: Sequence[Replays]) -> Iterator[str]:
    """How often what ours chose is worse on test than the default."""
    for one in found:
        numbers = [getattr(purse, "chosen", None) for purse in one.longest]
        if None in numbers:
            continue
        gains = [100 * (one.table.tested(number) - one.table.tested(0)) for number in numbers]  # type: ignore[arg-type]
        worse, same = sum(gain < 0 for gain in gains), sum(number == 0 for number in numbers)
        yield (
            f"{one.table.name}, {one.method}: worse than the default on test in {worse} of {len(gains)}, the default "
            f"itself in {same}; gain {fmean(gains):+.2f} points on the mean, {min(gains):+.2f} at worst"
        )


def draw(found: Sequence[Replays], path: Path) -> None:
    """Mean regret against cost, a panel a problem."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.table.name for one in found))
    figure = Figure(figsize=(1.4 + 3.2 * len(names), 3.2), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for place, name in enumerate(names):
        panel = axes[place]
        for one in (one for one in found if one.table.name == name):
            if one.method in DEPENDS_ON_BUDGET:
                panel.plot(
                    [100 * mark for mark in MARKS], [fmean(one.regrets(mark)) for mark in MARKS], "o", label=one.method
                )
                continue
            shares = np.linspace(0.01, max(MARKS), 100)
            means = [
                fmean(100 * (one.table.best - p.at(share * one.table.cost)) for p in one.longest) for share in shares
            ]
            width = 2.2 if "halving (ours)" in one.method else 1.1
            panel.plot(100 * shares, means, linewidth=width, label=one.method)
        panel.set_title(name, fontsize=9)
        panel.set_ylim(0, 4)
        panel.set_xlabel("cost, % of the table's")
        panel.set_ylabel("mean regret on val, points" if not place else "")
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
    found = []
    for problem in chosen.problems:
        table = Table(problem)
        print(f"{problem}: {len(table.numbers)} settings, best {table.best:.1%}, default {max(table.curve(0)):.1%}")
        own = []
        for name in chosen.methods:
            own.append(replays(name, table, chosen.seeds))
            sys.stderr.write(f"{problem}: {name}\n")
        print("\n".join([*rows(own), *choices(own)]), flush=True)
        found += own
        draw(found, chosen.picture)


if __name__ == "__main__":
    main()
