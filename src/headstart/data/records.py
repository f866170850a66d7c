"""Tables of texts, of whatever format: comma- or tab-separated, JSON lines, Parquet."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.data.table import Table, listed, read_table
from headstart.errors import InputError

JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")


def read_records(path: Path, setting: str = "data.path") -> Table:
    """Read a table by its suffix: JSON lines (.jsonl, .ndjson, .json), Parquet, or else text with a header line.

    Every value becomes text; what is absent (null) becomes the empty text. `setting` names the table, for messages.

    Raises:
        InputError: if it cannot be read, is empty, or rows of it are not as they should be.
    """
    suffix = path.suffix.lower()
    if suffix not in (*JSON_LINES, *PARQUET):
        return read_table(path, setting)
    if not path.is_file():
        raise InputError(
            f"{path} does not exist or is not a file: {setting} must name a table (.csv, .tsv, .jsonl or .parquet)."
        )
    return _read_json_lines(path) if suffix in JSON_LINES else _read_parquet(path)


def as_text(value: Any) -> str:
    """A cell as text; nothing, or not a number, is the empty text."""
    if value is None or value != value:
        return ""
    return value.strip() if isinstance(value, str) else str(value)


def _read_json_lines(path: Path) -> Table:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8 ({error}): save it as UTF-8.") from error
    rows: list[tuple[int, dict[str, Any]]] = []
    bad: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            bad.append(str(number))
    if bad:
        raise InputError(
            f'{path} must hold one JSON object in each line, as {{"text": "…", "label": "…"}}, but line '
            f"{listed(bad, 10)} {'is' if len(bad) == 1 else 'are'} none."
        )
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    columns = {name: [as_text(row.get(name)) for _, row in rows] for name in names}
    return _table(path, columns, [number for number, _ in rows])


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(f"Reading {path} needs pyarrow: pip install 'headstart[text]' (or pyarrow).") from error
    try:
        content = parquet.read_table(path).to_pydict()
    except Exception as error:  # damaged files raise all kinds of Arrow's own exceptions
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}.") from error
    columns = {str(name): [as_text(value) for value in values] for name, values in content.items()}
    return _table(path, columns, list(range(1, len(next(iter(columns.values()), [])) + 1)))


def _table(path: Path, columns: dict[str, list[str]], lines: Sequence[int]) -> Table:
    if not lines:
        raise InputError(f"{path} has no rows.")
    return Table(path, columns, list(lines))
