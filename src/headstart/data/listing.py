"""Which files a dataset has, with their labels: from class folders or from a table."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from headstart.data.cells import Missing
from headstart.data.labelled import PARTS, labelled, part_names
from headstart.data.table import Table, listed
from headstart.errors import InputError


@dataclass(frozen=True)
class Listing:
    """Files by order of their ids, with problems that were found on the way."""

    root: Path
    ids: tuple[str, ...]
    """Paths relative to `root`, with forward slashes."""
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    """Class name of each file."""
    parts: tuple[str, ...] | None
    problems: tuple[str, ...] = ()


def list_folder(root: Path, suffixes: Iterable[str], what: str, setting: str) -> Listing:
    """Files of class folders, `root/<class>/…`, or `root/<part>/<class>/…` where all folders are parts of a split.

    `what` says what the files are and `setting` which setting names the folder, for messages.

    Hidden files and folders are passed over; below a class folder every depth counts.

    Raises:
        InputError: if there is no such folder, no class folder in it, or part folders stand beside others.
    """
    if not root.is_dir():
        raise InputError(f"The folder {root} does not exist: {setting} must name a folder of class folders.")
    known = {suffix.lower() for suffix in suffixes}
    holders, problems = _holders(root), []
    entries: list[tuple[str, Path, str, str]] = []
    for part, folder in holders:
        classes = _folders(folder)
        if not classes:
            problems.append(f"{folder} has no class folders: {what} must lie in folders named after their class.")
        for name in classes:
            files = sorted(_files(folder / name, known))
            entries += [(file.relative_to(root).as_posix(), file, name, part) for file in files]
            if not files:
                problems.append(
                    f"The class folder {folder / name} has no {what} ({', '.join(sorted(known))}): fill or remove it."
                )
    if not entries and not problems:
        problems.append(f"{root} has no {what}.")
    return _listing(root, entries, with_parts=any(part for part, _ in holders), problems=problems)


def list_table(
    table: Table, root: Path, columns: tuple[str, str, str | None], file_setting: str, missing: Missing
) -> Listing:
    """Files of a table, whose relative paths are taken from `root`.

    `columns` are those of files, labels and (or `None`) parts. `file_setting` is the setting that names the first of
    them, for messages; `missing` says which cells hold no value.

    Raises:
        InputError: if the table lacks a column; other problems go into the listing.
    """
    file_column, label_column, split_column = columns
    table.require(**{file_setting: file_column, "data.label_column": label_column, "data.split_column": split_column})
    parts, problems = part_names(table, split_column, missing)
    used = labelled(table, [file_column], label_column, parts, missing)
    problems += used.problems
    files = used.contents[0] if used.contents else []
    paths = [root / file for file in files]
    base = _base(root, paths)
    entries = [
        (Path(os.path.relpath(file, base)).as_posix(), file, name, part)
        for file, name, part in zip(paths, used.names, used.parts, strict=True)
    ]
    lost = [text for text, file in zip(files, paths, strict=True) if not file.is_file()]
    if lost:
        problems.append(f"{table.name} names {len(lost)} files that do not exist under {root}: {listed(lost)}.")
    entries = [entry for entry in entries if entry[1].is_file()]
    entries, conflicts = _without_repeats(table.name, entries)
    return _listing(base, entries, with_parts=split_column is not None, problems=problems + conflicts)


def _holders(root: Path) -> list[tuple[str, Path]]:
    """Folders that hold class folders, each with the part it stands for: the root itself, or one for each part."""
    names = _folders(root)
    parts = [(PARTS[name.lower()], root / name) for name in names if name.lower() in PARTS]
    given = [part for part, _ in parts]
    if not parts or "train" not in given or not any(_folders(folder) for _, folder in parts):
        return [("", root)]
    others = [name for name in names if name.lower() not in PARTS]
    if others and len(parts) == 1:  # a class that is called "train"
        return [("", root)]
    if others:
        raise InputError(
            f"{root} has folders for parts of a split ({', '.join(folder.name for _, folder in parts)}) beside others "
            f"({listed(others, 5)}): keep either parts with class folders in them, or class folders alone."
        )
    if len(set(given)) < len(given):
        raise InputError(f"{root} has two folders for the same part of a split: {', '.join(names)}.")
    return parts


def _folders(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"
    )


def _files(folder: Path, suffixes: set[str]) -> Iterable[Path]:
    for where, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and PurePath(name).suffix.lower() in suffixes:
                yield Path(where, name)


def _base(start: Path, paths: Sequence[Path]) -> Path:
    """The folder that ids are relative to: where relative paths start, or what all files have in common."""
    if all(path.is_relative_to(start) for path in paths):
        return start
    return Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))


def _without_repeats(
    path: str, entries: list[tuple[str, Path, str, str]]
) -> tuple[list[tuple[str, Path, str, str]], list[str]]:
    """Entries with rows that say the same twice left out, and the files of which rows say different things."""
    said: dict[str, set[tuple[str, str]]] = defaultdict(set)
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


def _listing(root: Path, entries: list[tuple[str, Path, str, str]], with_parts: bool, problems: list[str]) -> Listing:
    entries = sorted(entries, key=lambda entry: entry[0])
    ids, paths, names, parts = zip(*entries, strict=True) if entries else ((), (), (), ())
    return Listing(root, ids, paths, names, parts if with_parts else None, tuple(problems))
