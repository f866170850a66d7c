"""Labels of pictures in shards from a table of keys beside them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.data.cells import texts
from headstart.data.records import read_records
from headstart.data.shard_labels import Sample
from headstart.data.table import normal
from headstart.data.tar import Member
from headstart.errors import InputError
from headstart.names import listed, plural


def join_table(
    path: Path, key: str, label: str | list[str], pairs: Sequence[tuple[Sample, Member]], where: str
) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of a table of labels, a value for each example, and what is to be said of rows that have none."""
    table = read_records(path, "data.labels")
    table.require(**{"data.key_column": key, "data.label_column": label})
    keys = texts(table, key)
    rows = {name: row for row, name in reversed([*enumerate(keys)])}
    twice = sorted({name for row, name in enumerate(keys) if rows[name] != row})
    if twice:
        raise InputError(f"{table.name} must have one row for each key, but has several for {listed(twice, 5)}.")
    ends = [member.name.rpartition("/")[2].partition(".")[2] for _, member in pairs]
    found = [
        rows.get(sample.key, rows.get(f"{sample.key}.{end}")) for (sample, _), end in zip(pairs, ends, strict=True)
    ]
    several = sorted({keys[row] for row, number in Counter(found).items() if row is not None and number > 1})
    if several:
        raise InputError(
            f"{table.name} labels keys that several shards in {where} have, so that it cannot be told which is meant: "
            f"{listed(several, 5)}. Put the labels into the shards, or name the shards of one part alone."
        )
    made = {}
    for name in table.columns:
        values = table[name]
        made[normal(name)] = [None if row is None else values[row] for row in found]
    without = sorted(set(range(len(keys))) - {row for row in found if row is not None})
    remarks = []
    if without:
        remarks.append(
            f"{plural(len(without), 'row')} of {table.name} {'names a key' if len(without) == 1 else 'name keys'} that "
            f"no picture in {where} has: {listed([keys[row] for row in without], 5)}."
        )
    return made, remarks
