"""Which examples train, which select and which test: stratified, seeded, with nested low-data subsets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headstart.data.table import listed
from headstart.errors import InputError
from headstart.seeding import stream


@dataclass(frozen=True)
class Split:
    """Indices into the source `(n,)`, int64, ascending and disjoint."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def sizes(self) -> dict[str, int]:
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}

    @cached_property
    def sha256(self) -> str:
        """Over the indices of all parts: equal for runs that may be compared pairwise."""
        digest = hashlib.sha256()
        for indices in (self.train, self.val, self.test):
            digest.update(len(indices).to_bytes(8, "little") + indices.astype("<i8").tobytes())
        return digest.hexdigest()


def split(
    labels: np.ndarray,
    given: np.ndarray | None,
    fractions: tuple[float, float],
    seed: int,
    n_per_class: int | None,
    class_names: Sequence[str],
    split_seed: int | None = None,
) -> Split:
    """Divide examples with `labels` `(N,)` into train, val and test.

    Parts that `given` `(N,)` names (`"train"`, `"val"`, `"test"`) stay as they are. What it lacks is drawn, class by
    class, from the examples it leaves open (`""`), or from its train where it leaves none: the share `fractions` (val,
    test) of them, at least one of each class. Val and test depend on `split_seed` (default: `seed`) alone; the
    subset of `n_per_class` training examples depends on `seed`, and a smaller one is part of every larger one.

    Raises:
        InputError: as `split_problems` finds it.
    """
    problems = split_problems(labels, given, fractions, n_per_class, class_names)
    if problems:
        raise InputError(*problems)
    parts, pool, missing = _openings(labels, given)
    parts[pool] = "train"
    for label in range(len(class_names)):
        members = np.flatnonzero(pool & (labels == label))
        dice = stream(seed if split_seed is None else split_seed, "split", label)
        order = dice.permutation(members)
        start = 0
        for name, count in _counts(len(members), missing, fractions).items():
            parts[order[start : start + count]] = name
            start += count
    train, val, test = (np.flatnonzero(parts == name) for name in ("train", "val", "test"))
    return Split(_subset(train, labels, n_per_class, seed), val, test)


def split_problems(
    labels: np.ndarray,
    given: np.ndarray | None,
    fractions: tuple[float, float],
    n_per_class: int | None,
    class_names: Sequence[str],
) -> list[str]:
    """What keeps the examples from being split so, whatever the seed: classes that are missing or too small."""
    parts, pool, missing = _openings(labels, given)
    num_classes = len(class_names)
    if not (pool | (parts == "train")).any():
        return ["The data has no training examples: put some into train, or leave their part of the split empty."]
    open_sizes = np.bincount(labels[pool], minlength=num_classes)
    counts = [sum(_counts(int(size), missing, fractions).values()) for size in open_sizes]
    train_sizes = np.bincount(labels[parts == "train"], minlength=num_classes) + open_sizes - np.asarray(counts)
    held = labels[(parts == "val") | (parts == "test")]
    problems = [
        f"The class {class_names[label]!r} is in val or test, but train has no example of it: add some or remove it."
        for label in sorted(set(held.tolist()) - set(labels[(parts == "train") | pool].tolist()))
    ]
    need = len(missing) + 1
    small = {
        class_names[label]: int(size)
        for label, size in enumerate(open_sizes)
        if missing and ((size > 0 and train_sizes[label] < 1) or (0 < size < len(missing)))
    }
    if small:
        shown = listed([f"{name!r} has {size}" for name, size in small.items()], 10)
        problems.append(
            f"Each class needs at least {need} examples to draw {' and '.join(missing)} from them and leave one for "
            f"train, but {shown}: add examples, remove the class or lower "
            f"{' and '.join(f'data.{name}_fraction' for name in missing)}."
        )
    elif n_per_class is not None:
        problems += _subset_problems(train_sizes, n_per_class, class_names)
    return problems


def _openings(labels: np.ndarray, given: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Part of each example so far, which ones are open to be drawn from, and the parts that are to be drawn."""
    parts = np.full(len(labels), "", dtype="<U5") if given is None else given.astype("<U5")
    missing = [name for name in ("val", "test") if not (parts == name).any()]
    pool = parts == ""
    if missing and not pool.any():
        pool = parts == "train"
        parts[pool] = ""
    return parts, pool, missing


def _counts(size: int, missing: list[str], fractions: tuple[float, float]) -> dict[str, int]:
    """How many of a class of `size` go to each part to be drawn: its share, rounded, but at least one."""
    shares = dict(zip(("val", "test"), fractions, strict=True))
    return {name: max(1, int(size * shares[name] + 0.5)) for name in missing} if size else {}


def _subset(train: np.ndarray, labels: np.ndarray, n_per_class: int | None, seed: int) -> np.ndarray:
    if n_per_class is None:
        return train
    chosen = [
        stream(seed, "subset", int(label)).permutation(train[labels[train] == label])[:n_per_class]
        for label in np.unique(labels[train])
    ]
    return np.sort(np.concatenate(chosen))


def _subset_problems(train_sizes: np.ndarray, n_per_class: int, class_names: Sequence[str]) -> list[str]:
    short = [f"{name!r} ({size})" for name, size in zip(class_names, train_sizes, strict=True) if size < n_per_class]
    if not short:
        return []
    return [
        f"data.n_per_class={n_per_class} is more than the training set has of {listed(short, 10)}. "
        f"The largest possible value is {train_sizes.min()}."
    ]
