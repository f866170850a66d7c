"""Pictures of your own: class folders, or a table that names files."""

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Lt

from headstart.data.array_cache import CacheBytes
from headstart.data.cells import Missing, Words
from headstart.data.file_check import Verify
from headstart.data.files import FileSource
from headstart.data.listing import Listing, list_folder, list_table
from headstart.data.pictures import READER, SUFFIXES, Pictures, verify_picture
from headstart.data.records import is_table, read_records
from headstart.ranges import Count, Index, Side

Share = Annotated[float, Gt(0), Lt(1)]
"""A share that is neither nothing nor all."""


class ImageFiles(FileSource):
    """Pictures in files, wherever their labels come from."""

    modality: Literal["vision", "text", "audio"] = "vision"
    reader = READER

    def __init__(
        self,
        size: int | None,
        val_fraction: float,
        test_fraction: float,
        n_per_class: int | None,
        split_seed: int | None,
        shifts: dict[str, str] | None,
        cache_bytes: CacheBytes,
    ) -> None:
        super().__init__(val_fraction, test_fraction, n_per_class, split_seed, shifts)
        self.size = size
        self._cache_bytes: CacheBytes = cache_bytes

    @property
    def overrides(self) -> dict[str, int]:
        return {} if self.size is None else {"size": self.size}

    def examples(  # type: ignore[override]
        self, size: int, interpolation: str = "bicubic", crop_pct: float = 1.0
    ) -> Pictures:
        """Pictures of `size` pixels: the shorter side is resized to `size / crop_pct`, then the centre is cut out."""
        return Pictures(self.listing.paths, self.fingerprint, size, interpolation, crop_pct, self._cache_bytes)

    def _verify(self) -> Verify:
        return verify_picture


class ImageFolder(ImageFiles):
    """Pictures in folders named after their class, with or without train, val (valid, validation), test above them.

    Args:
        root: The folder.
        size: Side of the square pictures, in pixels; `None` for what the backbone's weights were trained at.
        val_fraction: Share of the training pictures drawn for val, where there is no folder for it.
        test_fraction: Share drawn for test, where there is no folder for it.
        n_per_class: Training pictures of each class; `None` for all. Smaller subsets are part of larger ones.
        split_seed: Seed of what is drawn for val and test; `None` for the run's.
        shifts: Extra test sets by name, each a folder of class folders or a table with columns `image`, `label`.
        cache_bytes: Most memory for decoded pictures where the disk has no room for them; "auto" for half of the free.
    """

    def __init__(
        self,
        root: str,
        size: Side | None = None,
        val_fraction: Share = 0.15,
        test_fraction: Share = 0.15,
        n_per_class: Count | None = None,
        split_seed: Index | None = None,
        shifts: dict[str, str] | None = None,
        cache_bytes: Count | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(size, val_fraction, test_fraction, n_per_class, split_seed, shifts, cache_bytes)
        self._root = Path(root).expanduser()
        self.name = self._root.resolve().name

    def _list(self) -> Listing:
        return list_folder(self._root, SUFFIXES, "pictures", self._setting)

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, "image", "label", self._cache_bytes)


class ImageCsv(ImageFiles):
    """Pictures that a table names (.csv, .tsv, .jsonl, .parquet, also compressed), one row each.

    Args:
        path: The table.
        root: Where relative paths of pictures start; `None` for the table's own folder.
        image_column: Column with the path of the picture.
        label_column: Column with the class.
        split_column: Column with train, val (valid, validation) or test, or nothing for pictures that may be drawn;
            `None` to draw all.
        size, val_fraction, test_fraction, n_per_class, split_seed, cache_bytes: As for `ImageFolder`.
        shifts: Extra test sets by name, each a table with the same columns or a folder of class folders.
        missing_values: Words that mean a missing value, as the empty cell does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a file or a label are left out.
        encoding: Encoding of a table of text; `None` for UTF-8, or what its first bytes say.
    """

    name = "image_csv"
    _setting = "data.path"

    def __init__(
        self,
        path: str,
        root: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
        split_column: str | None = None,
        size: Side | None = None,
        val_fraction: Share = 0.15,
        test_fraction: Share = 0.15,
        n_per_class: Count | None = None,
        split_seed: Index | None = None,
        shifts: dict[str, str] | None = None,
        cache_bytes: Count | Literal["auto"] = "auto",
        missing_values: Words | None = None,
        encoding: str | None = None,
    ) -> None:
        super().__init__(size, val_fraction, test_fraction, n_per_class, split_seed, shifts, cache_bytes)
        self._path = Path(path).expanduser()
        self.name = self._path.stem
        self._root = self._path.parent if root is None else Path(root).expanduser()
        self._missing, self._cells = Missing.of(missing_values), (missing_values, encoding)
        self._columns = (image_column, label_column, split_column)

    def _list(self) -> Listing:
        table = read_records(self._path, self._setting, self._cells[1])
        return list_table(table, self._root, self._columns, "data.image_column", self._missing)

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, self._columns[0], self._columns[1], self._cache_bytes, *self._cells)


def _shift(
    place: Path,
    image_column: str,
    label_column: str,
    cache_bytes: CacheBytes,
    missing_values: Words | None = None,
    encoding: str | None = None,
) -> FileSource:
    """A table is told from a folder by its suffix, so that a missing one is named as what it was meant to be."""
    if is_table(place):
        return ImageCsv(
            str(place),
            None,
            image_column,
            label_column,
            cache_bytes=cache_bytes,
            missing_values=missing_values,
            encoding=encoding,
        )
    return ImageFolder(str(place), cache_bytes=cache_bytes)
