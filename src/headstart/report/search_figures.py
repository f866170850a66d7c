"""Figures of what searches tried: expected best by settings, best by cost, and where good settings lie."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from headstart.metrics import mode, text, title
from headstart.names import plural
from headstart.report.searched import Searched, Tried
from headstart.report.statistics import expected_best
from headstart.report.style import ACCENT, MUTED, STRATEGIES, Drawing, draw, shorten

MOST_PANELS = 12
"""Of slices: searches beyond have their settings in the table."""
COLUMNS = 2
"""Of panels: a third one leaves no room for the numbers on the scales."""


def expected(searches: Sequence[Searched]) -> Drawing | None:
    """Expected best score on val of so many settings, by search (Dodge et al. 2019)."""
    drawn = [one for one in searches if len(one.scored) > 1]
    monitor = _monitor(drawn)
    if monitor is None:
        return None
    sign = 1 if mode(monitor) == "max" else -1

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for place, one in enumerate(drawn):
            scores = [sign * (tried.value or 0.0) for tried in one.scored]
            counts = range(1, len(scores) + 1)
            means = [sign * expected_best(scores, n) for n in counts]
            axes.plot(counts, means, color=_colour(one, place), label=one.name)
        _label(axes, monitor, "settings tried (log scale)", f"expected best val {title(monitor)}")
        axes.legend(frameon=False, fontsize=6)

    name = f"Expected best val {title(monitor)} of so many settings"
    alt = f"A line for each of {plural(len(drawn), 'search')}, rising with the number of settings tried."
    caption = "Mean of the best score on val of so many of the settings tried, drawn at random with replacement."
    return draw("search", name, alt, caption, 2.4, paint)


def _label(axes: Any, monitor: str, x: str, y: str) -> None:
    """A scale of counts from left to right, each ten times the last; scores from below."""
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    _scores(axes, monitor)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _plain_numbers(axis: Any) -> None:
    """Numbers on a scale as they are written in settings, 0.001 or 1e-05."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _scores(axes: Any, monitor: str) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(monitor, value)))


def _monitor(searches: Sequence[Searched]) -> str | None:
    """What all searches go by."""
    monitors = {one.record.monitor for one in searches}
    return monitors.pop() if len(monitors) == 1 else None


def _colour(one: Searched, place: int) -> str:
    spare = [light for light, _, _ in STRATEGIES.values()]
    known = STRATEGIES.get(str(one.record.choices.get("strategy")))
    return known[0] if known else spare[place % len(spare)]


def best_by_cost(searches: Sequence[Searched]) -> Drawing | None:
    """Best score on val so far against epochs trained, by search, in the order in which trials ended."""
    drawn = [one for one in searches if len(one.scored) > 1]
    monitor = _monitor(drawn)
    if monitor is None:
        return None

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for place, one in enumerate(drawn):
            costs, scores = progress_of(one)
            axes.step(costs, scores, where="post", color=_colour(one, place), label=one.name)
        _label(axes, monitor, "epochs trained by all trials so far (log scale)", f"best val {title(monitor)}")
        axes.legend(frameon=False, fontsize=6)

    name = f"Best val {title(monitor)} by what was spent"
    alt = f"A line of steps for each of {plural(len(drawn), 'search')}: the best score so far against epochs trained."
    caption = (
        "Best score on val of a trial that came to its end, by the epochs that all trials, paused ones too, had taken."
    )
    return draw("search-cost", name, alt, caption, 2.4, paint)


def progress_of(one: Searched) -> tuple[list[float], list[float]]:
    """Epochs trained and the best score so far, at the end of each trial; from the first that has a score."""
    better = max if one.is_maximized else min
    costs: list[float] = []
    scores: list[float] = []
    spent = 0.0
    for tried in sorted(one.tried, key=lambda tried: (tried.finished, tried.number)):
        spent += tried.epochs
        if tried.value is not None and tried.status == "completed":
            scores.append(tried.value if not scores else better(scores[-1], tried.value))
            costs.append(spent)
        elif scores:
            scores.append(scores[-1])
            costs.append(spent)
    return costs, scores


def slices(searches: Sequence[Searched]) -> Drawing | None:
    """Score on val of every trial against each setting that was searched."""
    panels = [(place, one, v) for place, one in enumerate(searches) for v in one.space if len(one.scored) > 1]
    panels = panels[:MOST_PANELS]
    if not panels:
        return None
    columns = min(COLUMNS, len(panels))
    lines = ceil(len(panels) / columns)

    def paint(figure: Any) -> None:
        grid = figure.subplots(lines, columns, squeeze=False)
        for number, (place, one, variable) in enumerate(panels):
            axes = grid[number // columns][number % columns]
            known = [tried for tried in one.scored if tried.params.get(variable.key) is not None]
            values = [str(t.params[variable.key]) if variable.values else t.params[variable.key] for t in known]
            axes.scatter(
                values, [tried.value for tried in known], s=5, color=_colour(one, place), linewidths=0, alpha=0.7
            )
            _mark(axes, one, variable)
            if not variable.values:
                _few_numbers(axes, variable.log)
            _scores(axes, one.record.monitor)
            axes.set_title(shorten(one.name, 22))
            axes.set_xlabel(shorten(variable.key, 26))
        for number in range(len(panels), lines * columns):
            grid[number // columns][number % columns].set_visible(False)

    alt = f"{plural(len(panels), 'panel')}: the score on val of each trial against one of its settings."
    caption = "Each point is a trial that came to its end; the best is ringed, the default is the dashed line."
    return draw("search-slices", "Where good settings lie", alt, caption, 1.35 * lines + 0.2, paint)


def _few_numbers(axes: Any, log: bool) -> None:
    """At most four numbers below a panel, which has room for no more."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if log:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=4) if log else MaxNLocator(4))
    _plain_numbers(axes.xaxis)


def _mark(axes: Any, one: Searched, variable: Any) -> None:
    """The best trial, and where the default lies."""
    best: Tried | None = one.best
    value = None if best is None else best.params.get(variable.key)
    if best is not None and value is not None:
        shown = str(value) if variable.values else value
        axes.scatter([shown], [best.value], s=28, facecolors="none", edgecolors=ACCENT, linewidths=0.9)
    default = one.record.defaults.get(variable.key)
    if default is not None and not variable.values:
        axes.axvline(default, color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)))
