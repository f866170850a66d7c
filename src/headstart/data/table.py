"""Tables of examples: columns of cells as they were found, with what to call the rows in messages."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.errors import InputError, unknown
from headstart.names import listed


@dataclass(frozen=True)
class Table:
    """Columns by name (in Unicode's normal form C), every cell as the reader found it; all columns are equally long."""

    name: str
    """What it was read from, for messages."""
    columns: Mapping[str, Sequence[Any]]
    ids: Sequence[str]
    """What each row is called: its line or number."""
    unit: str = "line"
    """What `ids` count."""
    doubled: frozenset[str] = frozenset()
    """Names that more than one column has."""

    def require(self, **names: str | Sequence[str] | None) -> None:
        """Check that the columns exist, each named by the setting that asks for it, which may name several.

        Raises:
            InputError: naming every one that is absent or there twice, with the columns there are.
        """
        several = [
            (key, [value] if isinstance(value, str) else value) for key, value in names.items() if value is not None
        ]
        wanted = [(setting, normal(name)) for setting, values in several for name in values]
        problems = [
            f"{self.name} has no column {name!r}, which {setting} names. {unknown('column', name, self.columns)}"
            for setting, name in wanted
            if name not in self.columns
        ]
        problems += [
            f"{self.name} names a column twice, {name!r}, which {setting} asks for: give one of them another name."
            for setting, name in wanted
            if name in self.doubled
        ]
        problems += [
            f"{setting} must name one column, or several different ones, but is {list(values)}."
            for setting, values in several
            if not values or len({*map(normal, values)}) < len(values)
        ]
        if problems:
            raise InputError(*problems)

    def __getitem__(self, column: str) -> Sequence[Any]:
        return self.columns[normal(column)]

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, rows: Iterable[int], most: int = 10) -> str:
        """`line 3, 7, … (12 in all)`, for a message."""
        return f"{self.unit} {listed([self.ids[row] for row in rows], most)}"


def normal(name: str) -> str:
    """A column's name as it is compared: without blanks around it, letters with marks in one way of writing."""
    return unicodedata.normalize("NFC", name.strip())
