"""Which examples make up each batch, as a function of seed and epoch alone."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from headstart.errors import InputError
from headstart.names import plural
from headstart.seeding import stream

_SORTED_BATCHES = 50
"""How many batches' worth of shuffled examples are sorted by length at a time."""


class Draw(NamedTuple):
    """One batch of this process: which epoch it belongs to, its examples, and how many all processes have in it."""

    epoch: int
    indices: np.ndarray
    num_global: int


class Batches:
    """A sampler of whole batches; Lightning tells it the epoch.

    `batch_size` counts the examples of all processes together; process `rank` of `world` takes every `world`-th of
    each batch, `rank` None all of it. A last batch too small to share (below `world`, in training below `2 * world`, as
    batch normalisation needs two) joins the one before it.

    Args:
        indices: The examples `(n,)`, as indices into the source.
        batch_size: Examples in a batch.
        seed: The run's seed; the order depends on it and the epoch. `None` for no shuffling.
        lengths: Length of each of these examples `(n,)`: batches are then made of like lengths.
    """

    def __init__(
        self,
        indices: np.ndarray,
        batch_size: int,
        seed: int | None,
        lengths: np.ndarray | None = None,
        rank: int | None = 0,
        world: int = 1,
    ) -> None:
        if min(len(indices), batch_size) < world:
            raise InputError(
                f"Each of {world} processes must get an example of each batch, but all together read "
                f"trainer.batch_size={batch_size} at once, of {plural(len(indices), 'example')}: use fewer processes "
                "or larger batches."
            )
        self._indices = np.asarray(indices, dtype=np.int64)
        self._lengths = lengths
        self._seed = seed
        self._share = slice(rank, None, 1 if rank is None else world)
        self._epoch = 0
        self._bounds = _bounds(len(indices), batch_size, world if seed is None or batch_size == 1 else 2 * world)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    @property
    def epoch(self) -> int:
        """Whose order comes next."""
        return self._epoch

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def sizes(self) -> set[int]:
        """How many examples batches have, all processes together."""
        return {stop - start for start, stop in pairwise(self._bounds)}

    def __iter__(self) -> Iterator[Draw]:
        epoch = self._epoch
        order = self._order(epoch)
        batches = [order[start:stop] for start, stop in pairwise(self._bounds)]
        if self._lengths is not None and self._seed is not None:
            shuffled = stream(self._seed, "batches", epoch).permutation(len(batches))
            batches = [batches[place] for place in shuffled]
        for batch in batches:
            yield Draw(epoch, self._indices[batch[self._share]], len(batch))

    def _order(self, epoch: int) -> np.ndarray:
        count = len(self._indices)
        order = np.arange(count) if self._seed is None else stream(self._seed, "order", epoch).permutation(count)
        if self._lengths is None:
            return order
        if self._seed is None:
            return np.argsort(self._lengths, kind="stable")
        edges = self._bounds[_SORTED_BATCHES:-1:_SORTED_BATCHES]
        return np.concatenate([run[np.argsort(self._lengths[run], kind="stable")] for run in np.split(order, edges)])


def _bounds(count: int, batch_size: int, smallest: int) -> list[int]:
    """Where batches begin and end: `[0, batch_size, …, count]`, with a rest below `smallest` in the last full one."""
    bounds = [*range(0, count, batch_size), count]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < smallest:
        del bounds[-2]
    return bounds
