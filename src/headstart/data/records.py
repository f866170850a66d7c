"""Tables in files of whatever format: lines with a mark between cells, JSON, Parquet; compressed or not."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from headstart.data import table_file
from headstart.data.arrow_columns import ArrowColumn
from headstart.data.cells import narrow
from headstart.data.delimited import read_delimited
from headstart.data.table import Table, normal
from headstart.data.table_file import PACKED_SUFFIXES, TableFile, lines_of, open_table, tell_of_other_parts
from headstart.errors import InputError
from headstart.names import listed

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}
"""Endings of tables of lines, with the mark that usually stands between their cells."""
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET, ARROW = (".parquet", ".pq"), (".arrow", ".feather")


def read_records(path: Path, setting: str = "data.path", encoding: str | None = None) -> Table:
    """Read a table by its suffix: JSON (.jsonl, .ndjson, .json), Parquet, Arrow (.arrow, .feather), or else lines below
    a header; any of them may be compressed (.gz, .bz2, .xz, .zst, .zip).

    Of Parquet and Arrow only the columns are read that are asked for, the latter where they lie on disk. Cells are as
    they were found; `cells.texts` makes texts of them. `setting` names the table, for messages;
    `encoding` is that of its text, `None` for UTF-8 or what its first bytes say.

    Raises:
        InputError: if it cannot be read, is empty, or rows of it are not as they should be.
    """
    file = open_table(path, setting)
    if setting.startswith("data."):  # predict may be given all of them
        tell_of_other_parts(path)
    if file.content.startswith(table_file.PARQUET):
        return _read_columns(file, "Parquet", _open_parquet)
    if file.content.startswith((table_file.ARROW, table_file.ARROW_STREAM)):
        return _read_columns(file, "Arrow", _open_arrow)
    if file.suffix in PARQUET + ARROW:
        kind = "Parquet" if file.suffix in PARQUET else "Arrow"
        raise InputError(f"{path} cannot be read as {kind}: it does not begin like it.")
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
    return inner in (*DELIMITED, *JSON_LINES, *PARQUET, *ARROW)


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


class Columns(Mapping[str, Sequence[Any]]):
    """Columns of a file, each read when it is asked for: others may be large, or of kinds that are no use.

    Args:
        names: What they are called.
        read: From such a name to a `pyarrow.ChunkedArray`.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Any]) -> None:
        self._read = read
        self._names = {normal(name): name for name in names}

    def __getitem__(self, column: str) -> Sequence[Any]:
        import pyarrow

        values = self._read(self._names[column])
        small = pyarrow.types.is_float32(values.type) or pyarrow.types.is_float16(values.type)
        return narrow(values.to_pylist()) if small else ArrowColumn(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _read_columns(file: TableFile, kind: str, open_columns: "Callable[[TableFile], _Opened]") -> Table:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError(f"Reading {file.path} needs pyarrow: pip install 'headstart[hub]' (or pyarrow).") from error
    try:
        names, num_rows, read = open_columns(file)
    except Exception as error:  # damaged files raise all kinds of Arrow's own exceptions
        raise InputError(f"{file.path} cannot be read as {kind}: {' '.join(str(error).split())[:200]}.") from error
    own = [normal(name) for name in names]
    doubled = frozenset(name for name in own if own.count(name) > 1)
    rows = [str(row) for row in range(1, num_rows + 1)]
    return _table(Table(str(file.path), Columns(names, read), rows, "row", doubled))


_Opened = tuple[Sequence[str], int, Callable[[str], Any]]
"""Names of columns, how many rows there are, and what reads a column."""


def _open_parquet(file: TableFile) -> _Opened:
    from pyarrow import parquet

    content = parquet.ParquetFile(file.path if file.is_beginning else io.BytesIO(file.content))
    return content.schema_arrow.names, content.metadata.num_rows, lambda name: content.read(columns=[name]).column(name)


def _open_arrow(file: TableFile) -> _Opened:
    import pyarrow

    source = pyarrow.memory_map(str(file.path)) if file.is_beginning else pyarrow.BufferReader(file.content)
    is_stream = file.content.startswith(table_file.ARROW_STREAM)
    table = (pyarrow.ipc.open_stream if is_stream else pyarrow.ipc.open_file)(source).read_all()
    return table.column_names, table.num_rows, lambda name: table.column(table.column_names.index(name))


def _table(table: Table) -> Table:
    if not len(table):
        raise InputError(f"{table.name} has no rows.")
    return table
