"""Auto-RGN: ratios in closed form and against the gradients of a copy, rates in the history, runs that go on."""

from copy import deepcopy
from math import inf

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from epoch_callbacks import Cut, same
from headstart.training.relative_rates import measured_tensors, relative_norms, shares
from headstart.training.thaw import Thaw


def test_ratios_are_those_of_a_closed_form():
    """`½ Σ a² w²` has the gradient `a² w`: its ratio is `a²` whatever `w`, for as long as `a` is one number a group."""
    first, second = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))
    loss = (4.0 * first.square().sum() + 0.25 * second.square().sum()) / 2
    found = relative_norms({"low": [first], "high": [second]}, loss)
    assert found == pytest.approx({"low": 4.0, "high": 0.25})
    assert shares([found, {"low": 2.0, "high": 0.5}]) == pytest.approx({"low": 1.0, "high": 0.125})


def test_weights_that_are_all_zero_have_the_whole_rate_and_do_not_shrink_others():
    assert shares([{"stem": 2.0, "tail": 1.0, "head": inf}]) == {"stem": 1.0, "tail": 0.5, "head": 1.0}
    assert shares([{"stem": 0.0, "head": 0.0}]) == {"stem": 1.0, "head": 1.0}


def test_norms_and_biases_are_measured_only_where_there_is_nothing_else(rig):
    module = rig("vit", "surgical_auto").module
    groups = measured_tensors(module.rows)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = {group: [names[id(parameter)] for parameter in several] for group, several in groups.items()}
    assert found["head"] == ["head.weight"]
    assert not any("norm" in name or name.endswith("bias") for name in found["blocks.0"])
    assert found["tail"] == ["backbone.model.norm.weight", "backbone.model.norm.bias"]


PATHS = {"stem": "conv1", **{f"layer{place}.0": f"layer{place}" for place in (1, 2, 3, 4)}}


class Measured(pl.Callback):
    """By hand: in each epoch, the mean over batches of ‖gradient‖ / ‖weights‖ of a copy of the model, by group."""

    def __init__(self, run_of):
        self.run_of, self.found = run_of, []

    def on_train_epoch_start(self, trainer, pl_module):
        run, copy = self.run_of(), deepcopy(pl_module).eval()
        ratios = {}
        for batch in run.labelled_batches():
            copy.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(copy(batch["inputs"]), batch["labels"]).backward()
            for name, path in PATHS.items():
                ratios.setdefault(name, []).append(self.ratio(copy.backbone.model.get_submodule(path)))
            ratios.setdefault("head", []).append(self.ratio(copy.head))
        self.found.append({name: sum(several) / len(several) for name, several in ratios.items()})

    def ratio(self, layer):
        weights = [p for p in layer.parameters() if p.ndim > 1]
        norm = lambda tensors: torch.cat([t.detach().flatten() for t in tensors]).norm().item()  # noqa: E731
        return norm([p.grad for p in weights]) / norm(weights)


def test_the_history_holds_the_rates_that_were_measured(rig):
    held = []
    measured = Measured(lambda: held[0])
    run = rig("cnn", "surgical_auto", "scheduler=constant", callbacks=[measured], max_epochs=3)
    held.append(run)
    run.fit()
    assert len({row["lr/layer2.0"] for row in run.history()}) == 3
    for row, ratios in zip(run.history(), measured.found, strict=True):
        largest = max(ratios.values())
        for name, ratio in ratios.items():
            assert row[f"lr/{name}"] == pytest.approx(1e-2 * ratio / largest, rel=1e-4), name


@pytest.mark.parametrize("words", [(), ("strategy.average=ema",), ("unfreeze=gradual", "unfreeze.num_groups=3")])
def test_a_run_cut_off_measures_the_same_rates(rig, words):
    whole = rig("cnn", "surgical_auto", *words, max_epochs=3).fit()
    with pytest.raises(InterruptedError):
        rig("cnn", "surgical_auto", *words, max_epochs=3, callbacks=[Cut(1)], folder="cut").fit()
    same(whole, rig("cnn", "surgical_auto", *words, max_epochs=3, folder="cut").fit())


def test_measuring_moves_nothing(rig):
    """Statistics of norm layers and the dropout to come are those of a run with the same rates and no measuring."""

    class Same(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            next(one for one in trainer.callbacks if isinstance(one, Thaw)).shares = {}

    run = rig("cnn", "surgical_auto", "scheduler=constant", callbacks=[Same()], max_epochs=2).fit()
    plain = rig("cnn", "fine_tune", "scheduler=constant", max_epochs=2, folder="plain").fit()
    for name, tensor in plain.state().items():
        assert torch.equal(tensor, run.state()[name]), name
    assert run.flops.total > plain.flops.total


EVEN = ("unfreeze.rate=1.0", "scheduler=constant")


def test_a_head_alone_trains_at_its_own_rate(rig):
    run = rig("vit", "surgical_auto", "unfreeze=head_first", "unfreeze.epochs=1", *EVEN, max_epochs=2)
    first, second = run.fit().history()
    assert first["lr/head"] == 1e-2
    assert first["lr/blocks.1"] == 0
    assert max(value for name, value in second.items() if name.startswith("lr/")) == pytest.approx(1e-2)
