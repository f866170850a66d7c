"""Pictures and sounds in the cells of a dataset of the `datasets` library, as they were encoded in files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.data.cells import Missing
from headstart.data.contents import settled_stamp
from headstart.data.files import FileSource
from headstart.data.hub import HubDataset, arrow
from headstart.data.labelled import column_values, labelled, part_names
from headstart.data.listing import Listing
from headstart.data.table import normal
from headstart.errors import InputError


@dataclass(frozen=True)
class HubFiles:
    """Which cells of a dataset are examples.

    Args:
        hub: The dataset.
        setting: The setting that names the column of files (`data.image_column`).
        column: That column.
        label: The column with the label, or several.
        missing: Which cells hold no value.
        shift: The extra test set that this is; `None` for the data to train on.
    """

    hub: HubDataset
    setting: str
    column: str
    label: str | list[str]
    missing: Missing
    shift: str | None = None

    def of_shift(self, name: str) -> "HubFiles":
        return replace(self, shift=name)

    def listing(self, asked: Mapping[str, str], parts_column: str | None) -> Listing:
        """The examples, with columns that a split has `asked` for, by the setting that names each.

        Raises:
            InputError: if the dataset cannot be had or lacks a column, or that of files holds none.
        """
        chosen = self.hub.chosen if self.shift is None else self.hub.shift(self.shift)
        labels = [self.label] if isinstance(self.label, str) else self.label
        table, parts = self.hub.gathered(chosen, {*labels, *asked.values()})
        table.require(**{self.setting: self.column, "data.label_column": self.label, **asked})
        cells = _Cells(self.hub, list(chosen), self.column, self.setting)
        places = [(split, row) for split in chosen for row in range(len(self.hub.tables[split]))]
        filled = [key if cells.has(*place) else "" for key, place in zip(table.ids, places, strict=True)]
        table = replace(table, columns={**table.columns, normal(self.column): filled})
        given, problems = part_names(table, parts_column, self.missing)
        parts = given if parts_column is not None else parts
        used = labelled(table, [self.column], self.label, parts, self.missing)
        values, unread = column_values(table, asked.values(), used.rows, self.missing)
        cells.places = [places[row] for row in used.rows]
        return Listing(
            Path(self.hub.name),
            tuple(table.ids[row] for row in used.rows),
            cells,
            tuple(used.cells),
            tuple(used.parts) if any(used.parts) else None,
            (*problems, *used.problems, *unread),
            {"read": {"cells": len(used.rows)}},
            table=table.name,
            columns={name: tuple(column) for name, column in values.items()},
        )


class HubSource(FileSource):
    """Of a source of files that lie in the cells of a dataset, what it is read from and where that lies."""

    _files: HubFiles

    @property
    def is_here(self) -> bool:
        return self._files.hub.is_here

    def _list(self) -> Listing:
        return self._files.listing(self.asked, self.parts_column)


class _Cells:
    """Contents in cells of Arrow columns: bytes, or the path of a file."""

    def __init__(self, hub: HubDataset, splits: Sequence[str], column: str, setting: str) -> None:
        self.places: Sequence[tuple[str, int]] = ()
        self._columns = {split: arrow(hub.tables[split], column) for split in splits}
        for split, cells in self._columns.items():
            if not _holds_files(cells.type):
                raise InputError(
                    f"{setting}={column} must name a column of files, but that of split {split} of {hub.name} holds "
                    f"{cells.type}. Of tables with paths, use data=image_csv or audio_csv."
                )
        self._filled = {split: cells.is_valid().to_pylist() for split, cells in self._columns.items()}
        self._versions = {split: _version(hub.tables[split]) for split in splits}

    def __len__(self) -> int:
        return len(self.places)

    def has(self, split: str, row: int) -> bool:
        """Whether there is anything in a row's cell."""
        return self._filled[split][row]

    def read(self, place: int) -> bytes:
        content, path = self._cell(place)
        if content is None and path is None:
            raise OSError("its cell holds neither bytes nor a path")
        return Path(str(path)).read_bytes() if content is None else content

    def stamp(self, place: int) -> list[int | str]:
        split, row = self.places[place]
        content, path = self._cell(place)
        version = self._versions[split]
        if content is not None or path is None:
            return [*version, row] if version else []
        return settled_stamp(Path(path))

    def name(self, place: int) -> str:
        split, row = self.places[place]
        return f"{split}/{row}"

    def _cell(self, place: int) -> tuple[bytes | None, str | None]:
        split, row = self.places[place]
        found = self._columns[split][row].as_py()
        return (found.get("bytes"), found.get("path")) if isinstance(found, dict) else (found, None)


def _holds_files(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return {kind.field(place).name for place in range(kind.num_fields)} >= {"bytes", "path"}
    return types.is_binary(kind) or types.is_large_binary(kind)


def _version(table: Any) -> list[int | str]:
    """The stamps of the files that hold a split; nothing where they do not tell."""
    stamps = [settled_stamp(Path(file["filename"])) for file in table.cache_files]
    return [one for found in stamps for one in found] if stamps and all(stamps) else []
