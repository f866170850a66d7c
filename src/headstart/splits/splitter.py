"""Which examples train, which select and which test: what every way of dividing them shares."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from headstart.errors import InputError
from headstart.names import listed, plural
from headstart.seeding import stream
from headstart.splits.stratify import deal, iterate
from headstart.splits.units import mixed

Duplicates = Literal["keep", "group", "error"]


@dataclass(frozen=True)
class Split:
    """Indices into the source `(n,)`, int64, ascending and disjoint."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def indices(self) -> dict[str, np.ndarray]:
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def sizes(self) -> dict[str, int]:
        return {part: len(indices) for part, indices in self.indices.items()}

    @cached_property
    def sha256(self) -> str:
        """Over the indices of all parts: equal for runs that may be compared pairwise."""
        digest = hashlib.sha256()
        for indices in (self.train, self.val, self.test):
            digest.update(len(indices).to_bytes(8, "little") + indices.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Pool:
    """What is divided."""

    labels: np.ndarray
    """Class (or stratum) of each example `(N,)`, int64; or `(N, L)`, 0 or 1, where one may have several labels."""
    names: Sequence[str]
    """Of the classes, for messages."""
    units: np.ndarray
    """`(N,)`, equal for examples that must lie in one part (see `units.units`)."""
    given: np.ndarray | None = None
    """`"train"`, `"val"`, `"test"` or `""` (to be drawn) for each example, where the data says so."""
    fractions: tuple[float, float] = (0.15, 0.15)
    """Shares of val and test that are usual for these data."""
    all_train: bool = True
    """Whether there must be an example of each class to train on, as there must of what is to be told apart."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_one_label(self) -> bool:
        """Whether each example has one label, rather than any number of them."""
        return self.labels.ndim == 1

    def totals(self, among: np.ndarray) -> np.ndarray:
        """How many examples of the mask `among` have each label `(L,)`."""
        if self.has_one_label:
            return np.bincount(self.labels[among], minlength=len(self.names))
        return self.labels[among].sum(0).astype(np.int64)


class Splitter(ABC):
    """Divides examples; the same pool and seed give the same split, whatever is trained on it.

    Args:
        val_fraction: Share of the examples to be drawn for val; `None` for what is usual for the data.
        n_per_class: Training examples of each class; `None` for all. A smaller subset is part of every larger one.
        seed: Of what is drawn for val and test; `None` for the run's own. The training subset follows the run's.
        group_column: Column of a table whose groups (a patient, a speaker, a scene) lie in one part each.
        duplicates: What to do with examples of one content: `group` keeps them in one part, `keep` takes them as they
            come, `error` refuses them.
    """

    parts_column: str | None = None
    """Column of a table that says the part of each example, in place of what the data bring."""
    folds_column: str | None = None
    """Column of a table that says the fold of each example."""

    def __init__(
        self,
        val_fraction: float | None,
        n_per_class: int | None,
        seed: int | None,
        group_column: str | None,
        duplicates: Duplicates,
    ) -> None:
        self.val_fraction, self.n_per_class, self.seed = val_fraction, n_per_class, seed
        self.group_column, self.duplicates = group_column, duplicates

    @property
    def columns(self) -> dict[str, str]:
        """Columns of a table that it needs, by the setting that names each."""
        return {} if self.group_column is None else {"split.group_column": self.group_column}

    @abstractmethod
    def parts(self, pool: Pool, seed: int, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
        """`"train"`, `"val"` or `"test"` for each example `(N,)`; `seed` is the run's."""

    @abstractmethod
    def problems(self, pool: Pool, columns: Mapping[str, Sequence[str]]) -> list[str]:
        """What keeps the examples from being divided so, whatever the seed."""

    def split(self, pool: Pool, seed: int, columns: Mapping[str, Sequence[str]] | None = None) -> Split:
        """Divide the examples of `pool`; `columns` are the values of each column that is needed, by its name.

        Raises:
            InputError: if they cannot be divided so.
        """
        found = self.problems(pool, columns or {})
        if found:
            raise InputError(*found)
        parts = self.parts(pool, seed, columns or {})
        train, val, test = (np.flatnonzero(parts == name) for name in ("train", "val", "test"))
        self._check_drawn(pool, {"train": train, "val": val, "test": test})
        return Split(subset(train, pool, self.n_per_class, seed), val, test)

    def _check_drawn(self, pool: Pool, parts: Mapping[str, np.ndarray]) -> None:
        """Raise `InputError` for parts without examples, and classes that have fewer than `n_per_class` to train on."""
        empty = [name for name, indices in parts.items() if not len(indices)]
        if empty:
            raise InputError(
                f"Nothing is left for {' and '.join(empty)}: the examples belong together by groups or as copies "
                f"of one content, and each of these {plural(len(set(pool.units)), 'set')} must lie in one part. Use "
                "groups that are smaller."
            )
        everywhere = np.ones(len(pool), dtype=bool)
        sizes, least = pool.totals(parts["train"]), self.n_per_class
        lost = [
            repr(pool.names[place]) for place in np.flatnonzero((sizes == 0) & (pool.totals(everywhere) > 0)).tolist()
        ]
        if lost and pool.all_train:
            raise InputError(
                f"Train got no example of {listed(lost, 10)}, as all of its examples belong together with those of val "
                "or test: draw otherwise (split.seed), or use groups that are smaller."
            )
        if least is None:
            return
        short = [f"{n!r} ({size})" for n, size in zip(pool.names, sizes, strict=True) if size < least]
        if short:
            raise InputError(
                f"split.n_per_class={least} is more than the training set has of {listed(short, 10)}. "
                f"The largest possible value is {sizes.min()}."
            )

    def described(self, seed: int) -> str:
        """By what the examples are divided, for messages: `seed 0`."""
        return f"seed {self._seed(seed)}"

    def _seed(self, runs: int) -> int:
        return runs if self.seed is None else self.seed


def subset(train: np.ndarray, pool: Pool, n_per_class: int | None, seed: int) -> np.ndarray:
    """Training examples, at most `n_per_class` of each class, drawn in an order that every size follows.

    Where an example has several labels, examples are taken in a drawn order as long as one of its labels is short.
    """
    if n_per_class is None:
        return train
    if pool.has_one_label:
        labels = pool.labels[train]
        chosen = [
            stream(seed, "subset", int(label)).permutation(train[labels == label])[:n_per_class]
            for label in np.unique(labels)
        ]
        return np.sort(np.concatenate(chosen))
    taken, have = [], np.zeros(len(pool.names))
    for place in stream(seed, "subset").permutation(train).tolist():
        row = pool.labels[place]
        if (have[row > 0] < n_per_class).any():
            taken.append(place)
            have += row
    return np.sort(np.array(taken, dtype=np.int64))


def portion(sizes: np.ndarray, share: float) -> np.ndarray:
    """How many of each class go to a part: its share, rounded, but at least one where there are any."""
    return np.where(sizes > 0, np.maximum(1, (sizes * share + 0.5).astype(int)), 0)


def reserved(counts: Mapping[str, np.ndarray], sizes: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers, less where a class is so rare that nothing would be left to train on: the last part goes first.

    A class of one example trains; of two, the second one is the last part's.
    """
    left, found = np.maximum(sizes - 1, 0), dict(counts)
    for part in reversed(found):
        found[part] = np.minimum(counts[part], left)
        left = left - found[part]
    return found


def drawn(pool: Pool, open_to: np.ndarray, counts: Mapping[str, np.ndarray], seed: int, name: str) -> np.ndarray:
    """Names of parts for the examples of the mask `open_to` `(N,)`; the rest of the names are empty.

    `counts` are, for each part to be drawn, how many examples of each class `(L,)` it is to get; what is left trains.
    Units whose examples are all of one class are dealt class by class; those before them that hold several classes, by
    iterative stratification.
    """
    parts = np.where(open_to, "train", "").astype("<U5")
    if not counts:
        return parts
    places, names = np.flatnonzero(open_to), [*counts, "train"]
    labels, units = pool.labels[places], pool.units[places]
    several = mixed(units, labels) if pool.has_one_label else np.ones(len(places), dtype=bool)
    left = {part: count.astype(float) for part, count in counts.items()}
    dealt = np.full(len(places), len(names) - 1)
    if several.any():
        total, theirs = pool.totals(places), pool.totals(places[several])
        share = theirs / np.maximum(total, 1)
        want = np.stack([count * share for count in left.values()])
        want = np.concatenate([want, (theirs - want.sum(0))[None]])
        sizes = want.sum(1) / max(1.0, want.sum()) * several.sum()
        dealt[several] = iterate(labels[several], units[several], want, sizes, seed, name)
        for number, part in enumerate(left):
            left[part] = left[part] - pool.totals(places[several & (dealt == number)])
    if not several.all():
        wanted = np.stack([np.maximum(0, np.rint(count)).astype(int) for count in left.values()])
        dealt[~several] = deal(labels[~several], units[~several], wanted, seed, name)
    parts[places] = np.array(names, dtype="<U5")[dealt]
    return parts
