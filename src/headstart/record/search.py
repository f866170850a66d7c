"""What a search keeps beside the directories of its trials: for each cell of a comparison what is searched, and a line
for each trial that was drawn. What became of a trial stands in its own directory."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headstart.record import result
from headstart.record.directory import SweepDirectory
from headstart.record.writing import write_bytes, write_json
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.checksums import read_json

SCHEMA = 1
CELL, TRIALS, LOCK = "cell.json", "trials.jsonl", ".lock"


@dataclass(frozen=True)
class Trial:
    """A setting that was drawn, and the run that tries it."""

    number: int
    run_id: str
    """Empty if no run can have the setting."""
    params: Mapping[str, Any]
    seed: int
    replicate_of: int | None = None
    """The trial whose setting is tried again, on another seed."""
    invalid: str | None = None
    """Why no run can have the setting."""

    @property
    def is_draw(self) -> bool:
        """Whether it counts among the settings that were tried."""
        return self.replicate_of is None


@dataclass(frozen=True)
class CellRecord:
    """One cell: the comparison's settings in it, and what is searched within."""

    cell: str
    overrides: Sequence[str]
    choices: Mapping[str, Any]
    space: Sequence[Mapping[str, Any]]
    """The variables; see `search.space.Variable`."""
    defaults: Mapping[str, Any]
    """The values that they have where nothing is searched."""
    method: str
    stopping: str
    search_seed: int
    seed: int
    """Of its trials."""
    monitor: str
    max_epochs: int
    is_probe: bool
    schema: int = field(default=SCHEMA)

    @property
    def label(self) -> str:
        """What the cell is called: `fine_tune`, `resnet18 lora`, `feature_extraction knn`."""
        told = [word.partition("=") for word in self.overrides]
        groups = ("data", "backbone", "strategy", "unfreeze", "head", "augmentation", "optimizer")
        names = [value for key, _, value in told if key in groups]
        return " ".join(names) or str(self.choices.get("strategy", self.cell))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "CellRecord":
        """Raises `DamagedError` unless it is what `to_dict` gave."""
        names = set(cls.__dataclass_fields__)
        if value.get("schema") != SCHEMA or not names <= set(value):
            raise DamagedError("it is not what a search of this version keeps of a cell")
        return cls(**{name: value[name] for name in names})


class CellDirectory:
    """The files of one cell. Whoever appends holds the lock of its search."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trials: list[Trial] = []
        self._read = 0

    def config(self, number: int) -> Path:
        """The config of the cell at the `number`-th combination of the config groups that are searched."""
        return self.path / f"config-{number}.yaml"

    def write(self, record: CellRecord, configs: Sequence[str]) -> None:
        """Lay a cell down, unless it is there."""
        if self.is_laid_down:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(configs):
            write_bytes(self.config(number), text.encode(), durable=True)
        write_json(self.path / CELL, record.to_dict(), durable=True, seal=True)  # last: it says that the cell is whole

    @property
    def is_laid_down(self) -> bool:
        return (self.path / CELL).is_file()

    def record(self) -> CellRecord:
        """Raises `DamagedError` if it is not as it was written."""
        return CellRecord.from_dict(read_json(self.path / CELL))

    def trials(self) -> list[Trial]:
        """All that were drawn, in order; only what was added since the last call is read."""
        path = self.path / TRIALS
        if not path.is_file():
            return []
        with bounded.opened(path, bounded.MOST_LISTED) as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # a line that was cut off was never drawn: no run began on it
        for line in whole.splitlines():
            trial = _trial(line, path)
            if trial.number == len(self._trials):
                self._trials.append(trial)
        self._read += len(whole)
        return self._trials

    def append(self, trial: Trial) -> None:
        """Note a trial down before its run begins, so that it outlasts a power cut."""
        line = json.dumps({name: value for name, value in asdict(trial).items() if value is not None})
        with open(self.path / TRIALS, "r+b" if (self.path / TRIALS).exists() else "w+b") as file:
            self._cut_torn_end(file)
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _cut_torn_end(file: Any) -> None:
        """Leave out what a writer that was killed left without an end."""
        size = file.seek(0, os.SEEK_END)
        back = min(size, 1 << 16)
        file.seek(size - back)
        tail = file.read()
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        file.truncate(size - torn)
        file.seek(0, os.SEEK_END)


def _trial(line: bytes, path: Path) -> Trial:
    try:
        found = Trial(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise DamagedError(f"{path} has a line that cannot be read: {error}") from error
    if found.run_id and not result.RUN_ID.fullmatch(found.run_id):
        raise DamagedError(f"{path} has a line that names no run: {found.run_id!r}"[:200])
    return found


def lock_of(sweep: SweepDirectory) -> Path:
    """Locked while a trial is drawn."""
    return sweep.search / LOCK


def cell_directory(sweep: SweepDirectory, cell: str) -> CellDirectory:
    return CellDirectory(sweep.search / cell)


def cells_of(sweep: SweepDirectory) -> Iterator[tuple[CellRecord, CellDirectory]]:
    """Every cell that is laid down and whole, by name."""
    if not sweep.search.is_dir():
        return
    for path in sorted(sweep.search.iterdir()):
        if (path / CELL).is_file():
            directory = CellDirectory(path)
            try:
                yield directory.record(), directory
            except (DamagedError, OSError):
                continue


def trial_ids(sweep: SweepDirectory) -> set[str]:
    """Ids of the runs that are trials of a search in this directory."""
    found: set[str] = set()
    for _, directory in cells_of(sweep):
        try:
            found |= {trial.run_id for trial in directory.trials()}
        except DamagedError:
            continue
    return found
