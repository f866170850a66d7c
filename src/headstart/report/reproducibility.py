"""The reproducibility page: what a conference's checklist asks of an experiment, filled in from the record."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headstart.metrics import title
from headstart.names import plural
from headstart.report.analysis import Analysis
from headstart.report.factors import interactions
from headstart.report.metric import scaled, seconds_text
from headstart.report.qualifications import listing, selected_runs
from headstart.report.reading import Run, SweepRecords

NOT_RECORDED = "Not recorded."
_WHAT_A_SEED_DRAWS = (
    "A seed draws the split, the training subset, the initial head, the order of the data and the augmentation."
)
PER_PROCESS = ("argv",)


@dataclass(frozen=True, slots=True)
class Item:
    """One question of the checklist, and the paragraphs that answer it."""

    question: str
    answers: list[str]
    command: str = ""
    """To be pasted, above the paragraphs."""


def checklist(analysis: Analysis, records: SweepRecords) -> list[Item]:
    """All questions, answered or said not to be recorded."""
    return [
        Item("What the error bars are", _error_bars(analysis)),
        Item("Tests", _tests(analysis)),
        Item("Data and splits", _data(analysis, records)),
        Item("Selection of settings", _selection(analysis)),
        Item("What was held fixed", _constants(analysis, records)),
        Item("Pretrained weights", _counted(records, "weights", "Random ones, or none recorded.")),
        Item("Compute", _compute(records)),
        Item("Software and hardware", _environments(records)),
        Item("Code", _counted(records, "commit", NOT_RECORDED)),
        Item("What the runs said", _notes(records)),
        Item("Commands", records.commands or [NOT_RECORDED]),
    ]


def _error_bars(analysis: Analysis) -> list[str]:
    sizes = sorted({row.interval.n for rows in analysis.summaries.values() for row in rows})
    if not sizes:
        return ["There are none: no run has a score."]
    repeats = analysis.design.replicates
    counts = repeats.count(sizes[-1]) if len(sizes) == 1 else f"{sizes[0]} to {repeats.count(sizes[-1])}"
    return [
        f"95% Student t-intervals of the mean over {repeats.unit}s ({counts}). They are not standard deviations, and "
        "they do not cover the choice of data set.",
        *([_WHAT_A_SEED_DRAWS] if repeats.unit == "seed" and not repeats.one_split else [repeats.meaning]),
    ]


def _tests(analysis: Analysis) -> list[str]:
    margin = "No margin is known for this measure, so nothing is called practically equal."
    if analysis.margin is not None:
        margin = (
            "Practically equal means that two one-sided t-tests at 5%, shared out over all pairs on own test sets, "
            f"place the difference within {analysis.design.metric.margin_text(analysis.margin)}."
        )
    words = [
        f"Differences are paired by {analysis.design.replicates.unit} and split; p is two-sided from the paired "
        "sign-flip test, exact up to 14 replicates. Intervals of differences are 95% t-intervals, not adjusted.",
        controlled(analysis),
    ]
    return [*words, margin]


def controlled(analysis: Analysis) -> str:
    """Which error is controlled over the whole report, and what is beside it."""
    repeats = analysis.design.replicates
    text = (
        f"What is controlled: over all {plural(analysis.num_comparisons, 'comparison')} in "
        f"{plural(analysis.num_tables, 'table')} (of data, size and test set, shifted ones too), the chance that "
        f"anything at all is called better though it is not, on other {repeats.unit}s of these data, is at most 5% "
        "(Westfall and Young's step-down)."
    )
    others = []
    if analysis.across is not None:
        others.append("claims about data sets in general")
        others += ["Friedman's test of ranks"] * (analysis.across.ranks is not None)
    if interactions(analysis):
        others.append("statements on whether the effect of one factor depends on another")
    others.append("verdicts of practical equality")
    return f"{text} Beside it, with 5% of their own: {listing(others)}. McNemar's tests are not adjusted."


def _data(analysis: Analysis, records: SweepRecords) -> list[str]:
    found: dict[tuple[str, str], list[Run]] = {}
    for run in records.runs:
        if run.fingerprint:
            found.setdefault((run.dataset, run.fingerprint), []).append(run)
    words = []
    for (name, fingerprint), runs in found.items():
        parts = []
        for part in ("train", "val", "test"):
            counts = sorted({int(run.sizes[part]) for run in runs if part in run.sizes})
            if counts:
                parts.append(f"{part} {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else ""))
        classes = {run.num_classes for run in runs if run.num_classes}
        label = f", {listing([str(c) for c in sorted(classes)])} classes" if classes else ""
        words.append(f"{name}: {', '.join(parts)} examples{label}; contents sha256 {fingerprint[:16]}….")
    same, all_ = _shared_splits(analysis)
    unit = analysis.design.replicates.unit
    if all_:
        words.append(
            f"Every contender had the same split in the same {unit} in all {plural(all_, 'case')}."
            if same == all_
            else f"Every contender had the same split in the same {unit} in {same} of {plural(all_, 'case')} only."
        )
    return words or [NOT_RECORDED]


def _shared_splits(analysis: Analysis) -> tuple[int, int]:
    """Of all (condition, seed), how many have one split only; and how many there are."""
    splits: dict[tuple[Any, int], set[str]] = {}
    for condition, rows in analysis.summaries.items():
        for row in rows:
            assert row.cell.selected is not None
            for seed, run in row.cell.selected.runs.items():
                splits.setdefault((condition, seed), set()).add(run.split)
    return sum(len(found) == 1 for found in splits.values()), len(splits)


def _notes(records: SweepRecords) -> list[str]:
    said = sum(bool(run.notes) for run in records.runs)
    if not said:
        return ["Nothing: no run has a note of what it did not read, did not use, guessed or changed."]
    different = len({note for run in records.runs for note in run.notes})
    total = plural(len(records.runs), "run")
    return [f"{said:,} of {total} said something, {plural(different, 'note')} in all: see the table."]


def _selection(analysis: Analysis) -> list[str]:
    tried = [sum(bool(c.runs) for c in row.cell.candidates) for rows in analysis.summaries.values() for row in rows]
    runs = [run for found in selected_runs(analysis).values() for run in found]
    monitors = sorted({title(run.monitor) for run in runs if run.monitor}) or ["score"]
    text = [
        f"Within a run, the epoch with the best validation {listing(monitors)} is kept (ties to the earliest); test "
        "labels are scored once, at that epoch."
    ]
    if tried and max(tried) > 1:
        text.append(
            f"Settings of optimizer, scheduler and head ({', '.join(analysis.design.tuned)}) were selected for each "
            f"contender on mean validation score, out of {min(tried)} to {max(tried)}; settings with fewer "
            "completed runs than another stood back."
        )
    else:
        text.append("No settings were selected: each contender ran with one setting of optimizer, scheduler and head.")
    return text


def _constants(analysis: Analysis, records: SweepRecords) -> list[str]:
    text = [f"{key}: {value}" for key, value in analysis.design.constants.items() if value not in ("–", "none")]
    if records.runs:
        shared = dict(records.runs[0].settings)
        for run in records.runs:
            for key in [key for key, value in shared.items() if run.settings and run.settings.get(key) != value]:
                del shared[key]
        text += [f"{key}: {value}" for key, value in shared.items() if "_target_" not in key and value is not None]
    seeds = sorted({run.seed for run in records.runs if run.seed is not None})
    text.append(f"seeds: {listing([str(seed) for seed in seeds], 20)}" if seeds else "seeds: not recorded")
    return [" · ".join(text)]


def _counted(records: SweepRecords, attribute: str, otherwise: str) -> list[str]:
    """Each value of a run's attribute, with the number of runs where there are several."""
    counts: dict[str, int] = {}
    for run in records.runs:
        if value := getattr(run, attribute):
            counts[value] = counts.get(value, 0) + 1
    if len(counts) == 1:
        return list(counts)
    shown = [f"{value} ({plural(count, 'run')})" for value, count in list(counts.items())[:12]]
    return shown + ([f"and {len(counts) - 12} more"] if len(counts) > 12 else []) or [otherwise]


def _compute(records: SweepRecords) -> list[str]:
    def total(runs: Iterable[Run], key: str) -> float:
        return sum(run.cost.get(key, 0.0) for run in runs)

    failed = [run for run in records.runs if not run.completed]
    attempts = sum(run.attempt_seconds for run in records.runs)
    lost = total(failed, "total_seconds") + attempts
    everything = total(records.runs, "total_seconds") + attempts
    text = f"All {plural(len(records.runs), 'run')} took {seconds_text(everything)} in all"
    text += (
        f", {seconds_text(lost)} of it in runs and attempts that failed."
        if lost
        else "; none of it was lost to failures."
    )
    features = max((run.cost.get("feature_seconds", 0.0) for run in records.runs), default=0.0)
    if features:
        text += f" Filling the feature store took up to {seconds_text(features)}, counted apart from training."
    words = [text]
    if flops := total(records.runs, "train_flops"):
        words.append(f"Training did {scaled(flops, 'FLOP')}.")
    if memory := max((run.cost.get("peak_memory_bytes", 0.0) for run in records.runs), default=0.0):
        words.append(f"The largest run needed {scaled(memory, 'B', binary=True)} of memory.")
    unknown = sum(run.status in ("unreadable", "unfinished") for run in records.runs)
    if unknown:
        words.append(f"What {plural(unknown, 'run')} without a readable result cost is not known and not counted.")
    return words


def _environments(records: SweepRecords) -> list[str]:
    counts: dict[str, int] = {}
    for text, count in records.environments.items():
        content = {key: value for key, value in json.loads(text).items() if key not in PER_PROCESS}
        words = " · ".join(_flat(content))
        counts[words] = counts.get(words, 0) + count
    if len(counts) <= 1:
        return list(counts) or [NOT_RECORDED]
    shown = [f"{plural(count, 'run')}: {words}" for words, count in list(counts.items())[:4]]
    more = len(counts) - len(shown)
    return [
        f"The runs did not share one environment; there are {len(counts)}.",
        *shown,
        *([f"… and {more} more."] * (more > 0)),
    ]


def _flat(content: Mapping[str, Any]) -> list[str]:
    words = []
    for key, value in content.items():
        if isinstance(value, dict):
            words += _flat(value)
        elif value not in (None, "", []):
            text = scaled(value, "B", binary=True) if key.endswith("_bytes") and isinstance(value, int) else value
            words.append(
                f"{key.removesuffix('_bytes')} {listing([str(x) for x in text]) if isinstance(text, list) else text}"
            )
    return words
