"""Reads what a sweep's directory holds: every run that belongs to it, whatever state its files are in.

Nothing here raises for a file that is missing, truncated or foreign: the run gets a status, the report a note.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from sys import intern
from typing import Any

from headstart.config.earlier import FIRST_MONITOR, RENAMED, settings_up_to_date
from headstart.errors import InputError
from headstart.names import plural, safe_command
from headstart.record.directory import LISTING, RESULT, RunDirectory, SweepDirectory
from headstart.record.result import RUN_ID, DataRecord, Failure, PhaseRecord, Result, Selection, Weights
from headstart.record.search import cells_of, trial_ids
from headstart.system.bounded import MOST_LISTED, DamagedError
from headstart.system.checksums import read_json

STATUSES = ("completed", "failed", "unreadable", "unfinished", "missing")
"""What a run can be: `unreadable` has a result that cannot be used, `unfinished` a directory without a result."""
LONGEST_MESSAGE, LONGEST_TRACEBACK = 2000, 3000


@dataclass(slots=True)
class Run:
    """One run, as far as its files tell."""

    run_id: str
    directory: Path
    sweep: str
    status: str = "missing"
    choices: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    seed: int | None = None
    fresh: bool = False
    """Whether its seed is one that settings were run anew on once they had been selected."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    monitor: str = ""
    """The metric that its epoch was selected by."""
    phases: PhaseRecord | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    dataset: str = ""
    fingerprint: str = ""
    split: str = ""
    sizes: Mapping[str, float] = field(default_factory=dict)
    copies: Mapping[str, float] = field(default_factory=dict)
    """Exact copies among the examples, counted by where they lie (see `data.duplicates` of a result)."""
    score: str = ""
    """The metric that runs of its task are compared by, unless they select their epoch by another."""
    num_classes: int | None = None
    group: str = "class"
    """What a size of the training subset counts the examples of: a class, or a quantile of the numbers predicted."""
    weights: str = ""
    weights_content: str = ""
    """What the backbone began from, whatever it is called: checksum of the file, and the place of the model in it."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Calibration errors and coverage of regions (see `training.calibration`), without the scores behind them."""
    environment: str = ""
    commit: str = ""
    started: str = ""
    finished: str = ""
    rerun: str = ""
    crc32: Mapping[str, str] = field(default_factory=dict)
    """Checksums of its files, as far as its result has them."""
    notes: Sequence[str] = ()
    """What was said while it was prepared and carried out."""
    command: str = ""
    """What the comparison was started with, as far as it is known."""
    error: tuple[str, str, str] | None = None
    """Type, message, traceback of a failed run; for an unreadable one, what is wrong with its file."""
    attempts: int = 0
    attempt_seconds: float = 0.0

    @property
    def completed(self) -> bool:
        """Whether the run ended well and can be counted."""
        return self.status == "completed"


@dataclass(slots=True)
class SweepRecords:
    """All runs of the sweeps given, with what was odd about the files."""

    name: str
    directories: list[Path]
    runs: list[Run]
    notes: list[str]
    commands: list[str]
    environments: dict[str, int]

    def count(self, status: str) -> int:
        """Number of runs of that status."""
        return sum(run.status == status for run in self.runs)


def read_sweeps(directories: Sequence[Path]) -> SweepRecords:
    """Read all runs of one or more sweep directories; the same run in two of them counts once.

    Raises `InputError` for directories that do not exist or that hold no run at all.
    """
    records = SweepRecords("", list(directories), [], [], [], {})
    problems: list[str] = []
    names: list[str] = []
    places: dict[str, int] = {}
    for directory in directories:
        if not directory.is_dir():
            problems.append(f"{str(directory)!r} is no directory. Name those of comparisons or runs.")
            continue
        found = 0
        for run in _read_sweep(directory, records, names):
            found += 1
            place = places.setdefault(run.run_id, len(records.runs))
            if place == len(records.runs):
                records.runs.append(run)
                continue
            records.notes.append(f"Run {run.run_id} is in more than one directory; it was counted once.")
            if run.completed and not records.runs[place].completed:
                records.runs[place] = run
        if not found:
            problems.append(
                f"{str(directory)!r} holds no run: neither a {LISTING} that lists any nor a directory with a "
                f"{RESULT}. Give the directory that `headstart train -m` wrote."
            )
    if problems:
        raise InputError(*problems)
    records.name = " + ".join(dict.fromkeys(names))
    records.environments = dict(Counter(run.environment for run in records.runs if run.environment).most_common())
    return records


def _read_sweep(directory: Path, records: SweepRecords, names: list[str]) -> Iterator[Run]:
    listed = _read_listing(directory, records, names)
    trials = trial_ids(SweepDirectory(directory))
    present = [run.path for run in SweepDirectory(directory).runs() if run.path.name not in trials]
    records.notes += _searched(SweepDirectory(directory))
    if listed is None:
        if RunDirectory(directory).holds_a_run and not present:
            present = [directory]
        listed = [Run(_id_of(path), path, directory.name) for path in present]
    else:
        known = {run.directory.name for run in listed}
        others = {_id_of(path): path for path in present if path.name not in known}
        for run in listed:
            if not run.directory.exists() and run.run_id in others:  # its folder was renamed
                run.directory = others.pop(run.run_id)
        foreign = [path.name for path in others.values()]
        if foreign:
            shown = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
            records.notes.append(
                f"{len(foreign)} run director{'y is' if len(foreign) == 1 else 'ies are'} not in {directory.name}/"
                f"{LISTING} and {'was' if len(foreign) == 1 else 'were'} left out: {shown}."
            )
    for run in listed:
        _read_result(run)
        _read_attempts(run)
        yield run


def _searched(sweep: SweepDirectory) -> Iterator[str]:
    """How many settings stand behind each contender whose setting was searched."""
    for record, directory in cells_of(sweep):
        try:
            drawn = [trial for trial in directory.trials() if trial.is_draw]
        except DamagedError as error:
            yield f"What the search {record.cell} tried cannot be read: {error}."
            continue
        yield (
            f"{record.label}: search=tuned was chosen on val among "
            f"{len(drawn)} settings, the default among them (search={record.method}); search=default is that default. "
            "Both are scored on seeds that the search knew nothing of; where only the default is listed, it was chosen."
        )


def _read_listing(directory: Path, records: SweepRecords, names: list[str]) -> list[Run] | None:
    """The runs that the listing says belong to the sweep; `None` where it cannot say."""
    path = SweepDirectory(directory).listing
    try:
        content = read_json(path, MOST_LISTED)
        entries = content.get("runs")
        if not isinstance(entries, list):
            raise ValueError("it has no list of runs")
    except FileNotFoundError:
        names.append(directory.name)
        if not RunDirectory(directory).holds_a_run:
            records.notes.append(
                f"{directory.name} has no {LISTING}: runs that were planned but never started are not known."
            )
        return None
    except (OSError, ValueError) as error:
        names.append(directory.name)
        records.notes.append(f"{directory.name}/{LISTING} cannot be read ({error}); its runs were taken from disk.")
        return None
    names.append(_text(content.get("name")) or directory.name)
    commands = content.get("commands")
    commands = [_command(item) for item in commands] if isinstance(commands, list) else []
    last = _command(content.get("command"))
    records.commands += commands or ([last] if last else [])
    runs, seen, nameless = [], set(), 0
    for entry in entries:
        run_id = _text(entry.get("run_id")) if isinstance(entry, dict) else ""
        if not RUN_ID.fullmatch(run_id):
            nameless += 1
            continue
        if run_id in seen:
            continue
        seen.add(run_id)
        run = _listed(directory, run_id, entry)
        place = entry.get("command")
        run.command = commands[place] if isinstance(place, int) and 0 <= place < len(commands) else last
        runs.append(run)
    if nameless:
        records.notes.append(
            f"Left out of {directory.name}/{LISTING}: {plural(nameless, 'entry', 'entries')} without a run's name."
        )
    return runs


def read_run(directory: Path) -> Run:
    """The run in a directory of its own, as far as its files tell."""
    known = Run(_id_of(directory), directory, "")
    _read_result(known)
    return known


def _id_of(directory: Path) -> str:
    """Of a run whose folder may be called anything: people copy and rename them."""
    with suppress(OSError, ValueError, KeyError):  # which `_read_result` tells
        return str(read_json(RunDirectory(directory).result)["run_id"])
    return directory.name


def read_listed(directory: Path, entries: Iterable[Mapping[str, Any]]) -> list[Run]:
    """The runs of a listing's entries, with what became of each."""
    runs = [_listed(directory, entry["run_id"], entry) for entry in entries]
    for run in runs:
        _read_result(run)
    return runs


def _listed(directory: Path, run_id: str, entry: Mapping[str, Any]) -> Run:
    run = Run(run_id, directory / run_id, directory.name, fresh=entry.get("fresh") is True)
    _take_identity(run, entry)
    return run


def _read_result(run: Run) -> None:
    try:
        result = Result.from_dict(read_json(RunDirectory(run.directory).result), run.run_id)
    except FileNotFoundError:
        run.status = "unfinished" if run.directory.is_dir() and any(run.directory.iterdir()) else "missing"
        return
    except (OSError, ValueError) as error:
        run.status = "unreadable"
        run.error = (RESULT, f"{RESULT} cannot be used: {error}"[:LONGEST_MESSAGE], "")
        return
    asked = {"choices": result.choices, "settings": result.settings, "overrides": result.overrides}
    data = result.data or DataRecord()
    given = {} if result.seed is None else {"seed": result.seed}
    _take_identity(run, {**asked, "data": {"name": data.name, "fingerprint": data.fingerprint}, **given})
    _take_outcome(run, result)


def _take_identity(run: Run, entry: Mapping[str, Any]) -> None:
    """What a listing and a result both tell: what the run was asked to do."""
    choices, settings = _mapping(entry.get("choices")), _mapping(entry.get("settings"))
    if choices:
        run.choices = {intern(str(key)): intern(_choice(value)) for key, value in choices.items()}
    if settings:
        settings, split = settings_up_to_date({intern(str(key)): _setting(value) for key, value in settings.items()})
        run.settings = settings
        if split is not None and run.choices:
            run.choices = {**run.choices, "split": split}
    overrides = entry.get("overrides")
    if isinstance(overrides, list):
        words = [str(item).partition("=") for item in overrides]
        run.overrides = tuple(intern("".join([RENAMED.get(key, key), *rest])) for key, *rest in words)
    if not run.choices:
        pairs = (item.lstrip("+").split("=", 1) for item in run.overrides if "=" in item)
        run.choices = {key: value for key, value in pairs if key.isidentifier() and key != "seed"}
    data = _mapping(entry.get("data"))
    if name := _text(data.get("name")):
        run.dataset, run.fingerprint = intern(name), intern(_text(data.get("fingerprint")))
    seed = entry.get("seed", run.settings.get("seed"))
    if isinstance(seed, int) and not isinstance(seed, bool):
        run.seed = seed


def _take_outcome(run: Run, result: Result) -> None:
    run.status, run.metrics, run.cost = result.status, _numbers(result.metrics), _shared_out(_numbers(result.cost))
    # what does not say so is older, and was selected by accuracy whatever it monitored
    run.monitor = intern(_text((result.selection or Selection()).metric) or FIRST_MONITOR)
    run.score = intern(_text(result.score))
    run.phases = _phases(result.phases)
    data, weights, git = result.data or DataRecord(), result.weights or Weights(), result.git or {}
    run.split, run.sizes = intern(_text(data.split_sha256)), _numbers(data.sizes)
    run.copies = _numbers(data.duplicates)
    classes: object = data.classes
    run.num_classes = len(classes) if isinstance(classes, list) else classes if isinstance(classes, int) else None
    run.group = "quantile" if data.targets else "class"
    source, checksum, place = _text(weights.source), _text(weights.sha256), _text(weights.place)
    run.weights = intern(" ".join(filter(None, (source, checksum, place and f"({place})"))))
    run.weights_content = intern(" ".join(filter(None, (checksum or source, place))))
    kept = _mapping(result.calibration)
    run.calibration = {name: kept[name] for name in ("calibration_error", "coverage") if name in kept}
    run.environment = intern(json.dumps(result.environment, sort_keys=True, default=str)) if result.environment else ""
    commit = _text(git.get("commit"))
    run.commit = intern(commit + (" with uncommitted changes" if commit and git.get("dirty") else ""))
    run.crc32 = {str(name): _text(value) for name, value in _mapping(result.crc32).items()}
    run.started, run.finished, run.rerun = _text(result.started), _text(result.finished), _text(result.rerun)
    notes = result.notes
    run.notes = tuple(intern(note) for note in notes if isinstance(note, str)) if isinstance(notes, list) else ()
    if not result.is_completed:
        error = result.error or Failure()
        message = _text(error.message) or "The run failed and left no message."
        trace = _text(error.traceback)[-LONGEST_TRACEBACK:]
        run.error = (_text(error.type) or "Error", message[:LONGEST_MESSAGE], trace)


def _shared_out(cost: dict[str, float]) -> dict[str, float]:
    """The time of probes that were trained together, shared out among them, where their results have not done so."""
    together = 1 + cost.get("fused_with", 0.0)
    if together > 1 and "total_seconds" in cost and "shared_by" not in cost:
        cost["total_seconds"] /= together
    return cost


def _read_attempts(run: Run) -> None:
    """Earlier attempts count in what the sweep cost."""
    for attempt in RunDirectory(run.directory).earlier_attempts():
        run.attempts += 1
        try:
            cost = _numbers(read_json(attempt.result).get("cost"))
        except (OSError, ValueError):
            continue
        run.attempt_seconds += cost.get("total_seconds", 0.0)


def _phases(entry: PhaseRecord | None) -> PhaseRecord | None:
    """What a result says of the phases, if it fits together."""
    if entry is None:
        return None
    numbers = (entry.planned, entry.reached, entry.best)
    if not all(isinstance(number, int) for number in numbers) or not isinstance(entry.head_only, list):
        return None
    fits = len(entry.head_only) == entry.planned and 0 <= entry.best < entry.reached <= entry.planned
    return entry if fits else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _command(value: object) -> str:
    """The command that a comparison says it was started with, if it is one of this program's."""
    return safe_command(_text(value), "headstart", "train")


def _choice(value: object) -> str:
    return "none" if value is None else str(value)


def _setting(value: Any) -> Any:
    return value if isinstance(value, int | float | bool | None) else intern(str(value))


def _numbers(value: object) -> dict[str, float]:
    """The finite numbers of a mapping; anything else in it is no measurement."""
    return {
        intern(str(key)): number
        for key, number in _mapping(value).items()
        if isinstance(number, int | float) and not isinstance(number, bool) and isfinite(number)
    }
