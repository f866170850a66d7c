"""Labelled texts of the `datasets` library: by name on the Hugging Face hub, or a local folder in its layout."""

from collections.abc import Mapping

from headstart.config.ranges import Tokens
from headstart.data.cells import Missing, Words
from headstart.data.hub import HubDataset
from headstart.data.labelled import labelled, part_names
from headstart.data.text_sources import LabelledTexts, TextSource, text_columns


class TextHub(TextSource):
    """Texts of a dataset of the `datasets` library, with its own splits as far as they have labels.

    Args:
        dataset: Its name on the hub (`owner/name`), a folder that `datasets` reads, or one file of Parquet or Arrow.
        subset: Configuration of the dataset (`sst2` of `nyu-mll/glue`); `None` for its only one.
        revision: Branch, tag or commit; `None` for the newest, or the one in the local cache when offline.
        text_column: Column with the text.
        label_column: Column with the class.
        pair_column: Column with a second text that belongs to the first; `None` for none.
        max_length: Most tokens of a text, what is longer is cut off; `None` for the backbone's own.
        splits: The split that is `train`, `val` and `test` (`{val: validation_matched, …}`); `None` to go by names.
        shifts: Extra test sets by name, each the name of another split of the dataset (`validation_mismatched`).
        missing_values: Words that mean a missing value, as the empty text does, in whatever case; `None` for those of
            `cells.MISSING`. Rows without a text or a label are left out.
        name: What the report calls the data; `None` for the dataset's own name.
    """

    def __init__(
        self,
        dataset: str,
        subset: str | None = None,
        revision: str | None = None,
        text_column: str | list[str] = "text",
        label_column: str | list[str] = "label",
        pair_column: str | None = None,
        max_length: Tokens | None = None,
        splits: dict[str, str] | None = None,
        shifts: dict[str, str] | None = None,
        missing_values: Words | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(max_length)
        self._hub = HubDataset(dataset, subset, revision, splits, shifts)
        self.name = name or self._hub.name
        text, pair = text_columns(text_column, pair_column)
        self._columns = (text, pair, label_column)
        self.content_columns = (text,) if pair is None else (text, pair)
        self._named = {
            "data.text_column": text_column, "data.label_column": label_column, "data.pair_column": pair_column
        }  # fmt: skip
        self._missing = Missing.of(missing_values)
        self._shift_names = tuple(shifts or {})
        self._only: str | None = None

    @property
    def is_here(self) -> bool:
        return self._hub.is_here

    def _read(self) -> LabelledTexts:
        chosen = self._hub.chosen if self._only is None else self._hub.shift(self._only)
        text, pair, label = self._columns
        labels = [label] if isinstance(label, str) else label
        wanted = {name for name in (text, pair, *labels, *self.asked.values()) if name}
        table, parts = self._hub.gathered(chosen, wanted)
        table.require(**self._named, **self.asked)
        given, problems = part_names(table, self.parts_column, self._missing)
        if self.parts_column is not None:
            parts = given
        used = labelled(table, [text] if pair is None else [text, pair], label, parts, self._missing)
        return self._used(table, used, tuple(used.parts) if any(used.parts) else None, self._missing, problems)

    def _shifted(self) -> Mapping[str, TextSource]:
        text, pair, label = self._columns
        made: dict[str, TextSource] = {}
        for name in self._shift_names:
            made[name] = shift = TextHub(self.name, None, None, text, label, pair, self.max_length)
            shift._hub, shift._only, shift._missing = self._hub, name, self._missing
        return made
