"""Which finalist is chosen, by scores on several seeds."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from headstart.search.finalists import clear_lead, winner


def drawn(seed: int, leads: list[float], num_seeds: int, noise: float = 1.0) -> dict[int, dict[int, float]]:
    """Scores of so many finalists with true leads over the default; seeds differ, and all have noise of their own."""
    dice = np.random.default_rng(seed)
    luck = dice.normal(0, 3, num_seeds)
    return {
        number: {place: float(70 + lead + luck[place] + dice.normal(0, noise)) for place in range(num_seeds)}
        for number, lead in enumerate(leads)
    }


def test_a_setting_that_is_no_better_rarely_takes_the_defaults_place():
    """With three that equal the default, in at most 5% of searches in all, within three standard errors."""
    chosen = [winner(drawn(seed, [0, 0, 0, 0], 4), 0, True, 0.05, 3) for seed in range(2000)]
    assert 0.01 < np.mean([number != 0 for number in chosen]) < 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_one_that_is_clearly_better_takes_it():
    chosen = [winner(drawn(seed, [0, 0, 5, 1], 4), 0, True, 0.05, 3) for seed in range(100)]
    assert chosen.count(2) > 95
    down = [
        winner({n: {s: -one for s, one in own.items()} for n, own in drawn(seed, [0, 8], 4).items()}, 0, False, 0.05, 3)
        for seed in range(100)
    ]
    assert down.count(1) > 90


def test_the_lead_is_what_a_two_way_layout_asks_for():
    scores = drawn(3, [0, 1, 2, 3], 5)
    table = np.array([[own[seed] for seed in range(1, 5)] for own in scores.values()])
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    error = (np.square(rest).sum() / 9 * 2 / 4) ** 0.5
    assert clear_lead(scores, [1, 2, 3, 4], 0.05 / 3) == pytest.approx(error * t.ppf(1 - 0.05 / 3, 9))


def test_the_docs_tell_the_lead_that_is_asked_for():
    """Of the default and three others, in the noise of one score."""
    words = " ".join((Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf8").split())
    few, many = (t.ppf(1 - 0.05 / 3, 3 * (seeds - 1)) * (2 / seeds) ** 0.5 for seeds in (2, 4))
    assert f"With three replicates a lead must be {few:.1f} times the noise of one score, with five {many:.1f}" in words


def test_the_seed_of_the_search_does_not_count_but_where_there_are_too_few():
    flattered = {0: {0: 0.5, 1: 0.6, 2: 0.7}, 1: {0: 0.9, 1: 0.59, 2: 0.69}}
    assert winner(flattered, 0, True, 0.05, 3) == 0
    assert winner(flattered, 0, True, 1.0, 3) == 1
    two = {number: {seed: own[seed] for seed in (0, 1)} for number, own in flattered.items()}
    assert winner(two, 0, True, 0.05, 3) == 1
    assert winner({number: {0: own[0]} for number, own in flattered.items()}, 0, True, 0.05, 3) == 1


def test_of_equals_the_default_or_the_earlier_one_and_without_it_the_best():
    assert winner({0: {0: 0.5, 1: 0.5, 2: 0.5}, 4: {0: 0.5, 1: 0.5, 2: 0.5}}, 0, True, 0.05, 3) == 0
    assert winner({3: {0: 0.5, 1: 0.6, 2: 0.5}, 4: {0: 0.5, 1: 0.5, 2: 0.6}}, 0, True, 0.05, 3) == 3
    assert winner({7: {0: 0.5}}, 0, True, 0.05, 3) == 7
    assert winner({}, 0, True, 0.05, 3) is None
