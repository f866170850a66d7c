"""Cutting a model in two gives the same features, bit for bit."""

import pickle

import pytest
import torch
from torch import nn

from headstart.backbones.cuts import Cuts
from headstart.backbones.depth import depth_groups
from headstart.backbones.timm import Timm

EVERYWHERE = [
    "resnet18",
    "mobilenetv3_small_100",
    "densenet121",
    "vit_tiny_patch16_224",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "efficientnet_b0",
            "vgg11",
            "convnext_atto",
            "regnety_002",
            "deit_tiny_distilled_patch16_224",
            "swin_tiny_patch4_window7_224",
            "eva02_tiny_patch14_224",
        )
    ),
]


def build(name: str, size: int = 64, **settings):
    torch.manual_seed(0)
    backbone = Timm(name, weights="none", size=size, **settings).build(pretrained=False).eval()
    for module in backbone.modules():  # statistics as of a trained model, so that norms do something
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return backbone


def pictures(backbone, num: int = 3):
    size = backbone.preprocessing.size
    generator = torch.Generator().manual_seed(1)
    return {"pixels": torch.randint(0, 256, (num, 3, size, size), generator=generator).to(torch.uint8)}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_boundary_gives_the_whole_models_features(name):
    backbone = build(name, size=28 if "patch14" in name else 32)
    inputs = pictures(backbone)
    with torch.no_grad():
        whole = backbone(inputs)
        assert backbone.boundaries == [g.name for g in backbone.groups()]
        for boundary in backbone.boundaries:
            stored = {n: a.contiguous().clone() for n, a in backbone.prefix(inputs, boundary).items()}
            assert all(len(a) == 3 for a in stored.values())
            assert torch.equal(backbone.suffix(stored, boundary), whole), boundary


def test_the_last_boundary_is_the_features():
    backbone = build("resnet18")
    activations = backbone.prefix(pictures(backbone), "layer4.1")
    assert {n: tuple(a.shape) for n, a in activations.items()} == {"features": (3, 512)}
    assert backbone.suffix(activations, "layer4.1") is activations["features"]


def test_the_stem_ends_after_its_pooling():
    backbone = build("resnet18")
    (activation,) = backbone.prefix(pictures(backbone), "stem").values()
    assert activation.shape == (3, 64, 16, 16)


def test_gradients_and_statistics_of_the_suffix_are_the_whole_models():
    whole, cut = build("resnet18"), build("resnet18")
    inputs = pictures(whole)
    for backbone in (whole, cut):
        backbone.train()
        for group in backbone.groups()[:5]:
            for module in group.modules:
                module.eval()
    whole(inputs).square().sum().backward()
    with torch.no_grad():
        activations = cut.prefix(inputs, "layer2.1")
    cut.suffix(activations, "layer2.1").square().sum().backward()
    for (name, a), b in zip(whole.named_parameters(), cut.parameters(), strict=True):
        above = name.startswith(("model.layer3", "model.layer4"))
        assert torch.equal(a.grad, b.grad) if above else b.grad is None
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), cut.buffers(), strict=True))
    assert cut.model.layer4[1].bn2.num_batches_tracked == 1


def test_dropout_of_the_suffix_follows_its_mode():
    backbone = build("resnet18", drop_rate=0.5)
    activations = backbone.prefix(pictures(backbone), "layer4.0")
    assert torch.equal(backbone.suffix(activations, "layer4.0"), backbone.suffix(activations, "layer4.0"))
    backbone.train()
    for group in backbone.groups():
        for module in group.modules:
            module.eval()
    torch.manual_seed(0)
    dropped = backbone.suffix(activations, "layer4.0")
    torch.manual_seed(0)
    assert torch.equal(dropped, backbone(pictures(backbone)))
    backbone.eval()
    assert torch.equal(backbone.suffix(activations, "layer4.0"), backbone(pictures(backbone)))


def test_adapters_and_hooks_inside_work():
    from peft import LoraConfig, inject_adapter_in_model

    backbone = build("vit_tiny_patch16_224")
    inputs = pictures(backbone)
    before = backbone.suffix(backbone.prefix(inputs, "blocks.5"), "blocks.5")
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["qkv"], init_lora_weights=False), backbone)
    called = []
    backbone.model.blocks[8].register_forward_hook(lambda *_: called.append(True))
    backbone.eval()
    after = backbone.suffix(backbone.prefix(inputs, "blocks.5"), "blocks.5")
    assert torch.equal(after, backbone(inputs))
    assert not torch.equal(after, before)
    assert len(called) == 2


def test_what_is_loaded_later_is_used():
    backbone = build("resnet18")
    activations = backbone.prefix(pictures(backbone), "stem")
    backbone.load_state_dict(build("resnet18").state_dict())
    with torch.no_grad():
        backbone.model.layer4[1].conv2.weight.mul_(2)
    assert torch.equal(backbone.suffix(activations, "stem"), backbone(pictures(backbone)))


def test_a_backbone_that_was_cut_can_be_pickled():
    backbone = build("resnet18")
    activations = backbone.prefix(pictures(backbone), "layer1.0")
    again = pickle.loads(pickle.dumps(backbone))
    assert torch.equal(again.suffix(activations, "layer1.0"), backbone(pictures(backbone)))


class Hostile(nn.Module):
    """Its glue depends on values, which no trace can follow."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            if x.shape[0] > 100:
                x = x * 2
        return x.mean((2, 3))


class InPlace(Hostile):
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            x = x.flatten(1).relu_().reshape(x.shape)
        return x.mean((2, 3))


def cuts_of(model):
    groups = depth_groups(model, (4, 4), "blocks", "model.")
    return Cuts(model.eval(), groups, lambda: torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)))


def test_a_model_that_cannot_be_traced_has_the_last_boundary_only():
    cuts = cuts_of(Hostile())
    assert cuts.boundaries() == ["blocks.2"]
    with pytest.raises(AssertionError, match="cannot be cut"):
        cuts.prefix(torch.zeros(2, 3, 4, 4), "blocks.0")


def test_given_activations_are_left_as_they_were():
    cuts = cuts_of(InPlace())
    pixels = torch.randn(2, 3, 4, 4)
    for boundary in cuts.boundaries()[:-1]:
        activations = cuts.prefix(pixels, boundary)
        before = {n: a.clone() for n, a in activations.items()}
        cuts.suffix(activations, boundary)
        assert all(torch.equal(a, before[n]) for n, a in activations.items())
