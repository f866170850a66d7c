"""Which rows of a table are examples: those with a content and a label. What is left out is counted and said."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headstart.data.arrow_columns import taken
from headstart.data.cells import UNSURE, Missing, as_text, is_blank, texts, whole_numbers
from headstart.data.names import in_one_form
from headstart.data.source import Cell
from headstart.data.table import Table, normal
from headstart.errors import InputError
from headstart.names import agreeing, listed

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What the parts of a split may be called, in lower case."""
_KEPT_BACK = {"-1", "-1.0"}
"""What stands for the labels of a part that were kept back."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """The rows of a table that are used: their places in it, their contents by column, their labels and parts."""

    rows: Sequence[int] = ()
    contents: Sequence[Sequence[str]] = ()
    cells: Sequence[Cell] = ()
    parts: Sequence[str] = ()
    problems: Sequence[str] = field(default_factory=list)


def labelled(
    table: Table, contents: Sequence[str], label: str | Sequence[str], parts: Sequence[str], missing: Missing
) -> Labelled:
    """Choose the rows that have a value in every column of `contents` and in that (or those) of the `label`.

    `parts` says for each row whether it is of `train`, `val`, `test` or (`""`) to be drawn. A val or test in which no
    row has a label (all are missing, or -1 while train has no such label) is set aside whole, so that another is drawn.
    """
    problems: list[str] = []
    names = [label] if isinstance(label, str) else list(label)
    columns = [_collected(problems, table, column) for column in contents]
    labels = [_collected(problems, table, column, label_cells) for column in names]
    if problems:
        return Labelled(problems=problems)
    rows = _with_labelled_parts(table, names[0], labels[0], parts, missing)
    for column, values in (*zip(names, labels, strict=True), *zip(contents, columns, strict=True)):
        empty = [row for row, value in _at(values, rows) if isinstance(value, str) and missing(value)]
        if column in names and not missing.are_given:
            problems += _unsure(table, column, values, empty)
        if problems:
            return Labelled(problems=problems)
        if empty:
            _tell_empty(table, column, values, empty, missing)
            left = set(empty)
            rows = [row for row in rows if row not in left]
    if not rows:
        problems.append(f"{table.name} has no row with a value in each column of {listed([*contents, *names])}.")
    if isinstance(label, str):
        cells = _as_names([labels[0][row] for row in rows], table.name)
    else:
        cells = [tuple((name, values[row]) for name, values in zip(names, labels, strict=True)) for row in rows]
    kept = [taken(values, rows) for values in columns]
    return Labelled(rows, kept, cells, [parts[row] for row in rows], problems)


def _at(values: Sequence[Any], rows: Sequence[int]) -> Iterable[tuple[int, Any]]:
    """Rows and their values: of all of them one after the other, as of Arrow that is quick."""
    return enumerate(values) if len(rows) == len(values) else ((row, values[row]) for row in rows)


def label_cells(table: Table, column: str) -> list[Cell]:
    """A column's cells as text (see `cells.texts`), and lists of them as tuples of texts."""
    found = list(table[column])
    lists = {row for row, value in enumerate(found) if isinstance(value, (list, tuple, np.ndarray))}
    plain = ["" if row in lists else value for row, value in enumerate(found)]
    made: list[Cell] = list(texts(replace(table, columns={normal(column): plain}), column))
    for row in lists:
        words = [as_text(value) for value in found[row]]
        if None in words:
            raise InputError(
                f"{table.name} has lists in column {column!r} that hold more than texts and numbers, "
                f"{table.where([row])}: the labels of an example are a list of names."
            )
        made[row] = tuple(words)
    return made


def _as_names(cells: list[Cell], where: str) -> list[Cell]:
    """With the same name written in the same way wherever it stands."""
    if not all(isinstance(cell, str) for cell in cells):
        return [tuple(unicodedata.normalize("NFC", word) for word in _words(cell)) for cell in cells]
    names = in_one_form(cells, where)
    made = whole_numbers(names)
    merged = sorted({old for old, new in zip(names, made, strict=True) if old != new and new in names})
    if merged:
        _log.warning("Labels %s of %s are read as the whole numbers that others are.", listed(merged, 5), where)
    return list(made)


def _words(cell: Cell) -> Sequence[str]:
    return (cell,) if isinstance(cell, str) else cell


def part_names(table: Table, column: str | None, missing: Missing) -> tuple[list[str], list[str]]:
    """`train`, `val`, `test` or `""` (to be drawn) for each row, and what is wrong with the column of parts."""
    if column is None:
        return [""] * len(table), []
    problems: list[str] = []
    given = [value.lower() for value in _collected(problems, table, column)]
    bad = [row for row, value in enumerate(given) if value not in PARTS and not missing(value)]
    if bad:
        problems.append(
            f"{table.name} has values in column {column!r} that name no part of a split, {table.where(bad)}: "
            f"{listed(sorted({repr(given[row]) for row in bad}), 5)}. Use train, val or test, or leave the cell empty."
        )
    return [PARTS.get(value, "") for value in given] or [""] * len(table), problems


def column_values(
    table: Table, columns: Iterable[str], rows: Sequence[int], missing: Missing
) -> tuple[dict[str, list[str]], list[str]]:
    """Columns that tell groups or folds, by name, of the `rows` that are used (`""` where a cell holds no value), and
    what is wrong with them."""
    problems: list[str] = []
    found = {column: _collected(problems, table, column) for column in columns}
    if problems:
        return {}, problems
    cells = {column: ["" if missing(values[row]) else values[row] for row in rows] for column, values in found.items()}
    return {column: whole_numbers(values) for column, values in cells.items()}, []


def _collected(
    problems: list[str], table: Table, column: str, read: Callable[[Table, str], Sequence[Any]] = texts
) -> Sequence[Any]:
    try:
        return read(table, column)
    except InputError as error:
        problems += error.messages
        return []


def _with_labelled_parts(
    table: Table, label: str, labels: Sequence[str], parts: Sequence[str], missing: Callable[[str], bool]
) -> list[int]:
    """All rows but those of a val or test without any label."""
    rows = list(range(len(table)))
    trained = {labels[row] for row in rows if parts[row] in ("train", "")}
    kept_back = _KEPT_BACK if not trained & _KEPT_BACK else set()
    for part in ("val", "test"):
        members = [row for row in rows if parts[row] == part]
        if members and trained and all(_is_absent(labels[row], missing) or labels[row] in kept_back for row in members):
            _log.warning(
                "%d of %d rows of %s, all of its part %s, %s no label in column %r (%s). They are set aside, and %s "
                "is drawn from the other rows.",
                *(len(members), len(table), table.name, part, agreeing(len(members), "have"), label),
                *(_counted(labels[row] for row in members), part),
            )
            rows = [row for row in rows if parts[row] != part]
    return rows


def _is_absent(cell: Cell, missing: Callable[[str], bool]) -> bool:
    return isinstance(cell, str) and missing(cell)


def _unsure(table: Table, label: str, labels: Sequence[str], empty: Sequence[int]) -> list[str]:
    """Labels that may be classes of their own, or mean that there is no label: only the user knows."""
    found = [row for row in empty if labels[row].casefold() in UNSURE]
    if not found:
        return []
    words = ",".join(sorted({labels[row].casefold() for row in found}))
    return [
        f"{table.name} has {_counted(labels[row] for row in found)} among its {len(labels)} labels in column "
        f"{label!r}, {table.where(found, 5)}: a class, or no label? Use 'data.missing_values=[]' if it is a class, or "
        f"'data.missing_values=[{words}]' to leave these rows out."
    ]


def _tell_empty(table: Table, column: str, values: Sequence[str], rows: Sequence[int], missing: Missing) -> None:
    guessed = not missing.are_given and any(not is_blank(values[row]) for row in rows)
    remedy = " If such a word is a value, set 'data.missing_values=[]'." if guessed else ""
    _log.warning(
        "%d of %d rows of %s %s no value in column %r (%s) and %s left out: %s.%s",
        *(len(rows), len(table), table.name, agreeing(len(rows), "have"), column),
        *(_counted(values[row] for row in rows), agreeing(len(rows), "are"), table.where(rows), remedy),
    )


def _counted(values: Iterable[str]) -> str:
    """`4 empty, 2 'NaN'`."""
    counts = Counter("empty" if is_blank(value) else repr(value) for value in values)
    return listed([f"{number} {word}" for word, number in counts.most_common()], 5)
