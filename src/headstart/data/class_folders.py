"""Which files a dataset has, with their labels, from folders named after their class."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from headstart.data.folders import FoundFiles, by_suffix, check_is_own, counted, files_in, folders_in
from headstart.data.labelled import PARTS
from headstart.data.listing import Listing, listing_of
from headstart.data.names import in_one_form
from headstart.errors import InputError
from headstart.names import listed


@dataclass(frozen=True)
class Kind:
    """What the files of a data set are, for finding them and for messages."""

    what: str
    """`pictures`, `sounds`."""
    suffixes: Collection[str]
    """Those that are read, in lower case."""
    remedy: str
    """What to do with files that are not read."""


def list_folder(root: Path, kind: Kind, setting: str) -> Listing:
    """Files of class folders, `root/<class>/…`, or `root/<part>/<class>/…` where all folders are parts of a split.

    `setting` says which setting names the folder, for messages. Hidden files and folders are passed over; below a class
    folder every depth counts. What is not read is counted.

    Raises:
        InputError: if there is no such folder, no class folder in it, or part folders stand beside others.
    """
    if root.is_file():
        raise InputError(
            f"{root} is a file, but {setting} must name a folder of class folders. A table is named by data.path, as "
            f"in data=image_csv data.path={root}."
        )
    if not root.is_dir():
        raise InputError(f"The folder {root} does not exist: {setting} must name a folder of class folders.")
    check_is_own(root, setting)
    holders, problems = _holders(root), []
    entries: list[tuple[str, str, str, str]] = []
    inside, outside = FoundFiles(), FoundFiles()
    unlabelled: list[str] = []
    bare_files: list[str] = []
    for part, folder in holders:
        classes = folders_in(folder)
        if not classes and part in ("val", "test") and (bare := files_in(folder, kind.suffixes)).read:
            unlabelled.append(_unlabelled(root, folder, part, len(bare.read), kind.what))
            bare_files += bare.read
            continue
        if not classes:
            problems.append(f"{folder} has no class folders: {kind.what} must lie in folders named after their class.")
        for name in classes:
            found = files_in(folder / name, kind.suffixes)
            entries += [(_below(root, file), file, name, part) for file in found.read]
            inside += found
            if not found.read and not found.problems:
                there = f" that are read, but {counted(by_suffix(found.unread))}" if found.unread else ""
                problems.append(f"The class folder {folder / name} has no {kind.what}{there}: fill or remove it.")
        outside += files_in(folder, kind.suffixes, below=False)
    if holders[0][0]:
        outside += files_in(root, kind.suffixes, below=False)
    problems += inside.problems
    if not entries and not problems:
        problems.append(f"{root} has no {kind.what}.")
    forms = in_one_form([name for _, _, name, _ in entries], str(root))
    entries = [(key, file, name, part) for (key, file, _, part), name in zip(entries, forms, strict=True)]
    listing = listing_of(root, entries, with_parts=any(part for part, _ in holders), problems=problems)
    return replace(
        listing,
        files=_census(inside, outside, bare_files),
        remarks=(*unlabelled, *_remarks(root, kind, inside, outside)),
    )


def _unlabelled(root: Path, folder: Path, part: str, number: int, what: str) -> str:
    return (
        f"{number:,} {what} in {folder.relative_to(root)}/ of {root} lie in no folder of a class, so that they have no "
        f"labels and cannot be scored. They are set aside, and {part} is drawn from train (split.{part}_fraction)."
    )


def _holders(root: Path) -> list[tuple[str, Path]]:
    """Folders that hold class folders, each with the part it stands for: the root itself, or one for each part."""
    names = folders_in(root)
    parts = [(PARTS[name.lower()], root / name) for name in names if name.lower() in PARTS]
    given = [part for part, _ in parts]
    if not parts or "train" not in given or not any(folders_in(folder) for _, folder in parts):
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


def _below(root: Path, file: str) -> str:
    """The path of a file below `root`, with forward slashes."""
    start = os.path.join(root, "")
    if not file.startswith(start):
        return PurePath(file).relative_to(root).as_posix()
    return file[len(start) :].replace(os.sep, "/")


def _census(inside: FoundFiles, outside: FoundFiles, unlabelled: list[str]) -> dict[str, dict[str, int]]:
    return {
        **({"no_label": by_suffix(unlabelled)} if unlabelled else {}),
        "read": by_suffix(inside.read),
        "not_read": by_suffix(inside.unread),
        "no_class": by_suffix(outside.read),
        "other": by_suffix(inside.other),
    }


def _remarks(root: Path, kind: Kind, inside: FoundFiles, outside: FoundFiles) -> tuple[str, ...]:
    """What of a folder is not read though it may be meant to be."""
    remarks = []
    if inside.unread:
        total = len(inside.read) + len(inside.unread)
        remarks.append(
            f"{len(inside.unread):,} of {total:,} files in the class folders of {root} are not read: "
            f"{counted(by_suffix(inside.unread))}, such as {_below(root, inside.unread[0])}. Read are "
            f"{counted(by_suffix(inside.read))}. {kind.remedy}"
        )
    if outside.read:
        remarks.append(
            f"{len(outside.read):,} {kind.what} in {root} lie in no class folder and are not read, such as "
            f"{_below(root, outside.read[0])}. Move them into the folder of their class, or remove them."
        )
    return tuple(remarks)
