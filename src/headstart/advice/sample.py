"""The examples that advice is measured on: of train and val alone, at most so many, with folds that divide no unit."""

from dataclasses import dataclass

import numpy as np

from headstart.run.job import Job
from headstart.run.pools import groups_of
from headstart.seeding import stream
from headstart.splits.kfold import dealt
from headstart.splits.splitter import Pool
from headstart.splits.units import units
from headstart.tasks.task import Targets

MOST = 2_000
"""Examples that features are judged on."""
A_CLASS = 10
"""Examples of a class that a neighbour or a fold takes to say anything of it: more classes than that allows are drawn
from by chance."""
FOLDS = 5
FEWEST = 5 * FOLDS
"""Units (examples, groups, sets of copies) without which nothing is cross-validated."""


@dataclass(frozen=True)
class Sample:
    """Examples by their places in the source, ascending."""

    places: np.ndarray
    units: np.ndarray
    """`(n,)`, equal for examples that must not be told from one another: copies, and those of one group."""
    strata: np.ndarray
    """Class of each `(n,)`, or 0/1 `(n, L)`; quantiles of numbers."""
    folds: np.ndarray | None
    """`(n,)`, from 0; `None` where there are too few for cross-validation."""
    num_known: int
    """Examples of train and val that there are."""
    num_strata: int
    """Classes that there are in train and val."""
    num_taken: int
    """Classes that the examples are of."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def num_units(self) -> int:
        """How many there are that can be told from one another."""
        return len(np.unique(self.units))

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return len(self) == self.num_known


def draw(job: Job, most: int = MOST) -> Sample:
    """Examples of the job's train and val, the same whatever the backbone; a smaller number is part of a larger one."""
    known = np.sort(np.concatenate([job.split.train, job.split.val]))
    targets = Targets(job.targets.values[known], job.targets.names)
    strata, names = job.parts.task.strata(targets)
    together = _units(job)[known]
    kept = _of_few_classes(strata, most) if job.task.strata_are_classes else _all(strata)
    chosen = _drawn(together, np.flatnonzero(kept), most)
    pool = Pool(strata[chosen], names, together[chosen])
    enough = len(np.unique(together[chosen])) >= FEWEST
    return Sample(
        places=known[chosen],
        units=together[chosen],
        strata=strata[chosen],
        folds=dealt(pool, FOLDS, 0) if enough else None,
        num_known=len(known),
        num_strata=int((pool_totals(strata) > 0).sum()),
        num_taken=int((pool_totals(strata[chosen]) > 0).sum()),
    )


def pool_totals(strata: np.ndarray) -> np.ndarray:
    """How many examples each class has."""
    return np.bincount(strata) if strata.ndim == 1 else strata.sum(0).astype(np.int64)


def _units(job: Job) -> np.ndarray:
    source = job.source
    return units(len(source.ids), groups_of(source, job.splitter), source.contents)


def _all(strata: np.ndarray) -> np.ndarray:
    return np.ones(len(strata), dtype=bool)


def _of_few_classes(strata: np.ndarray, most: int) -> np.ndarray:
    """Which examples `(N,)` are of classes that are looked at."""
    there = np.unique(strata)
    few = max(2, most // A_CLASS)
    if len(there) <= few:
        return _all(strata)
    chosen = stream(0, "advice classes").permutation(there)[:few]
    return np.isin(strata, chosen)


def _drawn(together: np.ndarray, places: np.ndarray, most: int) -> np.ndarray:
    """At most so many of `places`, unit after unit in a drawn order, ascending."""
    if len(places) <= most:
        return places
    order = stream(0, "advice").permutation(np.unique(together[places]))
    rank = np.empty(int(together.max()) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    ranked = places[np.argsort(rank[together[places]], kind="stable")]
    return np.sort(ranked[:most])
