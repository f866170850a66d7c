"""Labelled sounds of the `datasets` library: by name on the Hugging Face hub, or a local folder in its layout."""

from pathlib import Path
from typing import Literal

from headstart.config.ranges import Bytes, Seconds
from headstart.data.audio import AudioFiles
from headstart.data.audio_clips import Part
from headstart.data.cells import Missing, Words
from headstart.data.files import FileSource
from headstart.data.hub import HubDataset
from headstart.data.hub_files import HubFiles, HubSource


class AudioHub(HubSource, AudioFiles):
    """Sounds of a dataset of the `datasets` library, with its own splits as far as they have labels.

    They are read as files of sounds are, not by the library's own decoder.

    Args:
        dataset: Its name on the hub (`owner/name`), a folder that `datasets` reads, or one file of Parquet or Arrow.
        subset: Configuration of the dataset (`ks` of `superb`); `None` for its only one.
        revision: Branch, tag or commit; `None` for the newest, or the one in the local cache when offline.
        audio_column: Column with the sound.
        label_column: Column with the label; several where each holds 0 or 1, or a number (see the task).
        splits: The split that is `train`, `val` and `test` (`{train: fit, test: validation}`); `None` to go by names.
        seconds, part, cache_bytes: As for `headstart.data.audio.AudioFolder`.
        shifts: Extra test sets by name, each the name of another split of the dataset.
        missing_values: Words that mean a missing value, as the empty cell does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a sound or a label are left out.
        name: What the report calls the data; `None` for the dataset's own name.
    """

    def __init__(
        self,
        dataset: str,
        subset: str | None = None,
        revision: str | None = None,
        audio_column: str = "audio",
        label_column: str | list[str] = "label",
        splits: dict[str, str] | None = None,
        seconds: Seconds | None = None,
        part: Part = "middle",
        shifts: dict[str, str] | None = None,
        cache_bytes: Bytes | Literal["auto"] = "auto",
        missing_values: Words | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(seconds, part, shifts, cache_bytes)
        hub = HubDataset(dataset, subset, revision, splits, shifts)
        self.name = name or hub.name
        self.content_columns = (audio_column,)
        self._files = HubFiles(hub, "data.audio_column", audio_column, label_column, Missing.of(missing_values))

    def _shift(self, name: str, place: Path) -> FileSource:
        made = AudioHub(self.name, cache_bytes=self._cache_bytes)
        made._files = self._files.of_shift(name)
        return made
