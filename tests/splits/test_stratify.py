"""Parts get their shares of every label, and units stay whole."""

import numpy as np
import pytest

from headstart.splits.stratify import NO_PART, deal, iterate, level
from headstart.splits.units import spread, units


def shared_out(labels, whole, shares, seed=0, name="split"):
    want = np.outer(shares, labels.sum(0))
    return iterate(labels, whole, want, np.array(shares) * len(labels), seed, name)


def test_units_join_by_any_chain_of_groups_and_copies():
    groups = ["a", "a", "b", None, "c", None]
    copies = ["1", "2", "2", "3", "4", "3"]
    assert units(6, groups, copies).tolist() == [0, 0, 0, 1, 2, 1]
    assert units(3, None).tolist() == [0, 1, 2]
    assert spread(np.array([0, 0, 1, 1, 2]), np.array(["train", "test", "val", "", "test"])) == [0]


def test_units_are_the_connected_components_numbered_by_their_first_example():
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(0)
    for count, kinds in ((1, 1), (40, 60), (200, 150), (300, 40)):
        groups, copies = rng.integers(0, kinds, (2, count))
        names = [None if rng.random() < 0.3 else str(group) for group in groups]
        same = (copies[:, None] == copies) | np.array([[a == b and a is not None for a in names] for b in names])
        _, wanted = connected_components(coo_array(same), directed=False)
        first = {component: number for number, component in enumerate(dict.fromkeys(wanted.tolist()))}
        assert units(count, names, copies).tolist() == [first[component] for component in wanted.tolist()]


def test_single_examples_are_dealt_in_exact_numbers():
    labels = np.repeat([0, 1], [30, 10])
    dealt = deal(labels, np.arange(40), np.array([[5, 2], [8, 3]]), seed=3, name="split")
    for label, counts in ((0, [5, 8]), (1, [2, 3])):
        assert [int((dealt[labels == label] == part).sum()) for part in (0, 1)] == counts
    assert (dealt == NO_PART).sum() == 40 - 18


def test_units_are_never_divided_and_parts_come_near_to_what_they_want():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 60)
    whole = labels * 1000 + rng.integers(0, 12, 240)
    dealt = deal(labels, units(240, whole), np.array([[9] * 4, [12] * 4]), seed=1, name="split")
    assert all(len(set(dealt[whole == unit])) == 1 for unit in np.unique(whole))
    for label in range(4):
        assert abs(int((dealt[labels == label] == 0).sum()) - 9) <= 5
        assert abs(int((dealt[labels == label] == 1).sum()) - 12) <= 5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rare_labels_of_several_are_spread_by_share(seed: int):
    rng = np.random.default_rng(seed)
    labels = (rng.random((600, 5)) < np.array([0.5, 0.3, 0.1, 0.05, 0.02])).astype(float)
    parts = shared_out(labels, np.arange(600), (0.15, 0.15, 0.7), seed, "split")
    total = labels.sum(0)
    for part, share in enumerate((0.15, 0.15, 0.7)):
        assert np.abs(labels[parts == part].sum(0) - share * total).max() <= max(3, 0.06 * total.max())
        assert abs((parts == part).sum() - share * 600) <= 12


def test_it_is_nearer_to_the_shares_than_chance_is():
    rng = np.random.default_rng(5)
    labels = (rng.random((400, 8)) < 0.04).astype(float)

    def unevenness(parts: np.ndarray) -> float:
        return sum(np.abs(labels[parts == part].sum(0) - labels.sum(0) / 5).sum() for part in range(5))

    even = unevenness(shared_out(labels, np.arange(400), [0.2] * 5, 0, "fold"))
    assert even < 0.6 * np.mean([unevenness(rng.integers(0, 5, 400)) for _ in range(20)])


def test_groups_with_several_labels_stay_whole():
    rng = np.random.default_rng(2)
    speaker = rng.integers(0, 20, 300)
    labels = np.eye(3)[rng.integers(0, 3, 300)]
    parts = shared_out(labels, units(300, speaker), (0.2, 0.2, 0.6), 0, "split")
    assert all(len(set(parts[speaker == one])) == 1 for one in range(20))
    assert [(parts == part).sum() / 300 for part in range(3)] == pytest.approx([0.2, 0.2, 0.6], abs=0.07)


def test_same_seed_same_parts():
    labels = np.eye(2)[np.arange(40) % 2]
    one, same, other = (shared_out(labels, np.arange(40), (0.5, 0.5), seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", [0, 1])
def test_one_label_each_is_dealt_as_a_row_of_ones_and_zeros_is(seed):
    labels = np.random.default_rng(seed).integers(0, 4, 80)
    whole = np.random.default_rng(seed + 9).integers(0, 25, 80)
    rows = np.eye(4)[labels]
    want, room = np.outer([0.3, 0.7], rows.sum(0)), np.array([24.0, 56.0])
    assert np.array_equal(iterate(labels, whole, want, room, seed, "x"), iterate(rows, whole, want, room, seed, "x"))


@pytest.mark.parametrize("seed", [0, 1])
def test_folds_are_level_in_every_class_and_in_all(seed):
    labels = np.random.default_rng(seed).integers(0, 7, 500)
    folds = level(labels, np.arange(500), np.zeros((5, 7), dtype=int), seed, "fold")
    per_class = np.array([np.bincount(labels[folds == fold], minlength=7) for fold in range(5)])
    assert np.ptp(per_class, axis=0).max() <= 1
    assert np.ptp(per_class.sum(1)) <= 1


def test_folds_are_level_after_what_they_have_and_units_stay_whole():
    labels, whole = np.zeros(40, dtype=int), np.arange(40) // 2
    folds = level(labels, whole, np.array([[20], [0]]), 0, "fold")
    assert [(folds == fold).sum() for fold in (0, 1)] == [10, 30]
    assert all(len(set(folds[whole == unit])) == 1 for unit in range(20))
