"""A model shared out among two processes under gloo: the numbers, and the checkpoints, of one that is not."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from headstart.backbones.backbone import DepthGroup
from headstart.cli.main import main
from headstart.training.epochs import Pause, PausedError
from headstart.training.sharded import FirstStatistics, Sharded, units_of
from pictures import tiny, write_folder
from two_ranks import PLAIN, in_two_ranks

BLOCKS = {"cnn": 4, "vit": 3}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)


def run(rig, family, strategy, words, *, sharded=False, **settings):
    torch.manual_seed(5)
    backbone = PLAIN[family].build(False)
    callbacks = [*settings.pop("callbacks", []), *([FirstStatistics()] if sharded else [])]
    if sharded:
        settings |= {"devices": 2, "strategy_name": Sharded(2)}
    settings = {"optimizer": "sgd", "num_train": 29, **settings, "backbone": backbone, "callbacks": callbacks}
    fit = rig(family, strategy, *words, **settings)
    held = {}
    if sharded:
        shard, own = Sharded.shard, sum(p.numel() for p in fit.module.parameters())
        fit.trainer.strategy.shard = lambda module: (shard(fit.trainer.strategy, module), held.update(of(fit, own)))
    with suppress(PausedError):
        fit.fit()
    return {"history": fit.history(), "flops": fit.flops.total, **held}


def of(fit, whole):
    """The share of a model's numbers that this process holds, and how many blocks are put together apart."""
    named = [p for group in fit.thaw.groups for p in group.parameters.values()]
    local = sum(p.to_local().numel() for p in fit.module.parameters()) + sum(p.numel() for p in named)
    return {"share": local / whole, "units": sum(isinstance(one, FSDPModule) for one in fit.module.modules())}


def as_ranks(rig, tmp_path, *what, **settings):
    return in_two_ranks(tmp_path, lambda: run(rig, *what, sharded=True, **settings))


def checkpoint(tmp_path, folder, name="last.ckpt"):
    return torch.load(tmp_path / folder / name, weights_only=True)


def assert_same(found, expected):
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    assert found.get("left_out") == expected.get("left_out")
    for name, tensor in found["state_dict"].items():
        torch.testing.assert_close(tensor, expected["state_dict"][name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("family", "strategy", "words"),
    [
        ("vit", "gradual_unfreeze", ["unfreeze.num_groups=3"]),
        pytest.param("vit", "partial", [], marks=pytest.mark.slow),
        pytest.param(
            "cnn", "gradual_unfreeze", ["unfreeze.num_groups=3", "++strategy.thawed_norm=eval"], marks=pytest.mark.slow
        ),
    ],
)
def test_two_processes_give_the_numbers_and_the_checkpoints_of_one(rig, tmp_path, family, strategy, words):
    what, settings = (family, strategy, words), {"num_train": 13, "max_epochs": 3, "gradient_clip_val": 0.5}
    first, second = as_ranks(rig, tmp_path, *what, folder="shared", **settings)
    alone = run(rig, *what, folder="alone", **settings)
    assert first["history"] == second["history"]
    assert 0.5 <= first["share"] < 0.55  # rows that two cannot divide between them
    assert first["units"] == 2 + BLOCKS[family]
    for row, single in zip(first["history"], alone["history"], strict=True):
        assert row == pytest.approx(single, rel=1e-4)
    assert first["flops"] == second["flops"] == pytest.approx(alone["flops"], rel=1e-9)
    for name in ("best.ckpt", "last.ckpt"):
        assert_same(checkpoint(tmp_path, "shared", name), checkpoint(tmp_path, "alone", name))
    mine, single = (checkpoint(tmp_path, folder)["optimizer_states"][0] for folder in ("shared", "alone"))
    assert mine["param_groups"] == single["param_groups"]
    assert mine["state"].keys() == single["state"].keys()
    for place, values in mine["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(value, single["state"][place][name], rtol=1e-2, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["gradual_unfreeze", "partial"])
@pytest.mark.parametrize("begins_shared", [True, False])
def test_either_goes_on_from_the_others_checkpoint(rig, tmp_path, begins_shared, strategy):
    """In the midst of thawing, with the optimizer's state of what has thawed so far, or without what never trains."""
    what, half = ("vit", strategy, []), {"folder": "run", "callbacks": [Pause(2)]}
    if begins_shared:
        as_ranks(rig, tmp_path, *what, **half)
        history = run(rig, *what, folder="run")["history"]
    else:
        run(rig, *what, **half)
        history = as_ranks(rig, tmp_path, *what, folder="run")[0]["history"]
    alone = run(rig, *what, folder="alone")
    assert len(history) == 4
    for row, single in zip(history, alone["history"], strict=True):
        assert row == pytest.approx(single, rel=1e-4)
    assert_same(checkpoint(tmp_path, "run"), checkpoint(tmp_path, "alone"))
    assert ("left_out" in checkpoint(tmp_path, "run")) == (strategy == "partial")


@pytest.mark.slow
def test_a_shared_run_that_is_left_and_gone_on_with_ends_to_the_bit(rig, tmp_path):
    what = rig, tmp_path, "cnn", "partial", []
    as_ranks(*what, folder="cut", callbacks=[Pause(2)])
    found, expected = as_ranks(*what, folder="cut")[0], as_ranks(*what, folder="whole")[0]
    assert found == expected
    for name in ("best.ckpt", "last.ckpt"):
        mine, other = checkpoint(tmp_path, "cut", name), checkpoint(tmp_path, "whole", name)
        assert mine["left_out"] == other["left_out"]
        assert all(torch.equal(tensor, other["state_dict"][key]) for key, tensor in mine["state_dict"].items())


class Tied(nn.Module):
    """Two blocks, one of which holds a tensor of the other's; a list of two that nobody calls."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.lists = nn.ModuleList([nn.Linear(2, 2), nn.ReLU(), nn.ModuleList([nn.Linear(2, 2)])])
        self.end = nn.Linear(2, 2)

    def groups(self, granularity):
        made = {"blocks.0": [self.first], "blocks.1": [self.second, self.lists], "tail": [self.end]}
        return [DepthGroup(name, {}, {}, tuple(modules)) for name, modules in made.items()]


def test_blocks_are_put_together_one_by_one_but_for_those_with_tied_tensors():
    model = Tied()
    assert list(units_of(model)) == [model.lists[0], model.lists[2][0]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.devices=1"], "trainer.devices must be at least 2, but is 1"),
        (["trainer.compile=true"], "there must be no trainer.compile=true"),
        (["trainer.precision=64-true"], "there must be no trainer.precision=64-true"),
        (["strategy=sam"], "there must be no strategy.sam"),
        (["strategy=l2_sp"], "there must be no strategy.regularizer"),
        (["strategy=lora"], "there must be no strategy.adapter"),
        (["strategy=surgical_auto", "strategy.average=ema"], "strategy.average=ema or strategy.layer_rates"),
        (
            [
                "strategy=gradual_unfreeze",
                "unfreeze=on_plateau",
                "unfreeze.num_groups=4",
                "unfreeze.restore_best=true",
                "trainer.max_epochs=9",
            ],
            "there must be no unfreeze.restore_best=true",
        ),
    ],
)
def test_what_a_shared_model_cannot_do_is_refused_beforehand(at_home, pictures, capsys, words, message):
    shared = ["trainer.strategy=fsdp2", "trainer.devices=2", "trainer.accelerator=cpu"]
    assert main(["train", *tiny(pictures, *shared, *words)]) == 2
    assert message in capsys.readouterr().err
    assert not (at_home / "outputs").exists()


def test_a_head_alone_has_nothing_to_share_and_says_so(at_home, pictures, capsys):
    shared = ["strategy=feature_extraction", "trainer.strategy=fsdp2", "trainer.devices=2", "trainer.accelerator=cpu"]
    assert main(["train", *tiny(pictures, *shared)]) == 0
    assert "trainer.strategy=fsdp2 does nothing: only a head trains" in capsys.readouterr().err
