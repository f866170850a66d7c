"""Where one curve overtakes another: only where the order is shown at sizes on both sides."""

import pytest

from headstart.report.crossover import AtSize, crossover, turned


def sizes(**states):
    """`n5=(-0.1, -1)`: the gap and its state by size."""
    return {float(name[1:]): AtSize(gap, state, 8) for name, (gap, state) in states.items()}


def test_a_crossing_lies_between_the_last_size_behind_and_the_first_ahead():
    found = crossover(sizes(n5=(-0.05, -1), n10=(-0.02, -1), n20=(0.0, 0), n40=(0.02, 1)))
    assert (found.low, found.high) == (10, 40)
    assert found.place == pytest.approx(20, rel=1e-3)
    assert not found.wide


def test_its_place_is_straight_in_log_size():
    assert crossover(sizes(n10=(-0.02, -1), n40=(0.02, 1))).place == pytest.approx(20)


def test_sizes_more_than_fourfold_apart_give_no_place():
    found = crossover(sizes(n5=(-0.02, -1), n21=(0.02, 1)))
    assert (found.low, found.high, found.place) == (5, 21, None)
    assert found.wide


@pytest.mark.parametrize(
    "states",
    [
        {"n5": (-0.05, -1), "n10": (0.05, 1), "n20": (0.05, 1), "n40": (-0.05, -1)},  # ahead for a while
        {"n5": (-0.05, 0), "n10": (0.05, 1)},  # behind, but not shown
        {"n5": (-0.05, -1), "n10": (0.05, 0)},  # ahead, but not shown
        {"n5": (0.05, 1), "n10": (0.05, 1)},
        {"n5": (-0.05, -1)},
        {},
    ],
)
def test_no_crossing_is_claimed_where_it_is_not_shown(states):
    assert crossover(sizes(**states)) is None


def test_the_reference_may_be_the_one_that_overtakes():
    found = sizes(n5=(0.05, 1), n10=(-0.05, -1))
    assert crossover(found) is None
    assert crossover(turned(found)).high == 10
