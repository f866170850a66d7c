"""What the searches behind a comparison tried: best score on val against what it took, and where the best lies."""

from collections.abc import Sequence
from typing import Any

from headstart.metrics import shown
from headstart.report.html import Section
from headstart.report.metric import seconds_text
from headstart.report.reading import SweepRecords
from headstart.report.search_figures import best_by_cost, expected, slices
from headstart.report.searched import Searched, Tried, read_searches
from headstart.report.tables import Cell, Column, Table


def section(records: SweepRecords) -> Section:
    """The searches' part of the page."""
    made = Section("search", "Searches")
    searches = read_searches(records.directories)
    if not searches:
        made.missing = "Nothing was searched: all settings are as they were listed."
        return made
    made.lead = (
        "Each contender's settings were searched by themselves, on val alone and on one seed. The best of many scores "
        "on val is too good to be true: what contenders are compared by are the fresh seeds above."
    )
    bounds = [
        f"{one.name}: {', '.join(f'{v.key}={_short(one.best.params[v.key])}' for v in one.at_bounds)}"
        for one in searches
        if one.best is not None and one.at_bounds
    ]
    if bounds:
        made.lead += (
            f" At the end of its range lies the best of {'; '.join(bounds)}: a wider range may hold a better one."
        )
    made.tables, made.folded = [_overview(searches), _settings(searches)], [_trials(searches)]
    drawn = (best_by_cost(searches), expected(searches), slices(searches))
    made.drawings = [one for one in drawn if one is not None]
    return made


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


def _settings(searches: Sequence[Searched]) -> Table:
    """What was searched, how much it matters and where the best lies."""
    columns = [
        Column("search", "Search"),
        Column("setting", "Setting"),
        Column("importance", "Importance", True, "share of the spread (PED-ANOVA), from ten scores on"),
        Column("default", "Default"),
        Column("best", "Best"),
        Column("range", "Range", detail=True),
        Column("bound", "At its end", about="the best lies within 5% of an end of the range"),
    ]
    table = Table("search-settings", "What was searched, how much it matters, and where the best lies", columns)
    for one in searches:
        shares, bounds = one.importances, {variable.key for variable in one.at_bounds}
        for variable in one.space:
            share, best = shares.get(variable.key), one.best
            table.add(
                one.name, variable.key, Cell("–") if share is None else Cell(f"{share:.0%}", share),
                _short(one.record.defaults.get(variable.key)),
                "–" if best is None else _short(best.params.get(variable.key)),
                str(variable).partition(": ")[2], "yes" if variable.key in bounds else "",
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


def _score(one: Searched, tried: Tried | None) -> Cell:
    if tried is None or tried.value is None:
        return Cell("–")
    return Cell(shown(one.record.monitor, tried.value).removeprefix("val "), tried.value)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
