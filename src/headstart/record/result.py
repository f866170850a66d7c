"""The result of a run: what it was, what came out, and all that is needed to repeat it. Trackers mirror this."""

import os
import re
import shlex
import traceback
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from headstart.record.directory import RunDirectory
from headstart.record.writing import write_json
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.checksums import read_json

SCHEMA = 1
RUN_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
"""What may name a run, and with it a directory."""
STATUSES = ("completed", "failed", "stopped")
MUST = {"run_id": str, "choices": Mapping, "settings": Mapping, "overrides": list, "metrics": Mapping, "cost": Mapping}
"""What every record holds, whatever became of its run."""


MAY_LACK = {"may_lack": True}
"""Of a field that is not written where it has its default: only some runs have it, or the first versions had none.

`more` is what later versions write and this one does not know, kept as it is.
"""


@dataclass(kw_only=True)
class DataRecord:
    """What a run was trained and tested on."""

    name: str = ""
    fingerprint: str = ""
    """sha256 over the data's contents."""
    split_sha256: str = field(default="", metadata=MAY_LACK)
    sizes: Mapping[str, int] | None = field(default=None, metadata=MAY_LACK)
    """Examples by part: train, val, test."""
    classes: Sequence[str] | None = field(default=None, metadata=MAY_LACK)
    targets: Sequence[str] | None = field(default=None, metadata=MAY_LACK)
    """Names of what is predicted, where that is numbers."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Among it whatever else a source tells of itself."""
    duplicates: Mapping[str, Any] | None = field(default=None, metadata=MAY_LACK)
    """Exact copies among the examples, counted by where they lie."""


@dataclass(kw_only=True)
class Failure:
    """Why a run failed."""

    type: str = "Error"
    message: str = ""
    traceback: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class PhaseRecord:
    """Which phases of the plan began, and in which (from 0) the selected epoch lies."""

    names: Sequence[str] = ()
    planned: int = 0
    reached: int = 0
    best: int = 0
    head_only: Sequence[bool] = ()
    """Of each phase, whether nothing but the head had trained up to its end."""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Selection:
    """What the epoch was selected by, and the value that it had."""

    metric: str = ""
    mode: str = ""
    value: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Weights:
    """Where the backbone's weights came from; see `backbones.backbone.WeightsRecord`."""

    source: str = ""
    sha256: str | None = None
    ignored: Sequence[str] = ()
    place: str = field(default="", metadata=MAY_LACK)
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Result:
    """`result.json`, in the order in which it is written."""

    run_id: str
    choices: Mapping[str, Any]
    settings: Mapping[str, Any]
    overrides: Sequence[str]
    seed: int | None = None
    task: str = field(default="", metadata=MAY_LACK)
    data: DataRecord | None = field(default=None, metadata=MAY_LACK)
    environment: Mapping[str, Any] | None = field(default=None, metadata=MAY_LACK)
    git: Mapping[str, Any] | None = field(default=None, metadata=MAY_LACK)
    rerun: str = field(default="", metadata=MAY_LACK)
    """The command that repeats the run."""
    status: str
    error: Failure | None = None
    metrics: Mapping[str, Any]
    """`val/…` and `train/…` of the selected epoch, `test/…`, `shift/<name>/…`, `best_epoch`; `None`: not finite."""
    cost: Mapping[str, Any]
    phases: PhaseRecord | None = field(default=None, metadata=MAY_LACK)
    selection: Selection | None = field(default=None, metadata=MAY_LACK)
    score: str = field(default="accuracy", metadata=MAY_LACK)
    """The metric by which runs of its task are compared, unless they select their epoch by another."""
    weights: Weights | None = field(default=None, metadata=MAY_LACK)
    details: Mapping[str, Any] | None = field(default=None, metadata=MAY_LACK)
    """By class: how often which was taken for which."""
    reading: Mapping[str, Any] | None = field(default=None, metadata=MAY_LACK)
    """How the examples were read, and what of them was not."""
    calibration: Mapping[str, Any] | None = field(default=None, metadata=MAY_LACK)
    """Temperature and conformity of the validation examples (see `training.calibration`)."""
    average: Mapping[str, Any] | None = field(default=None, metadata=MAY_LACK)
    """How the weights that it keeps were averaged, and the monitor before and after (see `run.averages`)."""
    predictions_bytes: int | None = field(default=None, metadata=MAY_LACK)
    crc32: Mapping[str, str] | None = field(default=None, metadata=MAY_LACK)
    """Of other files of the run: its history, plan, predictions, hardest examples, adapter and model files."""
    more: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] | None = field(default=None, metadata=MAY_LACK)
    """What was said while the run was prepared and carried out."""
    started: str = field(default="", metadata=MAY_LACK)
    finished: str = field(default="", metadata=MAY_LACK)

    @property
    def is_completed(self) -> bool:
        return self.status == "completed"

    @property
    def is_trial(self) -> bool:
        """Whether it is a search's, which has no score on test."""
        return is_trial(self.settings)

    @property
    def missing(self) -> list[str]:
        """Entries that it does not have: other runs, or those of later versions, do."""
        return [one.name for one in _known(Result).values() if one.metadata and getattr(self, one.name) == one.default]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, as `result.json` holds it."""
        return {"schema": SCHEMA, **_plain(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], run_id: str | None = None) -> "Result":
        """The inverse of `to_dict`; what this version does not know is kept in `more`.

        Raises:
            DamagedError: if it is not one that this program writes, and of the run `run_id`, where that is given; it
                names what is missing.
        """
        check(value, run_id)
        found: Result = _taken(cls, {name: entry for name, entry in value.items() if name != "schema"})
        return found


PARTS: dict[str, type] = {
    "data": DataRecord,
    "error": Failure,
    "phases": PhaseRecord,
    "selection": Selection,
    "weights": Weights,
}
"""Entries that have a shape of their own."""
PLAIN = ("environment", "git", "details", "reading", "calibration", "average")


@cache
def _known(kind: type) -> dict[str, Field[Any]]:
    return {one.name: one for one in fields(kind) if one.name != "more"}


def _taken(kind: Any, value: Mapping[str, Any]) -> Any:
    known: dict[str, Any] = {}
    more: dict[str, Any] = {}
    for name, entry in value.items():
        (known if name in _known(kind) else more)[name] = entry
    if kind is Result:
        for name in (*PARTS, *PLAIN):
            if not isinstance(known.get(name), Mapping):
                known[name] = None
            elif name in PARTS:
                known[name] = _taken(PARTS[name], known[name])
    return kind(**known, more=more)


def _plain(entry: Any) -> dict[str, Any]:
    """A dataclass as JSON, `more` at the place where it is declared."""
    found: dict[str, Any] = {}
    for one in fields(entry):
        value = getattr(entry, one.name)
        if one.name == "more":
            found |= value
        elif not one.metadata or value != one.default:
            found[one.name] = _plain(value) if type(value) in PARTS.values() else value
    return found


class OtherRunError(DamagedError):
    """A result that is whole, but another run's."""


def checked(directory: RunDirectory, run_id: str | None = None) -> Result | None:
    """The run's result; `None` if there is none.

    It costs some tenths of a millisecond: predictions are looked at, and their checksums verified when they are read.

    Raises:
        DamagedError: if it is not one that this program wrote whole for this run, or its predictions are not there.
    """
    try:
        found = Result.from_dict(read_json(directory.result), run_id)
    except FileNotFoundError:
        return None
    if found.is_completed and not found.is_trial:
        _check_predictions(directory.predictions, found.predictions_bytes)
    return found


def check(value: Mapping[str, Any], run_id: str | None = None) -> None:
    """Raise `DamagedError` unless `value` is a record as this program writes it: of the run `run_id`, if given."""
    if value.get("schema") != SCHEMA:
        raise DamagedError(f"schema {SCHEMA} is what can be read, but it says {value.get('schema')!r}"[:200])
    if value.get("status") not in STATUSES:
        raise DamagedError(f"status must be one of {', '.join(STATUSES)}, but it says {value.get('status')!r}"[:200])
    must = MUST if value["status"] == "failed" else {**MUST, "data": Mapping}
    bad = [name for name, kind in must.items() if not isinstance(value.get(name), kind)]
    if bad:
        raise DamagedError(f"it lacks what every {value['status']} run has: {', '.join(bad)}")
    numbers = [*value["metrics"].values(), *value["cost"].values()]
    if not all(number is None or type(number) in (int, float) for number in numbers):
        raise DamagedError("it has metrics or costs that are no numbers")
    is_tested = any(name.startswith("test/") for name in value["metrics"])
    if value["status"] == "completed" and not is_tested and not is_trial(value["settings"]):
        raise DamagedError("it has no metric of a test set, though it says completed")
    if is_tested and is_trial(value["settings"]):
        raise DamagedError("it has a metric of a test set, which no trial of a search may read")
    if value["status"] == "failed" and not isinstance(value.get("error"), Mapping):
        raise DamagedError("it does not say why the run failed")
    if run_id is not None and value["run_id"] != run_id:
        raise OtherRunError(f"it is the result of another run, {value['run_id']}"[:200])


def is_trial(settings: Mapping[str, Any]) -> bool:
    """Whether these settings are of a search's trial."""
    return settings.get("trial") is True


def _check_predictions(path: Path, size: object) -> None:
    """Raise `DamagedError` unless predictions are there, in their length; older records do not know it."""
    try:
        with bounded.opened(path, bounded.MOST_UNPACKED) as file:
            found = os.fstat(file.fileno()).st_size
            if size is not None and found != size:
                raise DamagedError(f"its {path.name} has {found} bytes and should have {size}")
            if size is None and not zipfile.is_zipfile(file):
                raise DamagedError(f"its {path.name} is not whole")
    except FileNotFoundError:
        raise DamagedError(f"its {path.name} is missing") from None


def read(directory: RunDirectory, run_id: str | None = None) -> Result | None:
    """As `checked`, but `None` also for a record that cannot be used."""
    try:
        return checked(directory, run_id)
    except DamagedError:
        return None


def damage(directory: RunDirectory, run_id: str | None = None) -> str | None:
    """Why the record that lies in `directory` cannot be used; `None` if it can, or there is none."""
    try:
        checked(directory, run_id)
    except DamagedError as error:
        return str(error)
    return None


def completed(directory: RunDirectory, run_id: str | None = None) -> bool:
    """Whether the run in `directory` is finished and need not be done again."""
    found = read(directory, run_id)
    return found is not None and found.is_completed


def write(directory: RunDirectory, result: Result) -> None:
    """Write a run's result, whole, so that it outlasts a power cut."""
    write_json(directory.result, result.to_dict(), durable=True, seal=True)


def repeat_command(directory: Path) -> str:
    """The command that repeats the run in `directory`, for a shell."""
    return shlex.join(["headstart", "rerun", str(directory)])


def as_command(text: str) -> str:
    """A run's `rerun` as a shell takes it; older results have the directory without quotes."""
    start = "headstart rerun "
    place = text.removeprefix(start)
    try:
        words = shlex.split(place)
    except ValueError:
        words = []
    is_quoted = len(words) == 1 and shlex.quote(words[0]) == place
    return text if is_quoted or place == text else start + shlex.quote(place)


MOST_OF_MESSAGE, MOST_OF_TRACEBACK = 4_000, 20_000
"""Characters of a failed run's error that its result keeps."""


def failure(error: BaseException) -> Failure:
    """The `error` entry of a failed run's result; the log has what is too long for it."""
    text = "".join(traceback.format_exception(error))
    return Failure(type=type(error).__name__, message=message_of(error), traceback=_cut(text, MOST_OF_TRACEBACK))


def message_of(error: BaseException) -> str:
    """What an error says; its beginning and its end where that is long: a compiler's would be a hundred pages."""
    return _cut(str(error) or type(error).__name__, MOST_OF_MESSAGE)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    left_out = f"\n… {len(text) - most:,} characters are in the run's log alone …\n"
    return text[: most // 2] + left_out + text[-most // 2 :]


def now() -> str:
    """The time, in UTC, ISO 8601, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
