"""Which rows each strategy trains at which multiple, and which pairs and wishes it refuses."""

import pytest

from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError
from headstart.strategies.adapters import Lora
from headstart.strategies.plan import HEAD, KINDS
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import AtStart, Gradual, HeadFirst, Never, OnPlateau, Phases


def trained(plan, phase=0):
    return [group for group in plan.groups if plan.phases[phase].trains(group)]


def test_fine_tuning_trains_every_row_at_the_heads_rate(kinds):
    plan = Strategy(lr=0.1).plan(kinds, AtStart(), 3)
    assert plan.groups == (*kinds, HEAD)
    own = [kind for kind in KINDS if kind != "adapter"]
    assert all(plan.phases[0].multiplier(group, kind) == 1.0 for group in kinds for kind in own)


def test_feature_extraction_trains_the_head_alone(kinds):
    plan = Strategy(lr=0.1, groups=[]).plan(kinds, Never(), 3)
    assert trained(plan) == [HEAD]
    assert plan.head_only()


def test_layer_decay_counts_groups_below_the_head(kinds):
    plan = Strategy(lr=0.1, layer_decay=0.5, backbone_rate=0.8).plan(kinds, AtStart(), 3)
    distances = {"tail": 1, "blocks.3": 2, "blocks.2": 3, "blocks.1": 4, "blocks.0": 5, "stem": 6}
    for group, distance in distances.items():
        assert plan.phases[0].multiplier(group, "weight") == pytest.approx(0.8 * 0.5**distance)
    assert plan.phases[0].multiplier(HEAD, "weight") == 1.0


def test_layer_decay_agrees_with_timm_on_a_vit():
    declare_torchvision_operators()
    import timm
    from timm.optim import param_groups_layer_decay

    from headstart.backbones.timm import Timm
    from headstart.training.rows import rows

    arguments = {"embed_dim": 24, "depth": 4, "num_heads": 2, "img_size": 32, "patch_size": 16}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **arguments)
    by_tensor = {id(p): name for name, p in model.named_parameters()}
    timms = {
        by_tensor[id(p)]: group["lr_scale"] for group in param_groups_layer_decay(model, 0.05, layer_decay=0.75)
        for p in group["params"]
    }  # fmt: skip
    backbone = Timm("vit_tiny_patch16_224", weights="none", size=32, arguments={
        name: value for name, value in arguments.items() if name != "img_size"
    }).build(False)  # fmt: skip
    table = rows(backbone.groups(), backbone)
    # timm counts the final norm with the last block; here it is a group of its own, hence one power more below it
    strategy = Strategy(lr=0.1, layer_decay=0.75, backbone_rate=1 / 0.75)
    plan = strategy.plan({g.name: KINDS for g in backbone.groups()}, AtStart(), 3)
    compared = 0
    for (group, kind), named in table.items():
        for name in named:
            if group != "tail":
                assert plan.phases[0].multiplier(group, kind) == pytest.approx(timms[name.removeprefix("model.")]), name
                compared += 1
    assert compared == len(list(backbone.parameters())) - 2
    assert timms["head.weight"] == plan.phases[0].multiplier(HEAD, "weight") == 1.0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"last_k": 2}, ["blocks.2", "blocks.3", "tail"]),
        ({"first_k": 2}, ["stem", "blocks.0", "blocks.1"]),
        ({"groups": ["blocks.1", "tail"]}, ["blocks.1", "tail"]),
        ({"groups": ["*.[02]"]}, ["blocks.0", "blocks.2"]),
        ({"kinds": ["bias"]}, ["blocks.3"]),
    ],
)
def test_partial_trains_the_groups_asked_for_and_the_head(kinds, arguments, expected):
    assert trained(Strategy(lr=0.1, **arguments).plan(kinds, AtStart(), 3)) == [*expected, HEAD]


def test_kinds_narrow_every_group(kinds):
    plan = Strategy(lr=0.1, kinds=["bias", "norm_bias"]).plan(kinds, AtStart(), 3)
    for group in kinds:
        rates = plan.phases[0].rates[group]
        assert [kind for kind, rate in rates.items() if rate > 0] == ["bias", "norm_bias"]


def test_a_group_without_any_row_that_trains_is_frozen_and_takes_no_thaw_of_its_own():
    kinds = {
        "stem": ("weight",),
        "blocks.0": ("weight", "adapter"),
        "blocks.1": ("weight", "adapter"),
        "tail": ("norm",),
    }
    plan = Strategy(lr=0.1, adapter=Lora()).plan(kinds, Gradual(), 3)
    assert [trained(plan, phase) for phase in range(3)] == [
        [HEAD], ["blocks.1", HEAD], ["blocks.0", "blocks.1", HEAD],
    ]  # fmt: skip


def test_gradual_and_discriminative_rates_multiply(kinds):
    plan = Strategy(lr=0.1, layer_decay=0.5).plan(kinds, Gradual(every=1, num_groups=3), 3)
    assert [trained(plan, phase) for phase in range(3)] == [
        [HEAD],
        ["blocks.2", "blocks.3", "tail", HEAD],
        [*kinds, HEAD],
    ]
    assert plan.phases[1].multiplier("blocks.2", "weight") == 0.125


def test_phase_multipliers_scale_the_groups(kinds):
    plan = Strategy(lr=0.1, layer_decay=0.5).plan(kinds, HeadFirst(epochs=1, rate=0.1), 3)
    assert plan.phases[1].multiplier("tail", "norm") == pytest.approx(0.05)
    assert plan.phases[1].multiplier(HEAD, "weight") == pytest.approx(0.1)


@pytest.mark.parametrize(
    "unfreeze", [AtStart(), Gradual(), HeadFirst(epochs=1), OnPlateau(), Phases([{"start": 0, "groups": []}])]
)
def test_feature_extraction_with_any_thaw_is_refused(kinds, unfreeze):
    with pytest.raises(InputError, match=r"keeps the whole backbone \(stem, blocks.0.*tail\) frozen.*unfreeze=never"):
        Strategy(lr=0.1, groups=[]).plan(kinds, unfreeze, 9)


@pytest.mark.parametrize("unfreeze", [Never(), Phases([{"start": 0, "groups": []}])])
def test_a_strategy_that_never_thaws_what_it_trains_is_refused(kinds, unfreeze):
    with pytest.raises(InputError, match=r"trains stem, blocks.0.*thaws none of them"):
        Strategy(lr=0.1).plan(kinds, unfreeze, 9)


@pytest.mark.parametrize("unfreeze", [Gradual(), HeadFirst(epochs=1), Phases([{"start": 0, "groups": ["tail"]}])])
def test_random_weights_are_never_frozen(kinds, unfreeze):
    with pytest.raises(InputError, match="Random weights must train from the start"):
        Strategy(lr=0.1, pretrained=False).plan(kinds, unfreeze, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"last_k": 5}, r"last_k must be at most the number of blocks, 4, but is 5.*stem, blocks.0, .*, tail"),
        ({"first_k": 5}, r"first_k must be at most the number of blocks, 4, but is 5"),
        ({"groups": ["layer*"]}, r"strategy.groups must name groups.*\['layer\*'\] match none. Groups: stem, blocks.0"),
        ({"last_k": 1, "first_k": 1}, "last_k and first_k are"),
        ({"last_k": 1, "groups": ["tail"]}, "last_k and groups are"),
        (
            {"groups": ["stem"], "kinds": ["bias"]},
            r"strategy.kinds=\['bias'\], but stem have only weight, norm, norm_bias",
        ),
    ],
)
def test_groups_that_cannot_be_had_are_refused_by_name(kinds, arguments, message):
    with pytest.raises(InputError, match=message):
        Strategy(lr=0.1, **arguments).plan(kinds, AtStart(), 3)


@pytest.mark.parametrize("key", ["last_k", "first_k"])
def test_counting_blocks_of_a_model_without_blocks_is_refused(key):
    with pytest.raises(
        InputError, match=rf"strategy.{key} counts blocks, but the model has none. Its groups: stem, tail"
    ):
        Strategy(lr=0.1, **{key: 1}).plan({"stem": KINDS, "tail": KINDS}, AtStart(), 3)


def test_norms_cannot_be_trained_alone_in_a_model_without_norms():
    kinds = {"features.0": ("weight", "bias"), "features.1": ("weight", "bias")}
    with pytest.raises(InputError, match=r"features.0, features.1 have only weight, bias"):
        Strategy(lr=0.1, kinds=["norm", "norm_bias"]).plan(kinds, AtStart(), 3)


def test_a_backbones_own_rate_scales_its_layers_but_not_adapters_or_the_head():
    kinds = {"stem": KINDS, "tail": KINDS}
    plain = Strategy(lr=0.1, layer_decay=0.5).plan(kinds, AtStart(), 3, rate=0.1).phases[0]
    assert plain.multiplier("tail", "weight") == pytest.approx(0.5 * 0.1)
    assert plain.multiplier(HEAD, "weight") == 1
    adapted = Strategy(lr=0.1, adapter=Lora(), kinds=["norm"]).plan(kinds, AtStart(), 3, rate=0.1).phases[0]
    assert adapted.multiplier("stem", "adapter") == 1
    assert adapted.multiplier("stem", "norm") == pytest.approx(0.1)
