"""Cells of tables by one rule, whoever read them: what is text, what is missing, what is a class, what is refused."""

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from headstart.data.arrow_columns import ArrowColumn, ArrowTexts
from headstart.data.table import Table
from headstart.data.table_file import UNREADABLE
from headstart.errors import InputError
from headstart.names import agreeing, listed

MISSING = ("nan", "n/a", "na", "<na>", "#n/a", "null", "none", r"\n")
"""Words that stand for a missing value where nothing else is said, in whatever case; an empty cell always does."""
UNSURE = frozenset({"n/a", "na", "null", "none"})
"""Those among them that are as likely a class of their own."""
Words = list[str | float | int | bool | None]
"""Words of a config: an unquoted `nan` or `null` there is a number or nothing."""

_log = logging.getLogger(__name__)
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
_NO_CHARACTER = re.compile("[\ud800-\udfff\0]")
_NUMBER = re.compile(r"[+-]?(\d+)(?:[.,](\d+))?(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0+", re.ASCII)
_PLAIN = (bool, int, float, Decimal, date, time, timedelta, UUID)


@dataclass(frozen=True)
class Missing:
    """Which cells hold no value: those without a visible character, and those that are one of `words`."""

    words: frozenset[str] = frozenset(MISSING)
    are_given: bool = False
    """Whether the words were chosen for this data."""

    @classmethod
    def of(cls, words: Words | None) -> "Missing":
        """By the words of `data.missing_values`; `None` for those that usually mean it."""
        if words is None:
            return cls()
        return cls(frozenset(("null" if word is None else str(word)).strip().casefold() for word in words), True)

    def __call__(self, text: str) -> bool:
        return is_blank(text) or text.casefold() in self.words


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or has nothing but blanks and characters without width."""
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def texts(table: Table, column: str) -> Sequence[str]:
    """A column's cells as text without surrounding blanks: nothing (null, not a number) as the empty text, bytes as
    UTF-8, numbers and dates as Python writes them. Characters that no text has are replaced, and that is said.

    Texts of Arrow stay where they are.

    Raises:
        InputError: if cells hold what is no text: lists, objects, bytes in another encoding.
    """
    found, changes = table[column], dict[int, str]()
    stays = isinstance(found, ArrowColumn) and found.is_text
    made: list[str] = []
    refused: dict[str, list[int]] = {}
    broken: list[int] = []
    for row, value in enumerate(found):
        text = as_text(value)
        if text is None:
            refused.setdefault(_kind(value), []).append(row)
            continue
        if _NO_CHARACTER.search(text):
            text = _NO_CHARACTER.sub(UNREADABLE, text)
            broken.append(row)
        if not stays:
            made.append(text)
        elif text is not value:
            changes[row] = text
    if refused:
        raise InputError(*(_refusal(table, column, kind, rows) for kind, rows in refused.items()))
    if broken:
        _log.warning(
            "%d of %d cells in column %r of %s %s characters that no text has (half of a pair, or NUL), each read as "
            "%s: %s.",
            len(broken),
            len(table),
            column,
            table.name,
            agreeing(len(broken), "hold"),
            UNREADABLE,
            table.where(broken),
        )
    return ArrowTexts(found, changes) if stays else made  # type: ignore[arg-type]


def as_text(value: Any) -> str | None:
    """A cell as text, the empty one where there is nothing; `None` if it cannot be one."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError:
            return None
    if value is None:
        return ""
    if not isinstance(value, _PLAIN):
        return None
    return "" if value != value else str(value)


def narrow(values: Iterable[float | None]) -> list[float | None]:
    """Numbers that were kept in 32 bits, as short as they can be written: 0.8, not 0.800000011920929."""
    return [None if value is None else float(str(np.float32(value))) for value in values]


def whole_numbers(names: Sequence[str]) -> list[str]:
    """Names of classes or folds: where all are whole numbers, `1.0` is `1`, as a column with gaps comes to hold it."""
    numbers = [_NUMBER.fullmatch(name) for name in names if name]
    if not all(number and not (number[2] or "").strip("0") for number in numbers):
        return list(names)
    return [_WHOLE_FLOAT.sub(r"\1", name) for name in names]


def _kind(value: Any) -> str:
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, Mapping):
        return f"objects with {listed([str(name) for name in value], 5)}"
    return "lists" if isinstance(value, (list, tuple, np.ndarray)) else f"values of type {type(value).__name__}"


def _refusal(table: Table, column: str, kind: str, rows: list[int]) -> str:
    remedy = "Make it a column of texts"
    if kind == "bytes":
        kind, remedy = "bytes that are no text in UTF-8", "Decode them"
        remedy += _or_files_in_cells(table)
    elif kind == "lists":
        remedy = "Join the words of a text; of several labels keep one, as each example has one class"
    elif kind.startswith("objects"):
        remedy = "Make what is meant a column of its own (pandas.json_normalize does)"
        if kind == "objects with bytes, path":
            remedy += _or_files_in_cells(table)
    where = f"{table.name} has {kind} in column {column!r}, {table.where(rows, 5)}"
    return f"{where}: a cell must be one text or number. {remedy}."


def _or_files_in_cells(table: Table) -> str:
    """What to say besides of bytes in cells: as a rule they are pictures or sounds."""
    if not table.name.lower().endswith((".parquet", ".pq", ".arrow", ".feather")):
        return ""
    return f"; pictures or sounds in cells are read by data=image_hub or audio_hub with data.dataset={table.name}"
