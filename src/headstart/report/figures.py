"""Figures of the comparison: scores, differences, score against cost, ranks over data sets."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np

from headstart import metrics
from headstart.names import plural
from headstart.report.across import AcrossData
from headstart.report.analysis import Analysis
from headstart.report.design import Condition, Contender
from headstart.report.metric import Metric, baseline, p_equals, scaled, seconds_text
from headstart.report.scored import Summary
from headstart.report.style import INK, MUTED, Drawing, Look, draw, shorten

MOST_ROWS = 16
Looks = Mapping[Contender, Look]
COSTS = {
    "seconds": ("training seconds, features included", seconds_text),
    "flops": ("training FLOPs, features included", lambda value: scaled(value, "FLOP")),
    "trainable_parameters": ("trainable parameters", scaled),
}


def place_text(condition: Condition) -> str:
    """Where a figure's numbers come from: `openmoji, 40 examples a class`."""
    return ", ".join(filter(None, (condition.dataset, condition.sized)))


def axis_name(metric: Metric, part: str = "test") -> str:
    """The label of an axis of scores."""
    beside = ", ".join(filter(None, ("%" * metric.share, metric.direction)))
    return f"{part} {metric.title}".strip() + (f" ({beside})" if beside else "")


def _best_rows(rows: Sequence[Summary]) -> tuple[list[Summary], str]:
    ordered = list(rows)
    note = f" The best {MOST_ROWS} of {len(ordered)} are drawn; the table has all." if len(ordered) > MOST_ROWS else ""
    return ordered[:MOST_ROWS], note


def scores(analysis: Analysis, condition: Condition, looks: Looks, name: str) -> Drawing:
    """Mean, 95% t-interval and every replicate for each contender."""
    metric, unit = analysis.design.metric, analysis.design.replicates.unit
    rows, note = _best_rows(analysis.summaries[condition])
    chance = baseline(rows[0].beside, metric)
    if chance is None:
        classes = next((run.num_classes for run in rows[0].cell.runs if run.num_classes), None)
        chance = metrics.chance(metric.name, classes)
    if chance is not None:
        note = f" Dotted line: one and the same answer, the best for training.{note}"

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            look, interval = looks[row.cell.contender], row.interval
            seeds = [metric.raw(value) for value in row.scores.values()]
            axes.plot(seeds, [y + 0.24] * len(seeds), "|", color=look.color, alpha=0.55, markersize=4, mew=0.8)
            if interval.known:
                axes.plot(metric.ends(interval.low, interval.high), [y, y], color=look.color, lw=1.6)
            axes.plot([metric.raw(interval.mean)], [y], **look.line(linestyle="none", markersize=4.6))
            text = f"{metric.raw(interval.mean):.1f}" if metric.share else metric.text(interval.mean)
            axes.annotate(
                text, (1.02, y), xycoords=("axes fraction", "data"), va="center", annotation_clip=False, color=INK
            )
        _name_rows(axes, [row.cell.contender.label for row in rows])
        if chance is not None:
            axes.axvline(metric.raw(metric.sign * chance), color=MUTED, lw=0.8, ls=(0, (1, 1.5)))
        axes.set_xlabel(axis_name(metric))

    spread = "; ".join(
        f"{r.cell.contender.label} {metric.text(r.interval.mean)} ({metric.range(r.interval.low, r.interval.high)})"
        for r in rows[:8]
    )
    caption = (
        f"Test {metric.title} on {place_text(condition)}. Marker: mean over {unit}s; bar: 95% t-interval of the "
        f"mean; ticks: single {unit}s.{note}"
    )
    return draw(name, "Scores", f"Means with 95% intervals, best first: {spread}.", caption, _height(len(rows)), paint)


def _height(num_rows: int) -> float:
    return 0.42 + 0.21 * max(2, num_rows)


def _name_rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [shorten(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def differences(analysis: Analysis, condition: Condition, looks: Looks, name: str) -> Drawing | None:
    """What the leader is ahead of every other by: paired differences with their intervals."""
    metric, leader = analysis.design.metric, analysis.leader(condition).cell.contender
    found = [d for d in analysis.differences[condition] if leader in (d.first, d.second) and d.interval is not None]
    shown = sorted(found, key=lambda d: abs(d.interval.mean) if d.interval else 0)[:MOST_ROWS]
    if not shown:
        return None
    scale = 100 if metric.share else 1
    others = [d.second if d.first is leader else d.first for d in shown]
    signs = [1 if d.first is leader else -1 for d in shown]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, lw=0.8)
        for y, (difference, other, sign) in enumerate(zip(shown, others, signs, strict=True)):
            interval = difference.interval
            assert interval is not None
            if interval.known:
                ends = [sign * scale * interval.low, sign * scale * interval.high]
                axes.plot(ends, [y, y], color=looks[other].color, lw=1.6)
            axes.plot([sign * scale * interval.mean], [y], **looks[other].line(linestyle="none", markersize=4.6))
        _name_rows(axes, [other.label for other in others])
        axes.set_xlabel(f"{shorten(leader.label, 28)} ahead by" + (" (points)" if metric.share else ""))

    words = "; ".join(
        f"{other.label} {metric.gap(sign * d.interval.mean)}"
        for d, other, sign in zip(shown, others, signs, strict=True)
        if d.interval is not None
    )
    caption = (
        f"How far {leader.label} is ahead on {place_text(condition)}: mean paired difference (same "
        f"{analysis.design.replicates.unit}, same split) with its 95% t-interval, not adjusted for the number of "
        "comparisons. An interval that holds zero leaves the order open; of others, the test tells."
    )
    alt = f"{leader.label} against the others: {words}{metric.unit}."
    return draw(name, "Differences", alt, caption, _height(len(shown)), paint)


def pareto(analysis: Analysis, condition: Condition, looks: Looks, cost: str, name: str) -> Drawing | None:
    """Mean score against one cost, with the frontier of those that nothing beats on both."""
    metric = analysis.design.metric
    rows = [row for row in analysis.summaries[condition] if isfinite(row.costs[cost]) and row.costs[cost] > 0]
    if len(rows) < 2:
        return None
    best = frontier([(row.costs[cost], row.interval.mean) for row in rows])
    title, form = COSTS[cost]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        xs, ys = [row.costs[cost] for row in rows], [metric.raw(row.interval.mean) for row in rows]
        axes.set_xscale("log")
        steps = sorted((xs[i], ys[i]) for i in best)
        axes.step([x for x, _ in steps], [y for _, y in steps], where="post", color=MUTED, lw=0.8, ls=(0, (3, 2)))
        for i, row in enumerate(rows):
            if row.interval.known:
                ends = metric.ends(row.interval.low, row.interval.high)
                axes.plot([xs[i]] * 2, ends, color=looks[row.cell.contender].color, lw=0.9, alpha=0.7)
            axes.plot([xs[i]], [ys[i]], **looks[row.cell.contender].line(linestyle="none", markersize=4.6))
        axes.margins(x=0.16, y=0.12)
        _tick_costs(axes, form, xs)
        axes.set(xlabel=title, ylabel=axis_name(metric))
        named = range(len(rows)) if len(rows) <= MOST_ROWS else best
        labels = [(xs[i], ys[i], rows[i].cell.contender.label) for i in named]
        label_points(figure, axes, labels, list(zip(xs, ys, strict=True)), steps)

    names = ", ".join(rows[i].cell.contender.label for i in sorted(best, key=lambda i: rows[i].costs[cost]))
    caption = (
        f"Mean test {metric.title} against {title} on {place_text(condition)} (log scale). The dashed line is the "
        f"Pareto frontier: {names}. Bars: 95% t-intervals."
    )
    return draw(name, f"Score against {title}", f"On the frontier, cheapest first: {names}.", caption, 2.2, paint)


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of `(cost, score)` points that no other point beats: none as cheap and better, or cheaper and as good."""
    return [
        i for i, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
    ]  # fmt: skip


def _tick_costs(axes: Any, form: Any, xs: Sequence[float]) -> None:
    """Ticks at 1, 2, 5 × powers of ten, as few as fit, in words."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(xs) / 1.6, max(xs) * 1.6
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in decades for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= 5:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: 1 + len(ticks) // 7]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def label_points(
    figure: Any, axes: Any, points: Sequence[tuple[float, float, str]], marks: Sequence[Any], steps: Sequence[Any]
) -> None:
    """Name points beside their markers, where neither a marker, a name nor the line of steps is; else not at all."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.get_layout_engine().execute(figure)
    to_pixels, point = axes.transData.transform, figure.dpi / 72
    taken = [
        Bbox.from_bounds(x - 3.6 * point, y - 3.6 * point, 7.2 * point, 7.2 * point)
        for x, y in (to_pixels(mark) for mark in marks)
    ]
    corners = [to_pixels(step) for step in steps]
    for (x0, y0), (x1, y1) in pairwise(corners):
        taken += [Bbox.from_extents(x0, y0 - 1, x1, y0 + 1), Bbox.from_extents(x1 - 1, y0, x1 + 1, y1)]
    frame = axes.get_window_extent()
    near = [(5, 0), (-5, 0), (0, 5), (0, -5), (4, 5), (-4, 5), (4, -5), (-4, -5)]
    for x, y, text in points:
        for dx, dy in [*near, *((3 * dx, 3 * dy) for dx, dy in near), *((6 * dx, 6 * dy) for dx, dy in near[2:])]:
            far = max(abs(dx), abs(dy)) > 6
            note = axes.annotate(
                shorten(text, 30), (x, y), (dx, dy), textcoords="offset points", size=5.6, color=INK,
                ha="center" if dx == 0 else "left" if dx > 0 else "right",
                va="center" if dy == 0 else "bottom" if dy > 0 else "top",
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": MUTED, "shrinkB": 2.5} if far else None,
            )  # fmt: skip
            note.get_window_extent()  # moves the text to its place; its own box leaves out the line
            box = Text.get_window_extent(note)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


def ranks(across: AcrossData, name: str) -> Drawing | None:
    """Demšar's critical-difference diagram: mean ranks, with bars over those that cannot be told apart."""
    test = across.ranks
    if test is None:
        return None
    order = np.argsort(test.mean_ranks, kind="stable")
    mean_ranks = [test.mean_ranks[i] for i in order]
    labels, k = [across.contenders[i].label for i in order], len(order)
    bars = cliques(mean_ranks, test.critical_difference)
    half = (k + 1) // 2

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        top = 0.6 * len(bars)
        for place, (rank, label) in enumerate(zip(mean_ranks, labels, strict=True)):
            left = place < half
            depth = top + 0.9 + (place if left else k - 1 - place)
            end = 1 - 0.35 if left else k + 0.35
            axes.plot([rank, rank, end], [0, depth, depth], color=INK, lw=0.6, clip_on=False)
            text = f"{shorten(label, 24)} {rank:.2f}" if left else f"{rank:.2f} {shorten(label, 24)}"
            side, gap = ("right", -3) if left else ("left", 3)
            axes.annotate(text, (end, depth), (gap, 0), textcoords="offset points", ha=side, va="center", size=6)
        for level, (first, last) in enumerate(bars):
            y = 0.45 + 0.6 * level
            axes.plot(
                [mean_ranks[first] - 0.04, mean_ranks[last] + 0.04], [y, y], color=INK, lw=2.2, solid_capstyle="round"
            )
        axes.plot([1, 1 + test.critical_difference], [-1.3, -1.3], color=INK, lw=0.9, marker="|", markersize=4)
        axes.text(1, -1.6, f"critical difference {test.critical_difference:.2f}", size=6, va="bottom")
        axes.set(ylim=(top + half + 0.6, -2.6), xlim=(1 - 0.1 * k, k + 0.1 * k), yticks=[], xticks=range(1, k + 1))
        axes.xaxis.set_ticks_position("top")
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.spines["top"].set(visible=True, bounds=(1, k), position=("data", 0))
        axes.grid(visible=False)
        axes.set_xlim(1 - 0.62 * k, k + 0.62 * k)

    listing = ", ".join(f"{label} {rank:.2f}" for label, rank in zip(labels, mean_ranks, strict=True))
    caption = (
        f"Mean ranks over {plural(test.num_tasks, 'data set')} (1 is best). A bar joins those whose ranks differ by "
        f"less than the critical difference (Nemenyi, 5%). Friedman: {p_equals(test.p)}."
    )
    height = 0.3 + 0.155 * (half + 0.6 * len(bars) + 3.2)
    return draw(name, "Ranks over data sets", f"Mean ranks: {listing}.", caption, height, paint)


def cliques(ordered_ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """Longest stretches (first, last) of ordered ranks that span less than the critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(ordered_ranks)):
        last = max(i for i, rank in enumerate(ordered_ranks) if rank - ordered_ranks[first] < critical)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
