"""Labelled pictures of the `datasets` library: by name on the Hugging Face hub, or a local folder in its layout."""

from pathlib import Path
from typing import Literal

from headstart.config.ranges import Bytes, Channels, Depth, Extent, Side
from headstart.data.cells import Missing, Words
from headstart.data.files import FileSource
from headstart.data.hub import HubDataset
from headstart.data.hub_files import HubFiles, HubSource
from headstart.data.images import ImageFiles
from headstart.data.sizing import Fit


class ImageHub(HubSource, ImageFiles):
    """Pictures of a dataset of the `datasets` library, with its own splits as far as they have labels.

    They are read as files of pictures are, not by the library's own decoder.

    Args:
        dataset: Its name on the hub (`owner/name`), a folder that `datasets` reads, or one file of Parquet or Arrow.
        subset: Configuration of the dataset; `None` for its only one.
        revision: Branch, tag or commit; `None` for the newest, or the one in the local cache when offline.
        image_column: Column with the picture.
        label_column: Column with the label; several where each holds 0 or 1, or a number (see the task).
        splits: The split that is `train`, `val` and `test` (`{train: fit, test: validation}`); `None` to go by names.
        size, fit, channels, depth, cache_bytes, value_range, cache_side: As for
            `headstart.data.images.ImageFolder`.
        shifts: Extra test sets by name, each the name of another split of the dataset.
        missing_values: Words that mean a missing value, as the empty cell does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a picture or a label are left out.
        name: What the report calls the data; `None` for the dataset's own name.
    """

    def __init__(
        self,
        dataset: str,
        subset: str | None = None,
        revision: str | None = None,
        image_column: str = "image",
        label_column: str | list[str] = "label",
        splits: dict[str, str] | None = None,
        size: Extent | None = None,
        fit: Fit | None = None,
        channels: Channels = 3,
        depth: Depth | None = None,
        shifts: dict[str, str] | None = None,
        cache_bytes: Bytes | Literal["auto"] = "auto",
        missing_values: Words | None = None,
        value_range: list[float] | None = None,
        cache_side: Side | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(size, shifts, cache_bytes, value_range, cache_side, fit, channels, depth)
        hub = HubDataset(dataset, subset, revision, splits, shifts)
        self.name = name or hub.name
        self.content_columns = (image_column,)
        self._files = HubFiles(hub, "data.image_column", image_column, label_column, Missing.of(missing_values))

    def _shift(self, name: str, place: Path) -> FileSource:
        made = ImageHub(self.name, cache_bytes=self._cache_bytes)
        made._files = self._files.of_shift(name)
        return made
