"""Tables of lines with a mark between cells: which mark it is, what quotes mean, and the rows that come of it."""

import csv
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from headstart.data.table import Table, normal
from headstart.data.table_file import lines_of
from headstart.errors import InputError
from headstart.names import listed, plural

_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAMPLE = 200
"""Lines that are looked at to see which mark divides cells."""
_MOST_CELL = 2**31 - 1
_QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParsedRows:
    """One way of reading the lines: the header, and below it rows of cells, each with the number of its last line."""

    header: list[str]
    rows: list[tuple[int, list[str]]]

    @cached_property
    def odd(self) -> list[str]:
        """ParsedRows that do not fit the header; cells without content and without a name are not counted."""
        need = max((place + 1 for place, name in enumerate(self.header) if name), default=0)
        return [
            f"{line} ({len(cells)})"
            for line, cells in self.rows
            if len(cells) < need or any(cell.strip() for cell in cells[len(self.header) :])
        ]


def read_delimited(text: str, name: str, usual: str) -> Table:
    """The table in a text whose first line names the columns; `usual` is the mark that its file's name promises.

    The mark is the one by which most rows are as long as the header; a first line `sep=;` says it. Quotes are read as
    RFC 4180 has it (`"a ""b"", c"`); but in a text where that cannot be, as its rows come out right only otherwise, a
    quote is a character. Of tables with tabs the latter is taken to be so unless quotes are plainly meant as such.

    Raises:
        InputError: if it is empty, or has rows that do not fit its header.
    """
    lines, skipped = lines_of(text), 0
    said = re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE) if lines else None
    if said:
        lines, skipped = lines[1:], 1
    delimiter = said.group(1) if said else _delimiter(lines, usual)
    if delimiter != usual and not said:
        _log.warning("%s is read with %s between its cells.", name, _MARKS[delimiter])
    found = _read(lines, delimiter, name)
    header = [normal(cell) for cell in found.header]
    if not any(header):
        raise InputError(f"{name} is empty: it must begin with a line of column names.")
    if not found.rows:
        raise InputError(f"{name} has column names but no rows.")
    if found.odd:
        raise InputError(
            f"{name} has {plural(len(header), 'column')}, but other numbers of cells in line {listed(found.odd, 10)}. "
            "A cell that holds the mark between cells, or a line's end, must stand in quotes."
        )
    named = [(place, cell) for place, cell in enumerate(header) if cell]
    doubled = frozenset(cell for cell, number in Counter(cell for _, cell in named).items() if number > 1)
    columns = {cell: [row[place] for _, row in found.rows] for place, cell in named}
    return Table(name, columns, [str(line + skipped) for line, _ in found.rows], doubled=doubled)


def _delimiter(lines: Sequence[str], usual: str) -> str:
    """The mark by which most of the first rows have as many cells as the header."""
    sample = [line for line in lines[: _SAMPLE + 1] if line.strip()]
    fits: dict[str, float] = {}
    for mark in dict.fromkeys((usual, *_MARKS)):
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            header, *rows = _lenient(sample, mark, quoting) or [[]]
            if len(header) > 1:
                share = sum(len(row) == len(header) for row in rows) / max(1, len(rows))
                fits[mark] = max(fits.get(mark, 0.0), share)
    return max(fits, key=lambda mark: fits[mark]) if fits else usual


def _lenient(lines: Sequence[str], mark: str, quoting: int) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        rows.extend(csv.reader(lines, delimiter=mark, quoting=quoting))  # type: ignore[arg-type]
    except csv.Error:
        return rows
    return rows


def _read(lines: Sequence[str], delimiter: str, name: str) -> ParsedRows:
    """The lines in the way of reading quotes that fits them."""
    if not any('"' in line for line in lines):
        return _unquoted(lines, delimiter)
    if delimiter == "\t":
        plain = _unquoted(lines, delimiter)
        if not plain.odd and not _means_quotes(plain):
            _tell_quotes(plain, name)
            return plain
    try:
        quoted = _quoted(lines, delimiter)
    except csv.Error as error:
        return _otherwise(lines, delimiter, name, error)
    if quoted.odd:
        plain = _unquoted(lines, delimiter)
        if not plain.odd:
            _tell_quotes(plain, name)
            return plain
    _tell_long_cells(quoted, lines, delimiter, name)
    return quoted


def _otherwise(lines: Sequence[str], delimiter: str, name: str, error: csv.Error) -> ParsedRows:
    """How a table is read in which quotes do not stand as they should, if some other way fits all of its rows."""
    plain = _unquoted(lines, delimiter)
    try:
        doubled = _quoted([re.sub(r'(?<!\\)\\"', '""', line) for line in lines], delimiter)
        if not doubled.odd:
            _log.warning('%s is read with \\" for a quote within a cell.', name)
            return doubled
    except csv.Error:
        pass
    if not plain.odd:
        _tell_quotes(plain, name)
        return plain
    try:
        lenient = _quoted(lines, delimiter, strict=False)
        if not lenient.odd and [line for line, _ in lenient.rows] == [line for line, _ in plain.rows]:
            return lenient
    except csv.Error:
        pass
    raise InputError(
        f"{name} has quotes that cannot be read: {error}. A cell in quotes must end with one, and a quote within it be "
        'written twice: "She said ""no"".".'
    ) from error


def _unquoted(lines: Sequence[str], delimiter: str) -> ParsedRows:
    cells = [(number, line.rstrip("\r\n").split(delimiter)) for number, line in enumerate(lines, start=1)]
    return _rows(cells)


def _quoted(lines: Sequence[str], delimiter: str, strict: bool = True) -> ParsedRows:
    """As quotes are commonly meant; raises `csv.Error` where they do not stand so."""
    before = csv.field_size_limit(_MOST_CELL)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=strict)
    try:
        return _rows([(reader.line_num, row) for row in reader])
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _rows(cells: Sequence[tuple[int, list[str]]]) -> ParsedRows:
    filled = [(line, row) for line, row in cells if any(cell.strip() for cell in row)]
    if not filled:
        return ParsedRows([], [])
    return ParsedRows([cell.strip() for cell in filled[0][1]], filled[1:])


def _means_quotes(plain: ParsedRows) -> bool:
    """Whether the quotes of a table that could do without look like a writer's: around a header, around every cell of
    a column, or around just those cells that hold quotes, which are written twice."""
    if any(_QUOTED.fullmatch(name) for name in plain.header):
        return True
    found = False
    for place in range(len(plain.header)):
        cells = [row[place].strip() for _, row in plain.rows if place < len(row)]
        begun = [cell for cell in cells if cell.startswith('"')]
        if not begun:
            continue
        every = all(_QUOTED.fullmatch(cell) for cell in cells if cell)
        if not every and not all(_QUOTED.fullmatch(cell) and '""' in cell[1:-1] for cell in begun):
            return False
        found = True
    return found


def _tell_quotes(plain: ParsedRows, name: str) -> None:
    begun = [str(line) for line, row in plain.rows if any(cell.strip().startswith('"') for cell in row)]
    if begun:
        _log.warning(
            "Quotes in %s are read as characters, not as marks around a cell: line %s.", name, listed(begun, 10)
        )


def _tell_long_cells(quoted: ParsedRows, lines: Sequence[str], delimiter: str, name: str) -> None:
    """Say where a cell in quotes swallows lines that look like rows: its closing quote may be another's opening one."""
    before, suspect = 0, []
    for line, _ in quoted.rows:
        inner = lines[before + 1 : line - 1] if before else ()
        if inner and all(len(text.split(delimiter)) == len(quoted.header) for text in inner):
            suspect.append(f"{before + 1} to {line}")
        before = line
    if suspect:
        _log.warning(
            "%s has cells in quotes that run over lines which look like rows: line %s. If they are rows, a quote "
            "before them is not closed.",
            name,
            listed(suspect, 5),
        )
