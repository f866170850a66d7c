"""Reads the larger files of the few runs that are shown: histories, plans, predictions, details, hardest examples.

Each reader gives `None` for a file that is not there, and raises `UnusableError` with plain words for one that cannot
be read, so that the report can say so where the picture would have been.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.record.directory import RunDirectory
from headstart.report.reading import Run
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.checksums import crc32_of, read_json

LARGEST_PICTURE = 8 * 2**20
THUMBNAIL = 96


class UnusableError(Exception):
    """A file of a run that is there but cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's history: `(epochs,)` arrays by column, and the phase of each epoch."""

    columns: Mapping[str, np.ndarray]
    phases: list[str]

    @property
    def num_epochs(self) -> int:
        """Rows of the history."""
        return len(self.phases)


@dataclass(frozen=True, slots=True)
class AppliedPhase:
    """Epochs `start` up to, not including, `end`, with a rate for each (group, kind); 0 is frozen."""

    name: str
    start: float
    end: float
    rates: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """A thaw plan as it was applied, groups from the input to the head."""

    groups: list[str]
    phases: list[AppliedPhase]
    frozen_norm: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """A run's answers on a test set: ids (N,), labels and answers (N,) or (N, O), and probabilities (N, C) if any.

    `own` are those of each example's own class (N,), where no others are kept.
    """

    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None
    answers: np.ndarray
    own: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray | None:
        """Whether each answer is right, (N,) bool; `None` for numbers, which are never quite."""
        if self.labels.dtype.kind == "f":
            return None
        return (self.answers == self.labels).reshape(len(self.ids), -1).all(axis=1)


@dataclass(frozen=True, slots=True)
class Details:
    """Per-class results of a run: `counts` (K, 3) of true class, predicted class, how often; and accuracy by class."""

    classes: list[str]
    counts: np.ndarray | None
    accuracy: list[float]
    by_output: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Where an example has several labels, or numbers: for each of them measures by name."""

    @property
    def totals(self) -> np.ndarray:
        """Test examples of each class, (C,)."""
        if self.counts is None:
            return np.full(len(self.classes), np.nan)
        return np.bincount(self.counts[:, 0], weights=self.counts[:, 2], minlength=len(self.classes))

    def confusion(self) -> np.ndarray | None:
        """The counts as a matrix (C, C), rows the truth."""
        if self.counts is None:
            return None
        matrix = np.zeros((len(self.classes), len(self.classes)))
        matrix[self.counts[:, 0], self.counts[:, 1]] = self.counts[:, 2]
        return matrix


@dataclass(frozen=True, slots=True)
class Hard:
    """A test example that a run got wrong with conviction; `picture` is a PNG, made anew from the one on disk."""

    name: str
    label: str
    predicted: str
    probability: float | None
    picture: bytes | None
    text: str


def read_history(run: Run) -> Curve | None:
    """The history; columns that are no numbers hold nan there."""
    path = RunDirectory(run.directory).history
    if not path.is_file():
        return None
    with _reading(path):
        _hold(run, path)
        rows = bounded.csv_rows(path)
    if not rows or "epoch" not in rows[0]:
        raise UnusableError(f"{path.name} of {run.run_id} has no epochs")
    names = [name for name in rows[0] if name and name != "phase"]
    columns = {name: np.array([_float(row.get(name)) for row in rows]) for name in names}
    return Curve(columns, [row.get("phase") or "" for row in rows])


def read_plan(run: Run) -> AppliedPlan | None:
    """The plan, checked for all that drawing needs; phases that wait for a plateau start where history says."""
    path = RunDirectory(run.directory).plan
    if not path.is_file():
        return None
    try:
        curve = read_history(run)
    except UnusableError:
        curve = None
    with _reading(path):
        _hold(run, path)
        content = bounded.json_object(path)
        groups, entries = [str(x) for x in content["groups"]], list(content["phases"])
        starts = [_start(entry, i, curve) for i, entry in enumerate(entries)]
        reached = [(entry, start) for entry, start in zip(entries, starts, strict=True) if start is not None]
        if not groups or not reached:
            raise ValueError("it has no groups or no phases")
        last = max(_float(content.get("max_epochs") or 0), 1 + reached[-1][1], 0 if curve is None else curve.num_epochs)
        ends = [*(start for _, start in reached[1:]), last]
        phases = [
            AppliedPhase(str(entry.get("name", "")), start, end, {str(g): _rates(r) for g, r in entry["rates"].items()})
            for (entry, start), end in zip(reached, ends, strict=True)
        ]
    return AppliedPlan(groups, phases, str(content.get("frozen_norm", "")))


def _start(entry: Mapping[str, Any], place: int, curve: Curve | None) -> float | None:
    """First epoch of a phase; `None` for one that never came."""
    if entry.get("start") is not None:
        return float(entry["start"])
    if place == 0:
        return 0.0
    if curve is None:
        return None
    names = (str(entry.get("name", "")), str(place))
    return next((float(epoch) for epoch, phase in enumerate(curve.phases) if phase in names), None)


def _rates(value: Any) -> dict[str, float]:
    """Rates by kind; one number stands for all kinds."""
    if isinstance(value, dict):
        return {str(kind): float(rate or 0) for kind, rate in value.items()}
    return {"weight": float(value or 0)}


def read_predictions(run: Run, part: str = "test") -> Predictions | None:
    """The answers kept with the run; no pickled array is ever loaded."""
    path = RunDirectory(run.directory).predictions
    if not path.is_file():
        return None
    with _reading(path):
        _hold(run, path)
        arrays = bounded.arrays(path)
        if f"{part}/id" not in arrays:
            return None
        probabilities = arrays.get(f"{part}/probability")
        answers = arrays.get(f"{part}/predicted")
        if answers is None:  # of older runs: halves keep three digits, so near ties may fall the other way
            answers = arrays[f"{part}/probability"].argmax(axis=1)
        own = arrays.get(f"{part}/own_probability")
        found = Predictions(arrays[f"{part}/id"].astype(str), arrays[f"{part}/label"], probabilities, answers, own)
        sizes = {len(array) for array in (found.ids, found.labels, probabilities, own) if array is not None}
        flat = probabilities is not None and probabilities.ndim != 2
        if flat or found.answers.shape != found.labels.shape or len(sizes) != 1 or not len(found.ids):
            raise ValueError("its arrays do not fit one another")
    return found


def read_details(run: Run) -> Details | None:
    """Confusion and per-class accuracy from the result."""
    path = RunDirectory(run.directory).result
    with _reading(path):
        details = read_json(path).get("details")
        if not isinstance(details, dict) or not details:
            return None
        if isinstance(by_output := details.get("by_output"), dict):
            rows = {str(name): {str(k): _float(v) for k, v in dict(row).items()} for name, row in by_output.items()}
            return Details(list(rows), None, [], rows) if rows else None
        per_class = details.get("per_class_accuracy")
        per_class = per_class if isinstance(per_class, dict) else {}
        classes = [str(name) for name in details.get("classes") or per_class]
        counts = _counts(details["confusion"], len(classes)) if details.get("confusion") else None
        found = Details(classes, counts, [_float(per_class.get(name)) for name in classes])
        if counts is not None and not per_class:
            own = counts[counts[:, 0] == counts[:, 1]]
            right = np.bincount(own[:, 0], weights=own[:, 2], minlength=len(classes))
            with np.errstate(invalid="ignore"):
                found = replace(found, accuracy=(right / found.totals).tolist())
    return found


def _counts(confusion: Any, num_classes: int) -> np.ndarray:
    """The counts (K, 3) that are not zero, of a matrix or of what is kept of one of many classes, in order of rows."""
    if isinstance(confusion, dict):
        columns = [np.array(confusion[name], dtype=np.int64) for name in ("true", "predicted", "count")]
        counts = np.stack(columns, axis=1) if len({column.shape for column in columns}) == 1 else np.zeros(0)
        fits = counts.ndim == 2 and bool(((counts[:, :2] >= 0) & (counts[:, :2] < num_classes)).all())
    else:
        matrix = np.array(confusion, dtype=float).astype(np.int64)
        fits = matrix.shape == (num_classes, num_classes)
        places = np.nonzero(matrix)
        counts = np.stack([*places, matrix[places]], axis=1) if fits else matrix
    if not fits:
        raise ValueError("its confusion matrix does not fit its classes")
    return counts


def read_hardest(run: Run, limit: int = 16) -> list[Hard]:
    """The hardest examples kept with the run, pictures decoded and written anew as small PNGs."""
    directory = RunDirectory(run.directory)
    places = directory.hardest_list, directory.earlier_hardest_list
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return []
    with _reading(path):
        _hold(run, path)
        entries = bounded.json_value(path)
        if not isinstance(entries, list):
            raise ValueError("it is no list")
    found = []
    for entry in entries[:limit]:
        if isinstance(entry, dict):
            picture = _thumbnail(directory.hardest, entry.get("image"))
            probability = _float(entry.get("probability"))
            words = [str(entry.get(key) or "") for key in ("id", "label", "predicted", "text")]
            known = None if np.isnan(probability) else probability
            found.append(Hard(words[0], words[1], words[2], known, picture, words[3][:400]))
    return found


def _thumbnail(folder: Path, name: object) -> bytes | None:
    """A PNG of at most 96 pixels, made from a file in `folder` and nowhere else."""
    if not isinstance(name, str) or not name or Path(name).name != name:
        return None
    from PIL import Image

    path = folder / name
    try:
        if path.is_symlink():
            return None
        content = io.BytesIO(bounded.content(path, LARGEST_PICTURE))
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content, formats=("PNG",)) as picture:
                small = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        small.save(buffer, "PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None
    return buffer.getvalue()


def _hold(run: Run, path: Path) -> None:
    """Raise `DamagedError` if a file is not as it was when the run ended; older results do not say how it was."""
    known = run.crc32.get(path.relative_to(run.directory).as_posix())
    if known and f"{crc32_of(np.frombuffer(bounded.content(path, bounded.MOST_UNPACKED), np.uint8)):08x}" != known:
        raise DamagedError("it is not as it was written")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong in reading `path` into `UnusableError`."""
    try:
        yield
    except Exception as error:  # what is read may be anything, and a report goes on without it
        words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise UnusableError(f"{path.name} of {path.parent.name} cannot be used ({words})"[:500]) from error


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def usable(read: Any, run: Run, notes: list[str]) -> Any:
    """What `read(run)` gives; a file that cannot be used becomes a note and `None`."""
    try:
        return read(run)
    except UnusableError as error:
        notes.append(f"{error}.")
        return None


def each_usable(read: Any, runs: list[Run], notes: list[str]) -> Iterator[Any]:
    """The usable files among those of several runs."""
    for run in runs:
        value = usable(read, run, notes)
        if value is not None:
            yield value
