"""Tables in files of whatever format: lines with a mark between cells, JSON, Parquet; compressed or not."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from headstart.data.cells import narrow
from headstart.data.delimited import read_delimited
from headstart.data.table import Table, normal
from headstart.data.table_file import PACKED_SUFFIXES, TableFile, lines_of, open_table
from headstart.errors import InputError
from headstart.names import listed

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}
"""Endings of tables of lines, with the mark that usually stands between their cells."""
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")


def read_records(path: Path, setting: str = "data.path", encoding: str | None = None) -> Table:
    """Read a table by its suffix: JSON (.jsonl, .ndjson, .json), Parquet, or else lines below a header; any of them
    may be compressed (.gz, .bz2, .xz, .zst, .zip).

    Cells are as they were found; `cells.texts` makes texts of them. `setting` names the table, for messages;
    `encoding` is that of its text, `None` for UTF-8 or what its first bytes say.

    Raises:
        InputError: if it cannot be read, is empty, or rows of it are not as they should be.
    """
    file = open_table(path, setting)
    if file.content.startswith(b"PAR1"):
        return _read_parquet(file)
    if file.suffix in PARQUET:
        raise InputError(f"{path} cannot be read as Parquet: it does not begin like it.")
    text = file.text(encoding)
    if file.suffix in JSON_LINES:
        return _read_json(text, str(path))
    return read_delimited(text, str(path), DELIMITED.get(file.suffix, ","))


def table_name(path: Path) -> str:
    """A data set's name by its table: `reviews` for `reviews.csv.gz`."""
    inner = PurePath(path.stem) if path.suffix.lower() in PACKED_SUFFIXES else path
    return inner.stem


def is_table(path: Path) -> bool:
    """Whether a path names a table, by its suffix."""
    suffix = path.suffix.lower()
    inner = PurePath(path.stem).suffix.lower() if suffix in PACKED_SUFFIXES else suffix
    return inner in (*DELIMITED, *JSON_LINES, *PARQUET)


def _read_json(text: str, name: str) -> Table:
    """An object in each line, or one list of objects."""
    if text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"{name} cannot be read as JSON: {error}.") from error
        return _from_objects(list(enumerate(values, start=1)), name, "row")
    rows: list[tuple[int, Any]] = []
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except (ValueError, RecursionError):
                rows.append((number, None))
    return _from_objects(rows, name, "line")


def _from_objects(rows: Sequence[tuple[int, Any]], name: str, unit: str) -> Table:
    bad = [str(number) for number, row in rows if not isinstance(row, dict)]
    if bad:
        raise InputError(
            f'{name} must hold one JSON object in each line, as {{"text": "…", "label": "…"}}, or one list of them, '
            f"but {unit} {listed(bad, 10)} {'is' if len(bad) == 1 else 'are'} none. pandas writes such with "
            'to_json(path, orient="records", lines=True).'
        )
    keys = dict.fromkeys(key for _, row in rows for key in row)
    named: dict[str, list[str]] = {}
    for key in keys:
        named.setdefault(normal(key), []).append(key)
    columns = {column: [row.get(same[0]) for _, row in rows] for column, same in named.items()}
    doubled = frozenset(column for column, same in named.items() if len(same) > 1)
    return _table(Table(name, columns, [str(number) for number, _ in rows], unit, doubled))


class ParquetColumns(Mapping[str, Sequence[Any]]):
    """Columns of a Parquet file, each read when it is asked for: others may be large, or of kinds that are no use."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._names = {normal(name): name for name in file.schema_arrow.names}

    def __getitem__(self, column: str) -> Sequence[Any]:
        import pyarrow

        values = self._file.read(columns=[self._names[column]]).column(self._names[column])
        small = pyarrow.types.is_float32(values.type) or pyarrow.types.is_float16(values.type)
        return narrow(values.to_pylist()) if small else values.to_pylist()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _read_parquet(file: TableFile) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(f"Reading {file.path} needs pyarrow: pip install 'headstart[hub]' (or pyarrow).") from error
    try:
        content = parquet.ParquetFile(io.BytesIO(file.content))
        columns = ParquetColumns(content)
        number = content.metadata.num_rows
    except Exception as error:  # damaged files raise all kinds of Arrow's own exceptions
        raise InputError(f"{file.path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}.") from error
    names = [normal(name) for name in content.schema_arrow.names]
    doubled = frozenset(name for name in names if names.count(name) > 1)
    return _table(Table(str(file.path), columns, [str(row) for row in range(1, number + 1)], "row", doubled))


def _table(table: Table) -> Table:
    if not len(table):
        raise InputError(f"{table.name} has no rows.")
    return table
