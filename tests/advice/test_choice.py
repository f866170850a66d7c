"""From numbers to what is advised, in words and as commands."""

import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from headstart.advice.choice import choose
from headstart.advice.curve import MEASURED, Foretold
from headstart.advice.measure import Measured
from headstart.advice.next import next_steps, renamed, to_compare
from headstart.advice.order import LARGEST_OF_EQUALS, Order
from headstart.advice.price import Price
from headstart.advice.rule import PROBE, Fit, Recorded, Rule, fitted, known, room
from headstart.advice.words import headline, strategies, trust
from headstart.config.overrides import words as words_of
from headstart.report.metric import Metric
from headstart.report.statistics import Interval


def rule(gain: float, spread: float = 0.02, first: str | None = None) -> Rule:
    fits = {
        "fine_tune": Fit((gain, 0.0, 0.0, 0.0, 0.0, 0.0), spread, 10),
        "lora": Fit((gain - 0.01, 0.0, 0.0, 0.0, 0.0, 0.0), spread, 10),
    }
    return Rule(fits, Order(first), {})


def measured(name: str, mean: float, by_fold: list[float]) -> Measured:
    foretold = Foretold(100, Interval(mean, mean - 0.03, mean + 0.03, 0.02, 5), MEASURED)
    return Measured(name, 8, 100, 0.01, {}, foretold=foretold, by_fold=np.array(by_fold))


ONE = measured("one", 0.7, [0.68, 0.7, 0.72, 0.69, 0.71])
SAME = measured("same", 0.69, [0.69, 0.68, 0.7, 0.7, 0.68])
WORSE = measured("worse", 0.5, [0.49, 0.5, 0.52, 0.49, 0.5])
ALL = [PROBE, "fine_tune", "lora"]


def test_backbones_are_told_apart_by_paired_differences():
    found = choose([WORSE, SAME, ONE], {}, ALL, rule(0.05), 5, "vision")
    assert found.equals == ["one", "same"]
    assert found.ahead["worse"].low > 0
    assert found.ahead["same"].low < 0 < found.ahead["same"].high


def test_the_best_option_is_the_probe_and_what_a_strategy_gains():
    found = choose([ONE, WORSE], {}, ALL, rule(0.05), 5, "vision")
    assert (found.best.backbone, found.best.strategy) == ("one", "fine_tune")
    assert found.best.score == pytest.approx(0.75)
    assert not found.features_are_enough
    assert choose([ONE], {}, ALL, rule(-0.05), 5, "vision").features_are_enough


def test_intervals_join_the_probes_and_that_of_the_gain():
    found = choose([ONE], {}, ALL, rule(0.05), 5, "vision")
    gain = rule(0.05).gain("fine_tune", 20, 0.7, "vision")
    assert found.best.high - found.best.score == pytest.approx(np.hypot(0.03, gain.high - gain.mean))


def test_what_was_foretold_of_some_classes_is_not_said_of_all():
    of_some = SimpleNamespace(num_taken=200, num_strata=3_000)
    found = SimpleNamespace(choice=choose([ONE], {}, ALL, rule(0.05), 200, "vision"), sample=of_some)
    assert headline(found, Metric("accuracy")).endswith(") among 200 of the 3,000 classes, and less among all.")
    of_some.num_taken = 3_000
    assert "classes" not in headline(found, Metric("accuracy"))


def test_a_strategy_that_the_record_puts_first_is_first():
    assert choose([ONE, WORSE], {}, ALL, rule(0.05, first="lora"), 5, "vision").best.strategy == "lora"
    assert choose([ONE, WORSE], {}, ALL, rule(-0.05, first="lora"), 5, "vision").best.is_probe


def test_where_another_option_is_foretold_more_it_is_said_and_why():
    large = replace(SAME, num_parameters=900)
    told = Rule(rule(0.05).fits, Order("lora", LARGEST_OF_EQUALS), {})
    choice = choose([ONE, large, WORSE], {}, ALL, told, 5, "vision")
    assert (choice.best.backbone, choice.best.strategy) == ("same", "lora")
    assert (choice.best_foretold.backbone, choice.best_foretold.strategy) == ("one", "fine_tune")
    said = " ".join(strategies(SimpleNamespace(choice=choice, rule=told), Metric("accuracy")))
    assert (
        "By foretold scores alone fine_tune of one would come first (75.0% against 73.0%); lora comes first wherever "
        "it is foretold to gain anything and of backbones that features do not tell from the best the largest comes "
        "first, as that lost less on recorded comparisons."
    ) in said
    plain = choose([ONE, WORSE], {}, ALL, rule(0.05), 5, "vision")
    assert "alone" not in " ".join(strategies(SimpleNamespace(choice=plain, rule=rule(0.05)), Metric("accuracy")))


def test_the_record_is_told_with_its_luck_and_its_best_rival():
    record = {"comparisons": 3, "data_sets": 2, "within_a_point": 1, "regret": 2.04, "floor": 0.96, "tried": 9}
    record |= {
        "way": "mean gains",
        "rival": "always lora",
        "rival_regret": 2.3,
        "told_apart": False,
        "most_per_class": 50,
        "normed": {"vision": [True]},
    }
    known = SimpleNamespace(order=Order(), record=record)
    found = SimpleNamespace(rule=known, measured=[], facts=SimpleNamespace(modality="vision"))
    said = list(trust(found))
    transformer = replace(ONE, name="a_vit", batch_norm=False, foretold=None)
    found.measured = [replace(ONE, foretold=None), transformer]
    assert list(trust(found)) == [
        *said,
        "No backbone without batch norm, as a_vit, was recorded on pictures: what strategies gain there is taken from "
        "others.",
    ]
    assert said == [
        "On 3 recorded comparisons of 2 data sets, each judged without its own data set (but for one bound of the "
        "rule), such advice was within a point of the best contender in 1, and lost 2.0 points on the mean.",
        "In those that were run on several seeds about 1.0 points are luck, which who knew all would lose as well.",
        "Of 9 ways to put options in order it went, on each data set, by that which lost least on the others, and goes "
        "now by 'mean gains'.",
        "The best rule of thumb, 'always lora', lost 2.3, which cannot be told from it.",
    ]


ORDERED = [(name, strategy) for strategy in ("lora", PROBE, "fine_tune", "lp_ft") for name in "abcd"]


@pytest.mark.parametrize(
    ("options", "backbones", "tuned"),
    [
        (ORDERED, ["a", "b", "c"], [("a", "lora"), ("b", "lora"), ("c", "lora")]),
        ([key for key in ORDERED if key[0] == "d"], ["d"], [("d", "lora"), ("d", "fine_tune"), ("d", "lp_ft")]),
        ([("b", PROBE), *ORDERED], ["b", "a", "c"], [("a", "lora"), ("b", "lora"), ("c", "lora")]),
        ([("a", "lora"), ("a", "lp_ft"), ("b", PROBE)], ["a", "b"], [("a", "lora"), ("a", "lp_ft")]),
        ([("a", PROBE), ("b", PROBE)], ["a", "b"], []),
        ([("a", "lora"), ("a", "lp_ft"), ("b", "lp_ft"), ("b", "lora")], ["a", "b"],
         [("a", "lora"), ("b", "lp_ft"), ("a", "lp_ft")]),
    ],
)  # fmt: skip
def test_the_best_of_each_backbone_is_compared_and_then_the_next(options, backbones, tuned):
    assert to_compare(options) == (backbones, tuned)


def test_strategies_without_a_record_are_not_foretold_but_compared():
    found = choose([ONE], {}, [PROBE, "bss"], rule(0.05), 5, "vision")
    assert found.unrecorded == ["bss"]
    steps = next_steps(found, {}, [], "x", 10, {})
    assert '"strategy=bss"' in steps.compare
    assert steps.seconds is None


def test_the_comparison_has_a_price_where_each_of_its_runs_has_one():
    prices = {
        ("one", name): Price(name, 0.1, 1, 10, 10, seconds) for name, seconds in zip(ALL, (5, 40, 30), strict=True)
    }
    found = next_steps(choose([ONE], prices, ALL, rule(0.05), 5, "vision"), prices, ["data=x"], "x", 10, {})
    assert found.num_runs == 9
    assert found.seconds == 3 * 75
    assert found.tuned == [("one", "fine_tune"), ("one", "lora")]
    seeded = next_steps(choose([ONE], prices, ALL, rule(0.05), 5, "vision"), prices, ["seed=4"], "x", 10, {})
    assert (seeded.num_runs, seeded.seconds) == (3, 75)


def test_words_of_the_user_come_back_as_they_were_typed():
    words = ["data.root='my photos, 2024'", "data.path=it's", "name='a b'"]
    steps = next_steps(choose([ONE], {}, ALL, rule(0.05), 5, "vision"), {}, words, "a b", 10, {})
    back = shlex.split(steps.compare)
    assert 'data.root="my photos, 2024"' in back
    assert "data.path=it's" in back
    assert renamed(words, "a b")[-1] == 'name="a b-search"'


def test_settings_of_a_strategy_are_not_the_probes():
    words = ["strategy.average=ema", "data=x"]
    steps = next_steps(choose([ONE], {}, [PROBE, "fine_tune"], rule(0.05), 5, "vision"), {}, words, "x", 10, {})
    (listed,) = [word for word in shlex.split(steps.compare) if word.startswith("hydra.sweeper.runs")]
    assert listed.endswith(
        '["strategy=feature_extraction head.solver=lbfgs","strategy=fine_tune strategy.average=ema"]'
    )
    assert shlex.split(steps.compare).count("strategy.average=ema") == 0
    assert "strategy.average=ema" in shlex.split(steps.search)


@pytest.mark.parametrize(
    "word",
    [
        'strategy.adapter.targets=["layer.0.query","layer.1.query"]',
        "strategy.groups=['a b',\"c\"]",
        r'strategy.groups=["a\"b"]',
        r"strategy.adapter.targets='.*\\.query'",
    ],
)
def test_a_setting_of_a_strategy_in_quotes_is_handed_to_it_alone(word: str):
    steps = next_steps(choose([ONE], {}, [PROBE, "fine_tune"], rule(0.05), 5, "vision"), {}, [word], "x", 10, {})
    (listed,) = [one for one in shlex.split(steps.compare) if one.startswith("hydra.sweeper.runs")]
    probe, tuned = OverridesParser.create().parse_override(listed).value()
    assert str(getattr(probe, "text", probe)) == "strategy=feature_extraction head.solver=lbfgs"
    strategy, own = words_of(str(getattr(tuned, "text", tuned)))
    assert strategy == "strategy=fine_tune"
    typed, given = (OverridesParser.create().parse_override(one).value() for one in (word, own))
    assert str(given) == str(typed)


def test_a_backbone_that_a_strategy_does_not_go_with_is_not_compared():
    no = frozenset({("same", "fine_tune")})
    found = choose([ONE, SAME], {}, [PROBE, "fine_tune"], rule(0.05), 5, "vision", no)
    assert [(one.backbone, one.strategy) for one in found.options if not one.is_probe] == [("one", "fine_tune")]
    steps = next_steps(found, {}, [], "x", 10, {})
    assert steps.tuned == [("one", "fine_tune")]
    assert '"backbone=same strategy=feature_extraction head.solver=lbfgs"' in steps.compare
    assert '"backbone=one strategy=fine_tune"' in steps.compare
    both = choose([ONE, SAME], {}, [PROBE, "fine_tune"], rule(0.05), 5, "vision")
    assert "backbone=one,same " in next_steps(both, {}, [], "x", 10, {}).compare


def test_of_an_experiment_the_settings_are_taken_and_not_its_comparison():
    steps = next_steps(choose([ONE], {}, ALL, rule(0.05), 5, "vision"), {}, ["experiment=text"], "text", 10, {})
    assert "hydra.sweeper.params=null" in steps.compare
    assert "search=none" in steps.compare
    assert "search=none" not in steps.search
    assert "name=text-search" in steps.search.replace('"', "").replace("'", "")


def test_gains_are_fitted_as_a_line():
    rng = np.random.default_rng(0)
    points, weights = [], (0.02, 0.03, 0.1, -0.05, 0.04, 0.06)
    for _ in range(300):
        before = float(rng.integers(5, 100)), float(rng.uniform(0.2, 0.9)), str(rng.choice(["vision", "text", "audio"]))
        batch_norm = bool(rng.integers(2))
        gain = room(before[1]) * (float(known(*before, batch_norm) @ weights) + rng.normal(0, 0.01))
        points.append(Recorded(*before, gain, batch_norm))
    fit = fitted(points)
    assert fit.weights == pytest.approx(weights, abs=0.015)
    inside = [fit.at(known(one.per_class, one.probe, one.modality, one.batch_norm)) for one in points]
    hits = [it.low <= one.gain / room(one.probe) <= it.high for it, one in zip(inside, points, strict=True)]
    assert np.mean(hits) == pytest.approx(0.9, abs=0.05)


def test_less_is_gained_over_a_probe_that_leaves_little():
    """Ten points over probes that score half are no ten points over one that scores 95%."""
    rule = Rule({"lora": Fit((0.1, 0.0, 0.0, 0.0, 0.0, 0.0), 0.05, 20)}, Order(), {})
    gains = {probe: rule.gain("lora", 20, probe, "vision") for probe in (0.4, 0.7, 0.85, 0.95, 1.0)}
    assert [round(gains[probe].mean, 4) for probe in gains] == [0.1, 0.1, 0.05, 0.0167, 0.0067]
    assert all(probe + one.mean < 1 for probe, one in gains.items() if probe < 1)
    assert gains[0.95].high - gains[0.95].low == pytest.approx((gains[0.4].high - gains[0.4].low) / 6)


def test_few_comparisons_shrink_slopes_not_the_mean():
    fit = fitted([Recorded(5, 0.5, "text", 0.1), Recorded(80, 0.6, "vision", 0.1)], shrinkage=1e6)
    assert fit.weights == pytest.approx((0.1, 0, 0, 0, 0, 0), abs=1e-4)
