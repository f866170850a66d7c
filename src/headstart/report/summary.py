"""The report for programs: `summary.json`."""

from collections import Counter
from dataclasses import asdict
from math import inf
from typing import Any

from headstart.report.analysis import Analysis
from headstart.report.answer import Answer
from headstart.report.contents import Contents
from headstart.report.design import Condition
from headstart.report.differences import Difference
from headstart.report.evidence import effect_size
from headstart.report.exhibits import Exhibits
from headstart.report.reading import STATUSES, SweepRecords
from headstart.report.scored import Summary
from headstart.report.statistics import Interval

SCHEMA = 1


def summarised(
    records: SweepRecords, analysis: Analysis, words: Answer, exhibits: Exhibits, contents: Contents, files: list[str]
) -> dict[str, Any]:
    """Everything computed as plain JSON; scores in the measure's own unit, differences better-is-positive."""
    design, across = analysis.design, analysis.across
    conditions = [
        {
            **_condition(condition),
            "contenders": [_row(analysis, row) for row in rows],
            "differences": [_difference(d) for d in analysis.differences.get(condition, [])],
        }
        for condition, rows in analysis.summaries.items()
    ]
    return {
        "schema": SCHEMA,
        "name": records.name,
        "answer": {"headline": words.headline, "points": [{"about": k, "text": v} for k, v in words.points]},
        "metric": {"name": design.metric.name, "higher_is_better": design.metric.sign > 0,
                   "unit": "share of 1" if design.metric.share else None},
        "counts": {status: records.count(status) for status in STATUSES},
        "factors": design.factors,
        "constants": design.constants,
        "tuned": design.tuned,
        "replicates": design.replicates.unit,
        "focus": _condition(analysis.focus) if analysis.focus else None,
        "conditions": conditions,
        "across_data": None if across is None else _across(analysis),
        "margin": analysis.margin,
        "num_comparisons": analysis.num_comparisons, "num_tables": analysis.num_tables,
        "crossovers": [
            {"dataset": dataset, "reference": reference.label, "contender": contender.label,
             "sizes": {f"{n:g}": asdict(at) for n, at in by.sizes.items()},
             "overtakes": asdict(by.overtakes) if by.overtakes else None,
             "overtaken": asdict(by.overtaken) if by.overtaken else None}
            for (dataset, reference, contender), by in analysis.by_size.items()
        ],
        "budgets": [
            {**_condition(condition), "contender": b.contender.label, "trials": [_raw(analysis, v) for v in b.trials],
             "expected_best_val": [_raw(analysis, v) for v in b.unbiased],
             "expected_best_val_with_replacement": [_raw(analysis, v) for v in b.with_replacement]}
            for condition, found in analysis.budgets.items() for b in found
        ],
        "shifts": [
            {**_condition(condition), "contender": c.label, "shift": name, **_interval(analysis, interval)}
            for condition, found in analysis.shifts.items() for name, of in found.items()
            for c, interval in of.intervals.items()
        ],
        "examples": None if exhibits.pair is None else {
            "first": exhibits.pair[0].label, "second": exhibits.pair[1].label,
            "replicates": design.replicates.unit,
            "on_other_seeds_and_examples": None if exhibits.crossed is None else _gap(exhibits.crossed),
            "seeds": {design.replicates.names[i]: asdict(test) for i, test in exhibits.examples.items()},
        },
        "best_run": exhibits.best.run_id if exhibits.best else None,
        "notes": [*records.notes, *design.notes, *exhibits.notes],
        "run_notes": Counter(note for run in records.runs for note in dict.fromkeys(run.notes)),
        "commands": records.commands,
        "files": files,
    }  # fmt: skip


def _condition(condition: Condition) -> dict[str, Any]:
    return {"dataset": condition.dataset, "n_per_class": None if condition.n == inf else condition.n}


def _raw(analysis: Analysis, score: float) -> float:
    return score * analysis.design.metric.sign


def _interval(analysis: Analysis, interval: Interval) -> dict[str, Any]:
    ends = sorted((_raw(analysis, interval.low), _raw(analysis, interval.high)))
    return {"n": interval.n, "mean": _raw(analysis, interval.mean), "ci95": ends if interval.known else None,
            "std": interval.std}  # fmt: skip


def _row(analysis: Analysis, row: Summary) -> dict[str, Any]:
    assert row.cell.selected is not None
    contender, names = row.cell.contender, analysis.design.replicates.names
    return {
        "contender": contender.label,
        "factors": dict(zip(analysis.design.factors, contender.values, strict=True)),
        **_interval(analysis, row.interval),
        "median": _raw(analysis, row.median), "best": _raw(analysis, row.best), "worst": _raw(analysis, row.worst),
        "val_mean": _raw(analysis, row.val), "selected": row.cell.selected.label,
        "num_settings": row.num_tried,
        "scores": {names[number]: _raw(analysis, value) for number, value in row.scores.items()},
        "runs": {names[number]: run.run_id for number, run in row.cell.selected.runs.items()},
        "test": row.beside, "costs": row.costs, "total_seconds": row.total_seconds,
    }  # fmt: skip


def _gap(interval: Interval) -> dict[str, Any]:
    return {"difference": interval.mean, "ci95": [interval.low, interval.high] if interval.known else None}


def _difference(d: Difference) -> dict[str, Any]:
    on_seeds = {"difference": None, "ci95": None} if d.interval is None else _gap(d.interval)
    return {
        "first": d.first.label, "second": d.second.label, "verdict": d.verdict, "num_pairs": d.num_pairs,
        "unpaired": d.unpaired, **on_seeds,
        "ci95_other_examples": None if d.resampled is None else _gap(d.resampled)["ci95"],
        "p": d.p, "p_adjusted": d.p_adjusted, "num_comparisons": d.family,
        "effect_size": effect_size(d.interval), "probability_of_improvement": d.improvement,
    }  # fmt: skip


def _across(analysis: Analysis) -> dict[str, Any]:
    across = analysis.across
    assert across is not None
    ranks = across.ranks
    return {
        "conditions": [_condition(condition) for condition in across.conditions],
        "contenders": [contender.label for contender in across.contenders],
        "means": [[_raw(analysis, float(value)) for value in row] for row in across.means],
        "interquartile_mean": [[_raw(analysis, value) for value in triple] for triple in across.middle],
        "friedman": None if ranks is None else {
            "statistic": ranks.statistic, "p": ranks.p, "mean_ranks": ranks.mean_ranks,
            "critical_difference": ranks.critical_difference, "nemenyi_p": ranks.pairwise_p,
        },
        "differences": [_difference(d) for d in across.differences],
    }  # fmt: skip
