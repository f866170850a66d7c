import numpy as np
import pytest

from headstart.data.splits import split
from headstart.errors import InputError

NAMES = ("a", "b", "c")
LABELS = np.repeat([0, 1, 2], [40, 20, 10])


def draw(seed=0, n=None, given=None, labels=LABELS, fractions=(0.2, 0.3), split_seed=None):
    return split(labels, given, fractions, seed, n, NAMES, split_seed)


def test_parts_are_disjoint_cover_everything_and_keep_each_class_share():
    parts = draw()
    together = np.concatenate([parts.train, parts.val, parts.test])
    assert np.array_equal(np.sort(together), np.arange(70))
    assert np.bincount(LABELS[parts.val]).tolist() == [8, 4, 2]
    assert np.bincount(LABELS[parts.test]).tolist() == [12, 6, 3]
    assert parts.sizes == {"train": 35, "val": 14, "test": 21}


def test_same_seed_same_split_other_seed_another():
    assert draw(3).sha256 == draw(3).sha256
    assert draw(3).sha256 != draw(4).sha256


def test_subsets_are_nested_balanced_and_leave_val_and_test_alone():
    whole, large, small = draw(), draw(n=4), draw(n=2)
    assert set(small.train) < set(large.train) < set(whole.train)
    assert np.bincount(LABELS[large.train]).tolist() == [4, 4, 4]
    for part in (large, small):
        assert np.array_equal(part.val, whole.val)
        assert np.array_equal(part.test, whole.test)


def test_split_seed_fixes_val_and_test_while_the_seed_still_moves_the_subset():
    one, other = draw(1, n=3, split_seed=9), draw(2, n=3, split_seed=9)
    assert np.array_equal(one.test, other.test)
    assert not np.array_equal(one.train, other.train)


def test_only_train_and_test_given_draws_val_from_train():
    given = np.where(np.arange(70) % 2 == 0, "train", "test")
    parts = draw(given=given)
    assert np.array_equal(parts.test, np.arange(1, 70, 2))
    assert set(parts.val) | set(parts.train) == set(range(0, 70, 2))
    assert np.bincount(LABELS[parts.val]).tolist() == [4, 2, 1]


def test_all_parts_given_are_kept_for_every_seed():
    given = np.array(["train", "val", "test", "train", "train"] * 14)
    assert draw(0, given=given).sha256 == draw(1, given=given).sha256
    assert np.array_equal(draw(given=given).val, np.flatnonzero(given == "val"))


def test_missing_parts_are_drawn_from_blank_rows_only_if_there_are_any():
    given = np.where(np.arange(70) % 2 == 0, "train", "")
    parts = draw(given=given)
    assert set(np.flatnonzero(given == "train")) <= set(parts.train)
    assert len(parts.val)
    assert len(parts.test)


def test_every_class_has_an_example_in_every_part_however_small_its_share():
    labels = np.repeat([0, 1, 2], [100, 3, 3])
    parts = draw(labels=labels, fractions=(0.01, 0.01))
    for indices in (parts.train, parts.val, parts.test):
        assert set(labels[indices]) == {0, 1, 2}


@pytest.mark.parametrize("size", [1, 2])
def test_class_too_small_to_be_split_is_named_with_its_size_and_the_need(size):
    labels = np.repeat([0, 1, 2], [10, size, 10])
    with pytest.raises(InputError, match=rf"at least 3 examples .* 'b' has {size}"):
        draw(labels=labels)


def test_n_per_class_beyond_the_data_names_the_classes_and_the_largest_value():
    with pytest.raises(
        InputError, match=r"data.n_per_class=8 is more than .* 'c' \(5\)\. The largest possible value is 5"
    ):
        draw(n=8)
    assert len(draw(n=5).train) == 15


def test_class_in_test_that_train_lacks_is_named():
    given = np.where(LABELS == 2, "test", "train")
    with pytest.raises(InputError, match="'c' is in val or test, but train has no example"):
        draw(given=given)


def test_data_without_training_examples_says_so():
    with pytest.raises(InputError, match="no training examples"):
        draw(given=np.where(np.arange(70) % 2 == 0, "val", "test"))
