"""What lies in folders: files that are read, files that no reader takes, and others that nobody expects to be read."""

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from headstart.errors import InputError

BESIDE = frozenset(
    {".txt", ".md", ".rst", ".html", ".htm", ".url", ".log", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".csv", ".tsv"}
    | {".ini", ".cfg", ".db", ".py", ".sh", ".bat", ".lnk", ".md5", ".sha1", ".sha256", ".cff", ".bib"}
    | {".xmp", ".aae", ".thm", ".lab", ".textgrid", ".trs", ".srt", ".vtt", ".cue", ".m3u", ".nfo", ".asd", ".reapeaks"}
)
"""Suffixes of what people and programs leave beside pictures and sounds: notes, tables, marks, thumbnails."""
NAMES_BESIDE = frozenset({"license", "licence", "readme", "changelog", "authors", "md5sums", "sha256sums", "makefile"})
SYSTEM, MEMORY_DISK = ("/proc", "/sys", "/dev"), "/dev/shm"
"""Folders of the system itself, which never end, and among them one for everybody's files."""
HIDDEN, NO_SUFFIX = "hidden", "no suffix"
"""What stands for a suffix where a name has none."""


@dataclass
class FoundFiles:
    """Files below a folder, by what becomes of them, and what is wrong with it.

    Their paths are texts: of a million files, objects for paths would take half a gigabyte and half a minute.
    """

    read: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Files that no reader takes, though they may well be examples."""
    other: list[str] = field(default_factory=list)
    """Hidden files, notes, tables: never examples."""
    problems: list[str] = field(default_factory=list)

    def __iadd__(self, more: "FoundFiles") -> "FoundFiles":
        for name in ("read", "unread", "other", "problems"):
            getattr(self, name).extend(getattr(more, name))
        return self


def check_is_own(folder: Path, setting: str) -> None:
    """Raise `InputError` for the top of the file system, or what the system shows of itself: nobody's data."""
    whole = folder.resolve()
    is_system = any(whole.is_relative_to(name) for name in SYSTEM) and Path(MEMORY_DISK) not in whole.parents
    if whole == Path(whole.anchor) or is_system:
        told = "" if str(whole) == str(folder) else f"is {whole}, which "
        raise InputError(
            f"{setting} must name a folder of class folders, but {folder} {told}is the system's own. Name the folder "
            "that holds your data."
        )


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in one, sorted, without hidden ones and those that macOS puts into archives.

    Raises:
        InputError: if it cannot be opened.
    """
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise InputError(_cannot_open(folder, error)) from error


def files_in(folder: Path, suffixes: Collection[str], below: bool = True) -> FoundFiles:
    """The files in a folder and (`below`) in all folders below it; `suffixes`, in lower case, are those that are read.

    Links are followed; a link to a folder that it lies in itself is a problem, as it never ends.
    """
    found = FoundFiles()
    _walk(folder, suffixes, found, frozenset(), below)
    for paths in (found.read, found.unread, found.other):
        paths.sort(key=lambda path: path.replace(os.sep, "\0"))  # as objects for paths are sorted: folder by folder
    return found


def by_suffix(paths: Iterable[str]) -> dict[str, int]:
    """How many files have which suffix (in lower case), the most frequent first."""
    names = (path.rpartition(os.sep)[2] for path in paths)
    counts = Counter(HIDDEN if is_hidden(name) else suffix_of(name) or NO_SUFFIX for name in names)
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in lower case, as `pathlib` has it: none of a name that only begins with a dot."""
    stem, _, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and suffix else ""


def counted(counts: dict[str, int], most: int = 8) -> str:
    """`.heic (12), .xyz (3)`."""
    shown = [f"{suffix} ({count:,})" for suffix, count in list(counts.items())[:most]]
    return ", ".join(shown) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _walk(
    folder: Path, suffixes: Collection[str], found: FoundFiles, above: frozenset[tuple[int, int]], below: bool
) -> None:
    try:
        stat = folder.stat()
        entries = list(os.scandir(folder))
    except OSError as error:
        found.problems.append(_cannot_open(folder, error))
        return
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        found.problems.append(_never_ends(folder))
        return
    for entry in entries:
        if not entry.is_dir():
            _sort(entry, suffixes, found)
        elif below and not is_hidden(entry.name):
            if entry.is_symlink() and folder.resolve().is_relative_to(os.path.realpath(entry.path)):
                found.problems.append(_never_ends(Path(entry.path)))
                continue
            _walk(Path(entry.path), suffixes, found, above | {here}, below)


def _sort(entry: os.DirEntry[str], suffixes: Collection[str], found: FoundFiles) -> None:
    path, suffix = entry.path, suffix_of(entry.name)
    if is_hidden(entry.name) or entry.name.lower() in NAMES_BESIDE or (suffix in BESIDE and suffix not in suffixes):
        found.other.append(path)
    elif suffix in suffixes and (entry.is_file() or not os.path.exists(path)):  # of links to nowhere reading will tell
        found.read.append(path)
    else:
        found.unread.append(path)


def _never_ends(folder: Path) -> str:
    return f"{folder} is a link to a folder that it lies in, so that following it never ends: remove the link."


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "Icon\r")


def _cannot_open(folder: Path, error: OSError) -> str:
    return f"The folder {folder} cannot be opened ({error.strerror or error}): make it readable, or remove it."
