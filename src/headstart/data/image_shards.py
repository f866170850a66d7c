"""Labelled pictures in tar archives (shards, as webdataset writes them), read where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.config.ranges import Bytes, Channels, Depth, Extent, Side
from headstart.data.cells import Missing, Words
from headstart.data.files import FileSource
from headstart.data.folders import counted
from headstart.data.images import ImageCsv, ImageFiles, ImageFolder
from headstart.data.labelled import column_values, labelled, part_names
from headstart.data.listing import Listing
from headstart.data.names import folder_name
from headstart.data.picture_files import kind
from headstart.data.records import is_table
from headstart.data.shard_files import ShardMembers, Shards, find_shards, read_shards
from headstart.data.shard_labels import (
    Census,
    LabelMember,
    Sample,
    label_member,
    pictured,
    read_labels,
    samples_of,
)
from headstart.data.shard_table import join_table
from headstart.data.sizing import Fit
from headstart.data.table import Table, normal
from headstart.data.tar import Member
from headstart.errors import InputError
from headstart.names import listed, plural

_IMAGE = "the picture"
"""Column of the table of all examples that says they have one, which all of them do."""
_COLUMN, _KEY = "label", "key"
"""Columns where a run does not say."""


class ImageShards(ImageFiles):
    """Pictures in tar archives: members that share a key are an example, `key.jpg` its picture, `key.cls` its label.

    Nothing is unpacked: what lies where is read from the archives' headers once and kept, and each picture is read at
    its place. An example's id is its shard's path and its key.

    Args:
        path: A folder of shards, one shard, or a pattern (`train-{000..009}.tar`); or several of them.
        label_member: Ending of the members that hold labels: `cls` or `txt` (a text), `json` (an object, see
            `label_column`); `None` for the first of these that there is.
        label_column: Key of the label in a `.json` member, or column of `labels`; several where each holds 0 or 1, or a
            number (see the task).
        labels: Table of labels (.csv, .tsv, .jsonl, .parquet) in place of those in the shards; `None` for these.
        key_column: Column of that table with the key, or the member's name.
        image_member: Ending of the pictures' names behind the key, as in `left.jpg`, where a key has several.
        size, fit, channels, depth, cache_bytes, value_range, cache_side: As for
            `headstart.data.images.ImageFolder`.
        shifts: Extra test sets by name, each other shards, a folder of class folders or a table of files.
        missing_values: Words that mean a missing value, as the empty label does, in whatever case; `None` for those of
            `cells.MISSING`. Keys without a label are left out.
        name: What the report calls the data; `None` for the folder's own name.
    """

    _setting = "data.path"
    content_columns = ("image",)

    def __init__(
        self,
        path: str | list[str],
        label_member: LabelMember | None = None,
        label_column: str | list[str] = "label",
        labels: str | None = None,
        key_column: str = "key",
        image_member: str | None = None,
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
        self._path, self._missing = path, Missing.of(missing_values)
        self._label = _Label(label_member, label_column, labels, key_column)
        self._image_member = None if image_member is None else image_member.lower().lstrip(".")
        self._shared = {
            "label_member": label_member, "label_column": label_column, "labels": labels, "key_column": key_column,
            "image_member": image_member, "missing_values": missing_values, "cache_bytes": cache_bytes,
        }  # fmt: skip
        self.name = name or _name_of(path)

    def _list(self) -> Listing:
        shards = find_shards(self._path, self._setting)
        archives, stamps = read_shards(shards)
        samples = samples_of(shards, archives)
        where = str(shards.root)
        pairs, census = pictured(samples, frozenset(kind().suffixes), self._image_member, where)
        if not pairs:
            raise InputError(self._no_pictures(where, census))
        ids = [f"{shards.names[sample.shard]}/{sample.key}" for sample, _ in pairs]
        columns, label, remarks = self._label.columns(shards, pairs, where, bool(self._shift_places))
        table = Table(where, {**columns, _IMAGE: ids}, ids, "key")
        asked = {setting: name for setting, name in self.asked.items() if self._label.has_columns(label)}
        table.require(**{"data.label_column": label, **asked})
        given, problems = part_names(table, self.parts_column if asked else None, self._missing)
        own = [shards.parts[sample.shard] for sample, _ in pairs]
        parts = given if asked and self.parts_column is not None else own
        used = labelled(table, [_IMAGE], label, parts, self._missing)
        values, unread = column_values(table, asked.values(), used.rows, self._missing)
        census.links = sum(archive.links for archive in archives)
        return Listing(
            shards.root,
            tuple(ids[row] for row in used.rows),
            _members(shards, stamps, [pairs[row] for row in used.rows]),
            tuple(used.cells),
            tuple(used.parts) if any(used.parts) else None,
            (*problems, *used.problems, *unread),
            _facts(census, len(pairs) - len(used.rows)),
            (
                *shards.remarks,
                *remarks,
                *_remarks(where, census, len(samples) - len(pairs), _unended(shards, archives)),
            ),
            columns={name: tuple(column) for name, column in values.items()},
        )

    def _no_pictures(self, where: str, census: Census) -> str:
        there = counted(dict((census.not_read + census.other).most_common())) or "no members at all"
        if self._image_member is None:
            return f"The shards in {where} hold no pictures that are read, but {there}. {kind().remedy}"
        return (
            f"data.image_member={self._image_member} must be what follows the key in names of pictures, but of those "
            f"in the shards in {where} none ends so: there are {there}."
        )

    def _shift(self, name: str, place: Path) -> FileSource:
        if is_table(place):
            return ImageCsv(str(place), cache_bytes=self._cache_bytes)
        if place.is_dir() and not any(place.rglob("*.tar")):
            return ImageFolder(str(place), cache_bytes=self._cache_bytes)
        return ImageShards(str(place), **self._shared)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Label:
    """Where labels come from."""

    member: LabelMember | None
    column: str | list[str]
    table: str | None
    key: str

    def has_columns(self, label: str | list[str]) -> bool:
        """Whether there are other columns beside the label's."""
        return self.table is not None or label == self.column

    def columns(
        self, shards: Shards, pairs: Sequence[tuple[Sample, Member]], where: str, has_shifts: bool
    ) -> tuple[dict[str, list[Any]], str | list[str], list[str]]:
        """Columns of all examples, that (or those) of the label, and what is to be said."""
        if self.table is not None:
            if self.member is not None:
                raise InputError(
                    f"Labels must come from one place, but data.labels={self.table} and "
                    f"data.label_member={self.member} name two: leave one out."
                )
            columns, remarks = join_table(Path(self.table).expanduser(), self.key, self.column, pairs, where)
            return columns, self.column, [] if has_shifts else remarks
        if self.key != _KEY:
            raise InputError(
                f"data.key_column={self.key} does nothing without a table of labels: leave it out, or name one by "
                "data.labels."
            )
        member = label_member(pairs, self.member, where)
        found = {normal(name): column for name, column in read_labels(shards, pairs, member, self.column).items()}
        if member == "json":
            return found, self.column, []
        if self.column != _COLUMN:
            raise InputError(
                f"data.label_column={self.column} does nothing, as labels come from .{member} members, which hold one "
                "text each: leave it out, or use .json members (data.label_member=json) or a table (data.labels)."
            )
        return found, member, []


def _members(shards: Shards, stamps: Sequence[list[int | str]], pairs: Sequence[tuple[Sample, Member]]) -> ShardMembers:
    return ShardMembers(
        shards.paths,
        stamps,
        [member.name for _, member in pairs],
        np.array([sample.shard for sample, _ in pairs], np.int32),
        np.array([member.offset for _, member in pairs], np.int64),
        np.array([member.size for _, member in pairs], np.int64),
    )


def _name_of(path: str | list[str]) -> str:
    """A data set's name by its folder, or by that which the shards lie in."""
    first = Path(path if isinstance(path, str) else path[0] if path else ".").expanduser()
    return folder_name(first if first.is_dir() else first.parent)


def _unended(shards: Shards, archives: Sequence[Any]) -> list[str]:
    return [name for name, archive in zip(shards.names, archives, strict=True) if not archive.is_ended]


def _facts(census: Census, num_unlabelled: int) -> dict[str, dict[str, int]]:
    found = {
        "read": dict(census.read.most_common()),
        "not_read": dict(census.not_read.most_common()),
        "other": dict(census.other.most_common()),
    }
    return found | ({"no_label": {"keys": num_unlabelled}} if num_unlabelled else {})


def _remarks(where: str, census: Census, num_bare: int, unended: Sequence[str]) -> list[str]:
    """What of the shards is not read though it may be meant to be."""
    remarks = []
    if census.not_read:
        remarks.append(
            f"{census.not_read.total():,} of {(census.read + census.not_read).total():,} members of the shards in "
            f"{where} that may be pictures are not read: {counted(dict(census.not_read.most_common()))}, such as "
            f"{census.first_unread}. Read are {counted(dict(census.read.most_common()))}, one to a key, which goes up "
            "to the first dot of a name."
        )
    if num_bare:
        keys = "1 key" if num_bare == 1 else f"{num_bare:,} keys"
        remarks.append(f"{keys} in the shards in {where} {'has' if num_bare == 1 else 'have'} no picture that is read.")
    if census.links:
        remarks.append(
            f"{plural(census.links, 'link')}, devices or files with holes in the shards in {where} are not read: store "
            "whole files."
        )
    if unended:
        remarks.append(
            f"{plural(len(unended), 'shard')} in {where} {'lacks' if len(unended) == 1 else 'lack'} the mark that "
            f"archives end with: {listed(unended, 3)}. All that is there is read, but if it was cut off between two "
            "members, some are missing."
        )
    return remarks
