"""What a split divides: a source's examples with their strata, and which of them belong together."""

import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from headstart.data.source import Source
from headstart.errors import InputError
from headstart.names import agreeing, listed, plural
from headstart.splits.splitter import Pool, Split, Splitter
from headstart.splits.units import spread, units
from headstart.tasks.task import Targets, Task

log = logging.getLogger(__name__)


def ask(source: Source, splitter: Splitter, task: Task) -> None:
    """Have the source read labels as the task says, and bring the columns that the split needs; before it reads."""
    source.asked, source.parts_column, source.encode = splitter.columns, splitter.parts_column, task.encode


def check_columns(source: Source) -> None:
    """Raise `InputError` where the source has no table with the columns that the split needs, or gaps in its folds."""
    problems = [
        f"{setting}={column} names a column of a table, but {source.name} has none of that name: use data in a table "
        f"that has one (data={source.modality.replace('vision', 'image')}_csv), or leave {setting} out."
        for setting, column in source.asked.items()
        if column not in source.columns
    ]
    for setting, column in source.asked.items():
        gaps = sum(not value for value in source.columns.get(column, ()))
        if not gaps or column == source.parts_column:
            continue
        if setting == "split.group_column":
            log.warning(
                "%d of %d examples of %s %s no value in column %r: each of them is a group of its own.",
                *(gaps, len(source.ids), source.name, agreeing(gaps, "have"), column),
            )
        else:
            problems.append(
                f"{source.name} has no value in column {column!r} for {plural(gaps, 'example')}, but {setting} needs "
                "one for each: fill or remove these rows."
            )
    if problems:
        raise InputError(*problems)


def pool_of(source: Source, splitter: Splitter, task: Task, with_copies: bool = True) -> Pool:
    """The examples that are divided; to find copies among them (`with_copies`), they have to be read.

    Raises:
        InputError: if parts or folds that the data bring divide a group that is to lie in one part.
    """
    groups = groups_of(source, splitter)
    fixed = source.parts if splitter.folds_column is None else np.array(source.columns[splitter.folds_column])
    if groups is not None and fixed is not None:
        torn = spread(units(len(fixed), groups), fixed)
        if torn:
            names = dict(zip(units(len(fixed), groups).tolist(), groups, strict=True))
            raise InputError(
                f"A group of column {splitter.group_column!r} must lie in one part, but the data put {len(torn)} "
                f"into several: {listed([repr(names[unit]) for unit in torn], 5)}. Mend the data, or leave "
                "split.group_column out."
            )
    copies = source.contents if with_copies and splitter.duplicates == "group" else None
    if groups is not None and fixed is not None:
        copies = None  # of two groups in two given parts: neither could follow the other
    together = units(len(source.ids), groups, copies)
    labels, kinds = task.strata(Targets(source.labels, source.classes))
    return Pool(labels, kinds, together, source.parts, source.fractions, task.strata_are_classes)


def groups_of(source: Source, splitter: Splitter) -> Sequence[str | None] | None:
    """The group of each example, `None` for one that is alone; `None` in place of all where no groups are kept."""
    if splitter.group_column is None:
        return None
    return [name or None for name in source.columns[splitter.group_column]]


def columns_identity(source: Source) -> dict[str, str]:
    """What the columns hold that a split follows, beside the parts that are in the source's fingerprint."""
    chosen = {name: values for name, values in source.columns.items() if name != source.parts_column}
    told = {name: sorted(zip(source.ids, values, strict=True)) for name, values in chosen.items()}
    return {name: sha256(repr(pairs).encode()).hexdigest() for name, pairs in told.items()}


def record_of(source: Source, splitter: Splitter, split: Split) -> Mapping[str, Any]:
    """What belongs in a run's record of how groups lie in the parts."""
    groups = groups_of(source, splitter)
    if groups is None:
        return {}
    parts = {"train": split.train, "val": split.val, "test": split.test}
    alone = lambda place: (None, source.ids[place])  # noqa: E731
    names = {
        part: {(groups[place], None) if groups[place] else alone(place) for place in indices.tolist()}
        for part, indices in parts.items()
    }
    seen: set[tuple[str | None, str | None]] = set()
    for found in names.values():
        assert not seen & found, "no group lies in two parts"
        seen |= found
    return {"groups": {"column": splitter.group_column, **{part: len(found) for part, found in names.items()}}}
