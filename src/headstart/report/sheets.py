"""Tables of what each contender scored, with what settings and at what cost; and cells that other tables share."""

from collections.abc import Sequence
from math import inf, isfinite, nan

import numpy as np

from headstart.names import plural
from headstart.report.analysis import Analysis
from headstart.report.design import Condition, Contender
from headstart.report.factors import cells, marginal
from headstart.report.figures import place_text
from headstart.report.metric import BASELINES, Metric, number, scaled, seconds_text
from headstart.report.reading import Run
from headstart.report.replicates import KINDS
from headstart.report.scored import Summary
from headstart.report.statistics import Interval
from headstart.report.tables import Cell, Column, Table

SECONDS, BYTES = "seconds of one run, mean over runs", "of one run, mean over runs"
COST_COLUMNS = (
    Column("trainable_parameters", "Trainable", True, "trainable parameters, mean over runs", detail=True),
    Column("feature_seconds", "Features", True, "seconds of the frozen backbone's one pass, shared by all that read it",
           detail=True),
    Column("train_flops", "FLOPs", True, "floating-point operations of training one run", detail=True),
    Column("peak_memory_bytes", "Memory", True, "peak memory of one run", detail=True),
    Column("total_seconds", "In all", True, "seconds of all runs of this row, failed ones too", detail=True),
)  # fmt: skip
SETTINGS = ("optimizer.lr", "optimizer.weight_decay", "trainer.max_epochs", "trainer.batch_size", "data.size")
"""Settings that a reader looks for first; those in which contenders differ come besides."""
MOST_SETTINGS, MOST_BRIEF = 12, 3
"""Of others in which contenders differ, so many are shown, and so many at first sight."""


def unit(metric: Metric) -> str:
    """What scores are counted in, for the heading of a CSV file."""
    return "percent" if metric.share else ""


def gap_unit(metric: Metric) -> str:
    """What differences are counted in."""
    return "points" if metric.share else ""


def comparison(analysis: Analysis) -> Table:
    """One row a contender and condition: what is shown of it against the leader, its score, and at what cost."""
    design, metric, repeat = analysis.design, analysis.design.metric, analysis.design.replicates.unit
    chosen = any(row.num_tried > 1 for rows in analysis.summaries.values() for row in rows)
    several, group = len(analysis.summaries) > 1, design.conditions[0].group if design.conditions else "class"
    columns = [
        Column("contender", "Contender" if len(design.factors) > 1 else design.lead.capitalize()),
        Column("verdict", "Verdict", about="against the first of its data and size, by the adjusted test"),
        *([Column("place", "Data")] * several),
        Column("mean,half_width", f"Test {metric.heading}", True,
               f"mean ± half of the 95% interval over {repeat}s", unit(metric)),
        Column("num_seeds", f"{repeat.capitalize()}s", True, detail=several),
        Column("tried", "Tried", True, "settings, the best of which on val is scored", detail=not chosen),
        Column("train_seconds", "Training", True, "seconds of training of one run, mean over runs", detail=chosen),
        Column("mean_rank", "Mean rank", True, f"over the {repeat}s that all of its data and size have; 1 is best",
               detail=True),
        Column("num_best", "Best in", True, f"{repeat}s in which none scored better, of those that all have",
               detail=True),
        Column("dataset", "Data set", detail=True),
        Column("n_per_class", f"Per {group}", True, f"training examples a {group}", detail=True),
        Column("ci95_low,ci95_high", "95% interval", True, f"Student t-interval of the mean over {repeat}s",
               unit(metric), True),
        *(Column(key, title, True, about, unit(metric), True) for key, title, about in (
            ("median", "Median", ""), ("best", "Best", ""), ("worst", "Worst", ""),
            ("val_mean", "Val mean", "what settings were selected on"),
        )),
    ]  # fmt: skip
    beside = _beside(analysis)
    columns += [_beside_column(other) for other in beside]
    columns += [Column("selected", "Settings", detail=True)]
    columns += COST_COLUMNS
    table = Table("comparison", f"Test {metric.heading} of the selected settings, with cost", columns, shown=400)
    for condition, rows in _largest_first(analysis):
        places = ranks_by_replicate(rows)
        for i, row in enumerate(rows):
            table.add(
                contender_cell(row.cell.contender), standing(analysis, condition, row),
                *([place_text(condition)] * several), score_cell(metric, row.interval, row is rows[0]),
                Cell(str(row.interval.n), row.interval.n),
                Cell(str(row.num_tried), row.num_tried),
                Cell(seconds_text(row.costs["train_seconds"]), row.costs["train_seconds"]),
                *_stability(places, i), condition.dataset,
                Cell(condition.size_text, condition.size_text if condition.n == inf else condition.n),
                interval_cell(metric, row.interval.low, row.interval.high),
                *(Cell(metric.cell(value), metric.raw(value)) for value in (row.median, row.best, row.worst, row.val)),
                *(_beside_cell(other, row.beside.get(other.name, nan)) for other in beside),
                _selected(row), *_cost_cells(row),
            )  # fmt: skip
    table.note = (
        f"± is half of the 95% interval (Student t) of the mean over {repeat}s; pairs are compared in the table of "
        "differences. First and bold: the best mean of those with the most runs, whether or not it is shown to be "
        f"better.{' Less is better.' * (metric.sign < 0)}"
    )
    return table


def ranks_by_replicate(rows: Sequence[Summary]) -> np.ndarray:
    """Ranks `(contenders, replicates)` within each replicate that all have, 1 the best, ties their mean."""
    from scipy.stats import rankdata

    shared = sorted(set.intersection(*(set(row.scores) for row in rows)))
    scores = np.array([[row.scores[number] for number in shared] for row in rows]).reshape(len(rows), len(shared))
    return rankdata(-scores, axis=0) if shared else scores


def _stability(ranks: np.ndarray, row: int) -> tuple[Cell, Cell]:
    """How steady a contender's place is: its mean rank, and in how many replicates none is better."""
    if not ranks.shape[1] or len(ranks) < 2:
        return Cell("–", nan), Cell("–", nan)
    mean, best = float(ranks[row].mean()), int(np.sum(ranks[row] == ranks.min(axis=0)))
    return Cell(f"{mean:.2f}", mean), Cell(f"{best} of {ranks.shape[1]}", best)


def standing(analysis: Analysis, condition: Condition, row: Summary) -> str:
    """What is shown of a contender against the leader of its condition."""
    leader, *others = analysis.summaries[condition]
    if row is leader:
        found = [analysis.between(condition, leader.cell.contender, other.cell.contender) for other in others]
        best = bool(found) and all(d is not None and d.clear and d.first is leader.cell.contender for d in found)
        return "best" if best else "best mean" if others else "–"
    d = analysis.between(condition, leader.cell.contender, row.cell.contender)
    if d is None or d.interval is None:
        return "not paired"
    if d.clear:
        return "worse" if d.first is leader.cell.contender else "ahead where both ran"
    return d.verdict


def score_cell(metric: Metric, interval: Interval, strong: bool = False) -> Cell:
    """`76.5 ± 0.8`, in the unit of the heading."""
    half = metric.raw(interval.high) - metric.raw(interval.mean) if interval.known else nan
    text = metric.cell(interval.mean)
    if interval.known:
        text += f" ± {metric.gap(interval.half_width, signed=False)}"
    return Cell(text, (metric.raw(interval.mean), abs(half)), strong)


def settings(analysis: Analysis) -> Table | None:
    """What each contender ran with, in a row: what readers ask for, and that in which contenders differ."""
    runs: dict[Contender, tuple[Summary, Run]] = {}
    for _, rows in _largest_first(analysis):
        for row in rows:
            assert row.cell.selected is not None
            first = next(iter(row.cell.selected.runs.values()), None)
            if first is not None and first.settings:
                runs.setdefault(row.cell.contender, (row, first))
    if not runs:
        return None
    keys = dict.fromkeys(key for _, run in runs.values() for key in run.settings)
    differing = [
        key for key in keys
        if key not in ("seed", *SETTINGS, *KINDS) and "_target_" not in key
        and len({str(run.settings.get(key)) for _, run in runs.values()}) > 1
    ]  # fmt: skip
    shown = [key for key in SETTINGS if key in keys] + differing[:MOST_SETTINGS]
    columns = [Column("contender", "Contender")]
    columns += [Column(key, key, True, detail=key in differing[MOST_BRIEF:]) for key in shown]
    columns += [Column("train_examples", "Training examples", True), Column("selected", "Selected", detail=True)]
    table = Table("settings", "Settings of each contender", columns, shown=200)
    for contender, (row, run) in runs.items():
        table.add(
            contender_cell(contender), *(_setting_cell(run.settings.get(key)) for key in shown),
            Cell(number(run.sizes.get("train", nan), 6), run.sizes.get("train", nan)), _selected(row),
        )  # fmt: skip
    more = len(differing) - MOST_SETTINGS
    table.note = (
        f"Of its largest training set. {plural(more, 'setting')} more differ{'s' * (more == 1)}." if more > 0 else ""
    )
    return table


def factors(analysis: Analysis) -> Table | None:
    """Each level of the first factor, averaged over all that every level was run with."""
    means, metric = marginal(analysis), analysis.design.metric
    if not means:
        return None
    places = list(next(iter(means.values())))[1:]
    names, _ = cells(analysis)
    columns = [
        Column("level", names[0].capitalize()),
        Column("mean", "Mean", True, "over all that stand beside", unit(metric)),
        *(Column(place, place, True, "", unit(metric), len(places) > 3) for place in places),
    ]  # fmt: skip
    table = Table("factors", f"Test {metric.heading} by {names[0]}, over {' and '.join(names[1:])}", columns)
    for level, values in sorted(means.items(), key=lambda item: -item[1][""]):
        table.add(level, *(Cell(metric.cell(value), metric.raw(value)) for value in values.values()))
    table.note = "Means of means; the order is not tested. Only what every row was run with is counted."
    return table


def _setting_cell(value: object) -> Cell:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return Cell("–" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
    return Cell(f"{value:g}", float(value)) if isinstance(value, int | float) else Cell(str(value))


def _beside(analysis: Analysis) -> list[Metric]:
    """The other measures of the test set, each written in one way in all rows."""
    rows = [row.beside for rows in analysis.summaries.values() for row in rows]
    return [Metric.fitting(name, (row.get(name) for row in rows)) for name in dict.fromkeys(n for r in rows for n in r)]


def _beside_column(other: Metric) -> Column:
    title = other.title[:1].upper() + other.title[1:]
    about = "on test, of the one constant answer that is best for training"
    return Column(other.name, title, True, about if other.name.startswith(BASELINES) else "on test", unit(other), True)


def _beside_cell(other: Metric, value: float) -> Cell:
    return Cell(other.cell(other.sign * value), other.raw(other.sign * value))


def interval_cell(metric: Metric, low: float, high: float) -> Cell:
    """An interval of scores, in the measure's own direction."""
    return Cell(metric.range(low, high).removesuffix("%"), metric.ends(low, high))


def gap_cell(metric: Metric, low: float, high: float) -> Cell:
    """An interval of differences."""
    scale = 100 if metric.share else 1
    return Cell(f"{metric.gap(low)} to {metric.gap(high)}" if isfinite(low) else "–", (low * scale, high * scale))


def _largest_first(analysis: Analysis) -> list[tuple[Condition, list[Summary]]]:
    return sorted(analysis.summaries.items(), key=lambda item: (item[0].dataset, -item[0].n))


def contender_cell(contender: Contender) -> Cell:
    return Cell(contender.label, contender.label)


def _selected(row: Summary) -> Cell:
    assert row.cell.selected is not None
    return Cell(row.cell.selected.label or "as given")


def _cost_cells(row: Summary) -> list[Cell]:
    costs = row.costs
    return [
        Cell(scaled(costs["trainable_parameters"]), costs["trainable_parameters"]),
        Cell(seconds_text(costs["feature_seconds"]) if costs["feature_seconds"] else "–", costs["feature_seconds"]),
        Cell(scaled(costs["train_flops"]), costs["train_flops"]),
        Cell(scaled(costs["peak_memory_bytes"], "B", binary=True), costs["peak_memory_bytes"]),
        Cell(seconds_text(row.total_seconds), row.total_seconds),
    ]
