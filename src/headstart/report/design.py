"""What was compared: factors, contenders and conditions, with replicates and the settings selected in each.

Runs that differ only in seed or fold are replicates. Settings of optimizer, scheduler and head are *selected* on mean
val. Everything else that varies is a factor, also whether a head is found by gradient steps or exactly: the data and
the size of the training subset make a condition, the rest makes a contender.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np

from headstart.names import plural
from headstart.report.datasets import read_data
from headstart.report.metric import Metric, choose_metric
from headstart.report.reading import Run, SweepRecords
from headstart.report.replicates import KINDS, Replicates, read_replicates
from headstart.report.weights import read_weights

TUNED = ("optimizer", "scheduler", "head")
SOLVER = "head.solver"
SIZE = "split.n_per_class"
IGNORED_CHOICES = ("logger", "experiment", "hydra", *TUNED)
LEADING = ("strategy", "backbone", "unfreeze", "augmentation")
Values = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contender:
    """One thing compared: a strategy, with a backbone and other factors where those vary."""

    values: Values
    label: str
    lead: str
    """Its value of the first factor, usually the strategy: what its colour stands for."""
    rest: str = ""
    """The values of its other factors."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Where contenders meet: one data set at one training size (`n_per_class`, `inf` for all of it)."""

    dataset: str
    n: float
    group: str = "class"
    """What `n` counts the examples of: a class, or a quantile of the numbers that are predicted."""

    @property
    def size_text(self) -> str:
        """`all` or the number a class."""
        return "all" if self.n == inf else f"{self.n:g}"

    @property
    def sized(self) -> str:
        """`40 examples a class`; empty for all."""
        return "" if self.n == inf else f"{self.n:g} examples a {self.group}"


@dataclass(slots=True)
class Candidate:
    """One setting of what is tuned, with its completed runs by replicate."""

    settings: Values
    label: str
    runs: dict[int, Run] = field(default_factory=dict)
    val: float = -inf
    fresh: dict[int, Run] = field(default_factory=dict)
    """Runs on fresh seeds: nothing is selected on them."""


@dataclass(slots=True)
class ContenderRuns:
    """A contender in a condition: all its runs, the candidates, and the one selected on mean val."""

    contender: Contender
    condition: Condition
    runs: list[Run] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    selected: Candidate | None = None

    def scores(self, metric: Metric) -> dict[int, float]:
        """Test scores of the selected candidate by replicate."""
        if self.selected is None:
            return {}
        return {number: value for number, run in self.selected.runs.items() if (value := metric.test(run)) is not None}


@dataclass(slots=True)
class Design:
    """The comparison as it was laid out, and what of it could be used."""

    metric: Metric
    factors: list[str]
    contenders: list[Contender]
    conditions: list[Condition]
    cells: dict[tuple[Contender, Condition], ContenderRuns]
    tuned: list[str]
    constants: dict[str, Any]
    notes: list[str]
    lead: str = "strategy"
    replicates: Replicates = field(default_factory=Replicates)
    versions: Mapping[str, str] = field(default_factory=dict)
    """Data sets that are other contents of one and the same place, each with the name of that."""
    fresh: bool = False
    """Whether scores are of fresh seeds alone, which nothing was selected on."""

    def cell(self, contender: Contender, condition: Condition) -> ContenderRuns | None:
        """The cell, if any run belongs to it."""
        return self.cells.get((contender, condition))

    def scored(self, condition: Condition) -> list[ContenderRuns]:
        """Cells of a condition that have at least one score, in the order of the contenders."""
        cells = (self.cell(contender, condition) for contender in self.contenders)
        return [cell for cell in cells if cell is not None and cell.scores(self.metric)]


def read_design(records: SweepRecords) -> Design:
    """Sort the runs of sweeps into contenders and conditions, and select on val."""
    metric, notes = choose_metric(records.runs)
    data = read_data(records.runs)
    columns = _columns(records.runs)
    tuned = [key for key in columns if _is_tuned(key)]
    factors, constants, confounded = _factors(columns, tuned, len(records.runs))
    contenders, lead = _contenders(records.runs, columns, factors)
    cells: dict[tuple[Contender, Condition], ContenderRuns] = {}
    members: dict[tuple[Contender, Condition], dict[Values, Candidate]] = defaultdict(dict)
    replicates = read_replicates(records.runs)
    group = (
        "quantile" if any(run.group == "quantile" for run in records.runs) else "class"
    )  # runs without result say none
    twins = 0
    for i, run in enumerate(records.runs):
        place = contenders[i], Condition(data.names[i], _size(run), group)
        cell = cells.setdefault(place, ContenderRuns(*place))
        cell.runs.append(run)
        settings = tuple(columns[key][i] for key in tuned)
        candidate = members[place].setdefault(settings, Candidate(settings, ""))
        if run.completed and metric.test(run) is not None:
            number, found = replicates.numbers[i], candidate.fresh if run.fresh else candidate.runs
            twins += number in found
            found.setdefault(number, run)
    for place, cell in cells.items():
        cell.candidates = list(members[place].values())
        _select(cell, metric, tuned)
    fresh, left_out = _stand_on_fresh_seeds(list(cells.values()))
    notes += data.notes + confounded + left_out
    if twins:
        notes.append(
            f"{plural(twins, 'run')} repeat{'s' * (twins == 1)} a {replicates.unit} under the same settings; the first "
            "counted."
        )
    conditions = sorted({condition for _, condition in cells}, key=lambda condition: (condition.dataset, condition.n))
    order = list(dict.fromkeys(contenders))
    replicates.one_split = _one_split(cells.values())
    return Design(
        metric, factors, order, conditions, cells, tuned, constants, notes, lead, replicates, data.versions, fresh
    )


def _stand_on_fresh_seeds(cells: Sequence[ContenderRuns]) -> tuple[bool, list[str]]:
    """Where any selected setting was run anew on fresh seeds, have all contenders stand with such runs alone."""
    chosen = [cell for cell in cells if cell.selected is not None]
    others = sum(len(c.fresh) for cell in cells for c in cell.candidates if c is not cell.selected)
    notes = []
    if others:
        notes.append(
            f"{plural(others, 'run')} on fresh seeds {'is' if others == 1 else 'are'} of settings that are not those "
            "selected now, and left out. The comparison's command with --fresh-seeds runs anew what is."
        )
    if not any(cell.selected.fresh for cell in chosen if cell.selected):
        return False, notes
    for cell in chosen:
        assert cell.selected is not None
        cell.selected = replace(cell.selected, runs=cell.selected.fresh)
    return True, notes


def _one_split(cells: Iterable[ContenderRuns]) -> bool:
    """Whether there are several replicates somewhere, and in no place two splits."""
    splits: dict[Condition, set[str]] = defaultdict(set)
    repeated = False
    for cell in cells:
        if cell.selected is not None:
            splits[cell.condition] |= {run.split for run in cell.selected.runs.values()}
            repeated |= len(cell.selected.runs) > 1
    return repeated and all(len(found) == 1 and "" not in found for found in splits.values() if found)


def _size(run: Run) -> float:
    value = run.settings.get(SIZE)
    if value is None:
        value = next((item.split("=", 1)[1] for item in run.overrides if item.startswith(f"{SIZE}=")), None)
    try:
        return float(value) if value not in (None, "null", "") else inf
    except (TypeError, ValueError):
        return inf


def _columns(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Everything that varies between runs, by key: choices by group name, settings by dotted key."""
    columns: dict[str, list[str]] = {}
    for name in dict.fromkeys(key for run in runs for key in run.choices):
        if name != "data":
            columns[name] = [run.choices.get(name, "–") for run in runs]
    known = [bool(run.settings) for run in runs]
    for key in dict.fromkeys([*(key for run in runs for key in run.settings), SOLVER]):
        if key in ("seed", SIZE, *KINDS):
            continue
        column = [_setting(run, key) if has else "?" for run, has in zip(runs, known, strict=True)]
        if len(set(column) - {"?"}) > 1:
            columns[key] = column
    weights = read_weights(runs)
    if len(set(weights) - {"?"}) > 1:
        columns["weights"] = weights
    return columns


def _setting(run: Run, key: str) -> str:
    """A setting as it is told; heads that have no choice of solver take steps, or are their training examples."""
    remembers = str(run.settings.get("head._target_")).endswith(".Neighbours")
    unset = "–" if key != SOLVER else "neighbours" if remembers else "gradient"
    return _value(run.settings.get(key, unset))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _is_tuned(key: str) -> bool:
    return (key.split(".")[0] in TUNED and key != SOLVER) or key == "strategy.lr"


def _factors(
    columns: Mapping[str, list[str]], tuned: Sequence[str], num_runs: int
) -> tuple[list[str], dict[str, Any], list[str]]:
    """Which columns are factors; the constant choices; and settings that only change together with a choice."""
    choices = [key for key in columns if "." not in key and key not in IGNORED_CHOICES]
    constants = {key: columns[key][0] for key in choices if len(set(columns[key])) == 1}
    varying = [key for key in choices if key not in constants]
    varying.sort(key=lambda key: LEADING.index(key) if key in LEADING else len(LEADING))
    factors: list[str] = []
    for key in varying:  # a choice that follows from those before it (strategy picks unfreeze) says nothing more
        if not factors or not _follows(columns[key], [columns[name] for name in factors], num_runs):
            factors.append(key)
    by_choice = [columns[key] for key in varying]
    confounded = []
    for key in columns:
        group = key.split(".")[0]
        if "." not in key or key in tuned or (group == "data" and _is_identity(key)):
            continue
        if by_choice and _follows(columns[key], by_choice, num_runs):
            if group not in (*varying, "unfreeze", "weights", "augmentation"):
                confounded.append(key)
        else:
            factors.append(key)
    notes = []
    if confounded:
        notes.append(
            f"{', '.join(confounded)} also differ{'s' * (len(confounded) == 1)} between contenders, always together "
            f"with {' and '.join(varying)}: what each of them does cannot be told apart."
        )
    return factors, constants, notes


def _is_identity(key: str) -> bool:
    return key.rsplit(".", 1)[-1] in ("fingerprint", "path", "root", "name", "_target_")


def _follows(column: list[str], others: Sequence[list[str]], num_runs: int) -> bool:
    """Whether a column's value is settled by those of `others` (values not known bind nothing)."""
    found: dict[Values, str] = {}
    for i in range(num_runs):
        if column[i] != "?" and found.setdefault(tuple(other[i] for other in others), column[i]) != column[i]:
            return False
    return True


def _contenders(
    runs: Sequence[Run], columns: Mapping[str, list[str]], factors: list[str]
) -> tuple[list[Contender], str]:
    lead = factors[0] if factors else "strategy"
    made: dict[Values, Contender] = {}
    result = []
    for i, run in enumerate(runs):
        values = tuple(columns[key][i] for key in factors)
        if values not in made:
            first = values[0] if values else run.choices.get("strategy") or run.choices.get("backbone") or "this setup"
            if lead not in LEADING and factors:
                first = f"{_short(lead)}={first}"
            rest = [
                value if "." not in key else f"{_short(key)}={value}"
                for key, value in zip(factors[1:], values[1:], strict=True)
            ]
            made[values] = Contender(values, " · ".join([first, *rest]), first, " · ".join(rest))
        result.append(made[values])
    return result, lead


def _short(key: str) -> str:
    """Without its group, but where that would read like a choice (`trainer.strategy`)."""
    own = key.split(".", 1)[-1]
    return key if own in LEADING else own


def _select(cell: ContenderRuns, metric: Metric, tuned: Sequence[str]) -> None:
    """Select the candidate with the best mean val among those with the most completed seeds; ties to the first."""
    varying = [i for i in range(len(tuned)) if len({candidate.settings[i] for candidate in cell.candidates}) > 1]
    for candidate in cell.candidates:
        parts = (f"{tuned[i].split('.')[-1]}={candidate.settings[i]}" for i in varying)
        candidate.label = ", ".join(dict.fromkeys(parts))
        scores = [value for run in candidate.runs.values() if (value := metric.val(run)) is not None]
        if scores and len(scores) == len(candidate.runs):
            candidate.val = float(np.mean(scores))
    filled = [candidate for candidate in cell.candidates if candidate.runs]
    if not filled:
        return
    most = max(len(candidate.runs) for candidate in filled)
    full = [candidate for candidate in filled if len(candidate.runs) == most]
    cell.selected = max(full, key=lambda candidate: candidate.val)
