"""Sounds of your own: class folders, or a table that names files."""

import hashlib
from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.config.ranges import Count, Index, Seconds
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
from headstart.data.cells import Missing, Words, texts, whole_numbers
from headstart.data.class_folders import list_folder
from headstart.data.file_check import Verify
from headstart.data.files import FileSource
from headstart.data.images import Share
from headstart.data.listing import Listing, list_table
from headstart.data.names import folder_name
from headstart.data.records import is_table, read_records, table_name
from headstart.data.table import Table, listed
from headstart.errors import unknown


class AudioFiles(FileSource):
    """Sounds in files, wherever their labels come from."""

    modality: Literal["vision", "text", "audio"] = "audio"

    def __init__(
        self,
        seconds: float | None,
        part: Part,
        val_fraction: float,
        test_fraction: float,
        n_per_class: int | None,
        split_seed: int | None,
        shifts: dict[str, str] | None,
        cache_bytes: CacheBytes,
    ) -> None:
        super().__init__(val_fraction, test_fraction, n_per_class, split_seed, shifts)
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
        val_fraction: Share of the training sounds drawn for val, where there is no folder for it.
        test_fraction: Share drawn for test, where there is no folder for it.
        n_per_class: Training sounds of each class; `None` for all. Smaller subsets are part of larger ones.
        split_seed: Seed of what is drawn for val and test; `None` for the run's.
        shifts: Extra test sets by name, each a folder of class folders or a table with columns `audio`, `label`.
        cache_bytes: Most memory for decoded sounds where the disk has no room for them; "auto" for half of the free.
        name: What the report calls the data; `None` for the folder's own name.
    """

    def __init__(
        self,
        root: str,
        seconds: Seconds | None = None,
        part: Part = "middle",
        val_fraction: Share = 0.15,
        test_fraction: Share = 0.15,
        n_per_class: Count | None = None,
        split_seed: Index | None = None,
        shifts: dict[str, str] | None = None,
        cache_bytes: Count | Literal["auto"] = "auto",
        name: str | None = None,
    ) -> None:
        super().__init__(seconds, part, val_fraction, test_fraction, n_per_class, split_seed, shifts, cache_bytes)
        self._root = Path(root).expanduser()
        self.name = name or folder_name(self._root)

    def _list(self) -> Listing:
        return list_folder(self._root, kind(), self._setting)

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, "audio", "label", self._cache_bytes)


class AudioCsv(AudioFiles):
    """Sounds that a table names (.csv, .tsv, .jsonl, .parquet, also compressed), one row each.

    A table with folds (ESC-50 and its kin) is cross-validated by one run for each `test_fold`; the features of frozen
    backbones are computed once for all of them.

    Args:
        path: The table.
        root: Where relative paths of sounds start; `None` for the table's own folder.
        audio_column: Column with the path of the sound.
        label_column: Column with the class.
        split_column: Column with train, val (valid, validation) or test, or nothing for sounds that may be drawn;
            `None` to draw all.
        fold_column: Column with the fold of a cross-validation, in place of `split_column`; `None` for none.
        test_fold: The fold to test on.
        val_fold: The fold to select on; `None` to draw val from those that are left.
        seconds, part, val_fraction, test_fraction, n_per_class, split_seed, cache_bytes: As for `AudioFolder`.
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
        label_column: str = "label",
        split_column: str | None = None,
        fold_column: str | None = None,
        test_fold: int | str | None = None,
        val_fold: int | str | None = None,
        seconds: Seconds | None = None,
        part: Part = "middle",
        val_fraction: Share = 0.15,
        test_fraction: Share = 0.15,
        n_per_class: Count | None = None,
        split_seed: Index | None = None,
        shifts: dict[str, str] | None = None,
        cache_bytes: Count | Literal["auto"] = "auto",
        missing_values: Words | None = None,
        encoding: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(seconds, part, val_fraction, test_fraction, n_per_class, split_seed, shifts, cache_bytes)
        self._path = Path(path).expanduser()
        self.name = name or table_name(self._path)
        self._root = self._path.parent if root is None else Path(root).expanduser()
        self._missing, self._cells = Missing.of(missing_values), (missing_values, encoding)
        self._columns = (audio_column, label_column, split_column)
        self._fold_column = fold_column
        self._held_out = {
            name: None if fold is None else str(fold) for name, fold in (("test", test_fold), ("val", val_fold))
        }

    @property
    def parts(self) -> np.ndarray | None:
        if self._fold_column is None:
            return super().parts
        held_out = {fold: name for name, fold in self._held_out.items()}
        return np.array([held_out.get(fold, "") for fold in self._folds], dtype="<U5")

    @cached_property
    def fingerprint(self) -> str:
        """With the folds, whichever of them is tested on: the same data for all runs of a cross-validation."""
        plain = super().fingerprint
        return plain if self._fold_column is None else hashlib.sha256(f"{plain} {self._folds}".encode()).hexdigest()

    def _list(self) -> Listing:
        listing = list_table(self._table, self._root, self._columns, "data.audio_column", self._missing)
        return replace(listing, problems=(*listing.problems, *self._fold_problems(listing)))

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, self._columns[0], self._columns[1], self._cache_bytes, *self._cells)

    @cached_property
    def _table(self) -> Table:
        return read_records(self._path, self._setting, self._cells[1])

    @cached_property
    def _folds(self) -> list[str]:
        """The fold of each example, in the order of the listing."""
        said = self._folds_said()
        return [min(said[path]) for path in self.listing.paths]

    def _folds_said(self) -> dict[Path, set[str]]:
        table, said = self._table, defaultdict(set)
        table.require(**{"data.fold_column": self._fold_column})
        assert self._fold_column is not None
        folds = ["" if self._missing(fold) else fold for fold in texts(table, self._fold_column)]
        for file, fold in zip(texts(table, self._columns[0]), whole_numbers(folds), strict=True):
            said[self._root / file].add(fold)
        return said

    def _fold_problems(self, listing: Listing) -> list[str]:
        """What is wrong with the folds and with the choice of them."""
        test, val = self._held_out["test"], self._held_out["val"]
        if self._fold_column is None:
            named = [f"data.{name}_fold={fold}" for name, fold in self._held_out.items() if fold is not None]
            return [f"{' and '.join(named)} needs data.fold_column, the column that holds the folds."] * bool(named)
        said = self._folds_said()
        folds = sorted({fold for values in said.values() for fold in values if fold})
        problems = [
            f"{self._path} has no value in column {self._fold_column!r} for some sounds: fill or remove these rows."
        ] * any("" in values for values in said.values())
        several = [key for key, path in zip(listing.ids, listing.paths, strict=True) if len(said[path]) > 1]
        if several:
            problems.append(f"{self._path} puts the same file in different folds: {listed(several)}. Keep one row.")
        if self._columns[2] is not None:
            problems.append("data.fold_column and data.split_column exclude each other: give one of them.")
        if test is None:
            problems.append(f"data.test_fold must say which fold to test on: {listed(folds)}.")
        elif test == val:
            problems.append(f"data.test_fold and data.val_fold must be different folds, but both are {test}.")
        for name, fold in self._held_out.items():
            if fold is not None and fold not in folds:
                problems += unknown(f"data.{name}_fold", fold, folds).messages
        return problems


def _shift(
    place: Path,
    audio_column: str,
    label_column: str,
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
