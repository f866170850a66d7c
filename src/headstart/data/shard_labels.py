"""The examples in shards: members that share a key (`key.jpg` and `key.cls`), and the label of each."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from headstart.data.folders import is_hidden
from headstart.data.parallel import map_threads
from headstart.data.shard_files import Shards, read_at
from headstart.data.tar import Archive, Member
from headstart.errors import InputError
from headstart.names import listed, plural

LabelMember = Literal["cls", "json", "txt"]
LABELS: tuple[LabelMember, ...] = ("cls", "json", "txt")
"""Members that may hold a label, the likeliest first."""
_MOST_BYTES = 1 << 24


@dataclass
class Sample:
    """The members of one key in one shard, by what follows the key in their names."""

    shard: int
    key: str
    members: dict[str, Member] = field(default_factory=dict)


@dataclass
class Census:
    """What of the shards' members is read and what is not, by suffix."""

    read: Counter[str] = field(default_factory=Counter)
    not_read: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    links: int = 0
    first_unread: str = ""


def samples_of(shards: Shards, archives: Sequence[Archive]) -> list[Sample]:
    """All keys, in the order in which they come.

    As webdataset has it, a key is a member's path up to the first dot of its last part. Hidden ones are left out.

    Raises:
        InputError: if a shard holds one name twice.
    """
    samples: list[Sample] = []
    twice: list[str] = []
    for number, archive in enumerate(archives):
        by_key: dict[str, Sample] = {}
        for member in archive.members:
            folder, slash, name = member.name.removeprefix("./").rpartition("/")
            if is_hidden(name) or not name:
                continue
            stem, _, suffix = name.partition(".")
            key = folder + slash + stem
            sample = by_key.get(key)
            if sample is None:
                by_key[key] = sample = Sample(number, key)
            if sample.members.setdefault(suffix.lower(), member) is not member:
                twice.append(f"{member.name} in {shards.names[number]}")
        samples += by_key.values()
    if twice:
        raise InputError(
            f"Each member of a shard must have a name of its own, but {listed(twice, 5)} stands there more than once: "
            "which of them is meant cannot be told. Write the shard anew."
        )
    return samples


def pictured(
    samples: Sequence[Sample], suffixes: frozenset[str], chosen: str | None, where: str
) -> tuple[list[tuple[Sample, Member]], Census]:
    """Samples with the picture of each, and what else there is; `chosen` says by which ending, as in `left.jpg`.

    Raises:
        InputError: if there are several pictures under one key, and nothing says which is meant.
    """
    found: list[tuple[Sample, Member]] = []
    several: list[Sample] = []
    census = Census()
    for sample in samples:
        names = [name for name in sample.members if (name == chosen if chosen else f".{name}" in suffixes)]
        if len(names) > 1:
            several.append(sample)
        elif names:
            found.append((sample, sample.members[names[0]]))
        for name, member in sample.members.items():
            _count(census, name, member, name in names, suffixes)
    if several:
        ends = sorted({name for sample in several for name in sample.members if f".{name}" in suffixes})
        raise InputError(
            f"{where} has {plural(len(several), 'key')} with several pictures, such as {several[0].key} "
            f"({listed(sorted(several[0].members))}): say which one is meant by data.image_member={ends[0]}."
        )
    return found, census


def _count(census: Census, name: str, member: Member, is_read: bool, suffixes: frozenset[str]) -> None:
    last = f".{name.rpartition('.')[2]}" if name else "no suffix"
    if is_read:
        census.read[last] += 1
    elif last in suffixes or (name and name not in LABELS and last not in _BESIDE):
        census.not_read[f".{name}"] += 1
        census.first_unread = census.first_unread or member.name
    else:
        census.other[last] += 1


_BESIDE = frozenset({".cls", ".json", ".txt", ".index", ".id", ".pyd", ".npy", ".pth", ".caption", ".url"})
"""What writers of shards put beside pictures: labels, words, numbers."""


def label_member(pairs: Sequence[tuple[Sample, Member]], chosen: LabelMember | None, where: str) -> LabelMember:
    """Which members hold the labels: as `chosen`, or the first of `LABELS` that any picture has beside it.

    Raises:
        InputError: if none has one.
    """
    there = Counter(name for sample, _ in pairs for name in sample.members if name in LABELS)
    name = chosen or next((name for name in LABELS if there[name]), None)
    if name is None or not there[name]:
        others = f"but only {listed(sorted(there))}" if there else "and no other members that could hold one"
        raise InputError(
            f"{where} has no label beside any picture: no {f'.{name}' if name else '.cls, .json or .txt'}, {others}. "
            "data.labels=TABLE names a table of keys and labels, data.label_member the kind of member that holds them."
        )
    return name


def read_labels(
    shards: Shards, pairs: Sequence[tuple[Sample, Member]], member: LabelMember, column: str | Sequence[str]
) -> dict[str, list[Any]]:
    """Columns of what the label members say: of `.cls` and `.txt` one that is called so, of `.json` its keys.

    Raises:
        InputError: naming those that cannot be read.
    """
    texts = list(map_threads(lambda pair: _text(shards, pair[0], member), pairs, "Reading labels"))
    bad = [
        f"{pair[0].key}.{member} in {shards.names[pair[0].shard]}"
        for pair, one in zip(pairs, texts, strict=True)
        if one is None
    ]
    if bad:
        raise InputError(
            f"{plural(len(bad), 'label')} cannot be read as UTF-8 text of at most 16 MB: {listed(bad, 5)}. Write them "
            "anew."
        )
    if member != "json":
        return {member: [text or "" for text in texts]}
    return _of_json(shards, pairs, [text or "" for text in texts], column)


def _text(shards: Shards, sample: Sample, member: LabelMember) -> str | None:
    """What a label member holds, empty where there is none; `None` if it is no text."""
    found = sample.members.get(member)
    if found is None:
        return ""
    if found.size > _MOST_BYTES:
        return None
    try:
        return read_at(shards.paths[sample.shard], found.offset, found.size).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None


def _of_json(
    shards: Shards, pairs: Sequence[tuple[Sample, Member]], texts: Sequence[str], column: str | Sequence[str]
) -> dict[str, list[Any]]:
    """Columns by the keys of JSON objects; a value that is none is the label itself."""
    own = column if isinstance(column, str) else None
    columns: dict[str, list[Any]] = {}
    bad: list[str] = []
    for place, (pair, text) in enumerate(zip(pairs, texts, strict=True)):
        try:
            value = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            value = None
        row: Mapping[str, Any] = value if isinstance(value, dict) else {own: value} if own else {}
        if value is None or (not isinstance(value, dict) and own is None):
            bad.append(f"{pair[0].key}.json in {shards.names[pair[0].shard]}")
        for name, cell in row.items():
            columns.setdefault(name, [None] * len(pairs))[place] = cell
    if bad:
        raise InputError(
            f'{plural(len(bad), "label")} cannot be read as JSON, such as {{"label": "cat"}}: {listed(bad, 5)}. Write '
            "them anew."
        )
    return columns
