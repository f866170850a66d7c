"""Figures of single runs: what its plan trained when, and what it took for what."""

from collections.abc import Mapping
from math import log10
from typing import Any

import numpy as np

from headstart.report.artifacts import AppliedPlan, Details
from headstart.report.curves import MOST_PANELS
from headstart.report.design import Contender
from headstart.report.figures import Looks
from headstart.report.style import ACCENT, INK, PAPER, RULE, Drawing, draw, shorten

MOST_CLASSES = 24
FAINTEST = 1e-3
"""Rate multipliers from here down are drawn equally faint."""


def plans(found: Mapping[Contender, AppliedPlan], looks: Looks) -> Drawing | None:
    """Depth groups against epochs, a panel for each contender; the darker, the higher the rate; empty is frozen."""
    shown = list(found.items())[:MOST_PANELS]
    if not shown:
        return None
    columns = 2 if len(shown) > 1 else 1
    lines = -(-len(shown) // columns)
    rows = max(len(plan.groups) for _, plan in shown)
    panel = min(1.7, max(0.55, 0.075 * rows + 0.1))

    def paint(figure: Any) -> None:
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, (contender, plan) in zip(grid.flat, shown, strict=False):
            _paint_plan(axes, plan, looks[contender].color)
            kinds = partly(plan)
            axes.set_title(shorten(contender.label + (f" ({', '.join(kinds)})" if kinds else ""), 34), color=INK, pad=2)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        figure.supxlabel("epoch", size=6.5)

    caption = (
        "What trained when: depth groups from the input (bottom) to the head (top) against epochs. The stronger the "
        "colour, the nearer a group's rate to the head's (log scale down to 1/1000); empty cells are frozen. Thin "
        "cells: only some kinds of parameters train, named in the title."
    )
    alt = " ".join(f"{contender.label}: {_plan_words(plan)}." for contender, plan in shown)
    return draw("thaw-plans", "Thaw plans", alt, caption, 0.25 + (panel + 0.3) * lines, paint)


def _paint_plan(axes: Any, plan: AppliedPlan, color: str) -> None:
    from matplotlib.patches import Rectangle

    last = plan.phases[-1].end
    for phase in plan.phases:
        for y, group in enumerate(plan.groups):
            rates = phase.rates.get(group, {})
            axes.add_patch(Rectangle((phase.start, y - 0.5), phase.end - phase.start, 1, fc="none", ec=RULE, lw=0.3))
            rate = max(rates.values(), default=0.0)
            if rate <= 0:
                continue
            strength = 0.18 + 0.82 * (1 - min(1.0, max(0.0, log10(1 / rate) / log10(1 / FAINTEST))))
            thin = 0.34 if rates.get("weight", rate) == 0 else 0.86
            axes.add_patch(
                Rectangle(
                    (phase.start, y - thin / 2), phase.end - phase.start, thin, fc=color, ec="none", alpha=strength
                )
            )
    axes.set(xlim=(0, last), ylim=(-0.5, len(plan.groups) - 0.5))
    marks = [0, len(plan.groups) - 1] if len(plan.groups) > 1 else [0]
    axes.set_yticks(marks, [shorten(plan.groups[i], 9) for i in marks])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)


def partly(plan: AppliedPlan) -> list[str]:
    """Kinds that train in the backbone where weights do not."""
    kinds: dict[str, None] = {}
    for phase in plan.phases:
        for group, rates in phase.rates.items():
            if group != "head" and rates.get("weight", 1) == 0:
                kinds.update(dict.fromkeys(kind for kind, rate in rates.items() if rate > 0))
    return list(kinds)


def _plan_words(plan: AppliedPlan) -> str:
    words = []
    for phase in plan.phases:
        trained = [group for group in plan.groups if any(rate > 0 for rate in phase.rates.get(group, {}).values())]
        extent = "nothing" if not trained else trained[0] if len(trained) == 1 else f"{trained[0]} to {trained[-1]}"
        words.append(f"from epoch {phase.start:g} {extent}")
    return ", ".join(words[:6]) + (", and so on" if len(words) > 6 else "")


def confusion(details: Details, label: str, name: str) -> Drawing | None:
    """Shares of each true class by predicted class, for up to 24 classes."""
    size = len(details.classes)
    counts = details.confusion() if 2 <= size <= MOST_CLASSES else None
    if counts is None:
        return None
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)

    def paint(figure: Any) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        for i, j in zip(*np.nonzero(shares), strict=True):
            axes.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fc=ACCENT, ec="none", alpha=float(0.06 + 0.94 * shares[i, j]))
            )
            if size <= 12 and shares[i, j] >= 0.005:
                color = PAPER if shares[i, j] > 0.45 else INK
                axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", size=5.4, color=color)
        names = [shorten(text, 14) for text in details.classes]
        axes.set_xticks(range(size), names, rotation=45 if size <= 12 else 90, ha="right" if size <= 12 else "center",
                        rotation_mode="anchor" if size <= 12 else None)  # fmt: skip
        axes.set_yticks(range(size), names)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_color(RULE)

    caption = f"Confusion of {label} on the test set: percent of each true class (row) by predicted class."
    alt = (
        "Most often confused: "
        + "; ".join(f"{t} taken for {p}, {n:g} times" for t, p, n in confused(details)[:5])
        + "."
    )
    return draw(name, "Confusion", alt, caption, 2.9, paint)


def confused(details: Details, most: int | None = 50) -> list[tuple[str, str, float]]:
    """Pairs of classes by how often the first was taken for the second, most often first."""
    if details.counts is None:
        return []
    off = details.counts[details.counts[:, 0] != details.counts[:, 1]]
    order = np.argsort(-off[:, 2], kind="stable")[:most]
    return [(details.classes[i], details.classes[j], float(count)) for i, j, count in off[order].tolist()]
