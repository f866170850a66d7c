"""Sounds of your own: class folders, or a table that names files."""

from pathlib import Path
from typing import Any, Literal

from headstart.config.ranges import Bytes, Seconds
from headstart.data.array_cache import CacheBytes
from headstart.data.audio_clips import (
    DEFAULT_SECONDS,
    READER,
    Clips,
    Padding,
    Part,
    SoundFiles,
    decoders,
    kind,
    require_decoder,
    set_over,
    verify_sound,
)
from headstart.data.cells import Missing, Words
from headstart.data.class_folders import list_folder
from headstart.data.file_check import Verify
from headstart.data.files import FileSource
from headstart.data.listing import Listing, list_table
from headstart.data.names import folder_name
from headstart.data.records import is_table, read_records, table_name


class AudioFiles(FileSource):
    """Sounds in files, wherever their labels come from."""

    modality: Literal["vision", "text", "audio"] = "audio"
    content_columns = ("audio",)

    def __init__(
        self,
        seconds: float | None,
        part: Part,
        shifts: dict[str, str] | None,
        cache_bytes: CacheBytes,
    ) -> None:
        super().__init__(shifts)
        self.seconds = seconds
        self.part: Part = part
        self._cache_bytes: CacheBytes = cache_bytes

    @property
    def overrides(self) -> dict[str, Any]:
        return set_over(self.seconds, self.part)

    def check(self) -> None:
        require_decoder()
        super().check()

    def examples(  # type: ignore[override]
        self,
        sample_rate: int,
        seconds: float = DEFAULT_SECONDS,
        padding: Padding = "longest",
        part: Part = "middle",
    ) -> Clips:
        """Sounds at `sample_rate` a second, of at most `seconds`; of longer ones, `part`."""
        read, known = SoundFiles(self.files, sample_rate), f"{self.fingerprint} {decoders()}"
        num = len(self.files)
        return Clips(read, num, known, sample_rate, seconds, padding, part, self._cache_bytes, name=self.name)

    @property
    def reader(self) -> str:
        return f"{READER} {decoders()}"

    def _verify(self) -> Verify:
        return verify_sound


class AudioFolder(AudioFiles):
    """Sounds in folders named after their class, with or without train, val (valid, validation), test above them.

    WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU, W64, CAF and whatever else libsndfile reads, at any sample rate;
    several channels become their mean.

    Args:
        root: The folder.
        seconds: Length that sounds are cut or padded to; `None` for what the backbone asks for, at most ten seconds
            where it asks for nothing.
        part: What is read of a sound that is longer than that.
        shifts: Extra test sets by name, each a folder of class folders or a table with columns `audio`, `label`.
        cache_bytes: Most memory for decoded sounds where the disk has no room for them; "auto" for half of the free.
        name: What the report calls the data; `None` for the folder's own name.
    """

    def __init__(
        self,
        root: str,
        seconds: Seconds | None = None,
        part: Part = "middle",
        shifts: dict[str, str] | None = None,
        cache_bytes: Bytes | Literal["auto"] = "auto",
        name: str | None = None,
    ) -> None:
        super().__init__(seconds, part, shifts, cache_bytes)
        self._root = Path(root).expanduser()
        self.name = name or folder_name(self._root)

    def _list(self) -> Listing:
        return list_folder(self._root, kind(), self._setting)

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, "audio", "label", self._cache_bytes)


class AudioCsv(AudioFiles):
    """Sounds that a table names (.csv, .tsv, .jsonl, .parquet, also compressed), one row each.

    Args:
        path: The table.
        root: Where relative paths of sounds start; `None` for the table's own folder.
        audio_column: Column with the path of the sound.
        label_column: Column with the label; several where each holds 0 or 1, or a number (see the task).
        seconds, part, cache_bytes: As for `AudioFolder`.
        shifts: Extra test sets by name, each a table with the same columns or a folder of class folders.
        missing_values: Words that mean a missing value, as the empty cell does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a file or a label are left out.
        encoding: Encoding of a table of text; `None` for UTF-8, or what its first bytes say.
        name: What the report calls the data; `None` for the table's own name.
    """

    name = "audio_csv"
    _setting = "data.path"

    def __init__(
        self,
        path: str,
        root: str | None = None,
        audio_column: str = "audio",
        label_column: str | list[str] = "label",
        seconds: Seconds | None = None,
        part: Part = "middle",
        shifts: dict[str, str] | None = None,
        cache_bytes: Bytes | Literal["auto"] = "auto",
        missing_values: Words | None = None,
        encoding: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(seconds, part, shifts, cache_bytes)
        self._path = Path(path).expanduser()
        self.name = name or table_name(self._path)
        self._root = self._path.parent if root is None else Path(root).expanduser()
        self._missing, self._cells = Missing.of(missing_values), (missing_values, encoding)
        self._columns = (audio_column, label_column)
        self.content_columns = (audio_column,)

    def _list(self) -> Listing:
        table = read_records(self._path, self._setting, self._cells[1])
        wanted = (self.asked, self.parts_column)
        return list_table(table, self._root, self._columns, "data.audio_column", self._missing, *wanted)

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, self._columns[0], self._columns[1], self._cache_bytes, *self._cells)


def _shift(
    place: Path,
    audio_column: str,
    label_column: str | list[str],
    cache_bytes: CacheBytes,
    missing_values: Words | None = None,
    encoding: str | None = None,
) -> FileSource:
    """A table is told from a folder by its suffix, so that a missing one is named as what it was meant to be."""
    if is_table(place):
        return AudioCsv(
            str(place),
            None,
            audio_column,
            label_column,
            cache_bytes=cache_bytes,
            missing_values=missing_values,
            encoding=encoding,
        )
    return AudioFolder(str(place), cache_bytes=cache_bytes)
