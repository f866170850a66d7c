from itertools import chain

import numpy as np
import pytest

from headstart.data.batches import Batches
from headstart.errors import InputError

INDICES = np.arange(100, 200)


def drawn(batches, epoch=0):
    batches.set_epoch(epoch)
    return [draw.indices.tolist() for draw in batches]


def test_every_example_comes_once_an_epoch_in_an_order_of_seed_and_epoch():
    one = Batches(INDICES, 32, seed=0)
    first = drawn(one)
    assert sorted(chain(*first)) == INDICES.tolist()
    assert [len(batch) for batch in first] == [32, 32, 32, 4]
    assert first == drawn(Batches(INDICES, 32, seed=0))
    assert first != drawn(one, epoch=1)
    assert first != drawn(Batches(INDICES, 32, seed=1))


def test_without_seed_examples_come_as_they_are():
    assert list(chain(*drawn(Batches(INDICES, 32, seed=None)))) == INDICES.tolist()


@pytest.mark.parametrize(
    ("size", "seed", "sizes"), [(33, 0, [33, 33, 34]), (33, None, [33, 33, 33, 1]), (101, 0, [100])]
)
def test_single_last_training_example_joins_the_batch_before(size, seed, sizes):
    batches = Batches(INDICES, size, seed)
    assert [len(batch) for batch in drawn(batches)] == sizes
    assert len(batches) == len(sizes)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_whole_batches_are_what_all_processes_share(world):
    lengths = np.random.default_rng(0).integers(1, 9, 100)
    shares = [drawn(Batches(INDICES, 33, 0, lengths, rank, world)) for rank in range(world)]
    whole = Batches(INDICES, 33, 0, lengths, rank=None, world=world)
    assert [sorted(chain(*parts)) for parts in zip(*shares, strict=True)] == [sorted(batch) for batch in drawn(whole)]
    assert whole.sizes == {len(batch) for batch in drawn(whole)} == {33, 34}


def test_batches_of_one_stay_batches_of_one():
    assert len(Batches(INDICES, 1, seed=0)) == 100


@pytest.mark.parametrize("count", [96, 99, 100])
@pytest.mark.parametrize("seed", [0, None])
def test_ranks_share_each_global_batch(count, seed):
    whole = Batches(INDICES[:count], 32, seed)
    ranks = [Batches(INDICES[:count], 32, seed, rank=rank, world=2) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    for epoch in (0, 1):
        shares = list(zip(*(drawn(rank, epoch) for rank in ranks), strict=True))
        together = [sorted(one + other) for one, other in shares]
        assert sorted(chain(*together)) == INDICES[:count].tolist()
        assert all(one and other for one, other in shares)
        if count != 99:  # 3 left over: too few for two processes in training
            assert together == [sorted(batch) for batch in drawn(whole, epoch)]
    assert [draw.num_global for draw in ranks[0]] == [len(batch) for batch in together]


def test_more_processes_than_examples_or_batch_is_refused():
    with pytest.raises(InputError, match="Each of 4 processes"):
        Batches(INDICES[:3], 32, 0, world=4)
    with pytest.raises(InputError, match="batch_size=2"):
        Batches(INDICES, 2, 0, world=4)


@pytest.mark.parametrize("seed", [0, None])
def test_batches_of_like_lengths_hold_every_example_once(seed):
    lengths = np.random.default_rng(0).integers(1, 500, 1000)
    batches = Batches(np.arange(1000), 10, seed, lengths)
    first = drawn(batches)
    assert sorted(chain(*first)) == list(range(1000))
    spread = np.mean([np.ptp(lengths[batch]) for batch in first])
    assert spread < 0.1 * np.ptp(lengths)
    if seed is not None:
        assert first != drawn(batches, epoch=1)
        assert np.mean(lengths[first[0]]) != min(np.mean(lengths[batch]) for batch in first)
