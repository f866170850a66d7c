"""Columns as Arrow has them, in memory or mapped from a file: a cell becomes an object when it is looked at."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

_AT_ONCE = 4096
"""Cells that become objects together."""


class ArrowColumn(Sequence[Any]):
    """The cells of a `pyarrow.ChunkedArray` as Python's objects."""

    def __init__(self, cells: Any) -> None:
        self.cells = cells
        self._chunks = cells.chunks
        self._begins = np.cumsum([0, *map(len, self._chunks)])

    @property
    def is_text(self) -> bool:
        import pyarrow.types as types

        return types.is_string(self.cells.type) or types.is_large_string(self.cells.type)

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, place: Any) -> Any:
        found = self.cells[place]
        return ArrowColumn(found) if isinstance(place, slice) else found.as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self.cells), _AT_ONCE):
            yield from self.cells.slice(start, _AT_ONCE).to_pylist()

    def at(self, rows: np.ndarray) -> list[Any]:
        """The cells of some rows. (Arrow's own `take` looks at all chunks, of which there may be ten thousand.)"""
        chunks = np.searchsorted(self._begins, rows, side="right") - 1
        places = (rows - self._begins[chunks]).tolist()
        return [self._chunks[chunk][place].as_py() for chunk, place in zip(chunks.tolist(), places, strict=True)]


class ArrowTexts(Sequence[str]):
    """Texts of some rows of a column, which stay where they are; those that are read otherwise lie beside it.

    Args:
        column: The column, of texts.
        changes: By row, what is read in place of its cell.
        rows: Which rows; `None` for all.
    """

    def __init__(self, column: ArrowColumn, changes: dict[int, str], rows: np.ndarray | None = None) -> None:
        self._column, self._changes, self._rows = column, changes, rows

    def at(self, places: Sequence[int] | np.ndarray) -> list[str]:
        """The texts at `places`, in that order."""
        rows = np.asarray(places, np.int64) if self._rows is None else self._rows[places]
        found = self._column.at(rows)
        if not self._changes:
            return found
        return [self._changes.get(row, text) for row, text in zip(rows.tolist(), found, strict=True)]

    def taken(self, rows: Sequence[int]) -> "ArrowTexts":
        """Those at some places alone."""
        if len(rows) == len(self):
            return self
        places = np.asarray(rows, np.int64)
        return ArrowTexts(self._column, self._changes, places if self._rows is None else self._rows[places])

    def __len__(self) -> int:
        return len(self._column) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return self.at(np.arange(len(self))[place])
        return self.at([range(len(self))[place]])[0]

    def __iter__(self) -> Iterator[str]:
        if self._rows is None:
            yield from (self._changes.get(row, text) for row, text in enumerate(self._column))
            return
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE]


def taken(values: Sequence[str], rows: Sequence[int]) -> Sequence[str]:
    """The texts at some places."""
    return values.taken(rows) if isinstance(values, ArrowTexts) else [values[row] for row in rows]


def at(values: Sequence[Any], places: Sequence[int]) -> list[Any]:
    """The values at some places."""
    return values.at(places) if isinstance(values, ArrowTexts) else [values[place] for place in places]


def joined(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Columns one after the other."""
    if all(isinstance(one, ArrowColumn) for one in columns):
        arrow = [one.cells for one in columns if isinstance(one, ArrowColumn)]
        if len({str(one.type) for one in arrow}) == 1:
            import pyarrow

            return ArrowColumn(pyarrow.chunked_array([chunk for one in arrow for chunk in one.chunks], arrow[0].type))
    return [value for column in columns for value in column]
