"""What the searches behind a comparison tried: best score on val against what it took, and where the best lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.metrics import mode, shown, text, title
from headstart.record import result
from headstart.record.directory import SweepDirectory
from headstart.record.search import CellRecord, cells_of
from headstart.report.html import Section
from headstart.report.metric import plural, seconds_text
from headstart.report.reading import SweepRecords
from headstart.report.statistics import expected_best
from headstart.report.style import STRATEGIES, Drawing, draw
from headstart.report.tables import Cell, Column, Table
from headstart.system.bounded import DamagedError

NEAR = 0.05
"""Share of a range at its ends in which the best setting is said to be at its bound."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting that a search tried on one seed."""

    number: int
    params: dict[str, Any]
    status: str
    value: float | None
    """On val; of a paused trial so far."""
    epochs: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Searched:
    """A cell's search, as far as its files tell."""

    record: CellRecord
    name: str
    tried: list[Tried]

    @property
    def scored(self) -> list[Tried]:
        """Trials that came to their end with a score, in order."""
        return [one for one in self.tried if one.value is not None and one.status == "completed"]

    @property
    def best(self) -> Tried | None:
        """The best of them, the first of equals."""
        sign = -1 if mode(self.record.monitor) == "max" else 1
        return min(self.scored, key=lambda one: (sign * (one.value or 0.0), one.number), default=None)


def read_searches(records: SweepRecords) -> list[Searched]:
    """Every search in the directories that were read."""
    found = []
    for sweep in map(SweepDirectory, records.directories):
        for record, directory in cells_of(sweep):
            try:
                trials = [trial for trial in directory.trials() if trial.is_draw]
            except DamagedError:  # which is among the notes
                continue
            tried = []
            for trial in trials:
                done = result.read(sweep.run(trial.run_id), trial.run_id) if trial.run_id else None
                status = "refused" if not trial.run_id else "unfinished" if done is None else done.status
                selection, cost = (None, {}) if done is None else (done.selection, done.cost)
                value = None if selection is None else selection.value
                params = dict(trial.params if trial.number else record.defaults)
                epochs, seconds = (float(cost.get(name) or 0.0) for name in ("epochs", "total_seconds"))
                tried.append(Tried(trial.number, params, status, value, epochs, seconds))
            found.append(Searched(record, record.label, tried))
    return found


def section(records: SweepRecords) -> Section:
    """The searches' part of the page."""
    made = Section("search", "Searches")
    searches = read_searches(records)
    if not searches:
        made.missing = "Nothing was searched: all settings are as they were listed."
        return made
    made.lead = (
        "Each contender's settings were searched by themselves, on val alone and on one seed. The best of many scores "
        "on val is too good to be true: what contenders are compared by are the fresh seeds above."
    )
    bounds = [f"{one.name}: {', '.join(keys)}" for one in searches if (keys := at_bounds(one))]
    if bounds:
        made.lead += (
            f" At the end of its range lies the best of {'; '.join(bounds)}: a wider range may hold a better one."
        )
    made.tables, made.folded = [_overview(searches)], [_trials(searches)]
    made.drawings = [drawing for one in (_expected(searches),) if (drawing := one) is not None]
    return made


def at_bounds(one: Searched) -> list[str]:
    """Settings of the best trial that lie at an end of their range."""
    import math

    if one.best is None or not one.best.number:
        return []
    found = []
    for variable in one.record.space:
        value, values = one.best.params.get(variable["key"]), variable.get("values")
        if values is not None or not isinstance(value, (int, float)):
            continue
        scale = math.log if variable.get("log") else float
        low, high, at = (scale(number) for number in (variable["low"], variable["high"], value))
        if min(at - low, high - at) <= NEAR * (high - low):
            found.append(f"{variable['key']}={value:g}")
    return found


def _overview(searches: Sequence[Searched]) -> Table:
    columns = [
        Column("search", "Search"),
        Column("tried", "Tried", True, "settings, the default among them"),
        Column("paused", "Paused", True, "settings that were not trained to their end", detail=True),
        Column("failed", "Failed", True, "settings whose run failed, or that no run can have", detail=True),
        Column("epochs", "Epochs", True, "trained in all", detail=True),
        Column("seconds", "Seconds", True, "of all its trials", detail=True),
        Column("default_val", "Default", True, "on val, on the search's seed"),
        Column("best_val", "Best", True, "on val, on the search's seed"),
        Column("setting", "By"),
        Column("method", "Method", detail=True),
    ]
    table = Table("searches", "What each search tried, and the best that it saw on val", columns)
    for one in searches:
        best, default = one.best, next((tried for tried in one.scored if not tried.number), None)
        counts = [sum(tried.status in kinds for tried in one.tried) for kinds in (("stopped",), ("failed", "refused"))]
        epochs, seconds = sum(tried.epochs for tried in one.tried), sum(tried.seconds for tried in one.tried)
        setting = "the default"
        if best is None or best.number:
            setting = ", ".join(
                f"{key.split('.')[-1]}={_short(value)}" for key, value in (best.params if best else {}).items()
            )
        table.add(
            one.name, Cell(f"{len(one.tried):,}", len(one.tried)), *(Cell(str(count), count) for count in counts),
            Cell(f"{epochs:,.0f}", epochs), Cell(seconds_text(seconds), seconds),
            _score(one, default), _score(one, best), setting or "–", one.record.method,
        )  # fmt: skip
    return table


def _trials(searches: Sequence[Searched]) -> Table:
    columns = [
        Column("search", "Search"),
        Column("trial", "Trial", True),
        Column("status", "Status"),
        Column("val", "Val", True),
        Column("epochs", "Epochs", True),
        Column("seconds", "Seconds", True),
        Column("setting", "Setting"),
    ]
    table = Table("search-trials", "Every setting that was tried", columns, shown=200)
    for one in searches:
        for tried in one.tried:
            setting = " ".join(f"{key}={_short(value)}" for key, value in tried.params.items())
            status = "paused" if tried.status == "stopped" else tried.status
            table.add(
                one.name, Cell(str(tried.number), tried.number), status,
                _score(one, tried), Cell(f"{tried.epochs:g}", tried.epochs),
                Cell(seconds_text(tried.seconds), tried.seconds), setting,
            )  # fmt: skip
    return table


def _expected(searches: Sequence[Searched]) -> Drawing | None:
    """Expected best score on val of so many settings, by search (Dodge et al. 2019)."""
    drawn = [one for one in searches if len(one.scored) > 1]
    monitors = {one.record.monitor for one in drawn}
    if len(monitors) != 1:
        return None
    (monitor,) = monitors
    sign = 1 if mode(monitor) == "max" else -1

    def paint(figure: Any) -> None:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        axes = figure.subplots()
        axes.set_xscale("log")
        spare = [light for light, _, _ in STRATEGIES.values()]
        for place, one in enumerate(drawn):
            scores = [sign * (tried.value or 0.0) for tried in one.scored]
            counts = range(1, len(scores) + 1)
            known = STRATEGIES.get(str(one.record.choices.get("strategy")))
            color = known[0] if known else spare[place % len(spare)]
            axes.plot(counts, [sign * expected_best(scores, n) for n in counts], color=color, label=one.name)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(monitor, value)))
        axes.set_xlabel("settings tried (log scale)")
        axes.set_ylabel(f"expected best val {title(monitor)}")
        axes.legend(frameon=False, fontsize=6)

    name = f"Expected best val {title(monitor)} of so many settings"
    alt = f"A line for each of {plural(len(drawn), 'search')}, rising with the number of settings tried."
    caption = "Mean of the best score on val of so many of the settings tried, drawn at random with replacement."
    return draw("search", name, alt, caption, 2.4, paint)


def _score(one: Searched, tried: Tried | None) -> Cell:
    if tried is None or tried.value is None:
        return Cell("–")
    return Cell(shown(one.record.monitor, tried.value).removeprefix("val "), tried.value)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
