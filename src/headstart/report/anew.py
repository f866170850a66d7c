"""What a comparison selected on val, by the rule that the report goes by: for running it anew on fresh seeds."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.report.design import read_design
from headstart.report.reading import SweepRecords, read_listed


def selected_overrides(directory: Path, entries: Iterable[Mapping[str, Any]], asked: set[str]) -> list[Sequence[str]]:
    """The overrides of the runs that each contender stands with, wherever it has one of the runs `asked`, by run id.

    `entries` are of the comparison's listing; runs on fresh seeds among them select nothing. Where no run of a
    contender is done, nothing is selected.
    """
    runs = [run for run in read_listed(directory, entries) if not run.fresh]
    design = read_design(SweepRecords(directory.name, [directory], runs, [], [], {}))
    return [
        run.overrides
        for cell in design.cells.values()
        if cell.selected is not None and any(run.run_id in asked for run in cell.runs)
        for run in cell.selected.runs.values()
    ]
