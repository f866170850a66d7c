"""Labelled texts: of a table of your own, or the names of the embedded emoji."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.config.ranges import Tokens
from headstart.data.cells import Missing, Words
from headstart.data.file_check import column_fingerprint
from headstart.data.labelled import Labelled, column_values, labelled, part_names
from headstart.data.records import read_records, table_name
from headstart.data.source import Cell, Source
from headstart.data.table import Table
from headstart.data.texts import Texts, Tokenizer, text_contents
from headstart.errors import InputError, collect


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their labels, and what was found wrong with them."""

    where: str
    """What they were read from, for messages."""
    ids: tuple[str, ...]
    texts: Sequence[str]
    pairs: Sequence[str] | None
    cells: tuple[Cell, ...]
    """What stands as the label of each text."""
    parts: tuple[str, ...] | None
    problems: tuple[str, ...] = ()

    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns that were asked for, by name."""

    @classmethod
    def of(
        cls,
        table: Table,
        used: Labelled,
        parts: tuple[str, ...] | None,
        problems: Sequence[str],
        columns: Mapping[str, Sequence[str]],
    ) -> "LabelledTexts":
        """The rows of a table that are used; of two columns of contents the second one holds second texts."""
        texts, *pairs = used.contents or ((),)
        return cls(
            table.name,
            tuple(table.ids[row] for row in used.rows),
            texts,
            pairs[0] if pairs else None,
            tuple(used.cells),
            parts,
            (*problems, *used.problems),
            columns,
        )


class TextSource(Source):
    """Subclasses say which texts there are, and what their shifts are."""

    modality: Literal["vision", "text", "audio"] = "text"
    content_columns: tuple[str, ...] = ("text",)

    def __init__(self, max_length: int | None) -> None:
        self.max_length = max_length

    def _read(self) -> LabelledTexts:
        """All texts; raises `InputError` where not even that can be done."""
        raise NotImplementedError

    def _shifted(self) -> Mapping[str, "TextSource"]:
        """The extra test sets, by name."""
        return {}

    def check(self) -> None:
        collect([lambda: self.encoded, lambda: collect([shift.check for shift in self.shifts.values()])])

    @cached_property
    def content(self) -> LabelledTexts:
        """The texts; the first look reads them."""
        return self._read()

    @property
    def cells(self) -> Sequence[Cell]:
        return self.content.cells

    @property
    def has_pairs(self) -> bool:
        """Whether each example is two texts."""
        return self.content.pairs is not None

    @property
    def problems(self) -> Sequence[str]:
        return self.content.problems

    @property
    def where(self) -> str:
        return self.content.where

    @property
    def ids(self) -> tuple[str, ...]:
        return self.content.ids

    @cached_property
    def parts(self) -> np.ndarray | None:
        return None if self.content.parts is None else np.array(self.content.parts, dtype="<U5")

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        return self.content.columns

    @cached_property
    def fingerprint(self) -> str:
        content = self.content
        pairs, parts = content.pairs or ("",) * len(content.ids), content.parts or ("",) * len(content.ids)
        return column_fingerprint(content.ids, content.texts, pairs, content.cells, parts)

    @cached_property
    def contents(self) -> list[str]:
        return text_contents(self.content.texts, self.content.pairs)

    @cached_property
    def shifts(self) -> Mapping[str, Source]:
        made = self._shifted()
        for name, shift in made.items():
            shift.name = name
            shift.origin, shift.encode = self, self.encode
        return made

    @property
    def overrides(self) -> dict[str, Any]:
        return {} if self.max_length is None else {"max_length": self.max_length}

    def examples(self, tokenizer: Tokenizer, max_length: int) -> Texts:  # type: ignore[override]
        """Texts of at most `max_length` tokens (`data.max_length` where that is given)."""
        content = self.content
        most = self.max_length or max_length
        return Texts(content.texts, content.pairs, self.fingerprint, tokenizer, most, self.name)

    def _used(
        self,
        table: Table,
        used: Labelled,
        parts: tuple[str, ...] | None,
        missing: Missing,
        problems: Sequence[str] = (),
    ) -> LabelledTexts:
        """The rows of a table that are used, with the columns that were asked for."""
        columns, unread = column_values(table, self.asked.values(), used.rows, missing)
        return LabelledTexts.of(table, used, parts, [*problems, *unread], columns)


def text_columns(text: str | list[str], pair: str | None) -> tuple[str, str | None]:
    """The column of texts, and that of second texts or `None`."""
    if isinstance(text, str):
        return text, pair
    if len(text) == 1:
        return text[0], pair
    if len(text) != 2 or pair is not None:
        raise InputError(
            f"data.text_column must name one column, or two for pairs of texts, but is {text}"
            + (f", beside data.pair_column={pair}." if pair else ".")
        )
    return text[0], text[1]


class TextCsv(TextSource):
    """Texts of a table, one row each: .csv, .tsv, .jsonl, .parquet, also compressed.

    Args:
        path: The table.
        text_column: Column with the text; two for pairs of texts that belong together (question and answer).
        label_column: Column with the label; several where each holds 0 or 1, or a number (see the task).
        pair_column: Column with a second text, in place of the second one of `text_column`; `None` for none.
        max_length: Most tokens of a text, what is longer is cut off; `None` for the backbone's own.
        shifts: Extra test sets by name, each a table with the same columns.
        missing_values: Words that mean a missing value, as the empty cell does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a text or a label are left out.
        encoding: Encoding of a table of text; `None` for UTF-8, or what its first bytes say.
        name: What the report calls the data; `None` for the table's own name.
    """

    def __init__(
        self,
        path: str,
        text_column: str | list[str] = "text",
        label_column: str | list[str] = "label",
        pair_column: str | None = None,
        max_length: Tokens | None = None,
        shifts: dict[str, str] | None = None,
        missing_values: Words | None = None,
        encoding: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(max_length)
        self._path = Path(path).expanduser()
        self.name = name or table_name(self._path)
        text, pair = text_columns(text_column, pair_column)
        self._columns = (text, pair, label_column)
        self.content_columns = (text,) if pair is None else (text, pair)
        self._named = {
            "data.text_column": text_column, "data.label_column": label_column, "data.pair_column": pair_column
        }  # fmt: skip
        self._shift_places = dict(shifts or {})
        self._missing, self._cells = Missing.of(missing_values), (missing_values, encoding)
        self._setting = "data.path"

    def _read(self) -> LabelledTexts:
        text, pair, label = self._columns
        table = read_records(self._path, self._setting, self._cells[1])
        table.require(**self._named, **self.asked)
        parts, problems = part_names(table, self.parts_column, self._missing)
        contents = [text] if pair is None else [text, pair]
        used = labelled(table, contents, label, parts, self._missing)
        given = None if self.parts_column is None else tuple(used.parts)
        return self._used(table, used, given, self._missing, problems)

    def _shifted(self) -> Mapping[str, TextSource]:
        text, pair, label = self._columns
        missing_values, encoding = self._cells
        made = {
            name: TextCsv(place, text, label, pair, missing_values=missing_values, encoding=encoding)
            for name, place in self._shift_places.items()
        }
        for name, shift in made.items():
            shift._setting = f"data.shifts.{name}"
            shift.max_length = self.max_length
        return made


class OpenMojiNames(TextSource):
    """The embedded texts: an emoji's English name (Unicode's emoji-test.txt), with its Unicode group as class.

    Args:
        max_length: Most tokens of a name; `None` for the backbone's own.
    """

    name = "openmoji_names"
    fractions = (0.15, 0.25)

    def __init__(self, max_length: Tokens | None = None) -> None:
        super().__init__(max_length)

    def _read(self) -> LabelledTexts:
        table = (resources.files("headstart.data") / "openmoji.csv").read_text(encoding="utf-8")
        rows: Sequence[Mapping[str, str]] = list(csv.DictReader(table.splitlines()))
        asked = [name for name in self.asked.values() if name in rows[0]]
        return LabelledTexts(
            "openmoji_names",
            tuple(row["codepoint"] for row in rows),
            tuple(row["name"] for row in rows),
            None,
            tuple(row["group"] for row in rows),
            None,
            columns={name: tuple(row[name] for row in rows) for name in asked},
        )
