"""Exact copies among examples: what a model saw in training is no test of it, and one content has one label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headstart.names import plural
from headstart.splits.splitter import Split
from headstart.splits.units import alike

Contents = Sequence[str]
"""A hash of each example's content, equal for copies."""
_SHOWN = 3


@dataclass(frozen=True)
class Duplicates:
    """Copies in one data set as it is split."""

    copies: int
    """Examples that are copies of another before them."""
    contents: int
    """Different contents that occur more than once."""
    num_two_labels: int
    """Contents that occur under several labels."""
    val_in_train: int
    """Val examples of which train has a copy."""
    test_in_train_or_val: int
    """Test examples of which train or val has a copy."""
    in_shifts: Mapping[str, int] = field(default_factory=dict)
    """Examples of each extra test set of which train or val has a copy."""
    examples: Sequence[tuple[int, int]] = ()
    """Some pairs of copies, by their places."""
    two_labels: Sequence[tuple[int, int]] = ()
    """Some pairs of copies of different labels."""

    @property
    def record(self) -> dict[str, Any]:
        names = ("copies", "contents", "num_two_labels", "val_in_train", "test_in_train_or_val")
        counts = {name.removeprefix("num_"): getattr(self, name) for name in names}
        return {**counts, "in_shifts": dict(self.in_shifts)}


def find_duplicates(
    contents: Contents, labels: Sequence[Any], split: Split, shifts: Mapping[str, Contents]
) -> Duplicates:
    """Count the copies among examples with `contents` and `labels`, and those that `shifts` have of them."""
    pairs = alike(contents)
    torn: dict[int, tuple[int, int]] = {}
    for one, other in pairs:
        if labels[one] != labels[other]:
            torn.setdefault(one, (one, other))
    if not pairs and not shifts:
        return Duplicates(0, 0, 0, 0, 0)
    train, val = ({*map(contents.__getitem__, part.tolist())} for part in (split.train, split.val))
    seen = train | val
    return Duplicates(
        copies=len(pairs),
        contents=len({one for one, _ in pairs}),
        num_two_labels=len(torn),
        val_in_train=sum(contents[place] in train for place in split.val.tolist()),
        test_in_train_or_val=sum(contents[place] in seen for place in split.test.tolist()),
        in_shifts={name: sum(content in seen for content in others) for name, others in shifts.items()},
        examples=pairs[:_SHOWN],
        two_labels=list(torn.values())[:_SHOWN],
    )


def remarks(
    found: Duplicates,
    name: str,
    ids: Sequence[str],
    labels: Sequence[Any],
    split: Split,
    how: str,
    remedy: str,
) -> list[str]:
    """What is to be said of them; `how` says by what the data are split (`the data themselves`, `seed 0`), `remedy`
    what to do about copies in two parts."""
    said = []
    if found.copies:
        shown = ", ".join(f"{ids[one]} = {ids[other]}" for one, other in found.examples)
        crossing = [
            f"{count:,} of {total:,} {part}"
            for count, total, part in (
                (found.test_in_train_or_val, len(split.test), "test examples have a copy in train or val"),
                (found.val_in_train, len(split.val), "val examples one in train"),
            )
            if count
        ]
        across = " All copies of one lie in the same part."
        if crossing:
            across = f" As split by {how}, {' and '.join(crossing)}: such scores are too high. {remedy}"
        said.append(
            f"{found.copies:,} of {len(ids):,} examples of {name} are exact copies of others ({shown}).{across}"
        )
    if found.num_two_labels:
        shown = ", ".join(
            f"{ids[one]} ({_said(labels[one])}) = {ids[other]} ({_said(labels[other])})"
            for one, other in found.two_labels
        )
        times = "once" if found.num_two_labels == 1 else f"{found.num_two_labels:,} times"
        said.append(
            f"Several labels are given to one and the same content {times} in {name} ({shown}): correct or remove them."
        )
    said += [
        f"Of the shifted test set {shift}, {plural(count, 'example')} {'has' if count == 1 else 'have'} an exact copy "
        f"in train or val of {name}: remove {'it' if count == 1 else 'them'}."
        for shift, count in found.in_shifts.items()
        if count
    ]
    return said


def _said(label: Any) -> str:
    """A label as it is shown: one text, several, or pairs of a column and what it holds."""
    if isinstance(label, str):
        return label
    return ", ".join("=".join(part) if isinstance(part, tuple) else str(part) for part in label)
