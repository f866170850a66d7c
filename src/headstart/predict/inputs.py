"""What a person names to predict on: files, folders, patterns, tables, and texts on standard input."""

import codecs
import glob
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from headstart.data import audio_clips, picture_files
from headstart.data.cells import Missing, texts
from headstart.data.folders import by_suffix, counted, files_in, suffix_of
from headstart.data.records import is_table, read_records
from headstart.data.shard_files import SUFFIX, PackedFile
from headstart.data.source import Source
from headstart.data.table import Table
from headstart.data.table_file import EncodingError
from headstart.data.tar import read_archive
from headstart.data.unlabelled import TEXT_SUFFIXES, Content, Reader
from headstart.errors import InputError
from headstart.system.bounded import DamagedError

log = logging.getLogger(__name__)

STDIN = "-"
_PATTERN = "*?["


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to predict on, by the name that it has in the output."""

    name: str
    content: Content | None
    problem: str = ""
    """Why there is nothing to read, where that is known beforehand."""


@dataclass
class Inputs:
    """Everything that was named, in that order."""

    names: list[str] = field(default_factory=list)
    contents: list[tuple[str, ...] | None] = field(default_factory=list)
    """A text or pair of each; `None` where the name is that of a file."""
    problems: dict[int, str] = field(default_factory=dict)
    stream: IO[bytes] | None = None
    """Texts that come last, a line each."""
    num_texts: int = 1
    """In a line of them, with a tab between two."""
    files: dict[int, str | PackedFile] = field(default_factory=dict)
    """Where a file lies that is called otherwise in the output."""

    @property
    def total(self) -> int | None:
        """How many there are; `None` if that shows only as they come."""
        return len(self.names) if self.stream is None else None

    def add(
        self,
        name: str,
        content: tuple[str, ...] | None = None,
        problem: str = "",
        file: Path | PackedFile | None = None,
    ) -> None:
        if problem:
            self.problems[len(self.names)] = problem
        if isinstance(file, PackedFile):
            self.files[len(self.names)] = file
        elif file is not None and str(file) != name:
            self.files[len(self.names)] = str(file)
        self.names.append(name)
        self.contents.append(content)

    def __iter__(self) -> Iterator[Example]:
        for place, (name, content) in enumerate(zip(self.names, self.contents, strict=True)):
            problem = self.problems.get(place, "")
            file = self.files.get(place, name)
            own = content if content is not None else file if isinstance(file, PackedFile) else Path(file)
            yield Example(name, None if problem else own, problem)
        for number, line in enumerate(self.stream or (), start=1):
            yield self._typed(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, number)

    def _typed(self, line: bytes, number: int) -> Example:
        """A line of texts on standard input."""
        try:
            text, problem = line.decode("utf-8").strip(), ""
        except UnicodeDecodeError as error:
            text, problem = line.decode("utf-8", errors="replace").strip(), f"no text in UTF-8 (byte {error.start + 1})"
        parts = tuple(part.strip() for part in text.split("\t", 1)) if self.num_texts == 2 else (text,)
        if len(parts) < self.num_texts:
            problem = problem or "a tab between its two texts is missing"
        return Example(text or f"line {number}", parts, problem)


def gather(
    words: Sequence[str],
    reader: Reader,
    source: Source,
    missing: Missing,
    root: Path | None = None,
    encoding: str | None = None,
) -> Inputs:
    """What `words` name. `source` says what the run was trained on; relative paths of a table start at `root`. A table
    that is no text in UTF-8 is read by `encoding`.

    Raises:
        InputError: naming every word that stands for nothing, for examples of another modality, or for a table without
            the run's columns.
    """
    found = Inputs(num_texts=len(source.content_columns))
    problems: list[str] = []
    for word in words:
        try:
            if word == STDIN:
                _add_stream(found, source)
            else:
                for path in _paths(word):
                    _add(found, path, reader, source, missing, root, encoding)
        except InputError as error:
            problems += error.messages
    if problems:
        raise InputError(*problems)
    return found


def _add_stream(found: Inputs, source: Source) -> None:
    if source.modality != "text":
        raise InputError(
            f"- stands for texts on standard input, but the run reads {_WHAT[source.modality]}. Name files."
        )
    found.stream = sys.stdin.buffer


def _paths(word: str) -> list[Path]:
    """The file or folder of that name, or what a pattern finds."""
    path = Path(word).expanduser()
    if path.exists() or not any(mark in word for mark in _PATTERN):
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        raise InputError(f"The pattern {word} finds no file. ** stands for folders at any depth.")
    return [match for match in matches if not match.is_dir()] or matches


def _add(
    found: Inputs,
    path: Path,
    reader: Reader,
    source: Source,
    missing: Missing,
    root: Path | None,
    encoding: str | None,
) -> None:
    if path.is_dir():
        _add_folder(found, path, reader, source)
    elif not path.exists():
        raise InputError(f"{path} does not exist: name files, folders, patterns, a table, or - for texts.")
    elif path.suffix.lower() in reader.kind.suffixes:
        found.add(str(path))
    elif path.suffix.lower() == SUFFIX and source.modality == "vision":
        _add_shard(found, path, reader)
    elif is_table(path):
        _add_table(found, _table(path, encoding), path, source, missing, root)
    elif (other := _modality(path)) not in (None, source.modality):
        raise InputError(f"{path} is a file of {_WHAT[other or '']}, but the run reads {_WHAT[source.modality]}.")
    else:
        found.add(str(path))  # its name does not tell: reading will


def _add_folder(found: Inputs, folder: Path, reader: Reader, source: Source) -> None:
    files = files_in(folder, reader.kind.suffixes)
    if files.problems:
        raise InputError(*files.problems)
    if not files.read:
        others = counted(by_suffix([*files.unread, *files.other]))
        there = f" but {others}" if others else ""
        tables = [path for path in files.other if is_table(Path(path))]
        hint = f" To read a table, name it: {tables[0]}." if tables else ""
        if any(path.endswith(SUFFIX) for path in files.unread):
            hint = f" To read shards, name them: {folder}/*{SUFFIX}."
        raise InputError(f"{folder} holds no {_WHAT[source.modality]}{there}: name a folder that does.{hint}")
    if files.other:
        total = sum(map(len, (files.read, files.unread, files.other)))
        log.warning(
            "%d of %d files in %s are passed over, as they are hidden, notes or tables: %s.",
            *(len(files.other), total, folder, counted(by_suffix(files.other))),
        )
    unread = set(files.unread)
    for path in sorted([*files.read, *files.unread]):
        suffix = Path(path).suffix.lower()
        found.add(path, problem=f"no file of {reader.kind.what} that can be read ({suffix})" if path in unread else "")


def _add_shard(found: Inputs, path: Path, reader: Reader) -> None:
    """The pictures in a tar archive, called by its path and theirs."""
    try:
        members = read_archive(str(path)).members
    except (OSError, DamagedError) as error:
        raise InputError(f"{path} cannot be read as a shard: {error}.") from error
    pictures = [one for one in members if suffix_of(one.name.rpartition("/")[2]) in reader.kind.suffixes]
    if not pictures:
        there = counted(by_suffix([one.name for one in members])) or "no files"
        raise InputError(f"{path} holds no {reader.kind.what} but {there}: name shards that do.")
    for one in pictures:
        found.add(f"{path}/{one.name}", file=PackedFile(str(path), one.offset, one.size))


def _table(path: Path, encoding: str | None) -> Table:
    """A table; in the encoding of the run's own if it is no text in UTF-8."""
    try:
        return read_records(path, "INPUT")
    except EncodingError:
        if encoding is None:
            raise
    table = read_records(path, "INPUT", encoding)
    log.warning("%s is no text in UTF-8, and is read as %s, as the run's own table was.", path, encoding)
    return table


def _add_table(found: Inputs, table: Table, path: Path, source: Source, missing: Missing, root: Path | None) -> None:
    columns = source.content_columns
    table.require(**{"the run": columns})
    cells = [texts(table, column) for column in columns]
    for row, values in enumerate(zip(*cells, strict=True)):
        name, empty = f"{path}:{table.ids[row]}", [c for c, v in zip(columns, values, strict=True) if missing(v)]
        problem = f"there is nothing in column {empty[0]!r}" if empty else ""
        if source.modality == "text":
            found.add(name, values, problem)
        else:
            file = (root or path.parent) / values[0]
            found.add(name if empty else values[0], None, problem, file)


_WHAT: Mapping[str, str] = {"vision": "pictures", "text": "texts", "audio": "sounds"}


def _modality(path: Path) -> str | None:
    """What a file holds, by its name; `None` if that does not tell."""
    suffix = path.suffix.lower()
    kinds = {"vision": picture_files.kind().suffixes, "audio": audio_clips.kind().suffixes, "text": TEXT_SUFFIXES}
    return next((modality for modality, suffixes in kinds.items() if suffix in suffixes), None)
