"""Files of answers: csv, jsonl, parquet; written as answers come, in place only once they are whole."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from headstart.errors import InputError, unknown
from headstart.names import in_csv
from headstart.predict.answer import Answer
from headstart.predict.layout import Layout
from headstart.system.cache import drafted

Write = Callable[[Answer], None]
FORMATS = (".csv", ".jsonl", ".parquet")
_ROWS = 4096
"""Of a Parquet file that are held until they are written."""


def check_output(path: Path, force: bool) -> None:
    """Raise `InputError` unless answers can be written there."""
    if path.suffix.lower() not in FORMATS:
        raise unknown("ending of --out", path.suffix, FORMATS)
    if path.is_dir():
        raise InputError(f"--out must name a file, but {path} is a folder.")
    if path.exists() and not force:
        raise InputError(f"{path} exists already. Name another file, or add --force to write over it.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out={path} must lie in a folder that exists: make {path.absolute().parent}.")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InputError(
                "Writing .parquet needs pyarrow: pip install 'headstart[hub]' (or pyarrow), or name a .csv or .jsonl."
            ) from None


@contextmanager
def written(path: Path, layout: Layout) -> Iterator[Write]:
    """Within the block answers are written; `path` is in place only if the block ends well."""
    start = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[path.suffix.lower()]
    with drafted(path) as draft:
        with ExitStack() as stack:
            yield start(draft, layout, stack)
        draft.replace(path)


def _csv(draft: Path, layout: Layout, stack: ExitStack) -> Write:
    file = stack.enter_context(draft.open("x", newline="", encoding="utf-8"))
    rows = csv.writer(file)
    rows.writerow([in_csv(name) for name in layout.columns])
    return lambda answer: rows.writerow(
        [in_csv(cell) if isinstance(cell, str) else cell for cell in layout.row(answer)]
    )


def _jsonl(draft: Path, layout: Layout, stack: ExitStack) -> Write:
    file = stack.enter_context(draft.open("x", encoding="utf-8"))

    def write(answer: Answer) -> None:
        file.write(json.dumps(layout.record(answer), ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")

    return write


def _parquet(draft: Path, layout: Layout, stack: ExitStack) -> Write:
    import pyarrow
    import pyarrow.parquet

    kinds = {str: pyarrow.string(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in layout.columns.items()])
    file = stack.enter_context(pyarrow.parquet.ParquetWriter(draft, schema))
    held: list[list[Any]] = []

    def flush() -> None:
        if held:
            columns = [
                pyarrow.array(column, kind.type) for column, kind in zip(zip(*held, strict=True), schema, strict=True)
            ]
            file.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            held.clear()

    def write(answer: Answer) -> None:
        held.append([_as_text(cell) if isinstance(cell, str) else cell for cell in layout.row(answer)])
        if len(held) >= _ROWS:
            flush()

    stack.callback(flush)
    return write


def _as_text(cell: str) -> str:
    """Names of files are bytes, and need not be text."""
    return cell.encode("utf-8", "replace").decode()
