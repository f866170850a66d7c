"""What searches tried, for others to read: as a table of pandas, and as Optuna's studies."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.metrics import mode
from headstart.record import result
from headstart.record.directory import SweepDirectory
from headstart.record.result import Result
from headstart.record.search import CellRecord, Trial, cells_of
from headstart.record.variable import Variable

if TYPE_CHECKING:
    import optuna
    import pandas


def trials(*directories: str | Path) -> "pandas.DataFrame":
    """Every trial of the searches in directories of comparisons, a row each.

    Columns: `search` (its cell), `trial` (from 0, the default setting), `replicate_of` (the trial whose setting it
    tries again), `seed`, `run_id`, `status` (`completed`, `stopped`: paused, `failed`, `refused`: no run can have the
    setting, `unfinished`), a column for each setting that was searched, its score on val under the metric's name (of a
    paused trial so far), `epochs`, `seconds`.

    Raises:
        InputError: if there was no search, or pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError("headstart.trials gives a table of pandas: pip install pandas.") from None
    rows = []
    for place in map(Path, directories):
        for record, trial, done in _read(place):
            value = None if done is None or done.selection is None else done.selection.value
            rows.append(
                {
                    "search": record.label,
                    "trial": trial.number,
                    "replicate_of": trial.replicate_of,
                    "seed": trial.seed,
                    "run_id": trial.run_id or None,
                    "status": _status(trial, done),
                    **point(record, trial),
                    record.monitor: value,
                    "epochs": None if done is None else done.cost.get("epochs"),
                    "seconds": None if done is None else done.cost.get("total_seconds"),
                }
            )
    if not rows:
        raise InputError("Name directories of searches, as in headstart.trials('outputs/search').")
    return pandas.DataFrame(rows).astype({"replicate_of": "Int64"})


def studies(directory: str | Path) -> dict[str, "optuna.Study"]:
    """Each search in a comparison's directory as a study of Optuna's, by its cell, in memory.

    Trials that were paused are `PRUNED` there, with their score so far. A trial's `user_attrs` name its run, and its
    number here. Settings outside the space (a default may lie there) are left out.

    Raises:
        InputError: if there was no search.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
    found: dict[str, optuna.Study] = {}
    for record, trial, done in _read(Path(directory)):
        name = f"{record.label} {record.cell}"
        if name not in found:
            way = optuna.study.StudyDirection
            direction = way.MAXIMIZE if mode(record.monitor) == "max" else way.MINIMIZE
            found[name] = optuna.create_study(study_name=name, direction=direction)
        space = [Variable.from_dict(one) for one in record.space]
        params = point(record, trial)
        if not trial.is_draw or done is None or not all(one.holds(params.get(one.key)) for one in space):
            continue
        value = None if done.status == "failed" or done.selection is None else done.selection.value
        attributes = {"run_id": trial.run_id, "trial": trial.number, "seconds": done.cost.get("total_seconds")}
        distributions = {one.key: one.distribution() for one in space}
        known = {one.key: params[one.key] for one in space}
        state = states[done.status]
        found[name].add_trial(
            create_trial(state=state, value=value, params=known, distributions=distributions, user_attrs=attributes)
        )
    if not found:
        raise InputError("Name the directory of a search, as in headstart.studies('outputs/search').")
    return found


def point(record: CellRecord, trial: Trial) -> dict[str, Any]:
    """The values of everything that was searched."""
    is_default = trial.number == 0 or trial.replicate_of == 0
    return {**record.defaults, **({} if is_default else trial.params)}


def _read(directory: Path) -> Iterator[tuple[CellRecord, Trial, Result | None]]:
    sweep = SweepDirectory(directory.expanduser())
    for record, kept in cells_of(sweep):
        for trial in kept.trials():
            yield record, trial, result.read(sweep.run(trial.run_id), trial.run_id) if trial.run_id else None


def _status(trial: Trial, done: Result | None) -> str:
    return "refused" if not trial.run_id else "unfinished" if done is None else done.status
