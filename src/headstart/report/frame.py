"""Runs as a table of pandas, a row each."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.report.reading import Run, read_sweeps

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)


def results(*directories: str | Path) -> "pandas.DataFrame":
    """The runs in directories of comparisons or of single runs, a row each, whatever became of them; one that lies in
    several of them is there once, which is said.

    Columns: `run_id`, `directory`, `status`, `data`, `seed`; a column for each config group (`strategy`, `backbone`,
    …), for each setting in which the runs differ (`optimizer.lr`), for each metric (`test/accuracy`, …: shares from 0
    to 1), for each cost (`cost/train_seconds`), and `error`. What a run does not have is missing there.

    Raises:
        InputError: if a directory holds no run, or pandas is not installed.

    Example:
        >>> import headstart
        >>> frame = headstart.results(run_dir)
        >>> frame[["status", "strategy"]].values.tolist()
        [['completed', 'fine_tune']]
    """
    try:
        import pandas
    except ImportError:
        raise InputError("headstart.results gives a table of pandas: pip install pandas.") from None
    if not directories:
        raise InputError("Name directories of runs, as in headstart.results('outputs/demo').")
    records = read_sweeps([Path(place).expanduser() for place in directories])
    for note in records.notes:
        log.warning("%s", note)
    runs = records.runs
    return pandas.DataFrame([_row(run, _varying(runs)) for run in runs])


def _varying(runs: list[Run]) -> list[str]:
    """Settings that are not the same in all runs; groups and seeds have columns of their own."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key != "seed")
    return [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]


def _row(run: Run, settings: list[str]) -> Mapping[str, Any]:
    return {
        "run_id": run.run_id,
        "directory": str(run.directory),
        "status": run.status,
        "data": run.dataset,
        "seed": run.seed,
        **run.choices,
        **{key: run.settings.get(key) for key in settings if key not in run.choices},
        **run.metrics,
        **{f"cost/{name}": value for name, value in run.cost.items()},
        "error": None if run.error is None else f"{run.error[0]}: {run.error[1]}",
    }
