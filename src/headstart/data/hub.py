"""Datasets of the `datasets` library: by name on the Hugging Face hub, or a local folder or file in its layout."""

import glob
import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headstart.data.arrow_columns import ArrowColumn, joined
from headstart.data.cells import narrow
from headstart.data.labelled import PARTS
from headstart.data.names import folder_name
from headstart.data.table import Table
from headstart.data.table_file import tell_of_other_parts
from headstart.errors import InputError, unknown
from headstart.names import listed
from headstart.system.cache import cache_dir, stamp
from headstart.system.places import closed
from headstart.system.waiting import within

_ANSWER_SECONDS = 4.0
"""How long the hub may take to answer before the local cache alone is asked."""
_BUILDERS = {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow"}
"""What the library calls the kinds of single files that may be a dataset, by their endings."""
_SAVED = ("dataset_dict.json", "state.json")
"""What `save_to_disk` leaves beside several splits, and beside one."""
_log = logging.getLogger(__name__)


class HubDataset:
    """A dataset and which of its splits are used for what. Making one is instant.

    Args:
        dataset: Its name on the hub (`owner/name`), a folder that `datasets` reads, or one file of Parquet or Arrow.
        subset: Configuration of the dataset; `None` for its only one.
        revision: Branch, tag or commit; `None` for the newest, or the one in the local cache when offline.
        splits: The split that is `train`, `val` and `test`; `None` to go by their names.
        shifts: Splits that are extra test sets, by the name of each set.
    """

    def __init__(
        self,
        dataset: str,
        subset: str | None = None,
        revision: str | None = None,
        splits: Mapping[str, str] | None = None,
        shifts: Mapping[str, str] | None = None,
    ) -> None:
        place = Path(dataset).expanduser()
        self.is_here = place.exists()
        kind = "folder" if place.is_dir() else "file"
        if self.is_here and revision is not None:
            raise InputError(
                f"data.revision={revision} names a version of a dataset on the hub, but data.dataset={dataset} is a "
                f"{kind}, which has none. Leave data.revision out."
            )
        if self.is_here and subset is not None and (kind == "file" or _is_saved(place)):
            made = "one file" if kind == "file" else "a folder that save_to_disk wrote"
            raise InputError(
                f"data.subset={subset} chooses among the configurations of a dataset, but data.dataset={dataset} is "
                f"{made}, which has none. Leave data.subset out."
            )
        wrong = [part for part in splits or {} if part not in ("train", "val", "test")]
        if wrong:
            raise InputError(
                f"data.splits says which split is train, val and test, but names {listed(wrong)}. Extra test sets "
                "belong in data.shifts."
            )
        own = place.stem if place.is_file() else folder_name(place) if self.is_here else dataset
        self.name = own if subset is None else f"{own}/{subset}"
        self._place = (dataset, subset, revision)
        self._given = dict(splits or {})
        self._apart = dict(shifts or {})

    @cached_property
    def tables(self) -> Mapping[str, Any]:
        """The splits by name, each a `datasets.Dataset`; the first look reads or fetches them.

        Raises:
            InputError: if they cannot be had.
        """
        return load_splits(*self._place)

    @cached_property
    def chosen(self) -> dict[str, str]:
        """The splits that are read, and the part that each is. Those that are not are told.

        Raises:
            InputError: if there is no such split, one is used twice, or none is for training.
        """
        for part, split in self._given.items():
            if split not in self.tables:
                raise unknown(f"split of {self.name} (data.splits.{part})", split, self.tables)
        used = [*self._given.values(), *self._apart.values()]
        if self._given and len(set(used)) < len(used):
            raise InputError(
                f"data.splits and data.shifts must name a different split each, but name {listed(sorted(used))}."
            )
        found = {split: part for part, split in self._given.items()} or {
            name: PARTS[name.lower()]
            for name in self.tables
            if name.lower() in PARTS and name not in self._apart.values()
        }
        if "train" not in found.values():
            raise InputError(
                f"{self.name} has no split for training, but only {listed(sorted(self.tables))}. data.splits says "
                "which one it is: 'data.splits={train: NAME}'."
            )
        unread = [name for name in self.tables if name not in found and name not in self._apart.values()]
        if unread:
            _log.warning(
                "Of the splits of %s, %s are read; %s are not (%s rows). data.splits says which one is train, val and "
                "test, data.shifts which are extra test sets.",
                *(self.name, listed(list(found)), listed(unread), sum(len(self.tables[name]) for name in unread)),
            )
        return found

    def shift(self, name: str) -> dict[str, str]:
        """As `chosen`, of an extra test set."""
        split = self._apart[name]
        if split not in self.tables:
            raise unknown(f"split of {self.name} (data.shifts.{name})", split, self.tables)
        return {split: ""}

    def gathered(self, chosen: Mapping[str, str], wanted: Collection[str]) -> tuple[Table, list[str]]:
        """The rows of the chosen splits in one table, and the part of each.

        Only the columns `wanted` have cells; of the others the names are there, for messages.
        """
        tables = {split: self.tables[split] for split in chosen}
        common = set.intersection(*(set(table.column_names) for table in tables.values()))
        columns = {
            name: joined([_values(table, name) for table in tables.values()]) if name in wanted else ()
            for name in sorted(common)
        }
        ids = [f"{split}/{row}" for split, table in tables.items() for row in range(len(table))]
        parts = [part for split, part in chosen.items() for _ in range(len(tables[split]))]
        return Table(self.name, columns, ids, "row"), parts


def load_splits(dataset: str, subset: str | None, revision: str | None) -> Mapping[str, Any]:
    """The splits of a dataset, by name.

    Raises:
        InputError: if the library is missing, or the dataset cannot be had.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("Data of the hub need the library datasets: pip install 'headstart[hub]'.") from error
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise InputError(
            f"Data of the hub need the library datasets from version 4 on, but {datasets.__version__} runs the "
            "scripts that come with a dataset: pip install -U 'headstart[hub]'."
        )
    place = Path(dataset).expanduser()
    if not place.exists() and not _answers():
        datasets.config.HF_HUB_OFFLINE = True  # then only the local cache is asked, and at once
    try:
        if place.exists():
            return _splits_here(place, subset)
        return datasets.load_dataset(dataset, subset, revision=revision)
    except InputError:
        raise
    except Exception as error:  # the library raises all kinds, its own and those of what it builds on
        said = [str(one) for one in (error, error.__cause__) if one is not None and str(one)]
        reason = " ".join(" ".join(said).split())[:300] or type(error).__name__
        if "torchcodec" in reason:  # which the library needs to write sounds, and we do not to read them
            reason += " A folder of sounds is read by data=audio_folder data.root=FOLDER without it."
        raise InputError(
            f"The dataset {dataset!r}{f' ({subset})' if subset else ''} cannot be had: {reason} data.dataset must be "
            "the name of a dataset on the hub (and the network must be there, or the dataset in the local cache), or "
            "a folder or file that the library datasets reads; data.subset chooses among several configurations."
        ) from error


def _splits_here(place: Path, subset: str | None) -> Mapping[str, Any]:
    """The splits of a folder or file: as `save_to_disk` left them, or as the library makes them of what is there."""
    import datasets

    if _is_saved(place):
        found = datasets.load_from_disk(str(place))
        if isinstance(found, datasets.DatasetDict):
            return found
        name = str(found.split or "").partition("[")[0]  # of a part of a split, `train[:10%]`
        return {name if name.lower() in PARTS else "train": found}
    called: dict[str, Any] = {"path": str(place), "name": subset}
    if place.is_file():
        builder = _BUILDERS.get(place.suffix.lower())
        if builder is None:
            raise InputError(
                f"data.dataset={place} is a file, but of files only those of Parquet and Arrow are datasets "
                f"({listed(sorted(_BUILDERS))}). Tables are read by data=text_csv, image_csv or audio_csv: "
                f"data.path={place}."
            )
        tell_of_other_parts(place)
        called = {"path": builder, "data_files": glob.escape(str(place))}
    elif glob.has_magic(str(place.absolute())):
        raise InputError(
            f"The path of data.dataset={place}, {place.absolute()}, has one of [ ] * ?, which the library datasets "
            "takes for a pattern, so that it would find no files or those of other folders. Rename or move the folder."
        )
    kept = _cache_of(place)
    if not closed(kept):
        return datasets.load_dataset(**called, cache_dir=str(kept))
    with TemporaryDirectory() as fleeting:
        return datasets.load_dataset(**called, cache_dir=fleeting, keep_in_memory=True)


def _is_saved(place: Path) -> bool:
    return any((place / name).is_file() for name in _SAVED)


def _cache_of(place: Path) -> Path:
    """Where the library keeps what it makes of a folder or file as it is now.

    By its own rule, files that were written anew with their old time would be taken for unchanged.
    """
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    stamps = [(path.relative_to(place).as_posix(), *stamp(path)) for path in files]
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


def arrow(table: Any, column: str) -> Any:
    """A split's column as it is stored: nothing is decoded, and what lies on disk stays there."""
    return table.select_columns([column]).with_format("arrow")[:].column(column)


def _values(table: Any, column: str) -> Sequence[Any]:
    """Cells of a split's column: numbers that stand for classes by the names the dataset gives them."""
    feature, values = table.features[column], ArrowColumn(arrow(table, column))
    names = getattr(feature, "names", None)
    of_each = getattr(getattr(feature, "feature", None), "names", None)
    if of_each is not None:  # a list of classes
        return [None if value is None else [of_each[one] for one in value] for value in values]
    if names is not None:
        return [None if value is None or value < 0 else names[value] for value in values]
    return narrow(values) if getattr(feature, "dtype", None) in ("float16", "float32") else values
