"""Labelled texts: of a table of your own, or the names of the embedded emoji."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.config.ranges import Count, Index, Tokens
from headstart.data.cells import Missing, Words
from headstart.data.duplicates import text_contents
from headstart.data.file_check import content_fingerprint
from headstart.data.files import check_fractions
from headstart.data.images import Share
from headstart.data.labelled import Labelled, labelled, part_names
from headstart.data.records import read_records, table_name
from headstart.data.source import Source
from headstart.data.splits import split_problems
from headstart.data.table import Table, listed
from headstart.data.texts import Texts, Tokenizer
from headstart.errors import InputError, collect


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their labels, and what was found wrong with them."""

    where: str
    """What they were read from, for messages."""
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None
    names: tuple[str, ...]
    """Class name of each text."""
    parts: tuple[str, ...] | None
    problems: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, table: Table, used: Labelled, parts: tuple[str, ...] | None, problems: Sequence[str]
    ) -> "LabelledTexts":
        """The rows of a table that are used; of two columns of contents the second one holds second texts."""
        texts, *pairs = (tuple(values) for values in used.contents or ((),))
        return cls(
            table.name,
            tuple(table.ids[row] for row in used.rows),
            texts,
            pairs[0] if pairs else None,
            tuple(used.names),
            parts,
            (*problems, *used.problems),
        )


class TextSource(Source):
    """Subclasses say which texts there are, and what their shifts are."""

    modality: Literal["vision", "text", "audio"] = "text"
    _known_classes: tuple[str, ...] | None = None
    """The classes of the source that this one is a shift of."""

    def __init__(
        self,
        max_length: int | None,
        val_fraction: float,
        test_fraction: float,
        n_per_class: int | None,
        split_seed: int | None,
    ) -> None:
        self.max_length = max_length
        self.fractions = check_fractions(val_fraction, test_fraction)
        self.n_per_class = n_per_class
        self.split_seed = split_seed

    def _read(self) -> LabelledTexts:
        """All texts; raises `InputError` where not even that can be done."""
        raise NotImplementedError

    def _shifted(self) -> Mapping[str, "TextSource"]:
        """The extra test sets, by name."""
        return {}

    def check(self) -> None:
        collect([self._check_own, lambda: collect([shift.check for shift in self.shifts.values()])])

    @cached_property
    def content(self) -> LabelledTexts:
        """The texts; the first look reads them."""
        return self._read()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return self._known_classes or tuple(sorted(set(self.content.names)))

    @cached_property
    def labels(self) -> np.ndarray:
        places = {name: label for label, name in enumerate(self.classes)}
        return np.array([places[name] for name in self.content.names], dtype=np.int64)

    @property
    def ids(self) -> tuple[str, ...]:
        return self.content.ids

    @cached_property
    def parts(self) -> np.ndarray | None:
        return None if self.content.parts is None else np.array(self.content.parts, dtype="<U5")

    @cached_property
    def fingerprint(self) -> str:
        content = self.content
        pairs, parts = content.pairs or ("",) * len(content.ids), content.parts or ("",) * len(content.ids)
        return content_fingerprint(list(zip(content.ids, content.texts, pairs, content.names, parts, strict=True)))

    @cached_property
    def contents(self) -> list[str]:
        return text_contents(self.content.texts, self.content.pairs)

    @cached_property
    def shifts(self) -> Mapping[str, Source]:
        made = self._shifted()
        for name, shift in made.items():
            shift.name = name
            shift._known_classes = self.classes
        return made

    @property
    def overrides(self) -> dict[str, Any]:
        return {} if self.max_length is None else {"max_length": self.max_length}

    def examples(self, tokenizer: Tokenizer, max_length: int) -> Texts:  # type: ignore[override]
        """Texts of at most `max_length` tokens (`data.max_length` where that is given)."""
        content = self.content
        most = self.max_length or max_length
        return Texts(content.texts, content.pairs, self.fingerprint, tokenizer, most, self.name)

    def _check_own(self) -> None:
        content, problems = self.content, list(self.content.problems)
        found = set(content.names)
        if self._known_classes is not None:
            strange = sorted(found - set(self._known_classes))
            if strange:
                problems.append(
                    f"{content.where} has classes that the training data lacks: {listed(strange)}. A shift must have "
                    f"the same classes: {listed(list(self._known_classes))}."
                )
        elif not problems and len(found) < 2:
            problems.append(f"{content.where} has one class, {listed(sorted(found))}: at least two are needed.")
        elif not problems:
            problems += split_problems(self.labels, self.parts, self.fractions, self.n_per_class, self.classes)
        if problems:
            raise InputError(*problems)


class TextCsv(TextSource):
    """Texts of a table, one row each: .csv, .tsv, .jsonl, .parquet, also compressed.

    Args:
        path: The table.
        text_column: Column with the text.
        label_column: Column with the class.
        pair_column: Column with a second text that belongs to the first (question and answer); `None` for none.
        split_column: Column with train, val (valid, validation) or test, or nothing for texts that may be drawn;
            `None` to draw all.
        max_length: Most tokens of a text, what is longer is cut off; `None` for the backbone's own.
        val_fraction: Share of the training texts drawn for val, where the table gives none.
        test_fraction: Share drawn for test, where the table gives none.
        n_per_class: Training texts of each class; `None` for all. Smaller subsets are part of larger ones.
        split_seed: Seed of what is drawn for val and test; `None` for the run's.
        shifts: Extra test sets by name, each a table with the same columns.
        missing_values: Words that mean a missing value, as the empty cell does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a text or a label are left out.
        encoding: Encoding of a table of text; `None` for UTF-8, or what its first bytes say.
        name: What the report calls the data; `None` for the table's own name.
    """

    def __init__(
        self,
        path: str,
        text_column: str = "text",
        label_column: str = "label",
        pair_column: str | None = None,
        split_column: str | None = None,
        max_length: Tokens | None = None,
        val_fraction: Share = 0.15,
        test_fraction: Share = 0.15,
        n_per_class: Count | None = None,
        split_seed: Index | None = None,
        shifts: dict[str, str] | None = None,
        missing_values: Words | None = None,
        encoding: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(max_length, val_fraction, test_fraction, n_per_class, split_seed)
        self._path = Path(path).expanduser()
        self.name = name or table_name(self._path)
        self._columns = (text_column, label_column, pair_column, split_column)
        self._shift_places = dict(shifts or {})
        self._missing, self._cells = Missing.of(missing_values), (missing_values, encoding)
        self._setting = "data.path"

    def _read(self) -> LabelledTexts:
        text, label, pair, part = self._columns
        table = read_records(self._path, self._setting, self._cells[1])
        named = {
            "data.text_column": text,
            "data.label_column": label,
            "data.pair_column": pair,
            "data.split_column": part,
        }
        table.require(**named)
        parts, problems = part_names(table, part, self._missing)
        contents = [text] if pair is None else [text, pair]
        used = labelled(table, contents, label, parts, self._missing)
        given = None if part is None else tuple(used.parts)
        return LabelledTexts.of(table, used, given, problems)

    def _shifted(self) -> Mapping[str, TextSource]:
        text, label, pair, _ = self._columns
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
        val_fraction: Share of the names drawn for val.
        test_fraction: Share of the names drawn for test.
        n_per_class: Training names of each class; `None` for all. Smaller subsets are part of larger ones.
        split_seed: Seed of what is drawn for val and test; `None` for the run's.
    """

    name = "openmoji_names"

    def __init__(
        self,
        max_length: Tokens | None = None,
        val_fraction: Share = 0.15,
        test_fraction: Share = 0.25,
        n_per_class: Count | None = None,
        split_seed: Index | None = None,
    ) -> None:
        super().__init__(max_length, val_fraction, test_fraction, n_per_class, split_seed)

    def _read(self) -> LabelledTexts:
        table = (resources.files("headstart.data") / "openmoji.csv").read_text(encoding="utf-8")
        rows: Sequence[Mapping[str, str]] = list(csv.DictReader(table.splitlines()))
        return LabelledTexts(
            "openmoji_names",
            tuple(row["codepoint"] for row in rows),
            tuple(row["name"] for row in rows),
            None,
            tuple(row["group"] for row in rows),
            None,
        )
