"""Figures along an axis: scores by training size, by number of trials, under shift, and by epoch."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf, isfinite
from typing import Any

import numpy as np

from headstart.report.analysis import Analysis
from headstart.report.artifacts import Curve
from headstart.report.design import Condition, Contender
from headstart.report.figures import MOST_ROWS, Looks, axis_name, place_text
from headstart.report.metric import Metric
from headstart.report.scored import Summary, training_size
from headstart.report.style import INK, MUTED, Drawing, draw, shorten

MOST_PANELS = 12


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Positions moved apart to at least `gap`, in their order, as little as a pass up and a pass down need."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = list(positions)
    for _ in range(60):
        moved = False
        for low, high in pairwise(order):
            overlap = gap - (placed[high] - placed[low])
            if overlap > 1e-9 * gap:
                placed[low] -= overlap / 2
                placed[high] += overlap / 2
                moved = True
        if not moved:
            break
    return placed


def name_ends(axes: Any, ends: Sequence[tuple[float, str, str]], height: float) -> None:
    """Name lines at their right ends, `(y, label, colour)`, moved apart, with a thin tie to where each belongs."""
    low, high = axes.get_ylim()
    points = height * 72
    places = spread([y for y, _, _ in ends], 7.4 * (high - low) / points)
    for (y, label, color), place in zip(ends, places, strict=True):
        transform = axes.get_yaxis_transform()
        axes.plot([1.0, 1.03], [y, place], color=color, lw=0.6, transform=transform, clip_on=False)
        axes.text(1.04, place, shorten(label, 26), color=color, va="center", size=6, transform=transform)


def low_data(analysis: Analysis, dataset: str, looks: Looks, name: str) -> Drawing | None:
    """Score against training examples a class, with t-intervals as bands and the crossovers as marks."""
    metric = analysis.design.metric
    lines: dict[Contender, list[tuple[float, Summary]]] = {}
    for condition, rows in analysis.summaries.items():
        for row in rows if condition.dataset == dataset else []:
            size = training_size(row.cell)
            if 0 < size < inf:
                lines.setdefault(row.cell.contender, []).append((size, row))
    lines = {contender: sorted(line, key=lambda point: point[0]) for contender, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    shown = sorted(lines, key=lambda contender: -lines[contender][-1][1].interval.mean)[:MOST_ROWS]
    crossings = {
        key[2]: by.overtakes for key, by in analysis.by_size.items()
        if key[0] == dataset and by.overtakes is not None and by.overtakes.place and key[2] in shown
    }  # fmt: skip

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.set_xscale("log")
        ends = []
        for contender in shown:
            xs = [size for size, _ in lines[contender]]
            intervals = [row.interval for _, row in lines[contender]]
            ys = [metric.raw(interval.mean) for interval in intervals]
            band = [[metric.raw(x) for x in (i.low, i.high)] if i.known else [np.nan] * 2 for i in intervals]
            axes.fill_between(xs, *np.transpose(band), color=looks[contender].color, alpha=0.13, lw=0)
            axes.plot(xs, ys, **looks[contender].line())
            ends.append((ys[-1], contender.label, looks[contender].color))
        low = axes.get_ylim()[0]
        for contender, crossing in crossings.items():
            axes.plot([crossing.place], [low], "^", color=looks[contender].color, markersize=4, clip_on=False, zorder=5)
        axes.set_ylim(bottom=low)
        _tick_sizes(axes, sorted({size for line in lines.values() for size, _ in line}))
        axes.set(
            xlabel=f"training examples a {analysis.design.conditions[0].group} (log scale)", ylabel=axis_name(metric)
        )
        name_ends(axes, ends, 1.75)

    unit = analysis.design.replicates.unit
    caption = f"Mean test {metric.title} by size of the training set on {dataset}; bands: 95% t-intervals over {unit}s."
    if crossings:
        caption += " A triangle on the axis marks where a contender overtakes feature extraction."
    if len(lines) > MOST_ROWS:
        caption += f" The best {MOST_ROWS} of {len(lines)} are drawn."
    alt = "; ".join(
        f"{c.label} from {metric.text(lines[c][0][1].interval.mean)} at {lines[c][0][0]:g} "
        f"to {metric.text(lines[c][-1][1].interval.mean)} at {lines[c][-1][0]:g}"
        for c in shown[:8]
    )
    return draw(
        name, "Low-data curves", f"By examples a {analysis.design.conditions[0].group}: {alt}.", caption, 2.3, paint
    )


def _tick_sizes(axes: Any, sizes: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    kept = [sizes[0]]
    for size in sizes[1:]:
        if size / kept[-1] >= (sizes[-1] / sizes[0]) ** 0.07:
            kept.append(size)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def budgets(analysis: Analysis, condition: Condition, looks: Looks, name: str) -> Drawing | None:
    """Expected best validation score against number of trials, both estimators."""
    metric = analysis.design.metric
    found = sorted(analysis.budgets.get(condition, []), key=lambda budget: -budget.unbiased[-1])[:MOST_ROWS]
    if not found:
        return None

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        ends = []
        for budget in found:
            xs, look = range(1, len(budget.trials) + 1), looks[budget.contender]
            ys = [metric.raw(value) for value in budget.unbiased]
            every = max(1, len(ys) // 8)
            axes.plot(xs, ys, **look.line(markevery=every))
            dodge = [metric.raw(value) for value in budget.with_replacement]
            axes.plot(xs, dodge, color=look.color, lw=0.7, ls=(0, (1, 1.5)))
            ends.append((ys[-1] if len(ys) == max(len(b.trials) for b in found) else dodge[-1], budget))
        axes.set(xlabel="settings tried", ylabel=axis_name(metric, "expected best val"))
        axes.xaxis.get_major_locator().set_params(integer=True)
        name_ends(axes, [(y, b.contender.label, looks[b.contender].color) for y, b in ends], 1.75)

    caption = (
        f"Expected best validation {metric.title} by number of settings tried on {place_text(condition)}. Solid: "
        "unbiased, without replacement (Tang et al. 2020); dotted: with replacement (Dodge et al. 2019), which is too "
        "low."
    )
    alt = "; ".join(
        f"{b.contender.label} {metric.text(b.unbiased[0])} after 1, {metric.text(b.unbiased[-1])} after {len(b.trials)}"
        for b in found[:8]
    )
    return draw(name, "Budget curves", f"Expected best validation score: {alt}.", caption, 2.3, paint)


def shifts(analysis: Analysis, condition: Condition, looks: Looks, name: str) -> Drawing | None:
    """In-distribution against shifted, a panel for each shifted test set."""
    metric, shifted = analysis.design.metric, analysis.shifts.get(condition, {})
    names = list(shifted)[:6]
    rows = {row.cell.contender: row for row in analysis.summaries[condition]}
    found = {c: {name: shifted[name].intervals[c] for name in names if c in shifted[name].intervals} for c in rows}
    order = [contender for contender in rows if found[contender]][:MOST_ROWS]
    if not names:
        return None

    def paint(figure: Any) -> None:
        from matplotlib.lines import Line2D

        axes = figure.subplots()
        height = 0.7 / len(names)
        for y, contender in enumerate(order):
            look, inside = looks[contender], metric.raw(rows[contender].interval.mean)
            for place, shift in enumerate(names):
                interval = found[contender].get(shift)
                if interval is None:
                    continue
                at, outside = y + (place - (len(names) - 1) / 2) * height, metric.raw(interval.mean)
                axes.plot([inside, outside], [at, at], color=look.color, lw=0.8, alpha=0.5)
                axes.plot(
                    [outside],
                    [at],
                    marker=look.marker,
                    ls="none",
                    color=look.color,
                    mfc="none",
                    mew=0.8,
                    markersize=3.6,
                )
                if len(names) > 1:
                    axes.annotate(shift, (outside, at), (-4, 0), textcoords="offset points", ha="right", va="center",
                                  size=5, color=MUTED)  # fmt: skip
            axes.plot([inside], [y], **look.line(linestyle="none", markersize=4.6))
        axes.set_yticks(range(len(order)), [shorten(contender.label, 30) for contender in order])
        axes.set_ylim(len(order) - 0.5, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.3 if len(names) > 1 else 0.1)
        axes.set_xlabel(axis_name(metric, ""))
        handles = [Line2D([], [], marker="o", ls="none", color=MUTED, mfc=fill, mew=0.8) for fill in (MUTED, "none")]
        figure.legend(handles, ["own test set", "shifted"], loc="outside upper right", ncols=2, handletextpad=0.1)

    caption = (
        f"Own test set (filled) against shifted test sets ({', '.join(names)}; hollow), on {place_text(condition)}."
    )
    alt = "; ".join(
        f"{c.label} {metric.text(rows[c].interval.mean)}, "
        + ", ".join(f"{shift} {metric.text(i.mean)}" for shift, i in found[c].items())
        for c in order[:8]
    )
    rows_high = 0.16 * max(1.5, len(names))
    return draw(name, "Shifted test sets", alt + ".", caption, 0.62 + rows_high * len(order), paint)


def learning(
    curves: Mapping[Contender, list[Curve]], metric: Metric, condition: Condition, looks: Looks
) -> Drawing | None:
    """Training and validation by epoch, a panel for each contender, a line for each run, phases marked."""
    key = metric.name if any(f"val/{metric.name}" in c.columns for found in curves.values() for c in found) else "loss"
    metric = Metric(key)
    shown = [(contender, found) for contender, found in curves.items()
             if any(f"val/{key}" in curve.columns for curve in found)][:MOST_PANELS]  # fmt: skip
    if not shown:
        return None
    columns = 2 if len(shown) > 1 else 1
    lines = -(-len(shown) // columns)

    def paint(figure: Any) -> None:
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (contender, found) in zip(grid.flat, shown, strict=False):
            for curve in found:
                epochs = curve.columns["epoch"]
                for part, style in (("train", {"ls": (0, (1, 1.4)), "lw": 0.7}), ("val", {"lw": 0.9})):
                    values = curve.columns.get(f"{part}/{key}")
                    if values is not None:
                        ys = [metric.raw(metric.sign * value) if isfinite(value) else np.nan for value in values]
                        mark = "." if len(ys) == 1 else None  # a line of one point is not seen
                        axes.plot(epochs, ys, color=looks[contender].color, alpha=0.85, marker=mark, **style)
            for epoch in _thaws(found[0]):
                axes.axvline(epoch, color=MUTED, lw=0.5, ls=(0, (3, 2)))
            axes.set_title(shorten(contender.label, 28), color=INK, pad=2)
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        figure.supxlabel("epoch", size=6.5)
        figure.supylabel(axis_name(metric, ""), size=6.5)

    caption = (
        f"Validation (solid) and training (dotted) {metric.title} by epoch on {place_text(condition)}, one line a run. "
        "Dashed verticals: a new phase of the thaw plan."
    )
    alt = f"Small panels of {metric.title} by epoch for {', '.join(contender.label for contender, _ in shown)}."
    return draw("learning-curves", "Learning curves", alt, caption, 0.3 + 0.95 * lines, paint)


def _thaws(curve: Curve) -> list[float]:
    """Epochs at which a new phase starts, set between two epochs."""
    epochs = curve.columns["epoch"]
    return [epochs[i] - 0.5 for i in range(1, len(epochs)) if curve.phases[i] != curve.phases[i - 1]]
