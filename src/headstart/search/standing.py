"""How a search stands, by what is on the disk: what was tried of each cell, what it cost, what comes next, what won."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from statistics import fmean
from typing import Any

from headstart import metrics
from headstart.config.schema import SearchConfig
from headstart.record import result
from headstart.record.directory import SweepDirectory
from headstart.record.result import Result
from headstart.record.search import CellRecord, Trial, cell_directory
from headstart.record.variable import Variable
from headstart.search.draws import MODELLED, Draws
from headstart.search.finalists import clearly_behind, winner
from headstart.search.halving import Reached, epochs_in_all, foreseen_ends, most_promising, promotable, rungs, scores_at
from headstart.search.tried import Tried
from headstart.system.lock import is_held

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
        self._versions: dict[int, tuple[int, ...]] = {}
        key = f"{self.record.search_seed}/{cell}"
        method = "qmc" if self.record.is_probe and self.record.method in MODELLED else self.record.method
        # where trials are paused, draws are cheap, and spread evenly they find more
        near = self.record.defaults if len(self.rungs) == 1 else None
        self.draws = Draws(self.space, method, key, self.is_maximized, near)
        self.trials: list[Trial] = []
        self._drawn: list[Trial] = []
        self._num_sorted = 0

    @property
    def is_maximized(self) -> bool:
        return metrics.mode(self.record.monitor) == "max"

    def look(self) -> None:
        """See what was drawn, and what has come to its end, since the last look."""
        self.trials = list(self.directory.trials())
        for trial in self.trials:
            if trial.number in self.ended or trial.invalid is not None:
                continue
            directory = self.sweep.run(trial.run_id)
            version = written_at(directory.result)
            if version is None or version == self._versions.get(trial.number):
                continue
            done = result.read(directory, trial.run_id)
            if done is not None and done.status == "stopped":
                self.paused[trial.number], self._versions[trial.number] = done, version
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
        """Without those that repeat one on another seed. Trials are only ever added."""
        self._drawn += [trial for trial in self.trials[self._num_sorted :] if trial.is_draw]
        self._num_sorted = len(self.trials)
        return self._drawn

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
                self._scores[trial.number] = epochs, self.scores_of(trial, done)
            found.append(Reached(trial.number, self._scores[trial.number][1], trial.number in self.paused))
        return found

    def scores_of(self, trial: Trial, done: Result) -> list[float]:
        """Its best score at each rung that it reached; higher ones are better."""
        return scores_at(self.sweep.run(trial.run_id), done, self.rungs)

    def promotion(self) -> tuple[Trial, int | None] | None:
        """A paused trial that goes on, and until which epoch (`None`: to its end)."""
        if not self.paused:
            return None
        last, known = len(self.rungs) - 1, self.reached()
        found = promotable(known, len(self.rungs), self.search.reduction)
        candidates = self._paid_for(found)
        if not candidates and not self.may_draw and not self.open and self._finishes_more:
            candidates = self._paid_for((one.number, last) for one in most_promising(known))
        for number, rung in candidates:
            if not self.is_worked_on(self.drawn_number(number)):
                return self.drawn_number(number), None if rung == last else self.rungs[rung]
        return None

    @property
    def _finishes_more(self) -> bool:
        """Whether paused trials go on once no more are drawn: so that there are finalists, and where a small space has
        come to its end before its budget."""
        return self.num_finishing < NUM_BEST or (self.budget.unit != "trials" and self.is_exhausted)

    def _paid_for(self, found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Paused trials that what is left of a budget of epochs or hours lets go on, each to its rung."""
        if self.budget.unit == "trials":
            return list(found)
        left, finishing = self.amount * (1 + 1e-9) - self.spent, self.num_finishing
        is_last = [rung == len(self.rungs) - 1 for rung in range(len(self.rungs))]
        kept_back = [self._to_finish(len(self.drawn) - 1, finishing + last) for last in is_last]
        done = {number: int(one.cost.get("epochs") or 0) for number, one in self.paused.items()}
        return [(n, rung) for n, rung in found if self._price(self.rungs[rung] - done[n] + kept_back[rung]) <= left]

    def _to_finish(self, num_drawn: int, num_finishing: int) -> int:
        """Epochs that are kept back so that there are finalists, beside the default."""
        missing = max(0, min(NUM_BEST, num_drawn) - num_finishing)
        return missing * (self.record.max_epochs - self.rungs[0])

    def _price(self, epochs: float) -> float:
        """Of so many epochs, in the budget's unit."""
        return epochs if self.budget.unit == "epochs" else self.expected_seconds() * epochs / self.record.max_epochs

    @property
    def num_finishing(self) -> int:
        """Trials beside the default that are at their end: among them one is chosen."""
        return sum(self.value(trial) is not None for trial in self.drawn[1:])

    def drawn_number(self, number: int) -> Trial:
        return self.trials[number]

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

    def next_setting(self) -> tuple[dict[str, Any], int, int | None] | None:
        """What is tried next, on which seed, and the trial that it repeats; nothing if there is nothing (yet)."""
        if self.may_draw:
            number = len(self.trials)
            params = self.draws.next(number, self.tried()) if number else {}
            return None if params is None else (params, self.record.seed, None)
        missing = self.missing_replicates() if self.knows_finalists else []
        if not missing:
            return None
        finalist, seed = missing[0]
        return dict(finalist.params), seed, finalist.number

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
        """Scores of trials, those that are paused as they may be at their end."""
        if len(self.rungs) == 1:
            return {one.number: value for one in self.drawn if (value := self.value(one)) is not None}
        sign = 1 if self.is_maximized else -1
        return {number: sign * one for number, one in foreseen_ends(self.reached(), len(self.rungs)).items()}

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

    def expected_epochs(self) -> float:
        """What the whole budget is likely to train."""
        if self.budget.unit == "epochs":
            return self.amount
        return epochs_in_all(self.amount, self.rungs, self.search.reduction, NUM_BEST + 1)

    def expected_rest(self) -> float | None:
        """Seconds that the rest of a budget of trials or epochs may take, by what an epoch took; `None` if unknown."""
        drawn = [self.ended.get(trial.number) or self.paused.get(trial.number) for trial in self.drawn]
        costs = [done.cost for done in drawn if done is not None and done.cost.get("epochs")]
        if not costs or self.budget.unit == "seconds":
            return None
        epochs, seconds = (sum(float(cost.get(name) or 0.0) for cost in costs) for name in ("epochs", "total_seconds"))
        return max(0.0, self.expected_epochs() - epochs) * seconds / epochs

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
        if self.budget.unit == "seconds" and not self.ended:
            return False  # what a trial takes is not known yet
        kept_back = self._to_finish(len(self.drawn), self.num_finishing)
        price = 1.0 if self.budget.unit == "trials" else self._price(self.rungs[0] + kept_back)
        return self.spent + price <= self.amount * (1 + 1e-9)

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

    @property
    def knows_finalists(self) -> bool:
        """Whether all draws have come to their end."""
        return not self.may_draw and not any(one.is_draw for one in self.open) and not self.is_promoting

    def missing_replicates(self) -> list[tuple[Trial, int]]:
        """Finalists and seeds that were not drawn yet; known once all draws have ended. Who is out runs no more."""
        finalists = self.finalists
        if len(finalists) < 2:
            return []
        there = {(trial.replicate_of, trial.seed) for trial in self.trials if not trial.is_draw}
        seeds = range(self.record.seed + 1, self.record.seed + self.search.replicates)
        out = clearly_behind(self.replicates(), self.is_maximized)
        wanted = [(trial, seed) for seed in seeds for trial in finalists if trial.number not in out]
        return [(trial, seed) for trial, seed in wanted if (trial.number, seed) not in there]

    def replicates(self) -> dict[int, dict[int, float]]:
        """Scores on val of each finalist, by the number of its trial and by seed."""
        found = {}
        for trial in self.finalists:
            runs = [trial, *(one for one in self.trials if one.replicate_of == trial.number)]
            found[trial.number] = {one.seed: value for one in runs if (value := self.value(one)) is not None}
        return found

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to draw, or under way."""
        return not self.may_draw and not self.open and not self.is_promoting and not self.missing_replicates()

    def _measured(self) -> dict[int, dict[int, float]]:
        """Scores of those finalists that have come to the end of the race, each seed having one."""
        scores = self.replicates()
        out = clearly_behind(scores, self.is_maximized)
        failed = {one.replicate_of for one in self.trials if not one.is_draw and self.value(one) is None}
        return {number: known for number, known in scores.items() if number not in out | failed}

    def means(self) -> dict[int, float]:
        """The mean score on val over replicates of each finalist that was measured to the end, by trial."""
        return {number: fmean(known.values()) for number, known in self._measured().items()}

    @property
    def chosen(self) -> Trial | None:
        """The default, unless another finalist is clearly ahead of it; of equals the earlier."""
        others = sum(trial.number > 0 for trial in self.finalists)
        number = winner(self._measured(), self.record.seed, self.is_maximized, self.search.level, others)
        return None if number is None else self.drawn_number(number)

    @property
    def best(self) -> Trial | None:
        """The best trial so far on one seed."""
        sign = -1 if self.is_maximized else 1
        scored = [(sign * value, trial.number) for trial in self.drawn if (value := self.value(trial)) is not None]
        return None if not scored else next(one for one in self.drawn if one.number == min(scored)[1])


def written_at(path: Path) -> tuple[int, ...] | None:
    """What tells one writing of a file from another; `None` if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def fresh_seeds(record: CellRecord, search: SearchConfig) -> list[int]:
    """Seeds of which no trial of the search knew: their splits are drawn anew."""
    return [record.seed + 1000 + number for number in range(search.seeds)]


def budget_words(search: SearchConfig, amount: float, spent: float | None = None) -> str:
    """An amount of what a search is paid in, and how much of it is `spent`: `7 of 40 trials`."""
    unit = Budget.of(search).unit
    unit, scale = ("hours", 3600) if unit == "seconds" else (unit, 1)
    before = "" if spent is None else f"{round(spent / scale, 2):g} of "
    return f"{before}{amount / scale:g} {unit}"


def words_of(params: Mapping[str, Any]) -> Sequence[str]:
    """A point as overrides."""
    return [f"{key}={value}" for key, value in params.items()]
