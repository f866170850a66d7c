"""Tables of runs: which are done, how each is repeated, what failed, and what single runs got wrong."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

from headstart.record.result import as_command, repeat_command
from headstart.report.analysis import Analysis
from headstart.report.artifacts import Details
from headstart.report.design import Condition, Contender, Design
from headstart.report.metric import Metric, number, p_text, seconds_text
from headstart.report.pictures import confused
from headstart.report.reading import STATUSES, Run, SweepRecords
from headstart.report.statistics import ExampleTest
from headstart.report.tables import Cell, Column, Table


@dataclass(slots=True)
class FailedRuns:
    """Runs that went wrong in the same way."""

    kind: str
    message: str
    traceback: str
    runs: list[Run]


def grid(records: SweepRecords, analysis: Analysis) -> Table:
    """How many runs of each contender and condition are done, failed or missing."""
    conditions = analysis.design.conditions
    columns = [Column("contender", "Contender")]
    columns += [
        Column(f"{condition.dataset}/{condition.size_text}", _condition_head(condition, conditions))
        for condition in conditions
    ]
    table = Table("completeness", "Runs done, failed or missing", columns, shown=200)
    for contender in analysis.design.contenders:
        cells = [Cell(contender.label, contender.label)]
        for condition in conditions:
            cell = analysis.design.cell(contender, condition)
            cells.append(status_cell(cell.runs) if cell else Cell("–", "not planned"))
        table.add(*cells)
    return table


def _condition_head(condition: Condition, conditions: Sequence[Condition]) -> str:
    several = len({other.dataset for other in conditions}) > 1
    size = "all data" if condition.size_text == "all" else f"{condition.size_text} a {condition.group}"
    return f"{condition.dataset}, {size}" if several else size


def status_cell(runs: Sequence[Run]) -> Cell:
    """`20 done`, or `18 of 20 done, 2 failed`."""
    counts = Counter(run.status for run in runs)
    done = counts["completed"]
    if done == len(runs):
        return Cell(f"{done} done", look="done")
    rest = ", ".join(f"{counts[status]} {status}" for status in STATUSES[1:] if counts[status])
    return Cell(f"{done} of {len(runs)} done, {rest}", look="incomplete")


def all_runs(records: SweepRecords, analysis: Analysis) -> Table:
    """Every run with its outcome and the command that repeats it."""
    metric = analysis.design.metric
    columns = [
        Column("run_id", "Run"), Column("status", "Status"), Column("overrides", "Settings"),
        Column("seed", "Seed", True), Column("val", f"Val {metric.heading}", True),
        Column("test", f"Test {metric.heading}", True), Column("total_seconds", "Time", True),
        Column("rerun", "Repeat with"),
    ]  # fmt: skip
    table = Table("runs", "All runs, with the command that repeats each", columns, shown=1000)
    for run in records.runs:
        val, test = (metric.val(run), metric.test(run)) if run.completed else (None, None)
        seconds = run.cost.get("total_seconds", nan)
        asked = " ".join(item for item in run.overrides if not item.startswith("seed="))
        table.add(
            run.run_id, Cell(run.status, look=run.status), asked,
            Cell(_seed(run), nan if run.seed is None else run.seed),
            Cell(metric.cell(val), nan if val is None else metric.raw(val)),
            Cell(metric.cell(test), nan if test is None else metric.raw(test)),
            Cell(seconds_text(seconds), seconds), rerun_command(run),
        )  # fmt: skip
    return table


def _seed(run: Run) -> str:
    return "–" if run.seed is None else f"{run.seed}{' (fresh)' * run.fresh}"


def rerun_command(run: Run) -> str:
    """The command that repeats a run."""
    if run.rerun:
        return as_command(run.rerun)
    if run.status == "missing":
        return run.command or shlex.join(["headstart", "train", *run.overrides])
    return repeat_command(run.directory)


def failures(records: SweepRecords) -> list[FailedRuns]:
    """Failed and unreadable runs, those with the same kind and message together, the most frequent first."""
    found: dict[tuple[str, str], FailedRuns] = {}
    for run in records.runs:
        if run.error is not None:
            kind, message, traceback = run.error
            found.setdefault((kind, message), FailedRuns(kind, message, traceback, [])).runs.append(run)
    return sorted(found.values(), key=lambda failure: -len(failure.runs))


def failure_table(records: SweepRecords) -> Table | None:
    """Every run that has no result, and why."""
    columns = [
        Column("run_id", "Run"), Column("status", "Status"), Column("kind", "Kind"), Column("message", "Message"),
        Column("attempts", "Earlier attempts", True), Column("rerun", "Repeat with"),
    ]  # fmt: skip
    table = Table("failures", "Runs without a result", columns, shown=200)
    for run in records.runs:
        if not run.completed:
            kind, message, _ = run.error or ("", "never started" if run.status == "missing" else "no result yet", "")
            look = Cell(run.status, look=run.status)
            table.add(run.run_id, look, kind, message[:300], Cell(str(run.attempts), run.attempts), rerun_command(run))
    return table if table.rows else None


def notes(records: SweepRecords) -> Table | None:
    """What the runs said, each note once, what most of them said first."""
    counts = Counter(note for run in records.runs for note in dict.fromkeys(run.notes))
    if not counts:
        return None
    columns = [Column("note", "Note"), Column("runs", "Runs", True, f"of {len(records.runs):,} that said so")]
    table = Table("notes", "What was not read, not used, guessed or changed, as the runs said", columns, shown=60)
    for note, count in counts.most_common():
        table.add(note, Cell(f"{count:,}", count))
    return table


def per_class(details: Details, label: str) -> Table:
    """Accuracy by class, the worst first; where an example has several labels, or numbers, measures of each."""
    if details.by_output:
        return _by_output(details, label)
    columns = [Column("class", "Class"), Column("accuracy", "Accuracy", True),
               Column("examples", "Test examples", True), Column("taken_for", "Most often taken for")]  # fmt: skip
    table = Table("per-class", f"Accuracy by class, {label}", columns, shown=60)
    totals = details.totals
    mistakes: dict[str, str] = {}
    for true, predicted, count in confused(details, most=None):
        mistakes.setdefault(true, f"{predicted} ({count:g})")
    share = Metric("share")
    for i in sorted(
        range(len(details.classes)), key=lambda i: (details.accuracy[i] != details.accuracy[i], details.accuracy[i])
    ):
        name, accuracy, total = details.classes[i], details.accuracy[i], float(totals[i])
        table.add(name, Cell(share.text(accuracy), accuracy * 100), Cell(number(total), total), mistakes.get(name, "–"))
    return table


def _by_output(details: Details, label: str) -> Table:
    names = list(dict.fromkeys(name for row in details.by_output.values() for name in row))
    measures = [Metric.fitting(name, (row.get(name) for row in details.by_output.values())) for name in names]
    titles = [measure.title for measure in measures]
    columns = [Column("name", "Name")]
    columns += [Column(name, title[:1].upper() + title[1:], True) for name, title in zip(names, titles, strict=True)]
    table = Table("per-class", f"Measures by what is predicted, {label}", columns, shown=60)
    for output, row in details.by_output.items():
        values = [row.get(name, float("nan")) for name in names]
        cells = [
            Cell(measure.text(measure.sign * value), measure.raw(measure.sign * value))
            for measure, value in zip(measures, values, strict=True)
        ]
        table.add(output, *cells)
    return table


def example_tests(found: Mapping[int, ExampleTest], first: Contender, second: Contender, design: Design) -> Table:
    """Two contenders on the same test examples, replicate by replicate."""
    repeats = design.replicates
    columns = [
        Column(repeats.unit, repeats.unit.capitalize(), True),
        Column("examples", "Examples", True, detail=True), Column("both", "Both right", True, detail=True),
        Column("only_first", f"Only {first.label}", True), Column("only_second", f"Only {second.label}", True),
        Column("neither", "Neither", True, detail=True), Column("difference", "Difference", True),
        Column("ci95_low,ci95_high", "95% interval", True, "over examples (Agresti and Min 2005)", detail=True),
        Column("p_mcnemar", "McNemar p", True, "exact, two-sided"),
    ]  # fmt: skip
    table = Table("examples", f"{first.label} against {second.label} on the same test examples", columns)
    share = Metric("share")
    for seed, test in sorted(found.items()):
        counts = (test.num_examples, test.both, test.only_first, test.only_second, test.neither)
        table.add(
            Cell(repeats.names[seed], seed), *(Cell(f"{count:,}", count) for count in counts),
            Cell(share.gap(test.difference), test.difference * 100),
            Cell(f"{share.gap(test.low)} to {share.gap(test.high)}", (test.low * 100, test.high * 100)),
            Cell(p_text(test.p), test.p, test.p <= 0.05),
        )  # fmt: skip
    table.note = (
        "Each row compares two trained models on one test set: it says whether these two models differ on such "
        "examples, not whether the strategies would on others. p-values are not adjusted."
    )
    return table
