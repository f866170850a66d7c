"""Tables of examples (CSV and its kin), read whole as text."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import InputError, unknown

_NO_VALUE = {"", "nan", "na", "n/a", "null", "none"}


@dataclass(frozen=True)
class Table:
    """Columns by name, every cell a string without surrounding blanks; row `i` stands in line `lines[i]` of `path`."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def require(self, **names: str | None) -> None:
        """Check that the columns exist, each named by the setting that asks for it.

        Raises:
            InputError: naming every absent one, with the columns there are.
        """
        absent = [(setting, name) for setting, name in names.items() if name is not None and name not in self.columns]
        if absent:
            raise InputError(
                *(
                    f"{self.path} has no column {name!r}, which {setting} names. "
                    f"{unknown('column', name, self.columns)}"
                    for setting, name in absent
                )
            )

    def empty_rows(self, column: str) -> list[int]:
        """Rows whose cell in `column` is blank or a mark of absence (NaN, NA, null, none)."""
        return [row for row, value in enumerate(self.columns[column]) if value.lower() in _NO_VALUE]

    def where(self, rows: Iterable[int], most: int = 10) -> str:
        """`line 3, 7, … (12 in all)`, for a message."""
        return "line " + listed([str(self.lines[row]) for row in rows], most)


def listed(items: list[str], most: int = 20) -> str:
    """Comma-separated, cut after `most` with the count of all."""
    return ", ".join(items[:most]) + (f", … ({len(items)} in all)" if len(items) > most else "")


def read_table(path: Path, setting: str = "data.path") -> Table:
    """Read a table with a header line; comma, semicolon or tab apart, UTF-8. `setting` names it, for messages.

    Raises:
        InputError: if it does not exist, is not text in UTF-8, is empty, or has rows that do not fit its header.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file: {setting} must name a table (.csv or .tsv).")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8 ({error}): save it as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    header = [name.strip() for name in next(reader, [])]
    if not any(header):
        raise InputError(f"{path} is empty: it must begin with a line of column names.")
    if len(set(header)) < len(header):
        raise InputError(f"{path} names a column twice in its first line: {', '.join(header)}.")
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table at line {reader.line_num}: {error}.") from error
    if not rows:
        raise InputError(f"{path} has column names but no rows.")
    odd = [f"{line} ({len(row)})" for line, row in rows if len(row) != len(header)]
    if odd:
        raise InputError(f"{path} has {len(header)} columns, but other numbers of cells in line {listed(odd, 10)}.")
    columns = {name: [row[place].strip() for _, row in rows] for place, name in enumerate(header)}
    return Table(path, columns, [line for line, _ in rows])


def _delimiter(text: str) -> str:
    first = text.split("\n", 1)[0]
    return max(",;\t", key=first.count)
