"""Figures of the advice: foretold scores, and learning curves of exact probes."""

from typing import Any

from headstart.advice.intervals import over_folds
from headstart.advice.measure import CHOSEN
from headstart.advice.rule import PROBE
from headstart.advice.sheets import strategy_title
from headstart.advice.story import Findings
from headstart.report.curves import name_ends
from headstart.report.figures import axis_name
from headstart.report.metric import Metric
from headstart.report.style import DASHES, FILLS, STRATEGIES, Drawing, Look, draw, shorten

MOST_ROWS = 12
PLAIN = STRATEGIES["feature_extraction"]


def looks(found: Findings) -> dict[tuple[str, str], Look]:
    """Colour and marker by strategy, dash and fill by backbone, as in the report."""
    names = [one.name for one in found.measured]
    made = {}
    for place, name in enumerate(names):
        for strategy in (PROBE, *STRATEGIES):
            color, _, marker = PLAIN if strategy == PROBE else STRATEGIES[strategy]
            made[name, strategy] = Look(color, marker, DASHES[place % len(DASHES)], FILLS[place % len(FILLS)])
    return made


def foretold(found: Findings, metric: Metric) -> Drawing | None:
    """What each option is foretold, with its interval."""
    options, seen = found.choice.options[:MOST_ROWS], looks(found)
    if not options:
        return None
    labels = [f"{strategy_title(one.strategy)} · {one.backbone}" for one in options]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for y, one in enumerate(options):
            look = seen.get((one.backbone, one.strategy)) or seen[one.backbone, PROBE]
            axes.plot(metric.ends(one.low, one.high), [y, y], color=look.color, lw=1.6)
            axes.plot([metric.raw(one.likely)], [y], **look.line(linestyle="none", markersize=4.6))
        axes.set_yticks(range(len(options)), [shorten(label) for label in labels])
        axes.set_ylim(len(options) - 0.5, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(axis_name(metric, "foretold"))

    alt = "; ".join(
        f"{label} {metric.text(one.likely)} ({metric.range(one.low, one.high)})"
        for label, one in zip(labels, options, strict=True)
    )
    caption = (
        f"Foretold {metric.title}, in the order of advice: that of an exact probe on all training examples, and what "
        "recorded comparisons say a strategy gains over it. Bars: the probe's interval and the scatter of such gains "
        "together."
    )
    return draw("foretold", "Foretold scores", alt + ".", caption, 0.42 + 0.21 * max(2, len(options)), paint)


def learning(found: Findings, metric: Metric) -> Drawing | None:
    """Scores of the probes by number of training examples, and what they may come to with all of them."""
    lines = [one for one in found.measured if one.curve is not None and len(one.curve.sizes) > 1][:MOST_ROWS]
    if not lines:
        return None
    seen = looks(found)

    def paint(figure: Any) -> None:
        axes, ends = figure.subplots(), []
        axes.set_xscale("log")
        ticks: set[float] = set()
        for one in lines:
            assert one.curve is not None and one.foretold is not None  # noqa: PT018
            look, sizes = seen[one.name, PROBE], list(one.curve.sizes)
            intervals = [over_folds(one.curve.scores[:, i], CHOSEN) for i in range(len(sizes))]
            band = [metric.ends(interval.low, interval.high) for interval in intervals]
            axes.fill_between(sizes, *zip(*band, strict=True), color=look.color, alpha=0.1, lw=0)
            axes.plot(sizes, [metric.raw(interval.mean) for interval in intervals], **look.line())
            told, last = one.foretold.interval, one.foretold.size
            if last > sizes[-1]:
                axes.plot([last, last], metric.ends(told.low, told.high), color=look.color, lw=1.2)
                axes.plot(
                    [sizes[-1], last],
                    [metric.raw(intervals[-1].mean), metric.raw(told.mean)],
                    color=look.color,
                    lw=0.8,
                    ls=(0, (1, 1.5)),
                )
            ends.append((metric.raw(told.mean if last > sizes[-1] else intervals[-1].mean), one.name, look.color))
            ticks |= {*sizes, max(last, sizes[-1])}
        _tick(axes, sorted(ticks))
        axes.set(xlabel="training examples (log scale)", ylabel=axis_name(metric, "cross-validated"))
        name_ends(axes, ends, 1.75)

    told = [one for one in lines if one.foretold is not None and one.curve is not None]
    alt = "; ".join(
        f"{one.name} from {metric.text(float(one.curve.scores[:, 0].mean()))} on {one.curve.sizes[0]:,} to "
        f"{metric.text(float(one.curve.scores[:, -1].mean()))} on {one.curve.sizes[-1]:,}"
        for one in told
        if one.curve is not None
    )
    caption = (
        f"{metric.title[:1].upper()}{metric.title[1:]} of an exact probe by number of training examples, on the same "
        "five folds; bands: 95%. Dotted: foretold, with its interval as an upright line."
    )
    return draw("learning", "Learning curves", f"{alt}.", caption, 2.2, paint)


def _tick(axes: Any, sizes: list[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    kept = sizes[:1]
    for size in sizes[1:]:
        if size / kept[-1] >= (sizes[-1] / sizes[0]) ** 0.12:
            kept.append(size)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
