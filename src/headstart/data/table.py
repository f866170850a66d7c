"""Tables of examples: columns of cells as they were found, with what to call the rows in messages."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from headstart.errors import InputError, collect, unknown
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

    def require(self, **names: str | None) -> None:
        """Check that the columns exist, each named by the setting that asks for it.

        Raises:
            InputError: naming every one that is absent or there twice, with the columns there are.
        """
        wanted = {setting: normal(name) for setting, name in names.items() if name is not None}
        problems = [
            f"{self.name} has no column {name!r}, which {setting} names. {unknown('column', name, self.columns)}"
            for setting, name in wanted.items()
            if name not in self.columns
        ]
        problems += [
            f"{self.name} names a column twice, {name!r}, which {setting} asks for: give one of them another name."
            for setting, name in wanted.items()
            if name in self.doubled
        ]
        if problems:
            raise InputError(*problems)

    def require_all(self, setting: str, names: str | Sequence[str]) -> None:
        """The same for one setting that names several columns."""
        listed_names = [names] if isinstance(names, str) else names
        if not listed_names or len(set(listed_names)) < len(listed_names):
            raise InputError(f"{setting} must name one column or several different ones, but is {names!r}.")
        collect([partial(self.require, **{setting: name}) for name in listed_names])

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
