"""Every way of dividing examples, on one label each and on several, with groups and without."""

import numpy as np
import pytest

from dividing import asking
from headstart.data.audio_synthetic import SyntheticAudio
from headstart.data.openmoji import OpenMoji
from headstart.data.text_sources import OpenMojiNames
from headstart.errors import InputError
from headstart.splits.holdout import Holdout
from headstart.splits.kfold import KFold
from headstart.splits.splitter import Pool
from headstart.splits.units import units

NAMES = ("a", "b", "c")
LABELS = np.repeat([0, 1, 2], [40, 20, 10])
ALONE = np.arange(70)
SPEAKERS = np.tile(np.arange(14), 5)


def pool(labels=LABELS, whole=ALONE, given=None, fractions=(0.2, 0.3)) -> Pool:
    return Pool(labels, NAMES, units(len(labels), whole), given, fractions)


def several(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((70, 3)) < 0.4).astype(np.float32)


SPLITTERS = [Holdout(), Holdout(0.1, 0.2), KFold(2, 5), KFold(0, 3), KFold(1, 4, val_fold=2)]
GIVEN = np.array(["", "train", "val", "test", "train"] * 14)


@pytest.mark.parametrize("labels", [LABELS, several()], ids=["one label", "several"])
@pytest.mark.parametrize("splitter", SPLITTERS, ids=lambda one: type(one).__name__)
def test_parts_are_disjoint_cover_everything_and_repeat_with_the_seed(splitter, labels):
    parts = splitter.split(pool(labels), 3)
    together = np.concatenate([parts.train, parts.val, parts.test])
    assert np.array_equal(np.sort(together), ALONE)
    assert all(parts.sizes.values())
    assert parts.sha256 == splitter.split(pool(labels), 3).sha256


@pytest.mark.parametrize("labels", [LABELS, several()], ids=["one label", "several"])
@pytest.mark.parametrize("splitter", [Holdout(), KFold(1, 5)], ids=["holdout", "kfold"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_group_lies_in_two_parts(splitter, labels, seed):
    parts = splitter.split(pool(labels, SPEAKERS), seed)
    found = [set(SPEAKERS[indices]) for indices in (parts.train, parts.val, parts.test)]
    assert all(found)
    assert sum(map(len, found)) == len(set.union(*found))


def test_each_class_keeps_its_share():
    parts = Holdout().split(pool(), 0)
    assert np.bincount(LABELS[parts.val]).tolist() == [8, 4, 2]
    assert np.bincount(LABELS[parts.test]).tolist() == [12, 6, 3]


def test_folds_test_every_example_once_whatever_the_runs_seed():
    tests = [KFold(fold, 5).split(pool(), seed=fold).test for fold in range(5)]
    assert np.array_equal(np.sort(np.concatenate(tests)), ALONE)
    assert [np.bincount(LABELS[test], minlength=3).tolist() for test in tests] == [[8, 4, 2]] * 5


def test_folds_of_a_column_are_its_values():
    columns = {"fold": [str(place % 4 + 1) for place in range(70)]}
    parts = KFold("3", column="fold").split(pool(), 0, columns)
    assert np.array_equal(parts.test, np.arange(2, 70, 4))
    with pytest.raises(InputError, match=r"Unknown split.fold '0'. Choices: 1, 2, 3, 4"):
        KFold(0, column="fold").split(pool(), 0, columns)


@pytest.mark.parametrize("labels", [LABELS, several()], ids=["one label", "several"])
@pytest.mark.parametrize("make", [Holdout, KFold])
def test_subsets_are_nested_and_leave_val_and_test_alone(make, labels):
    whole, large, small = (make(n_per_class=n).split(pool(labels), 1) for n in (None, 4, 2))
    assert set(small.train) < set(large.train) < set(whole.train)
    for part in (large, small):
        assert np.array_equal(part.val, whole.val)
        assert np.array_equal(part.test, whole.test)


def test_a_seed_of_its_own_fixes_val_and_test_while_the_runs_still_moves_the_subset():
    one, other = (Holdout(n_per_class=3, seed=9).split(pool(), seed) for seed in (1, 2))
    assert np.array_equal(one.test, other.test)
    assert not np.array_equal(one.train, other.train)


@pytest.mark.parametrize(
    ("splitter", "made", "words"),
    [
        (Holdout(), pool(np.r_[LABELS[:60], [2, 2]], np.arange(62)), "Each class needs at least 3 examples"),
        (Holdout(n_per_class=6), pool(), "split.n_per_class=6 is more than the training set has of 'c'"),
        (Holdout(group_column="who"), pool(whole=LABELS), "Each class needs at least 3 groups"),
        (Holdout(group_column="who"), pool(several(), np.zeros(70, int)), "Nothing is left for val and test"),
        (KFold(5, 5), pool(), "Unknown split.fold '5'. Choices: 0, 1, 2, 3, 4"),
        (KFold(1, 5, val_fold=1), pool(), "must be different folds, but both are 1"),
        (KFold(0, 10), pool(), "split.folds=10 needs 11 examples of each class, but 'c' has 10"),
        (KFold(0, 5), pool(given=GIVEN), "The data bring a test and a val set of their own"),
        (Holdout(0.9), pool(), "must be below 1, but 0.9 [+] 0.3 leaves nothing"),
        (Holdout(), pool(given=np.where(LABELS == 2, "test", "train")), "'c' is in val or test, but train has no"),
        (Holdout(), pool(given=np.where(GIVEN == "val", "val", "test")), "no training examples"),
    ],
)
def test_what_cannot_be_divided_is_refused(splitter, made, words):
    with pytest.raises(InputError, match=words):
        splitter.split(made, 0)


# Drawn by the code that split before there was a choice of how: numbers that were published stay as they are.
PINNED = {
    (None, 0, None): "ba8cdea10bfa2688", (None, 5, None): "c92561edfa7cbe94", (None, 0, 3): "8d1564b03477a7ca",
    ("test", 0, None): "aa65cbc8bd871a24", ("test", 5, 3): "0ebc996567692c12",
    ("blank", 0, None): "6742cfea7a8e4f4d", ("blank", 5, 3): "b21fdab5fda8c1c7",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "seed", "n"), PINNED)
def test_indices_are_those_that_were_always_drawn(kind, seed, n):
    place = np.arange(70)
    given = {
        None: None,
        "test": np.where(place % 5 == 0, "test", "train"),
        "blank": np.where(place % 3 == 0, "train", ""),
    }[kind]
    found = Holdout(n_per_class=n).split(pool(np.random.default_rng(7).permutation(LABELS), given=given), seed)
    assert found.sha256[:16] == PINNED[kind, seed, n]


def test_a_seed_of_the_split_draws_as_it_always_did():
    mixed = pool(np.random.default_rng(7).permutation(LABELS))
    assert Holdout(seed=9).split(mixed, 5).sha256[:16] == "b4d441183fca8684"
    assert Holdout(seed=9, n_per_class=3).split(mixed, 5).sha256[:16] == "ca6d6bb604fd8a2f"


@pytest.mark.parametrize("source", [OpenMoji, OpenMojiNames, SyntheticAudio])
def test_the_embedded_data_are_split_as_they_always_were(source):
    drawn = {"vision": "8ef93c98b768d1c1 d6ffbd74417a0a85", "audio": "3cc282b5d6ccfad6 40d256ee3f646bdd"}
    data = asking(source(), Holdout())
    expected = drawn["audio" if data.modality == "audio" else "vision"].split()
    one = Pool(data.labels, data.classes, np.arange(len(data.labels)), data.parts, data.fractions)
    assert Holdout().split(one, 0).sha256[:16] == expected[0]
    assert Holdout(n_per_class=5).split(one, 1).sha256[:16] == expected[1]


def test_parts_that_are_given_stay_and_what_is_missing_is_drawn_from_what_is_open():
    given = np.where(np.arange(70) % 2 == 0, "train", "test")
    parts = Holdout().split(pool(given=given), 0)
    assert np.array_equal(parts.test, np.arange(1, 70, 2))
    assert np.bincount(LABELS[parts.val]).tolist() == [4, 2, 1]
    assert Holdout().split(pool(given=GIVEN), 0).sha256 == Holdout().split(pool(given=GIVEN), 1).sha256
    blank = np.where(np.arange(70) % 2 == 0, "train", "")
    assert set(range(0, 70, 2)) <= set(Holdout().split(pool(given=blank), 0).train)


def test_every_class_has_an_example_in_every_part_however_small_its_share():
    labels = np.repeat([0, 1, 2], [100, 3, 3])
    parts = Holdout(0.01, 0.01).split(pool(labels, np.arange(106)), 0)
    for indices in (parts.train, parts.val, parts.test):
        assert set(labels[indices]) == {0, 1, 2}


def test_what_belongs_to_an_example_of_a_given_part_goes_there():
    given = np.array((["train", "test"] + [""] * 5) * 10)
    whole = np.where(np.arange(70) % 7 == 2, np.arange(70) // 7 + 1000, np.arange(70))  # the first open one of seven
    whole[np.arange(70) % 7 == 1] = np.arange(10) + 1000  # belongs to the one of test before it
    parts = Holdout().split(pool(whole=whole, given=given), 0)
    assert set(np.flatnonzero(np.arange(70) % 7 == 2)) <= set(parts.test)


@pytest.mark.parametrize("seed", range(5))
def test_one_large_group_of_a_class_leaves_something_for_every_part(seed):
    labels = np.repeat([0, 1], [60, 40])
    whole = np.r_[np.zeros(50, int), np.arange(1, 11), 100 + np.arange(40) // 2]
    parts = Holdout().split(pool(labels, whole), seed)
    for indices in (parts.train, parts.val, parts.test):
        assert set(labels[indices]) == {0, 1}
    assert {0} == set(whole[parts.train]) & {0}  # the fifty train, as they are more than a part's share


def test_a_few_units_of_two_classes_leave_the_shares_of_all_as_they_are():
    whole = ALONE.copy()
    whole[[5, 45]], whole[[6, 65]] = 5, 6  # copies under two labels
    parts = Holdout().split(pool(whole=whole), 0)
    assert np.bincount(LABELS[parts.val]).tolist() == [8, 4, 2]
    assert np.bincount(LABELS[parts.test]).tolist() == [12, 6, 3]
    for indices in (parts.train, parts.val, parts.test):
        assert len({5, 45} & set(indices)) in (0, 2)


def test_a_fold_that_selects_is_whole():
    parts = KFold(1, 5, val_fold=3).split(pool(), 0)
    assert np.array_equal(parts.val, KFold(3, 5).split(pool(), 7).test)


@pytest.mark.parametrize("num_rare", [1, 2])
@pytest.mark.parametrize("splitter", [Holdout(), KFold(1, 5)], ids=["holdout", "kfold"])
def test_a_label_that_few_examples_have_keeps_nothing_from_being_divided(splitter, num_rare):
    labels = several()
    labels[:, 2] = 0
    labels[:num_rare, 2] = 1
    data = Pool(labels, NAMES, ALONE, all_train=False)
    for seed in range(5):
        parts = splitter.split(data, seed)
        assert all(parts.sizes.values())
        if isinstance(splitter, Holdout):
            assert labels[parts.train, 2].sum() == 1
            assert labels[parts.val, 2].sum() == 0


def test_a_range_of_numbers_that_only_test_has_is_no_error():
    given = np.where(LABELS == 0, "test", "")
    data = Pool(LABELS, NAMES, ALONE, given, all_train=False)
    parts = Holdout().split(data, 0)
    assert len(parts.test) == 40
    assert set(LABELS[parts.train]) == {1, 2}
    with pytest.raises(InputError, match="train has no example"):
        Holdout().split(Pool(LABELS, NAMES, ALONE, given), 0)
