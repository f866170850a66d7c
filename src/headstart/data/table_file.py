"""What the file of a table holds: unpacked where it is compressed, decoded, and divided into lines."""

import bz2
import codecs
import gzip
import io
import logging
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from headstart.errors import InputError
from headstart.names import listed

PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings of compressed files, taken off to see what is inside."""
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What stands in place of a character that no text has."""
_MARKS = (  # the longer ones first, as UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PARQUET, ARROW, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
"""How files of columns begin."""
COLUMNAR = (PARQUET, ARROW, ARROW_STREAM)
_LONGEST_MARK = 8
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls)"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"%PDF", "a PDF"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
)
_ONE_OF_SEVERAL = re.compile(r"-\d{5}-of-(\d{5})\.")
"""In the names of files that a table was divided into."""
_log = logging.getLogger(__name__)


class EncodingError(InputError):
    """A table is no text in the encoding that it is read by."""


@dataclass(frozen=True)
class TableFile:
    """The content of a table's file, and the name that tells its format, without the ending of a compression."""

    path: Path
    name: str
    content: bytes
    is_beginning: bool = False
    """Whether that is its beginning alone, as the rest is read where it lies."""
    setting: str = "data.path"
    """What names it, for messages."""

    @property
    def suffix(self) -> str:
        return PurePath(self.name).suffix.lower()

    def text(self, encoding: str | None) -> str:
        """The content as text: by `encoding`, by the mark that it begins with, or else UTF-8.

        Raises:
            InputError: if it is not text in that encoding.
        """
        codec = encoding or self._marked() or "utf-8"
        try:
            text = self.content.decode(codec).lstrip("\ufeff")
        except LookupError as error:
            raise InputError(f"data.encoding must name an encoding of text, such as cp1252: {error}.") from error
        except UnicodeError as error:
            raise self._undecodable(codec, error) from error
        if encoding is None and codec != "utf-8":
            _log.warning("%s is read as %s.", self.path, codec.upper())
        if "\0" in text:
            holds = [str(number) for number, line in enumerate(lines_of(text), start=1) if "\0" in line]
            _log.warning(
                "%s holds NUL characters in line %s; each is read as %s.", self.path, listed(holds, 10), UNREADABLE
            )
        return text.replace("\0", UNREADABLE)

    def _marked(self) -> str | None:
        """The encoding that the first bytes give away; a header's letters show UTF-16 without a mark by their zeros."""
        head = self.content[:8]
        for mark, codec in _MARKS:
            if head.startswith(mark):
                return codec
        if len(head) == 8 and 0 not in head[0::2] and not any(head[1::2]):
            return "utf-16-le"
        return "utf-16-be" if len(head) == 8 and 0 not in head[1::2] and not any(head[0::2]) else None

    def _undecodable(self, codec: str, error: UnicodeError) -> EncodingError:
        if not isinstance(error, UnicodeDecodeError):
            return EncodingError(f"{self.path} is not text in {codec} ({error}): save it as UTF-8.")
        begins = self.content.rfind(b"\n", 0, error.start) + 1
        number = self.content.count(b"\n", 0, begins) + 1
        ends = min(self.content.find(b"\n", error.start) % (len(self.content) + 1), error.start + 30)
        shown = self.content[max(begins, error.start - 30) : ends].decode("cp1252", errors="replace").strip()
        where = f"{self.path} is not text in {codec.upper()} (line {number}, byte 0x{self.content[error.start]:02x})."
        if not self.setting.startswith("data."):
            return EncodingError(f"{where} Save it as UTF-8: as cp1252 (Windows in western Europe) it reads {shown!r}.")
        return EncodingError(
            f"{where} Say what it is by data.encoding, or save it as UTF-8: by data.encoding=cp1252 (Windows in "
            f"western Europe) that line reads {shown!r}; others are cp1251, gb18030, shift_jis."
        )


def tell_of_other_parts(path: Path) -> None:
    """Say it if a file's name tells that it holds only a part of a table."""
    count = int(found[1]) if (found := _ONE_OF_SEVERAL.search(path.name)) else 1
    if count > 1:
        _log.warning(
            "%s is, by its name, one of %d files of a table; the others are not read. With data.dataset=%s all of that "
            "folder's are, by data=text_hub, image_hub or audio_hub.",
            *(path, count, path.parent),
        )


def open_table(path: Path, setting: str) -> TableFile:
    """Read the file of a table whole (of columns that are not packed, its beginning), and unpack it.

    `setting` names it, for messages.

    Raises:
        InputError: if it cannot be read or unpacked, or is of a kind that holds no table that can be read.
    """
    if path.is_dir():
        others = "Class folders are named by data.root, as in data=image_folder data.root="
        if any(any(path.glob(f"{below}*{kind}")) for below in ("", "*/") for kind in (".parquet", ".arrow")):
            others = "Files that are one table together are read by data=text_hub, image_hub or audio_hub data.dataset="
        raise InputError(
            f"{path} is a folder, but {setting} must name a table (.csv, .tsv, .jsonl, .parquet or .arrow). "
            f"{others}{path}."
        )
    if not path.is_file():
        raise InputError(
            f"{path} does not exist or is not a file: {setting} must name a table (.csv, .tsv, .jsonl, .parquet or "
            ".arrow)."
        )
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_MARK)
            if content.startswith(COLUMNAR):
                return TableFile(path, path.name, content, True, setting)
            content += file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {setting} must name a table.") from error
    name, unpack = path.name, _unpacking(content)
    if unpack is not None:
        name = name[: -len(path.suffix)] if path.suffix.lower() in PACKED_SUFFIXES else name
        try:
            content, name = unpack(content, name)
        except InputError as error:
            raise InputError(*(f"{path} {message}" for message in error.messages)) from error
        except (OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be unpacked: {error}. Pack it anew, or give the table itself.") from error
    kind = next((what for mark, what in _FOREIGN if content.startswith(mark)), None)
    if kind is None and content[257:262] == b"ustar":
        kind = "a tar archive"
    if kind is not None:
        raise InputError(f"{path} is {kind}, which is not read as a table: save what it holds as .csv or .parquet.")
    return TableFile(path, name, content, setting=setting)


def lines_of(text: str) -> Sequence[str]:
    """The lines of a text with their ends: up to each line feed, or carriage return where those are what ends lines.

    Nothing else ends a line: U+2028, U+0085, form feeds and the like are characters of a cell.
    """
    lone_returns = text.count("\r") - text.count("\r\n")
    return list(io.StringIO(text, newline="" if lone_returns > text.count("\n") else "\n"))


def _unpacking(content: bytes) -> Callable[[bytes, str], tuple[bytes, str]] | None:
    """What unpacks a content that begins like this, given the file's name without its last ending."""
    if content.startswith(b"\x1f\x8b"):
        return lambda packed, name: (gzip.decompress(packed), name)
    if content.startswith(b"BZh") and content[4:10] == b"1AY&SY":
        return lambda packed, name: (bz2.decompress(packed), name)
    if content.startswith(b"\xfd7zXZ\0"):
        return lambda packed, name: (lzma.decompress(packed), name)
    if content.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd
    return _unzip if content.startswith(b"PK\x03\x04") else None


def _unzstd(packed: bytes, name: str) -> tuple[bytes, str]:
    try:
        import pyarrow
    except ImportError as error:
        raise InputError("needs pyarrow to be unpacked: pip install 'headstart[hub]' (or pyarrow).") from error
    with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd") as stream:
        return stream.read(), name


def _unzip(packed: bytes, name: str) -> tuple[bytes, str]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        if "[Content_Types].xml" in members or "mimetype" in members:
            raise InputError("is a workbook or document of an office program: save the sheet as .csv.")
        members = [member for member in members if not PurePath(member).name.startswith(".")]
        members = [member for member in members if not member.startswith("__MACOSX/")]
        if len(members) != 1:
            raise InputError(f"must hold one table, but holds {len(members)} files: {listed(sorted(members), 5)}.")
        return archive.read(members[0]), PurePath(members[0]).name
