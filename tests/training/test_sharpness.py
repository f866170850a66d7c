"""SAM: against the paper's algorithm by hand, and what its second pass must leave alone."""

from copy import deepcopy
from math import sqrt

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from epoch_callbacks import Cut, same
from headstart.training.sharpness import SharpnessAware

SAM = "strategy.sam=0.05"


def test_the_gradient_is_that_of_a_closed_form():
    """Of `½ Σ aᵢ wᵢ²` the gradient is `a w`; moved by `rho` along it, `a (w + rho · a w / ‖a w‖)`."""
    model, scale = nn.Linear(2, 1, bias=False), torch.tensor([3.0, 0.5])
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))

    def closure():
        model.zero_grad()
        loss = (scale * model.weight.square()).sum() / 2
        loss.backward()
        return loss

    loss = SharpnessAware(0.1).closure(model, closure)()
    assert loss.item() == pytest.approx(0.5 * (3 + 0.5 * 4))
    norm = sqrt(3.0**2 + 1.0**2)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[3 * (1 + 0.1 * 3 / norm), 0.5 * (-2 - 0.1 / norm)]]))
    assert model.weight.tolist() == [[1.0, -2.0]]


class ByHand(pl.Callback):
    """The gradients of algorithm 1 of the paper on a copy of the model, before every step."""

    def __init__(self, rho):
        self.rho, self.expected, self.used = rho, [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        copy = deepcopy(pl_module)
        weights = [p for p in copy.parameters() if p.requires_grad]

        def gradients():
            loss = F.cross_entropy(copy(batch["inputs"]), batch["labels"])
            return torch.autograd.grad(loss, weights)

        norms = [m for m in copy.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 0.0
        first = gradients()
        size = torch.sqrt(sum(g.square().sum() for g in first))
        with torch.no_grad():
            for weight, gradient in zip(weights, first, strict=True):
                weight += self.rho * gradient / size
        self.expected.append(gradients())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.used.append([p.grad.clone() for p in pl_module.parameters() if p.requires_grad])


def test_steps_are_by_the_gradients_of_the_paper(rig):
    by_hand = ByHand(0.05)
    no_dropout = {"callbacks": [by_hand], "optimizer": "sgd", "max_epochs": 1}
    run = rig("cnn", "fine_tune", SAM, "scheduler=constant", **no_dropout)
    for module in run.module.modules():
        if "drop" in type(module).__name__.lower():
            module.drop_prob = module.p = 0.0
    run.fit()
    assert len(by_hand.used) > 2
    for used, expected in zip(by_hand.used, by_hand.expected, strict=True):
        for one, other in zip(used, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_statistics_move_by_the_first_pass_alone_and_both_passes_drop_the_same(rig):
    """With a radius that moves next to nothing, a run is that without SAM, statistics, dropout and history too."""
    tiny = rig("cnn", "fine_tune", "strategy.sam=1e-12", max_epochs=2, folder="tiny").fit()
    plain = rig("cnn", "fine_tune", max_epochs=2, folder="plain").fit()
    for name, tensor in plain.state().items():
        torch.testing.assert_close(tiny.state()[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert int(tiny.state()["backbone.model.bn1.num_batches_tracked"]) == int(
        plain.state()["backbone.model.bn1.num_batches_tracked"]
    )
    for row, other in zip(tiny.history(), plain.history(), strict=True):
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)
    assert tiny.flops.total == pytest.approx(2 * plain.flops.total, rel=0.01)


@pytest.mark.parametrize(
    ("family", "strategy", "words"),
    [
        ("cnn", "partial", ()),
        ("cnn", "gradual_unfreeze", ("unfreeze.num_groups=3",)),
        ("cnn", "lp_ft", ("strategy.average=ema",)),
        ("vit", "lora", ()),
        ("cnn", "stochnorm", ()),
        ("cnn", "l2_sp", ()),
        ("vit", "bss", ()),
        ("cnn", "surgical_auto", ()),
    ],
)
def test_a_run_cut_off_goes_on_to_the_same_bits_and_frozen_rows_keep_theirs(rig, family, strategy, words):
    whole = rig(family, strategy, SAM, *words, max_epochs=3).fit()
    with pytest.raises(InterruptedError):
        rig(family, strategy, SAM, *words, max_epochs=3, callbacks=[Cut(1)], folder="cut").fit()
    same(whole, rig(family, strategy, SAM, *words, max_epochs=3, folder="cut").fit())
    if strategy in ("partial", "lora"):
        start = rig(family, strategy, SAM, *words, max_epochs=3, folder="start").module.state_dict()
        frozen = [name for name, p in whole.module.named_parameters() if not p.requires_grad]
        assert frozen
        assert all(torch.equal(whole.module.state_dict()[name], start[name]) for name in frozen)
