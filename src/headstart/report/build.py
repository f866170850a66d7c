"""Builds a report: reads sweeps, computes, draws, and writes the page, tables, figures and summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import InputError
from headstart.record.directory import REPORT, SweepDirectory
from headstart.record.writing import write_bytes, write_json
from headstart.report.analysis import Analysis, analyse
from headstart.report.answer import answer
from headstart.report.contents import Contents, compose_page
from headstart.report.design import read_design
from headstart.report.exhibits import gather
from headstart.report.html import render
from headstart.report.reading import STATUSES, read_sweeps
from headstart.report.summary import summarised
from headstart.system.bounded import json_object

PAGE, SUMMARY = "report.html", "summary.json"


@dataclass(frozen=True, slots=True)
class Report:
    """Where a report lies, and its answer in sentences, the headline first."""

    directory: Path
    page: Path
    summary: Path
    tables: list[Path]
    figures: list[Path]
    answer: list[str]
    notes: list[str]
    counts: dict[str, int]
    """Runs by status: completed, failed, unreadable, unfinished, missing."""
    analysis: Analysis
    is_written: bool = True


def build(
    directories: Sequence[Path], out: Path | None = None, margin: float | None = None, write: bool = True
) -> Report:
    """Write the report on one or more sweep directories to `out`.

    By default that is `report/` in the directory; of several, beside the first, whose own report stays.

    `margin` is a difference that does not matter in practice, in the unit that differences are shown in: points of a
    share, by default 1; for measures that are no share there is none unless it is given. Without `write`, nothing is
    written, and what the report says is given back alone.

    Raises `InputError` where there is no directory or no run in it, or `out` cannot be written.
    """
    directories = [Path(directory) for directory in directories]
    if not directories:
        raise InputError("A report needs at least one directory of a sweep.")
    records = read_sweeps(directories)
    design = read_design(records)
    analysis = analyse(design, margin if margin is None or not design.metric.share else margin / 100)
    exhibits = gather(analysis)
    words = answer(analysis, records, exhibits)
    contents = compose_page(records, analysis, words, exhibits)
    around = directories[0] if len(directories) == 1 else directories[0].absolute().parent
    target = Path(out) if out is not None else SweepDirectory(around).report
    files = {PAGE: render(contents.page).encode(), **_files(contents)}
    if write:
        _write(target, files, summarised(records, analysis, words, exhibits, contents, list(files)))
    return Report(
        target, target / PAGE, target / SUMMARY,
        [target / name for name in files if name.startswith("tables/")],
        [target / name for name in files if name.startswith("figures/")],
        words.sentences, list(contents.page.notes), {status: records.count(status) for status in STATUSES},
        analysis, write,
    )  # fmt: skip


def _files(contents: Contents) -> dict[str, bytes]:
    files = {}
    for table in contents.tables:
        files[f"tables/{table.name}.csv"] = table.csv().encode()
        if len(table.rows) <= max(1000, table.shown):  # longer ones are for programs
            files[f"tables/{table.name}.md"] = table.markdown().encode()
            files[f"tables/{table.name}.tex"] = table.latex().encode()
    for drawing in contents.drawings:
        files |= {f"figures/{drawing.name}.{kind}": content for kind, content in drawing.files.items()}
    return files


def _write(target: Path, files: dict[str, bytes], summary: dict) -> None:
    """Write each file whole, and remove those of an earlier report that this one no longer has."""
    try:
        stale = json_object(target / SUMMARY).get("files", [])
    except (OSError, ValueError):
        stale = []
    _refuse_links(target)
    try:
        for name, content in files.items():
            write_bytes(target / name, content)
        write_json(target / SUMMARY, summary)
        for name in stale if isinstance(stale, list) else []:
            if isinstance(name, str) and name not in files and _ours(name):
                (target / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"The report cannot be written to {str(target)!r}: {error}. Give another place.") from error


def _refuse_links(target: Path) -> None:
    """Raise `InputError` where a report would be written, and files removed, through a link that leads elsewhere.

    What was given by `--out` may be one; `report/` in a directory that came from others, and what lies in it, may not.
    """
    folders = [target / name for name in ("tables", "figures")]
    links = [folder for folder in ([target] if target.name == REPORT else []) + folders if folder.is_symlink()]
    if links:
        raise InputError(
            f"A report is not written through links, but {', '.join(map(str, links))} leads elsewhere. Remove it, or "
            "name another place: --out=DIR."
        )


def _ours(name: str) -> bool:
    """Whether a file name is one that a report could have written."""
    path = Path(name)
    return path.parent.as_posix() in ("tables", "figures") and path.suffix in (".csv", ".md", ".tex", ".svg", ".pdf")
