"""How a search stands, by what is on the disk: what was tried of each cell, what it cost, what comes next, what won."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from statistics import fmean
from typing import Any

from headstart import metrics
from headstart.config.schema import SearchConfig
from headstart.record import result
from headstart.record.directory import SweepDirectory
from headstart.record.result import Result
from headstart.record.search import CellRecord, Trial, cell_directory
from headstart.search.draws import Draws, Tried
from headstart.search.halving import Reached, most_promising, promotable, rungs, scores_at
from headstart.search.space import Variable
from headstart.system.lock import is_held

ENOUGH = 5
"""Trials at a rung, beside one for each setting that is searched, before draws go by their scores there."""
MOST_FAILED = 10
"""Trials of a cell of which all have failed, after which no more are drawn."""
NUM_BEST = 3
"""Finalists beside the default."""
DEFAULT_TRIALS = 40
DIVERGED = "DivergedError"


@dataclass(frozen=True)
class Budget:
    """What each cell may spend: trials, epochs or seconds."""

    unit: str
    amount: float

    @classmethod
    def of(cls, search: SearchConfig) -> "Budget":
        if search.epochs is not None:
            return cls("epochs", search.epochs)
        if search.hours is not None:
            return cls("seconds", 3600 * search.hours)
        return cls("trials", search.trials or DEFAULT_TRIALS)


class Standing:
    """One cell, as far as it has come. What ended once is not read again."""

    def __init__(self, sweep: SweepDirectory, cell: str, search: SearchConfig) -> None:
        self.sweep, self.search, self.budget = sweep, search, Budget.of(search)
        self.directory = cell_directory(sweep, cell)
        self.record: CellRecord = self.directory.record()
        self.space = [Variable.from_dict(one) for one in self.record.space]
        self.ended: dict[int, Result] = {}
        self.paused: dict[int, Result] = {}
        self.rungs = [self.record.max_epochs]
        if self.record.stopping == "halving" and not self.record.is_probe:
            self.rungs = rungs(self.record.max_epochs, search.reduction)
        self._scores: dict[int, tuple[int, list[float]]] = {}
        key = f"{self.record.search_seed}/{cell}"
        method = "qmc" if self.record.is_probe and self.record.method in ("tpe", "gp") else self.record.method
        self.draws = Draws(self.space, method, key, self.is_maximized)
        self.trials: list[Trial] = []

    @property
    def is_maximized(self) -> bool:
        return metrics.mode(self.record.monitor) == "max"

    def look(self) -> None:
        """See what was drawn, and what has come to its end, since the last look."""
        self.trials = list(self.directory.trials())
        for trial in self.trials:
            if trial.number not in self.ended and trial.invalid is None:
                done = result.read(self.sweep.run(trial.run_id), trial.run_id)
                if done is not None and done.status == "stopped":
                    self.paused[trial.number] = done
                elif done is not None:
                    self.ended[trial.number] = done
                    self.paused.pop(trial.number, None)

    def value(self, trial: Trial) -> float | None:
        """Its score on val; `None` if it has none."""
        done = self.ended.get(trial.number)
        if done is None or not done.is_completed or done.selection is None:
            return None
        return done.selection.value

    @property
    def drawn(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.is_draw]

    @property
    def open(self) -> list[Trial]:
        """Drawn, and neither at their end nor paused."""
        known = self.ended.keys() | self.paused.keys()
        return [one for one in self.trials if one.invalid is None and one.number not in known]

    # who goes on

    def is_worked_on(self, trial: Trial) -> bool:
        """Whether some worker is at it."""
        return is_held(self.sweep.run(trial.run_id).lock)

    def reached(self) -> list[Reached]:
        """How far each trial is that was not drawn to be tried again."""
        found = []
        for trial in self.drawn:
            done = self.ended.get(trial.number) or self.paused.get(trial.number)
            if done is None or done.status == "failed":
                continue
            epochs = int(done.cost.get("epochs") or 0)
            if self._scores.get(trial.number, (-1, []))[0] != epochs:
                scores = scores_at(self.sweep.run(trial.run_id), done, self.rungs)
                self._scores[trial.number] = epochs, scores
            is_paused = trial.number in self.paused and not self.is_worked_on(trial)
            found.append(Reached(trial.number, self._scores[trial.number][1], is_paused))
        return found

    def promotion(self) -> tuple[Trial, int | None] | None:
        """A paused trial that goes on, and until which epoch (`None`: to its end)."""
        if not self.paused:
            return None
        known = self.reached()
        found = promotable(known, len(self.rungs), self.search.reduction)
        if found is None and not self.may_draw and not self.open and self.num_finishing < NUM_BEST:
            best = most_promising(known)
            found = (best[0].number, len(self.rungs) - 1) if best else None
        if found is None:
            return None
        number, rung = found
        return self.drawn_number(number), None if rung == len(self.rungs) - 1 else self.rungs[rung]

    @property
    def num_finishing(self) -> int:
        """Trials beside the default that are at their end: among them one is chosen."""
        return sum(self.value(trial) is not None for trial in self.drawn[1:])

    def drawn_number(self, number: int) -> Trial:
        return next(trial for trial in self.drawn if trial.number == number)

    def until(self, trial: Trial) -> int | None:
        """The epoch that a new trial trains to at first; the default and what is tried again are not paused."""
        is_whole = len(self.rungs) == 1 or not trial.number or not trial.is_draw
        return None if is_whole else self.rungs[0]

    @property
    def is_promoting(self) -> bool:
        """Whether a paused trial goes on just now, or is about to."""
        return any(self.is_worked_on(trial) for trial in self.drawn if trial.number in self.paused) or (
            self.promotion() is not None
        )

    def tried(self) -> list[Tried]:
        """What the next draw goes by; a loss that was not finite counts as the worst score there is."""
        scores = self._comparable()
        worst = (min if self.is_maximized else max)(scores.values(), default=None)
        found = []
        for trial in self.drawn:
            done, value = self.ended.get(trial.number) or self.paused.get(trial.number), scores.get(trial.number)
            if value is None and done is not None and done.error is not None and done.error.type == DIVERGED:
                value = worst
            params = trial.params if trial.number else self.record.defaults
            found.append(Tried(params, value, is_running=done is None and trial.invalid is None))
        return found

    def _comparable(self) -> dict[int, float]:
        """Scores that were reached at the same expense: at the highest rung that enough trials have come to."""
        if len(self.rungs) == 1:
            return {one.number: value for one in self.drawn if (value := self.value(one)) is not None}
        sign, known = 1 if self.is_maximized else -1, self.reached()
        for rung in range(len(self.rungs) - 1, -1, -1):
            there = {one.number: sign * one.scores[rung] for one in known if len(one.scores) > rung}
            if len(there) >= ENOUGH + len(self.space) or not rung:
                return there
        return {}

    # what it costs

    def cost(self, trial: Trial) -> float:
        """What a trial took of the budget; of one that is under way, what it may take."""
        if self.budget.unit == "trials":
            return 1.0
        done = self.ended.get(trial.number) or self.paused.get(trial.number)
        if trial.invalid is not None:
            return 0.0
        if self.budget.unit == "seconds":
            return self.expected_seconds() if done is None else float(done.cost.get("total_seconds") or 0.0)
        return float(self.record.max_epochs if done is None else self._epochs(done))

    def _epochs(self, done: Result) -> int:
        """Epochs that were trained."""
        epochs = done.cost.get("epochs")
        return self.record.max_epochs if epochs is None else int(epochs)  # one that failed does not say

    def expected_seconds(self) -> float:
        """What a trial of this cell takes, by those that are done."""
        known = [float(done.cost.get("total_seconds") or 0.0) for done in self.ended.values() if done.is_completed]
        return fmean(known) if known else 0.0

    @property
    def spent(self) -> float:
        return sum(self.cost(trial) for trial in self.drawn)

    @property
    def amount(self) -> float:
        """The budget; heads that train together have trials of their own number."""
        if self.record.is_probe and self.budget.unit == "trials":
            return max(self.search.probes, self.budget.amount)
        return self.budget.amount

    @property
    def share(self) -> float:
        """How much of the budget is spent or asked for, 0 to 1 or a little more."""
        return self.spent / self.amount

    @property
    def may_draw(self) -> bool:
        """Whether the budget pays for another trial; the default is always tried."""
        if not self.trials:
            return True
        if self.record.is_probe and len(self.drawn) >= max(self.search.probes, int(self._trials_at_most)):
            return False
        has_score = any(done.status != "failed" for done in (*self.ended.values(), *self.paused.values()))
        if self.is_exhausted or (len(self.ended) >= MOST_FAILED and not has_score):
            return False
        next_cost = {"trials": 1.0, "epochs": float(self.record.max_epochs), "seconds": self.expected_seconds()}
        if self.budget.unit == "seconds" and not self.ended:
            return False  # what a trial takes is not known yet
        return self.spent + next_cost[self.budget.unit] <= self.amount * (1 + 1e-9)

    @property
    def _trials_at_most(self) -> float:
        return self.budget.amount if self.budget.unit == "trials" else 0

    @property
    def is_exhausted(self) -> bool:
        """Whether every point of the space was drawn."""
        number = prod(one.num_values for one in self.space)
        if not isfinite(number):
            return False
        fitting = [trial for trial in self.tried() if all(one.holds(trial.params.get(one.key)) for one in self.space)]
        return len({repr(sorted(trial.params.items())) for trial in fitting}) >= number

    # what came of it

    @property
    def finalists(self) -> list[Trial]:
        """The default and the best others, by val; in the order of their numbers."""
        scored = [trial for trial in self.drawn if trial.number and self.value(trial) is not None]
        sign = -1 if self.is_maximized else 1
        best = sorted(scored, key=lambda trial: (sign * (self.value(trial) or 0.0), trial.number))[:NUM_BEST]
        default = [trial for trial in self.drawn[:1] if self.value(trial) is not None]
        return [*default, *sorted(best, key=lambda trial: trial.number)]

    def missing_replicates(self) -> list[tuple[Trial, int]]:
        """Finalists and seeds that were not drawn yet; known once all draws have ended."""
        if len(self.finalists) < 2:
            return []
        there = {(trial.replicate_of, trial.seed) for trial in self.trials if not trial.is_draw}
        seeds = range(self.record.seed + 1, self.record.seed + self.search.replicates)
        wanted = [(trial, seed) for seed in seeds for trial in self.finalists]
        return [(trial, seed) for trial, seed in wanted if (trial.number, seed) not in there]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to draw, or under way."""
        return not self.may_draw and not self.open and not self.is_promoting and not self.missing_replicates()

    def means(self) -> dict[int, float]:
        """The mean score on val over replicates of each finalist, by the number of its trial."""
        found = {}
        for trial in self.finalists:
            others = [one for one in self.trials if one.replicate_of == trial.number]
            values = [self.value(one) for one in (trial, *others)]
            if all(value is not None for value in values):
                found[trial.number] = fmean(value for value in values if value is not None)
        return found

    @property
    def chosen(self) -> Trial | None:
        """The finalist with the best mean, the first of equals: the default, or the earlier one."""
        means = self.means()
        if not means:
            return None
        sign = -1 if self.is_maximized else 1
        number = min(means, key=lambda number: (sign * means[number], number))
        return next(trial for trial in self.drawn if trial.number == number)

    @property
    def best(self) -> Trial | None:
        """The best trial so far on one seed."""
        sign = -1 if self.is_maximized else 1
        scored = [(sign * value, trial.number) for trial in self.drawn if (value := self.value(trial)) is not None]
        return None if not scored else next(one for one in self.drawn if one.number == min(scored)[1])


def fresh_seeds(record: CellRecord, search: SearchConfig) -> list[int]:
    """Seeds of which no trial of the search knew: their splits are drawn anew."""
    return [record.seed + 1000 + number for number in range(search.seeds)]


def budget_words(search: SearchConfig, amount: float) -> str:
    unit = Budget.of(search).unit
    return f"{amount / 3600:g} hours" if unit == "seconds" else f"{amount:g} {unit}"


def words_of(params: Mapping[str, Any]) -> Sequence[str]:
    """A point as overrides."""
    return [f"{key}={value}" for key, value in params.items()]
