"""Two factors at once: averages over the same, interactions by exact flips, orders that turn."""

from itertools import product

import numpy as np
import pytest

from headstart.report.analysis import analyse
from headstart.report.answer import answer
from headstart.report.design import read_design
from headstart.report.factors import interaction_p, interactions, marginal, turns
from headstart.report.reading import read_sweeps


def crossed(write_sweep, folder, effect, seeds=8, noise=0.003):
    """Three strategies × two backbones; `effect(strategy, backbone)` is what each adds."""
    rng, runs = np.random.default_rng(0), []
    for seed in range(seeds):
        luck = rng.normal(0, 0.02)
        for strategy, backbone in product(("a", "b", "c"), ("small", "large")):
            score = 0.6 + luck + effect(strategy, backbone) + rng.normal(0, noise)
            runs.append({"strategy": strategy, "seed": seed, "test": score, "choices": {"backbone": backbone}})
    records = read_sweeps([write_sweep(folder / "s", runs)])
    return analyse(read_design(records)), records


def test_levels_are_averaged_over_what_all_were_run_with(write_sweep, tmp_path):
    found, _ = crossed(write_sweep, tmp_path, lambda s, b: 0.1 * (s == "b") + 0.05 * (b == "large"), noise=0)
    means = marginal(found)
    assert means["b"][""] - means["a"][""] == pytest.approx(0.1)
    assert means["b"]["large"] - means["b"]["small"] == pytest.approx(0.05)


def test_an_interaction_is_found_where_there_is_one_and_not_where_effects_add_up(write_sweep, tmp_path):
    found, _ = crossed(write_sweep, tmp_path / "1", lambda s, b: 0.1 * (s == "b") * (b == "large"))
    assert [(i.first, i.second) for i in interactions(found)] == [("strategy", "backbone")]
    assert interactions(found)[0].p == pytest.approx(2 / 2**8)
    found, _ = crossed(write_sweep, tmp_path / "2", lambda s, b: 0.1 * (s == "b") + 0.05 * (b == "large"))
    assert interactions(found)[0].p > 0.05


def test_interactions_are_claimed_among_sums_of_effects_no_more_often_than_promised():
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(3, 1, 1)), rng.normal(size=(1, 2, 1))
    false = np.mean([interaction_p(rows + columns + rng.normal(size=(3, 2, 7))) <= 0.05 for _ in range(800)])
    assert false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 800)


def test_an_order_that_turns_with_the_backbone_is_named(write_sweep, tmp_path):
    sign = {"small": 1, "large": -1}
    found, records = crossed(write_sweep, tmp_path, lambda s, b: 0.05 * sign[b] * (s == "a"))
    (turn, *_) = [t for t in turns(found) if (t.ahead, t.behind) == ("a", "b")]
    assert (turn.factor, turn.here, turn.there) == ("backbone", "small", "large")
    points = dict(answer(found, records).points)
    assert "a is better than b with backbone small, worse with large" in points["Factors together"]
    assert "depends on backbone" in points["Factors together"]


def test_without_two_factors_nothing_is_said(write_sweep, tmp_path):
    runs = [{"strategy": s, "seed": i, "test": 0.6} for s in "ab" for i in range(3)]
    records = read_sweeps([write_sweep(tmp_path / "s", runs)])
    found = analyse(read_design(records))
    assert (marginal(found), interactions(found), turns(found)) == ({}, [], [])
    assert "Factors together" not in dict(answer(found, records).points)
