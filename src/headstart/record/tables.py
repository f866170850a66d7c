"""What a run keeps as tables: a row an epoch, and its answers on each test set."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.record.writing import write_bytes
from headstart.system.cache import drafted


class History:
    """One row an epoch, in `history.csv`; rows are on the disk as soon as they are added."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = [dict(row) for row in rows]
        if rows:
            self._rewrite()

    def add(self, row: Mapping[str, Any]) -> None:
        self.extend([row])

    def extend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += [dict(row) for row in rows]
        self._rewrite()

    def _rewrite(self) -> None:
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(self.rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_bytes(self.path, file.getvalue().encode())


def write_predictions(path: Path, predictions: Mapping[str, Mapping[str, np.ndarray]]) -> int:
    """`predictions.npz`: by test set (`test`, `shift/<name>`) the arrays id, label, predicted (the class decided
    for) and probability (N, C) float16; of very many classes and examples, some of them (`Task.predictions`).

    Returns:
        The size of the file in bytes.
    """
    arrays = {f"{name}/{key}": array for name, part in predictions.items() for key, array in part.items()}
    with drafted(path) as part:
        with part.open("xb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            size = file.tell()
        part.replace(path)
        return size
