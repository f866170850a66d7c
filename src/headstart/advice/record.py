"""The advice as it is kept: advice.json, the page, its tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headstart.advice.choice import Option
from headstart.advice.drawings import foretold, learning
from headstart.advice.measure import Measured
from headstart.advice.next import Next
from headstart.advice.race import Lap
from headstart.advice.sheets import tables
from headstart.advice.story import Findings
from headstart.names import plural
from headstart.progress import duration
from headstart.record.writing import write_bytes, write_json
from headstart.report.answer import Answer
from headstart.report.html import Page, Section, render
from headstart.report.metric import Metric
from headstart.report.reproducibility import Item
from headstart.report.statistics import Interval

FOLDER, PAGE, FILE = "advice", "advice.html", "advice.json"


def write(
    place: Path,
    name: str,
    found: Findings,
    metric: Metric,
    words: Answer,
    steps: Next | None,
    ids: Sequence[str],
    labels: Sequence[str],
    notes: Sequence[str],
    laps: Sequence[Lap] = (),
    not_begun: Mapping[str, str] | None = None,
) -> None:
    """Write all of it to the folder `place`, each file whole."""
    sheets = tables(found, metric, ids, labels)
    drawings = [one for one in (foretold(found, metric), learning(found, metric)) if one is not None]
    by_name = {table.name: [table] for table in sheets}
    page = Page(
        name=name,
        facts=_facts(found),
        answer=words,
        hero=drawings[:1],
        sections=[
            _next(steps),
            Section("backbones", "Backbones", drawings=drawings[1:], tables=by_name["backbones"]),
            Section("strategies", "Strategies", tables=by_name.get("strategies", [])),
            Section("labels", "Labels to look at", tables=by_name.get("doubted-labels", []),
                    missing="" if "doubted-labels" in by_name else _no_label(found)),
        ],
        notes=list(notes),
        swatches={},
        kind="advice",
        summary=FILE,
    )  # fmt: skip
    files = {PAGE: render(page).encode()}
    for table in sheets:
        files |= {
            f"tables/{table.name}.csv": table.csv().encode(),
            f"tables/{table.name}.md": table.markdown().encode(),
            f"tables/{table.name}.tex": table.latex().encode(),
        }
    for drawing in drawings:
        files |= {f"figures/{drawing.name}.{kind}": content for kind, content in drawing.files.items()}
    for file, content in files.items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(place / file, content)
    begun = {"first_epochs": [asdict(lap) for lap in laps], "not_begun": dict(not_begun or {})}
    write_json(place / FILE, {**told(found, metric, words, steps, ids), **begun})


def _facts(found: Findings) -> list[str]:
    sizes = ", ".join(f"{count:,} {part}" for part, count in found.facts.sizes.items())
    return [found.facts.name, sizes, plural(len(found.measured), "backbone"), f"measured in {duration(found.seconds)}"]


def _no_label(found: Findings) -> str:
    if any(one.neighbours for one in found.measured):
        return "No label looks wrong to the nearest neighbours."
    return "Neighbours were not looked at: see above."


def _next(steps: Next | None) -> Section:
    if steps is None:
        return Section("next", "What to run next", missing="No score is foretold, so no comparison is put together.")
    section = Section("next", "What to run next")
    about = f"about {duration(steps.seconds)}" if steps.seconds is not None else "of unknown length"
    section.items.append(
        Item("The comparison", [f"{plural(steps.num_runs, 'run')}, {about} on this machine."], steps.compare)
    )
    if steps.search:
        took = f", about {duration(steps.search_seconds)}" if steps.search_seconds is not None else ""
        ranges = f" Searched: {'; '.join(steps.ranges)}." if steps.ranges else ""
        section.items.append(Item("The search after it", [f"{steps.trials} trials{took}.{ranges}"], steps.search))
    return section


def told(found: Findings, metric: Metric, words: Answer, steps: Next | None, ids: Sequence[str]) -> dict[str, Any]:
    """Plain JSON."""
    return {
        "schema": 1,
        "measure": metric.name,
        "answer": {"headline": words.headline, "points": dict(words.points)},
        "data": asdict(found.facts),
        "sample": {
            "examples": len(found.sample),
            "of": found.sample.num_known,
            "classes": found.sample.num_taken,
            "of_classes": found.sample.num_strata,
            "cross_validated": found.sample.folds is not None,
        },
        "doubted_labels": [ids[place] for place in found.doubted],
        "backbones": {one.name: _measured(one) for one in found.measured},
        "ahead": {name: _interval(one) for name, one in found.choice.ahead.items()},
        "not_told_apart": list(found.choice.equals),
        "options": [_option(one) for one in found.choice.options],
        "prices": [{"backbone": backbone, **asdict(price)} for (backbone, _), price in found.prices.items()],
        "not_measured": dict(found.left_out),
        "record": dict(found.rule.record),
        "next": None if steps is None else asdict(steps),
        "seconds": found.seconds,
    }


def _measured(one: Measured) -> dict[str, Any]:
    curve = None
    if one.curve is not None:
        curve = {
            "sizes": list(one.curve.sizes),
            "by_fold": np.round(one.curve.scores, 6).tolist(),
            "nested": one.curve.is_nested,
        }
    intervals = {name: _interval(getattr(one, name)) for name in ("neighbours", "probe", "h_score", "log_me")}
    foretold = one.foretold and {
        "size": one.foretold.size,
        "how": one.foretold.how,
        **(_interval(one.foretold.interval) or {}),
    }
    return {
        "num_features": one.num_features,
        "num_parameters": one.num_parameters,
        "batch_norm": one.batch_norm,
        "seconds_an_example": one.seconds,
        "reading": dict(one.reading),
        **intervals,
        "curve": curve,
        "foretold": foretold,
        "bends": one.bends,
    }


def _interval(one: Interval | None) -> Mapping[str, float] | None:
    return None if one is None else {"mean": one.mean, "low": one.low, "high": one.high}


def _option(one: Option) -> dict[str, Any]:
    return {
        "backbone": one.backbone,
        "strategy": one.strategy,
        "score": one.score,
        "low": one.low,
        "high": one.high,
        "gain": None if one.gain is None else asdict(one.gain),
    }
