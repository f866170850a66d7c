"""Labelled texts of the `datasets` library: by name on the Hugging Face hub, or a local folder in its layout."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.config.ranges import Tokens
from headstart.data.cells import Missing, Words, narrow
from headstart.data.labelled import PARTS, labelled, part_names
from headstart.data.names import folder_name
from headstart.data.table import Table
from headstart.data.text_sources import LabelledTexts, TextSource, text_columns
from headstart.errors import InputError, unknown
from headstart.names import listed
from headstart.system.cache import cache_dir, stamp
from headstart.system.waiting import within

_ANSWER_SECONDS = 4.0
"""How long the hub may take to answer before the local cache alone is asked."""


class TextHub(TextSource):
    """Texts of a dataset of the `datasets` library, with its own splits as far as they have labels.

    Args:
        dataset: Its name on the hub (`owner/name`), or a folder that `datasets` reads.
        subset: Configuration of the dataset (`sst2` of `nyu-mll/glue`); `None` for its only one.
        revision: Branch, tag or commit; `None` for the newest, or the one in the local cache when offline.
        text_column: Column with the text.
        label_column: Column with the class.
        pair_column: Column with a second text that belongs to the first; `None` for none.
        max_length: Most tokens of a text, what is longer is cut off; `None` for the backbone's own.
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
        shifts: dict[str, str] | None = None,
        missing_values: Words | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(max_length)
        place = Path(dataset).expanduser()
        if place.is_dir() and revision is not None:
            raise InputError(
                f"data.revision={revision} names a version of a dataset on the hub, but data.dataset={dataset} is a "
                "folder, which has none. Leave data.revision out."
            )
        own = folder_name(place) if place.is_dir() else dataset
        self.name = name or (own if subset is None else f"{own}/{subset}")
        self._place = (dataset, subset, revision)
        text, pair = text_columns(text_column, pair_column)
        self._columns = (text, pair, label_column)
        self.content_columns = (text,) if pair is None else (text, pair)
        self._named = {
            "data.text_column": text_column, "data.label_column": label_column, "data.pair_column": pair_column
        }  # fmt: skip
        self._missing, self._missing_values = Missing.of(missing_values), missing_values
        self._shift_splits = dict(shifts or {})
        self._splits: Mapping[str, Any] | None = None
        self._only: str | None = None

    @property
    def is_here(self) -> bool:
        return Path(self._place[0]).expanduser().is_dir()

    def _read(self) -> LabelledTexts:
        splits = self._loaded()
        if self._only is not None:
            if self._only not in splits:
                raise unknown(f"split of {self.name} (data.shifts)", self._only, splits)
            return self._gathered({self._only: ""})
        named = {name: PARTS[name.lower()] for name in splits if name.lower() in PARTS}
        if "train" not in named.values():
            raise InputError(f"{self.name} has no split for training, but only {listed(sorted(splits))}.")
        return self._gathered({name: part for name, part in named.items() if name not in self._shift_splits.values()})

    def _loaded(self) -> Mapping[str, Any]:
        if self._splits is None:
            self._splits = load_splits(*self._place)
        return self._splits

    def _gathered(self, chosen: Mapping[str, str]) -> LabelledTexts:
        """The texts of the chosen splits, in one; `chosen` says of which part each is."""
        text, pair, label = self._columns
        labels = [label] if isinstance(label, str) else label
        tables = {split: self._loaded()[split] for split in chosen}
        common = set.intersection(*(set(table.column_names) for table in tables.values()))
        wanted = {name for name in (text, pair, *labels, *self.asked.values()) if name in common}
        columns = {
            name: [value for table in tables.values() for value in _values(table, name)] if name in wanted else ()
            for name in sorted(common)
        }
        ids = [f"{split}/{row}" for split, table in tables.items() for row in range(len(table))]
        table = Table(self.name, columns, ids, "row")
        table.require(**self._named, **self.asked)
        parts, problems = part_names(table, self.parts_column, self._missing)
        if self.parts_column is None:
            parts = [part for split, part in chosen.items() for _ in range(len(tables[split]))]
        used = labelled(table, [text] if pair is None else [text, pair], label, parts, self._missing)
        return self._used(table, used, tuple(used.parts) if any(used.parts) else None, self._missing, problems)

    def _shifted(self) -> Mapping[str, TextSource]:
        dataset, subset, revision = self._place
        text, pair, label = self._columns
        made: dict[str, TextSource] = {}
        for name, split in self._shift_splits.items():
            made[name] = shift = TextHub(
                dataset, subset, revision, text, label, pair, self.max_length, missing_values=self._missing_values
            )
            shift._splits, shift._only = self._splits, split
        return made


def load_splits(dataset: str, subset: str | None, revision: str | None) -> Mapping[str, Any]:
    """The splits of a dataset, by name.

    Raises:
        InputError: if the library is missing, or the dataset cannot be had.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("data=text_hub needs the library datasets: pip install 'headstart[text]'.") from error
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise InputError(
            f"data=text_hub needs the library datasets from version 4 on, but {datasets.__version__} runs the "
            "scripts that come with a dataset: pip install -U 'headstart[text]'."
        )
    folder = Path(dataset).expanduser()
    if not folder.is_dir() and not _answers():
        datasets.config.HF_HUB_OFFLINE = True  # then only the local cache is asked, and at once
    try:
        if (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder))
        if folder.is_dir():
            return datasets.load_dataset(str(folder), subset, cache_dir=str(_cache_of(folder)))
        return datasets.load_dataset(dataset, subset, revision=revision)
    except Exception as error:  # the library raises all kinds, its own and those of what it builds on
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"The dataset {dataset!r}{f' ({subset})' if subset else ''} cannot be had: {reason} data.dataset must be "
            "the name of a dataset on the hub (and the network must be there, or the dataset in the local cache), or "
            "a folder that the library datasets reads; data.subset chooses among several configurations."
        ) from error


def _cache_of(folder: Path) -> Path:
    """Where the library keeps what it makes of a folder as it is now.

    By its own rule, files that were written anew with their old time would be taken for unchanged.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stamps = [(path.relative_to(folder).as_posix(), *stamp(path)) for path in files]
    return cache_dir("datasets", hashlib.sha256(repr(stamps).encode(errors="surrogatepass")).hexdigest()[:24])


def _answers() -> bool:
    """Whether the hub can be reached; the library's own retries would take most of a minute."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:  # name resolution may hang, which no request's timeout covers
        within(2 * _ANSWER_SECONDS, lambda: get_session().head(constants.ENDPOINT, timeout=_ANSWER_SECONDS))
    except Exception:  # the clients' network errors have no common base
        return False
    return True


def _values(table: Any, column: str) -> list[Any]:
    """Cells of a split's column: numbers that stand for classes by the names the dataset gives them."""
    feature = table.features[column]
    names, values = getattr(feature, "names", None), list(table[column])
    of_each = getattr(getattr(feature, "feature", None), "names", None)
    if of_each is not None:  # a list of classes
        return [None if value is None else [of_each[one] for one in value] for value in values]
    if names is not None:
        return [None if value is None or value < 0 else names[value] for value in values]
    return narrow(values) if getattr(feature, "dtype", None) in ("float16", "float32") else values
