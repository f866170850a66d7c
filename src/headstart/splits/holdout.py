"""One val and one test set: drawn class by class, or as the data or a column of theirs says."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt

from headstart.config.ranges import Count, Index
from headstart.names import listed
from headstart.splits.splitter import Duplicates, Pool, Splitter, drawn, portion, reserved

Share = Annotated[float, Gt(0), Lt(1)]
"""A share that is neither nothing nor all."""


class Holdout(Splitter):
    """Val and test drawn with the same share of every class; parts that the data brings stay as they are.

    What the data lacks is drawn from the examples that it leaves open, or from its train where it leaves none. An open
    example that belongs together with one whose part is given goes to that part.

    Args:
        val_fraction: Share for val, at least one example of each class; `None` for what is usual for the data.
        test_fraction: Share for test, likewise.
        n_per_class, seed, group_column, duplicates: As for `Splitter`.
    """

    def __init__(
        self,
        val_fraction: Share | None = None,
        test_fraction: Share | None = None,
        n_per_class: Count | None = None,
        seed: Index | None = None,
        group_column: str | None = None,
        duplicates: Duplicates = "group",
    ) -> None:
        super().__init__(val_fraction, n_per_class, seed, group_column, duplicates)
        self.test_fraction = test_fraction

    def shares(self, pool: Pool) -> dict[str, float]:
        """Shares of val and test; where they are not given, those that are usual for the data."""
        own = zip((self.val_fraction, self.test_fraction), pool.fractions, strict=True)
        val, test = (usual if share is None else share for share, usual in own)
        return {"val": val, "test": test}

    def parts(self, pool: Pool, seed: int, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
        parts, open_to, missing = openings(pool)
        counts = self._counts(pool, open_to, missing)
        found = drawn(pool, open_to, counts, self._seed(seed), "split")
        return np.where(open_to, found, parts)

    def problems(self, pool: Pool, columns: Mapping[str, Sequence[str]]) -> list[str]:
        shares = self.shares(pool)
        if sum(shares.values()) >= 1:
            return [
                f"split.val_fraction + split.test_fraction must be below 1, but {shares['val']} + {shares['test']} "
                f"leaves nothing to train on."
            ]
        parts, open_to, missing = openings(pool)
        if not (open_to | (parts == "train")).any():
            return ["The data has no training examples: put some into train, or leave their part of the split empty."]
        if not pool.all_train:
            return []
        held, trained = pool.totals((parts == "val") | (parts == "test")), pool.totals((parts == "train") | open_to)
        found = [
            f"The class {name!r} is in val or test, but train has no example of it: add some or remove it."
            for name, out, inside in zip(pool.names, held, trained, strict=True)
            if out and not inside
        ]
        small = self._too_small(pool, open_to, missing) if pool.has_one_label else []
        if small:
            alone = len(np.unique(pool.units)) == len(pool)
            what = "examples" if alone else "groups of examples that belong together"
            found.append(
                f"Each class needs at least {len(missing) + 1} {what} to draw {' and '.join(missing)} from them and "
                f"leave one for train, but {listed(small, 10)}: add examples, remove the class or lower "
                f"{' and '.join(f'split.{name}_fraction' for name in missing)}."
            )
        return found

    def _too_small(self, pool: Pool, open_to: np.ndarray, missing: Sequence[str]) -> list[str]:
        """Classes of too few examples (or of too few units of them) to be in every part."""
        sizes = pool.totals(open_to)
        shares = self.shares(pool)
        left = sizes - sum((portion(sizes, shares[name]) for name in missing), np.zeros(len(sizes), dtype=int))
        pairs = np.sort(pool.units[open_to] * len(sizes) + pool.labels[open_to])
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # what np.unique gives, whose table is slow on such numbers
        num_units = np.bincount(pairs % len(sizes), minlength=len(sizes))
        few = (sizes > 0) & ((left < 1) | (num_units < len(missing) + 1))
        return (
            [f"{pool.names[label]!r} has {num_units[label]}" for label in np.flatnonzero(few).tolist()]
            if missing
            else []
        )

    def _counts(self, pool: Pool, open_to: np.ndarray, missing: Sequence[str]) -> dict[str, np.ndarray]:
        """How many of each class go to each part to be drawn."""
        shares, sizes = self.shares(pool), pool.totals(open_to)
        return reserved({name: portion(sizes, shares[name]) for name in missing}, sizes)


class Column(Holdout):
    """Parts as a column of the table says: train, val (valid, validation, dev) or test; empty cells may be drawn.

    Args:
        column: Its name.
        val_fraction, test_fraction, n_per_class, seed, group_column, duplicates: As for `Holdout`, for what it lacks.
    """

    def __init__(
        self,
        column: str,
        val_fraction: Share | None = None,
        test_fraction: Share | None = None,
        n_per_class: Count | None = None,
        seed: Index | None = None,
        group_column: str | None = None,
        duplicates: Duplicates = "group",
    ) -> None:
        super().__init__(val_fraction, test_fraction, n_per_class, seed, group_column, duplicates)
        self.parts_column = column

    @property
    def columns(self) -> dict[str, str]:
        assert self.parts_column is not None
        return super().columns | {"split.column": self.parts_column}


def openings(pool: Pool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Part of each example so far, which are open to be drawn from, and the parts that are to be drawn."""
    parts = np.full(len(pool), "", dtype="<U5") if pool.given is None else pool.given.astype("<U5")
    missing = [name for name in ("val", "test") if not (parts == name).any()]
    open_to = parts == ""
    if missing and not open_to.any():
        open_to = parts == "train"
    return settled(pool.units, parts, open_to, missing)


def settled(
    units: np.ndarray, parts: np.ndarray, open_to: np.ndarray, missing: list[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The same, once open examples that belong together with ones of a given part have gone there; what was train
    before it was opened stays in train."""
    parts = parts.copy()
    for part in ("test", "val", "train"):
        fixed = np.isin(units, units[~open_to & (parts == part)])
        parts[open_to & fixed & (parts != "train")] = part
    free = open_to & ~np.isin(units, units[~open_to])
    return np.where(free, "", parts), free, missing
