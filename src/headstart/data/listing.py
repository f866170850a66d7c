"""Which files a dataset has, with their labels; here from a table."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from headstart.data.cells import Missing
from headstart.data.contents import Contents, Files
from headstart.data.folders import by_suffix
from headstart.data.labelled import column_values, labelled, part_names
from headstart.data.source import Cell
from headstart.data.table import Table
from headstart.names import listed, plural

_ODD = re.compile(r"^/|/$|//|(^|/)\.(/|$)|^$")
"""In a path: what is not to be written behind a folder as it stands."""
Entry = tuple[str, str, Cell, str]
"""Of a file its id, path, label and part (or `""`)."""


@dataclass(frozen=True)
class Listing:
    """Files by order of their ids, with problems that were found on the way."""

    root: Path
    ids: tuple[str, ...]
    """Paths relative to `root`, with forward slashes."""
    contents: Contents
    cells: tuple[Cell, ...]
    """What stands as the label of each file: the name of its class, say."""
    parts: tuple[str, ...] | None
    problems: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """How many files have which suffix, of those that are `read`, `not_read`, in `no_class`, and `other` ones."""
    remarks: tuple[str, ...] = ()
    """What is not read, in words."""
    table: str = ""
    """The table that names the files, if one does."""
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns of a table that were asked for, by name, a value for each file."""


def list_table(
    table: Table,
    root: Path,
    columns: tuple[str, str | Sequence[str]],
    file_setting: str,
    missing: Missing,
    asked: Mapping[str, str],
    parts_column: str | None,
) -> Listing:
    """Files of a table, whose relative paths are taken from `root`.

    `columns` are those of files and labels. `file_setting` is the setting that names the first of them, for messages;
    `missing` says which cells hold no value. `asked` are columns that a split needs, by the setting that names each,
    among them (or `None`) the `parts_column`.

    Raises:
        InputError: if the table lacks a column; other problems go into the listing.
    """
    file_column, label_column = columns
    table.require(**{file_setting: file_column, "data.label_column": label_column, **asked})
    parts, problems = part_names(table, parts_column, missing)
    used = labelled(table, [file_column], label_column, parts, missing)
    values, unread = column_values(table, asked.values(), used.rows, missing)
    problems += [*used.problems, *unread]
    files = used.contents[0] if used.contents else []
    paths = _joined(root, files)
    base = _base(root, paths)
    entries = [
        (key, file, name, part)
        for key, file, name, part in zip(_keys(base, paths), paths, used.cells, used.parts, strict=True)
    ]
    there = [os.path.isfile(file) for file in paths]
    lost = [text for text, is_there in zip(files, there, strict=True) if not is_there]
    if lost:
        missing_files = f"{table.name} names {plural(len(lost), 'file')} not found under {root}: {listed(lost)}."
        problems.append(missing_files + _hint(lost, root))
    rows = [place for place, is_there in enumerate(there) if is_there]
    kept, conflicts = _without_repeats(table.name, [entries[row] for row in rows])
    listing = listing_of(base, kept, with_parts=parts_column is not None, problems=problems + conflicts)
    said = {name: [(entries[row][0], column[row]) for row in rows] for name, column in values.items()}
    conflicts = [
        message
        for name, pairs in said.items()
        if name != parts_column
        for message in _conflicts(table.name, name, pairs)
    ]
    by_name = {name: tuple(map(dict(pairs).__getitem__, listing.ids)) for name, pairs in said.items()}
    return replace(listing, table=table.name, columns=by_name, problems=(*listing.problems, *conflicts))


def _hint(lost: Sequence[str], root: Path) -> str:
    """What would find files that are not there as they are named."""
    ways: dict[str, Callable[[str], str]] = {
        "with / in place of \\, as Windows writes paths": lambda text: text.replace("\\", "/"),
        "with letters with marks written otherwise (Unicode's normal form C)": partial(unicodedata.normalize, "NFC"),
        "with letters with marks written otherwise (Unicode's normal form D)": partial(unicodedata.normalize, "NFD"),
    }
    for way, mend in ways.items():
        found = sum((root / mend(text)).is_file() for text in lost)
        if found:
            return f" {found} of them are there {way}: write them so in the table."
    if any("\\" in text for text in lost):
        return " They are written with \\, as Windows does: write / in the table, and paths from data.root on."
    return ""


def _joined(root: Path, files: Sequence[str]) -> list[str]:
    """Paths as `root / file` gives them; plain ones without it, as of a million that takes seconds."""
    begin = "" if str(root) == "." else os.path.join(root, "")
    return [str(root / file) if os.sep != "/" or _ODD.search(file) else begin + file for file in files]


def _base(start: Path, paths: Sequence[str]) -> Path:
    """The folder that ids are relative to: where relative paths start, or what all files have in common."""
    begin = os.path.join(start, "")
    if all(path.startswith(begin) or Path(path).is_relative_to(start) for path in paths):
        return start
    return Path(os.path.commonpath([os.path.abspath(os.path.dirname(path)) for path in paths]))


def _keys(base: Path, paths: Sequence[str]) -> Iterator[str]:
    """The paths below `base`, with forward slashes."""
    begin, step = os.path.join(base, ""), f"{os.sep}.."
    for path in paths:
        is_below = path.startswith(begin) and step not in path
        yield (path[len(begin) :] if is_below else os.path.relpath(path, base)).replace(os.sep, "/")


def _without_repeats(path: str, entries: list[Entry]) -> tuple[list[Entry], list[str]]:
    """Entries with rows that say the same twice left out, and the files of which rows say different things."""
    said: dict[str, set[tuple[Cell, str]]] = defaultdict(set)
    for key, _, name, part in entries:
        said[key].add((name, part))
    labels = sorted(key for key, values in said.items() if len({name for name, _ in values}) > 1)
    parts = sorted(key for key, values in said.items() if len(values) > 1 and key not in labels)
    problems = []
    if labels:
        problems.append(f"{path} gives the same file different labels: {listed(labels)}. Keep one row of each.")
    if parts:
        problems.append(f"{path} puts the same file in different parts of the split: {listed(parts)}.")
    return list({entry[0]: entry for entry in entries}.values()), problems


def _conflicts(path: str, column: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The files of which rows say different things in a column of groups or folds; `pairs` are (file, cell)."""
    said: dict[str, set[str]] = defaultdict(set)
    for key, cell in pairs:
        said[key].add(cell)
    several = sorted(key for key, cells in said.items() if len(cells) > 1)
    if not several:
        return []
    return [f"{path} says different things of the same file in column {column!r}: {listed(several)}. Keep one row."]


def listing_of(root: Path, entries: list[Entry], with_parts: bool, problems: list[str]) -> Listing:
    """A listing of (id, path, class, part or `""`), by order of ids."""
    garbled = [ascii(entry[0])[1:-1] for entry in entries if not _is_text(entry[0])]
    if garbled:
        said = f"{plural(len(garbled), 'file')} must be renamed, for names must be UTF-8: {listed(garbled, 5)}."
        problems = [*problems, said]
    entries = sorted((entry for entry in entries if _is_text(entry[0])), key=lambda entry: entry[0])
    ids, paths, names, parts = zip(*entries, strict=True) if entries else ((), (), (), ())
    files = {"read": by_suffix(paths)}
    return Listing(root, ids, Files(paths), names, parts if with_parts else None, tuple(problems), files)


def _is_text(name: str) -> bool:
    """Whether a file's name can be written down: names are bytes, and need not be text."""
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
