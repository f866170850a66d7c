"""The comparison's table in a terminal, and where everything lies."""

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from headstart.names import plain, plain_lines
from headstart.report.analysis import Analysis
from headstart.report.build import Report
from headstart.report.metric import Metric
from headstart.report.scored import Summary


def show(made: Report) -> None:
    """Print the table of `made`, its headline and its paths on standard output."""
    console = Console(soft_wrap=True, markup=False, emoji=False)  # names of people's data may look like either
    tables = list(_tables(made.analysis))
    # where a table has no room its lines are broken by the terminal: nothing of a name or a number is left out
    no_limit = console.options.update_width(sys.maxsize)
    console.width = max([console.width, *(console.measure(table, options=no_limit).minimum for table in tables)])
    for table in tables:
        console.print(table)
    if made.answer:
        console.print(f"\n{plain(made.answer[0])}")
    page = str(made.page) if made.is_written else "not written"
    console.print(plain_lines(f"\nruns    {made.directory.parent}\nreport  {page}"), highlight=False)


def _tables(analysis: Analysis) -> Iterator[Table]:
    """A table for each data set and training size."""
    metric, repeats = analysis.design.metric, analysis.design.replicates
    several = len(analysis.summaries) > 1
    for condition, rows in analysis.summaries.items():
        title = f"{plain(condition.dataset)}, {condition.size_text} a {condition.group}" if several else None
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("strategy", no_wrap=True)
        for name in ("n", f"test {metric.title} ± 95% t"):
            table.add_column(name, justify="right", no_wrap=True)
        names = ["trainable parameters", "training seconds"]
        if any(row.costs["feature_seconds"] > 0 for row in rows):
            names.append("features, shared")
        cells = [_cells(row, metric, repeats.unit) for row in rows]
        for place, name in enumerate(names, len(table.columns)):
            widest = max(map(len, [*name.split(), *(row[place] for row in cells)]))
            table.add_column(name, justify="right", min_width=widest)  # names may take several lines
        for row in cells:
            table.add_row(*row[: len(table.columns)])
        yield table


def _cells(row: Summary, metric: Metric, unit: str) -> tuple[str, ...]:
    interval = row.interval
    half = (interval.high - interval.low) / 2
    few = {1: f"one {unit}", 2: f"two {unit}s"}.get(interval.n)
    # of two the interval is as wide as the distance between them times 6, or wider than all scores there are
    mean, spread = metric.text(interval.mean), metric.gap(half, signed=False) + "%" * metric.share
    score = f"{mean} ({few})" if few else f"{mean} ± {spread}"
    parameters, seconds = row.costs.get("trainable_parameters"), row.costs.get("train_seconds")
    features = row.costs["feature_seconds"]
    return (
        plain(row.cell.contender.label),
        str(interval.n),
        score,
        f"{parameters:,.0f}" if parameters is not None else "–",
        f"{seconds:,.1f}" if seconds is not None else "–",
        f"{features:,.1f}" if features > 0 else "–",
    )
