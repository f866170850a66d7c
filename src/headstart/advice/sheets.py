"""Tables of the advice."""

from collections.abc import Iterator, Sequence

from headstart.advice.rule import PROBE
from headstart.advice.story import Findings
from headstart.names import plain
from headstart.report.metric import Metric, seconds_text
from headstart.report.statistics import Interval
from headstart.report.tables import Cell, Column, Table

MOST_DOUBTED = 200
PROBE_TITLE = "exact probe"


def tables(found: Findings, metric: Metric, ids: Sequence[str], labels: Sequence[str]) -> list[Table]:
    """Those that have rows."""
    return [
        table
        for table in (_backbones(found, metric), _options(found, metric), _doubted(found, ids, labels))
        if table.rows
    ]


def strategy_title(strategy: str) -> str:
    return PROBE_TITLE if strategy == PROBE else strategy


def _backbones(found: Findings, metric: Metric) -> Table:
    name = metric.name
    table = Table(
        "backbones",
        f"Features of {len(found.sample):,} examples of train and val, {metric.title}",
        [
            Column("backbone", "backbone"),
            Column("num_features", "features", numeric=True, detail=True),
            Column("num_parameters", "parameters", numeric=True, detail=True),
            Column(f"neighbours_{name}", "neighbours", numeric=True,
                   about="vote of the five nearest by cosine, leaving one out"),
            Column(f"neighbours_{name}_low,neighbours_{name}_high", "neighbours 95%", numeric=True, detail=True),
            Column(f"probe_{name}", "probe", numeric=True, about="exact and linear, cross-validated in five folds"),
            Column(f"probe_{name}_low,probe_{name}_high", "95%", numeric=True,
                   about="allows for folds that share examples"),
            Column(f"foretold_{name}", "all", numeric=True, about="the probe on all training examples, foretold"),
            Column(f"foretold_{name}_low,foretold_{name}_high", "foretold", numeric=True),
            Column("h_score", "H-score", numeric=True, about="shrunk", detail=True),
            Column("h_score_low,h_score_high", "H-score 95%", numeric=True, detail=True),
            Column("log_me", "LogME", numeric=True, about="log evidence an example", detail=True),
            Column("log_me_low,log_me_high", "LogME 95%", numeric=True, detail=True),
            Column("seconds_an_example", "s/example", numeric=True, about="of computing features"),
        ],
    )  # fmt: skip
    for one in found.measured:
        told = None if one.foretold is None else one.foretold.interval
        table.add(
            plain(one.name),
            _number(one.num_features),
            _number(one.num_parameters),
            _score(metric, one.neighbours),
            _ends(metric, one.neighbours),
            _score(metric, one.probe),
            _ends(metric, one.probe),
            _score(metric, told),
            _ends(metric, told),
            *_plain(one.h_score),
            *_plain(one.log_me),
            Cell(f"{one.seconds:.2g}", one.seconds),
        )
    return table


def _options(found: Findings, metric: Metric) -> Table:
    name = metric.name
    table = Table(
        "strategies",
        f"What each backbone and strategy is foretold, {metric.title}, and what it costs here",
        [
            Column("strategy", "strategy"),
            Column("backbone", "backbone"),
            Column(f"foretold_{name}", "foretold", numeric=True),
            Column(f"foretold_{name}_low,foretold_{name}_high", "interval", numeric=True,
                   about="the probe's 95% and the scatter of recorded gains, at 90%, together"),
            Column("seconds_a_step", "s/step", numeric=True, about="median of a few real steps"),
            Column("peak_bytes", "memory", numeric=True, about="most in use of this process or GPU", detail=True),
            Column("seconds_a_run", "a run", numeric=True, about="with looks at val and test"),
        ],
    )  # fmt: skip
    for one in found.choice.options:
        price = one.price
        step, memory = (None, None) if price is None else (price.seconds_a_step, price.peak_bytes)
        table.add(
            Cell(strategy_title(one.strategy), strong=one is found.choice.best),
            plain(one.backbone),
            Cell(metric.text(one.likely), one.likely),
            Cell(metric.range(one.low, one.high), metric.ends(one.low, one.high)),
            Cell("–" if step is None else f"{step:.2g}", step),
            Cell("–" if memory is None else f"{memory / 1e9:.2f} GB", memory),
            Cell("–") if price is None else Cell(seconds_text(price.seconds), price.seconds),
        )
    return table


def _doubted(found: Findings, ids: Sequence[str], labels: Sequence[str]) -> Table:
    columns = [Column("example", "example"), Column("label", "label")]
    caption = "Labels that look wrong to the nearest neighbours, in the features of every backbone"
    table = Table("doubted-labels", caption, columns, shown=20)
    for place in found.doubted[:MOST_DOUBTED]:
        table.add(plain(ids[place]), plain(labels[place]))
    return table


def _plain(interval: Interval | None) -> Iterator[Cell]:
    if interval is None:
        yield from (Cell("–"), Cell("–", (float("nan"),) * 2))
    else:
        yield Cell(f"{interval.mean:.3f}", interval.mean)
        yield Cell(f"{interval.low:.3f} to {interval.high:.3f}", (interval.low, interval.high))


def _score(metric: Metric, interval: Interval | None) -> Cell:
    return Cell("–") if interval is None else Cell(metric.text(interval.mean), interval.mean)


def _ends(metric: Metric, interval: Interval | None) -> Cell:
    if interval is None:
        return Cell("–", (float("nan"),) * 2)
    return Cell(metric.range(interval.low, interval.high), metric.ends(interval.low, interval.high))


def _number(number: int) -> Cell:
    return Cell(f"{number:,}", float(number))
