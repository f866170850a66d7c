"""Floating-point operations against closed forms, and what is expected against what is counted in training."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headstart.backbones.timm import Timm
from headstart.training.work import counter, expected_work


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_and_its_gradients_count_by_their_closed_form(groups):
    layer = nn.Conv2d(8, 16, 3, padding=1, groups=groups)
    pictures = torch.zeros(2, 8, 5, 5, requires_grad=True)
    with counter() as count:
        layer(pictures).sum().backward()
    forward = 2 * 2 * 5 * 5 * 16 * (8 // groups) * 9
    assert count.get_total_flops() == 3 * forward


def test_a_transposed_convolution_counts_by_its_closed_form():
    layer = nn.ConvTranspose2d(8, 4, 3, stride=2)
    with counter() as count:
        layer(torch.zeros(2, 8, 5, 5)).sum().backward()
    assert count.get_total_flops() == 2 * (2 * 2 * 5 * 5 * 8 * 4 * 9)


def test_a_frozen_convolution_counts_one_gradient():
    layer = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    with counter() as count:
        layer(torch.zeros(2, 4, 5, 5, requires_grad=True)).sum().backward()
    assert count.get_total_flops() == 2 * (2 * 2 * 5 * 5 * 4 * 4 * 9)


def test_fused_attention_counts_on_a_cpu():
    """Two products forward; five backward, one of them the scores again."""
    q, k, v = (torch.randn(2, 3, 16, 8, requires_grad=True) for _ in range(3))
    with counter() as count:
        F.scaled_dot_product_attention(q, k, v).sum().backward()
    product = 2 * 2 * 3 * 16 * 16 * 8
    assert count.get_total_flops() == 7 * product


CASES = [
    ("cnn", "from_scratch"),
    ("cnn", "gradual_unfreeze"),
    ("cnn", "partial"),
    ("cnn", "bias_only"),
    ("cnn", "lora"),
    ("vit", "lp_ft"),
    ("vit", "gradual_unfreeze"),
    ("vit", "norm_only"),
    ("vit", "lora"),
    ("depthwise", "gradual_unfreeze"),
    ("depthwise", "discriminative"),
    ("swin", "gradual_unfreeze"),
]
SWIN = {"embed_dim": 8, "depths": [1, 1, 2], "num_heads": [2, 2, 2], "window_size": 2, "patch_size": 2}
MORE = {
    "depthwise": Timm("test_efficientnet", weights="none", size=32),
    "swin": Timm("swin_tiny_patch4_window7_224", weights="none", size=32, arguments=SWIN),
}


@pytest.mark.parametrize(("family", "strategy"), CASES)
def test_what_is_expected_is_what_training_counts(rig, families, family, strategy):
    factory = (families | MORE)[family]
    words = ["unfreeze.num_groups=3"] if family == "depthwise" and strategy == "gradual_unfreeze" else []
    torch.manual_seed(0)
    run = rig("cnn", strategy, *words, max_epochs=4, num_train=20, batch_size=10, backbone=factory.build(False))
    with torch.device("meta"):
        backbone = factory.build(False)
    if strategy == "lora":
        from headstart.strategies.adapters import Lora

        with torch.device("meta"):
            Lora(r=2).inject(backbone)
    head = nn.Linear(backbone.num_features, 3, device="meta")
    pictures = {"pixels": torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="meta")}
    groups = backbone.groups("stages" if strategy == "gradual_unfreeze" else "blocks")
    expected = expected_work(backbone, head, groups, run.thaw.plan, pictures)
    run.fit()
    counted = [run.flops.known.per_unit[key] for key in sorted(run.flops.known.per_unit)]
    assert expected == pytest.approx(counted, rel=0.02)
    assert run.flops.total == pytest.approx(sum(20 * expected[row["phase"]] for row in run.history()), rel=0.02)


def test_gradients_that_are_asked_for_are_counted_as_those_of_a_backward_pass():
    """Of a layer whose weight is made of others, as that of wav2vec2's positions is."""
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    counts = []
    for differentiate in (
        lambda loss: torch.autograd.grad(loss, list(layer.parameters())),
        lambda loss: loss.backward(),
    ):
        with counter() as count:
            differentiate(layer(torch.ones(3, 6)).square().sum())
        counts.append(count.get_total_flops())
    assert counts == [2 * 2 * 3 * 6 * 4] * 2
