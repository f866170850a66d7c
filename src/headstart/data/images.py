"""Pictures of your own: class folders, or a table that names files."""

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from headstart.config.ranges import Bytes, Channels, Depth, Extent, Side
from headstart.config.sides import Sides, sides_of
from headstart.data import picture_facts
from headstart.data.array_cache import CacheBytes
from headstart.data.cells import Missing, Words
from headstart.data.class_folders import list_folder
from headstart.data.deep_pictures import DEEP
from headstart.data.file_check import Finding, Verify
from headstart.data.files import FileSource
from headstart.data.listing import Listing, list_table
from headstart.data.names import folder_name
from headstart.data.picture_files import decoders, inspect_picture, kind, opened
from headstart.data.picture_values import Scales
from headstart.data.pictures import READER, Pictures
from headstart.data.records import is_table, read_records, table_name
from headstart.data.sizing import CropMode, Fit, Sizing
from headstart.errors import InputError


class ImageFiles(FileSource):
    """Pictures in files, wherever their labels come from."""

    modality: Literal["vision", "text", "audio"] = "vision"
    content_columns = ("image",)

    def __init__(
        self,
        size: int | list[int] | None,
        shifts: dict[str, str] | None,
        cache_bytes: CacheBytes,
        value_range: list[float] | None,
        cache_side: int | None = None,
        fit: Fit | None = None,
        channels: int = 3,
        depth: Depth | None = None,
    ) -> None:
        super().__init__(shifts)
        self.channels, self.depth = channels, depth
        self.size, self.fit = None if size is None else sides_of(size), fit
        self.cache_side = cache_side
        self._cache_bytes: CacheBytes = cache_bytes
        self._value_range = value_range
        if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
            raise InputError(f"data.value_range must be [LOW, HIGH] with LOW below HIGH, but is {value_range}.")

    @property
    def overrides(self) -> dict[str, Any]:
        return {} if self.size is None else {"size": self.size}

    @cached_property
    def bits(self) -> int:
        """Of each value that is kept: as `depth` says, or by what the pictures hold; of a shift, as of its origin."""
        if isinstance(self.origin, ImageFiles):
            return self.origin.bits
        return self.depth or (DEEP if picture_facts.are_deep(self.findings) else 8)

    @property
    def own_reading(self) -> dict[str, Any]:
        return {"depth": DEEP} if self.bits == DEEP else {}

    @cached_property
    def scales(self) -> Scales:
        """Black and white of values of more than 8 bits, for all pictures alike; a shift has those of its origin."""
        origin = self.origin
        if not isinstance(origin, ImageFiles):
            return picture_facts.scales_of(self.findings, self._value_range, {}, self.bits)
        return picture_facts.scales_of(self.findings, origin._value_range, origin.scales, self.bits)

    @cached_property
    def fingerprint(self) -> str:
        """With the scales, where there are any: the same files scaled otherwise are other data."""
        plain, scales = super().fingerprint, self.scales
        return hashlib.sha256(f"{plain} {sorted(scales.items())}".encode()).hexdigest() if scales else plain

    @property
    def facts(self) -> dict[str, Any]:
        return {**super().facts, **picture_facts.record_of(self.findings, self.scales, self.bits)}

    def examples(  # type: ignore[override]
        self,
        size: Sides,
        interpolation: str = "bicubic",
        crop_pct: float = 1.0,
        crop_mode: CropMode = "center",
        fill: Sequence[int] = (0, 0, 0),
        channels: int = 3,
        depth: int = 8,
    ) -> Pictures:
        """Pictures of `size` pixels, brought to it as `Sizing` says."""
        sizing = Sizing(size, interpolation, crop_pct, crop_mode, tuple(fill))
        kept = self._cache_bytes, self.cache_side
        return Pictures(self.files, self.fingerprint, sizing, self.scales, *kept, channels, depth)

    def extents(self, places: Sequence[int]) -> list[tuple[int, int]]:
        found = []
        for place in places:
            with opened(self.files(place)) as image:
                found.append(image.size)
        return found

    @property
    def reader(self) -> str:
        return f"{READER} {decoders()}" + (f" {self._asked}" if self._asked != 3 else "")

    @property
    def _asked(self) -> int:
        """How many channels are asked for; of a shift, as many as of its origin."""
        return self.origin.channels if isinstance(self.origin, ImageFiles) else self.channels

    def _verify(self) -> Verify:
        return partial(inspect_picture, channels=self._asked)

    def _judge(self, findings: Sequence[Finding]) -> list[str]:
        is_8 = self.depth == 8 if not isinstance(self.origin, ImageFiles) else self.origin.bits == 8
        return picture_facts.problems_of(findings, self.ids) if is_8 else []

    def _remarks(self) -> list[str]:
        where = str(self.listing.root)
        found = picture_facts.remarks_of(self.findings, self.ids, where, self.scales, self.bits)
        remarks = [*super()._remarks(), *found]
        if self.depth == DEEP and not picture_facts.are_deep(self.findings):
            remarks.append(
                f"No picture in {where} holds more than 8 bits a value: data.depth=16 keeps only what resizing leaves "
                "between their levels, in twice the room."
            )
        if self._value_range and not self.scales:
            remarks.append(f"data.value_range does nothing: no picture in {where} holds more than 8 bits a value.")
        return remarks


class ImageFolder(ImageFiles):
    """Pictures in folders named after their class, with or without train, val (valid, validation), test above them.

    Args:
        root: The folder.
        size: Side of square pictures, or height and width, in pixels; `None` for what the backbone's weights were
            trained at.
        fit: How a picture of another shape is brought to it: `crop` (its ends are cut off), `squash` (it is stretched)
            or `letterbox` (what it does not fill is grey); `None` for what the weights were trained with.
        channels: 3 for red, green and blue; 1 for brightness alone; others for as many as each file must hold (pages of
            a TIFF, bands).
        depth: Bits of each value that are kept, 8 or 16; `None` for 16 where pictures hold more than 8.
        shifts: Extra test sets by name, each a folder of class folders or a table with columns `image`, `label`.
        cache_bytes: Most memory for decoded pictures where the disk has no room for them; "auto" for half of the free.
        value_range: Of pictures with more than 8 bits a value (16-bit and float TIFF, 16-bit PNG), the values that are
            read as black and as white; `None` to go by what all pictures hold (see `headstart.data.picture_values`).
        cache_side: Longest side of whole pictures that augmentations cut their crops from; `None` for crops of what
            evaluation reads, but twice the size where the augmentation needs whole pictures.
        name: What the report calls the data; `None` for the folder's own name.
    """

    def __init__(
        self,
        root: str,
        size: Extent | None = None,
        fit: Fit | None = None,
        channels: Channels = 3,
        depth: Depth | None = None,
        shifts: dict[str, str] | None = None,
        cache_bytes: Bytes | Literal["auto"] = "auto",
        value_range: list[float] | None = None,
        cache_side: Side | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(size, shifts, cache_bytes, value_range, cache_side, fit, channels, depth)
        self._root = Path(root).expanduser()
        self.name = name or folder_name(self._root)

    def _list(self) -> Listing:
        return list_folder(self._root, kind(), self._setting)

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, "image", "label", self._cache_bytes)


class ImageCsv(ImageFiles):
    """Pictures that a table names (.csv, .tsv, .jsonl, .parquet, also compressed), one row each.

    Args:
        path: The table.
        root: Where relative paths of pictures start; `None` for the table's own folder.
        image_column: Column with the path of the picture.
        label_column: Column with the label; several where each holds 0 or 1, or a number (see the task).
        size, fit, channels, depth, cache_bytes, value_range, cache_side: As for `ImageFolder`.
        shifts: Extra test sets by name, each a table with the same columns or a folder of class folders.
        missing_values: Words that mean a missing value, as the empty cell does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a file or a label are left out.
        encoding: Encoding of a table of text; `None` for UTF-8, or what its first bytes say.
        name: What the report calls the data; `None` for the table's own name.
    """

    name = "image_csv"
    _setting = "data.path"

    def __init__(
        self,
        path: str,
        root: str | None = None,
        image_column: str = "image",
        label_column: str | list[str] = "label",
        size: Extent | None = None,
        fit: Fit | None = None,
        channels: Channels = 3,
        depth: Depth | None = None,
        shifts: dict[str, str] | None = None,
        cache_bytes: Bytes | Literal["auto"] = "auto",
        missing_values: Words | None = None,
        encoding: str | None = None,
        value_range: list[float] | None = None,
        cache_side: Side | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(size, shifts, cache_bytes, value_range, cache_side, fit, channels, depth)
        self._path = Path(path).expanduser()
        self.name = name or table_name(self._path)
        self._root = self._path.parent if root is None else Path(root).expanduser()
        self._missing, self._cells = Missing.of(missing_values), (missing_values, encoding)
        self._columns = (image_column, label_column)
        self.content_columns = (image_column,)

    def _list(self) -> Listing:
        table = read_records(self._path, self._setting, self._cells[1])
        wanted = (self.asked, self.parts_column)
        return list_table(table, self._root, self._columns, "data.image_column", self._missing, *wanted)

    def _shift(self, name: str, place: Path) -> FileSource:
        return _shift(place, self._columns[0], self._columns[1], self._cache_bytes, *self._cells)


def _shift(
    place: Path,
    image_column: str,
    label_column: str | list[str],
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
