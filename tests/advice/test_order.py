"""The order of options: evidence for backbones, shrunk towards what sizes say as far as it is weak."""

import numpy as np
import pytest

from headstart.advice.order import LARGEST, LARGEST_OF_EQUALS, WEIGHED, Gain, Looked, Order, Prior, centred, fitted

NOISE = np.array([-0.02, 0.01, 0.0, 0.02, -0.01])
SMALL = Looked("small", 1e6, 0.6, 0.6 + NOISE)
LARGE = Looked("large", 4e6, 0.58, 0.58 - NOISE)
WORSE = Looked("worse", 9e6, 0.3, 0.3 + NOISE / 10)
PRIOR = Prior(0.02, 0.03, 2.0, 10)


def first_of(order: Order, looked, gain: float = 0.05):
    gains = {(one.name, "probe"): Gain(0, 0, 0) for one in looked}
    gains |= {
        (one.name, name): Gain(gain - less, 0, 0) for one in looked for name, less in (("lora", 0.02), ("full", 0))
    }
    values = order.values(looked, gains)
    return max(values, key=lambda key: values[key])


def test_without_an_order_the_best_foretold_comes_first():
    assert first_of(Order(), [LARGE, SMALL]) == ("small", "full")
    assert first_of(Order("lora"), [LARGE, SMALL]) == ("small", "lora")
    assert first_of(Order("lora"), [LARGE, SMALL], gain=-0.1) == ("small", "probe")


def test_the_largest_comes_first_and_of_equals_the_largest_that_is_not_told_to_be_worse():
    assert first_of(Order("lora", LARGEST), [SMALL, WORSE, LARGE]) == ("worse", "lora")
    assert first_of(Order("lora", LARGEST_OF_EQUALS), [SMALL, WORSE, LARGE]) == ("large", "lora")
    assert first_of(Order(None, LARGEST_OF_EQUALS), [SMALL, WORSE, LARGE], gain=-0.1) == ("large", "probe")


@pytest.mark.parametrize("backbones", [WEIGHED, LARGEST, LARGEST_OF_EQUALS])
def test_of_nothing_that_was_measured_there_is_no_order(backbones):
    assert Order("lora", backbones, PRIOR).values([], {}) == {}


def test_weak_evidence_leaves_what_sizes_say_and_strong_evidence_overrules_it():
    weak = [Looked("small", 1e6, 0.6, 0.6 + 5 * NOISE), Looked("large", 4e6, 0.58, 0.58 - 5 * NOISE)]
    assert first_of(Order(None, WEIGHED, PRIOR), weak)[0] == "large"
    sure = [Looked("small", 1e6, 0.6, 0.6 + NOISE / 100), Looked("large", 4e6, 0.58, 0.58 + NOISE / 100)]
    assert first_of(Order(None, WEIGHED, PRIOR), sure)[0] == "small"


def test_the_share_of_the_evidence_is_that_of_a_normal_posterior():
    """Error of the mean of five folds with a quarter tested: s · sqrt(1 / 5 + 1 / 3)."""
    above = (SMALL.by_fold - LARGE.by_fold) / 2
    error = above.var(ddof=1) * (1 / 5 + 1 / 3)
    share = PRIOR.spread**2 / (PRIOR.spread**2 + error)
    ahead = PRIOR.ahead([SMALL, LARGE])
    assert ahead["small"] == pytest.approx(-0.02 + share * (0.01 + 0.02), rel=1e-3)
    assert ahead["large"] == pytest.approx(-ahead["small"])
    assert PRIOR.ahead([SMALL]) == {"small": 0.0}


def test_nothing_is_said_of_sizes_further_apart_than_those_recorded():
    assert centred([1e6, 4e6], 2.0) == pytest.approx([-1, 1])
    assert centred([1e6, 1e9], 2.0) == pytest.approx([-1, 1])
    assert centred([5e6], 2.0) == pytest.approx([0])


def test_slope_and_spread_are_found_again():
    rng = np.random.default_rng(0)
    comparisons = []
    for _ in range(300):
        sizes = 2.0 ** rng.uniform(20, 24, 3)
        comparisons.append((sizes, rng.uniform(0.2, 0.8) + 0.03 * np.log2(sizes) + rng.normal(0, 0.02, 3)))
    found = fitted([*comparisons, ([1e6], [0.9])])
    assert found.slope == pytest.approx(0.03, abs=0.002)
    assert found.spread == pytest.approx(0.02, rel=0.1)
    assert found.num == 300
    assert fitted([([1e6], [0.9])]) == Prior(0.0, 0.0, 0.0, 0)
