"""Cross-validation: one fold of several tests, and val is drawn from the others."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from headstart.config.ranges import Count, Index
from headstart.errors import unknown
from headstart.names import listed
from headstart.splits.holdout import Share
from headstart.splits.splitter import Duplicates, Pool, Splitter, drawn, portion, reserved
from headstart.splits.stratify import iterate, level
from headstart.splits.units import mixed

Folds = Annotated[int, Ge(2), Le(1000)]


class KFold(Splitter):
    """Fold number `fold` tests, val is drawn from the others, the rest trains; the folds cover all examples.

    Folds have the same share of every class, and follow `seed` alone (0 if it is not given), so that runs of one
    comparison share them whatever their own seed; val follows the run's where `seed` is not given. Runs that differ in
    seed or fold alone are replicates.

    Args:
        fold: From 0; or, with `column`, a value of that column.
        folds: How many are drawn; a column brings its own.
        column: Column of the table that holds the folds, in place of drawing them.
        val_fold: The fold that selects; `None` to draw val from the folds that do not test.
        val_fraction: Share of the other folds' examples for val; `None` for what is usual for the data.
        n_per_class, group_column, duplicates: As for `Splitter`.
        seed: Of the folds, and of val.
    """

    def __init__(
        self,
        fold: Index | str = 0,
        folds: Folds = 5,
        column: str | None = None,
        val_fold: Index | str | None = None,
        val_fraction: Share | None = None,
        n_per_class: Count | None = None,
        seed: Index | None = None,
        group_column: str | None = None,
        duplicates: Duplicates = "group",
    ) -> None:
        super().__init__(val_fraction, n_per_class, seed, group_column, duplicates)
        self.fold, self.folds, self.folds_column = str(fold), folds, column
        self.val_fold = None if val_fold is None else str(val_fold)

    @property
    def columns(self) -> dict[str, str]:
        return super().columns | ({} if self.folds_column is None else {"split.column": self.folds_column})

    def parts(self, pool: Pool, seed: int, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
        fold_of = self._fold_of(pool, columns)
        test = fold_of == self.fold
        if self.val_fold is not None:
            return np.where(test, "test", np.where(fold_of == self.val_fold, "val", "train"))
        # copies and groups that a column of folds divides stay where they are; the rest of them trains
        open_to = ~test & ~np.isin(pool.units, pool.units[test])
        sizes = pool.totals(open_to)
        counts = reserved({"val": portion(sizes, self._val_share(pool))}, sizes)
        found = drawn(pool, open_to, counts, self._seed(seed), "split")
        return np.where(test, "test", np.where(open_to, found, "train"))

    def problems(self, pool: Pool, columns: Mapping[str, Sequence[str]]) -> list[str]:
        names = sorted(set(self._names(columns)))
        chosen = {"split.fold": self.fold, "split.val_fold": self.val_fold}
        wrong = [message for key, fold in chosen.items() if fold is not None and fold not in names
                 for message in unknown(key, fold, names).messages]  # fmt: skip
        if self.fold == self.val_fold:
            wrong.append(f"split.fold and split.val_fold must be different folds, but both are {self.fold}.")
        held = {"val", "test"} & set(() if pool.given is None else pool.given.tolist())
        if held:
            wrong.append(
                f"The data bring a {' and a '.join(sorted(held))} set of their own, so they are not cross-validated: "
                "use split=holdout, or bring all examples into one part."
            )
        if wrong or not pool.has_one_label or not pool.all_train:
            return wrong
        if self.folds_column is None:
            sizes = pool.totals(np.ones(len(pool), dtype=bool))
            least = self.folds + (self.val_fold is None)
            small = [f"{name!r} has {n}" for name, n in zip(pool.names, sizes, strict=True) if n < least]
            if small:
                most = int(sizes[sizes > 0].min(initial=self.folds)) - (self.val_fold is None)
                remedy = f"use split.folds={most} or fewer" if most >= 2 else "add examples or remove the class"
                return [
                    f"split.folds={self.folds} needs {least} examples of each class, but {listed(small, 10)}: {remedy}."
                ]
            return []  # what is left outside of a fold that was drawn is seen once it is
        fold_of = self._fold_of(pool, columns)
        outside = (fold_of != self.fold) & (fold_of != (self.val_fold or self.fold))
        least = 2 if self.val_fold is None else 1
        gone = [repr(name) for name, n in zip(pool.names, pool.totals(outside), strict=True) if n < least]
        if gone:
            which = f"fold {self.fold}" if self.val_fold is None else f"folds {self.fold} and {self.val_fold}"
            few = "no example is" if least == 1 else f"fewer than {least} examples are"
            return [f"Outside of {which}, {few} left of {listed(gone, 10)}."]
        return []

    def described(self, seed: int) -> str:
        return f"fold {self.fold}"

    def _val_share(self, pool: Pool) -> float:
        return pool.fractions[0] if self.val_fraction is None else self.val_fraction

    def _names(self, columns: Mapping[str, Sequence[str]]) -> Sequence[str]:
        return [str(fold) for fold in range(self.folds)] if self.folds_column is None else columns[self.folds_column]

    def _fold_of(self, pool: Pool, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
        if self.folds_column is not None:
            return np.array(columns[self.folds_column], dtype=str)
        return dealt(pool, self.folds, self.seed or 0).astype(str)


def dealt(pool: Pool, folds: int, seed: int) -> np.ndarray:
    """Number of the fold of each example `(N,)`; units of several classes are dealt before those of one."""
    everyone = np.ones(len(pool), dtype=bool)
    several = mixed(pool.units, pool.labels) if pool.has_one_label else everyone
    fold_of = np.zeros(len(pool), dtype=np.int64)
    if several.any():
        want = np.tile(pool.totals(several) / folds, (folds, 1))
        room = np.full(folds, several.sum() / folds)
        fold_of[several] = iterate(pool.labels[several], pool.units[several], want, room, seed, "fold")
    if not several.all():
        start = np.stack([pool.totals(several & (fold_of == fold)) for fold in range(folds)])
        fold_of[~several] = level(pool.labels[~several], pool.units[~several], start, seed, "fold")
    return fold_of
