"""The report for programs: `summary.json`."""

from collections import Counter
from dataclasses import asdict
from math import inf
from typing import Any

from headstart.report.analysis import Analysis, Difference, Summary
from headstart.report.answer import Answer
from headstart.report.contents import Contents
from headstart.report.design import Scene
from headstart.report.exhibits import Exhibits
from headstart.report.reading import STATUSES, Ledger
from headstart.report.statistics import Interval

SCHEMA = 1


def summarised(
    ledger: Ledger, analysis: Analysis, words: Answer, exhibits: Exhibits, contents: Contents, files: list[str]
) -> dict[str, Any]:
    """Everything computed as plain JSON; scores in the measure's own unit, differences better-is-positive."""
    design, across = analysis.design, analysis.across
    scenes = [
        {
            **_scene(scene),
            "contenders": [_row(analysis, row) for row in rows],
            "differences": [_difference(d) for d in analysis.differences.get(scene, [])],
        }
        for scene, rows in analysis.summaries.items()
    ]
    return {
        "schema": SCHEMA,
        "name": ledger.name,
        "answer": {"headline": words.headline, "points": [{"about": k, "text": v} for k, v in words.points]},
        "metric": {"name": design.metric.name, "higher_is_better": design.metric.sign > 0},
        "counts": {status: ledger.count(status) for status in STATUSES},
        "factors": design.factors,
        "constants": design.constants,
        "tuned": design.tuned,
        "replicates": design.replicates.unit,
        "focus": _scene(analysis.focus) if analysis.focus else None,
        "scenes": scenes,
        "across_data": None if across is None else _across(analysis),
        "crossovers": [
            {"dataset": dataset, "reference": reference.label, "contender": contender.label,
             "examples_a_class": c.place,
             "low": None if c.open_below else c.low, "high": None if c.open_above else c.high,
             "open_below": c.open_below, "open_above": c.open_above, "ahead_at_smallest": c.ahead_at_smallest,
             "ahead_at_largest": c.ahead_at_largest, "num_seeds": c.num_seeds}
            for (dataset, reference, contender), c in analysis.crossovers.items()
        ],
        "budgets": [
            {**_scene(scene), "contender": b.contender.label, "trials": [_raw(analysis, v) for v in b.trials],
             "expected_best_val": [_raw(analysis, v) for v in b.unbiased],
             "expected_best_val_with_replacement": [_raw(analysis, v) for v in b.with_replacement]}
            for scene, found in analysis.budgets.items() for b in found
        ],
        "shifts": [
            {**_scene(scene), "contender": c.label, "shift": name, **_interval(analysis, interval)}
            for scene, found in analysis.shifts.items() for c, of in found.items() for name, interval in of.items()
        ],
        "examples": None if exhibits.pair is None else {
            "first": exhibits.pair[0].label, "second": exhibits.pair[1].label,
            "replicates": design.replicates.unit,
            "seeds": {design.replicates.names[i]: asdict(test) for i, test in exhibits.examples.items()},
        },
        "best_run": exhibits.best.run_id if exhibits.best else None,
        "notes": [*ledger.notes, *design.notes, *exhibits.notes],
        "run_notes": Counter(note for run in ledger.runs for note in dict.fromkeys(run.notes)),
        "commands": ledger.commands,
        "files": files,
    }  # fmt: skip


def _scene(scene: Scene) -> dict[str, Any]:
    return {"dataset": scene.dataset, "n_per_class": None if scene.n == inf else scene.n}


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
        "num_settings": sum(bool(candidate.runs) for candidate in row.cell.candidates),
        "scores": {names[number]: _raw(analysis, value) for number, value in row.scores.items()},
        "runs": {names[number]: run.run_id for number, run in row.cell.selected.runs.items()},
        "test": row.beside, "costs": row.costs, "total_seconds": row.total_seconds,
    }  # fmt: skip


def _difference(d: Difference) -> dict[str, Any]:
    interval = d.interval
    return {
        "first": d.first.label, "second": d.second.label, "num_pairs": d.num_pairs, "unpaired": d.unpaired,
        "difference": interval.mean if interval else None,
        "ci95": [interval.low, interval.high] if interval and interval.known else None,
        "p": d.p, "p_holm": d.p_adjusted, "num_comparisons": d.family, "probability_of_improvement": d.improvement,
    }  # fmt: skip


def _across(analysis: Analysis) -> dict[str, Any]:
    across = analysis.across
    assert across is not None
    ranks = across.ranks
    return {
        "scenes": [_scene(scene) for scene in across.scenes],
        "contenders": [contender.label for contender in across.contenders],
        "means": [[_raw(analysis, float(value)) for value in row] for row in across.means],
        "interquartile_mean": [[_raw(analysis, value) for value in triple] for triple in across.middle],
        "friedman": None if ranks is None else {
            "statistic": ranks.statistic, "p": ranks.p, "mean_ranks": ranks.mean_ranks,
            "critical_difference": ranks.critical_difference, "nemenyi_p": ranks.pairwise_p,
        },
        "differences": [_difference(d) for d in across.differences],
    }  # fmt: skip
