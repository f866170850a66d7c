"""LoRA by peft: which layers, that its rank fits, that it trains, is saved for peft itself, and folds away exactly."""

import json

import pytest
import torch
from torch import nn

from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError
from headstart.strategies.adapters import Lora

declare_torchvision_operators()
VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}


def timm_model(name, **arguments):
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **arguments)


def names(lora, model):
    return lora.target_names(model)


def test_attention_projections_of_a_vit_are_adapted():
    found = names(Lora(), timm_model("vit_tiny_patch16_224", **VIT))
    assert found == ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]


def test_convolutions_without_groups_of_a_cnn_are_adapted():
    model = timm_model("resnet18", layers=[1, 1, 1, 1])
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert names(Lora(), model) == convolutions
    depthwise = timm_model("mobilenetv2_050")
    assert all(".conv_dw" not in name for name in names(Lora(), depthwise))


def test_layers_that_do_more_than_their_class_says_are_left_alone():
    """Convolutions that pad by themselves or standardise their weights; projections that are never called."""
    lite = names(Lora(), timm_model("tf_efficientnet_lite0"))
    assert "conv_stem" not in lite
    assert "conv_head" in lite
    assert all("qkv" not in name for name in names(Lora(), timm_model("beit_base_patch16_224", **VIT)))
    attention = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2), "linear": nn.Linear(8, 8)})
    assert names(Lora(), attention) == ["linear"]


def test_targets_are_patterns_and_one_that_matches_nothing_is_refused():
    model = timm_model("vit_tiny_patch16_224", **VIT)
    assert names(Lora(targets=["*.mlp.fc1", "blocks.1.attn.*"]), model) == [
        "blocks.0.mlp.fc1", "blocks.1.attn.qkv", "blocks.1.attn.proj", "blocks.1.mlp.fc1",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"\['query'\] match none. The backbone has, for example: patch_embed.proj, "):
        names(Lora(targets=["query"]), model)


def test_a_model_without_any_layer_to_adapt_is_refused():
    with pytest.raises(InputError, match="has none"):
        names(Lora(), nn.Sequential(nn.BatchNorm2d(3)))


def test_a_rank_that_does_not_fit_is_refused_with_one_that_does():
    model = timm_model("vit_tiny_patch16_224", **VIT)
    Lora(r=16).check(model)
    with pytest.raises(InputError, match=r"r=17 and blocks.0.attn.qkv has 16.*Set r=16 or less"):
        Lora(r=17).check(model)


def test_the_stem_of_a_cnn_has_rank_enough():
    model = timm_model("resnet18")  # 3 × 7 × 7 inputs, 64 outputs
    Lora(r=64).check(model)
    with pytest.raises(InputError, match="r=65 and conv1 has 64"):
        Lora(r=65).check(model)


@pytest.mark.parametrize(("name", "arguments", "r"), [
    ("vit_tiny_patch16_224", VIT, 4), ("resnet18", {"layers": [1, 1, 1, 1]}, 8), ("tf_efficientnet_lite0", {}, 8),
    ("beit_base_patch16_224", VIT, 4), ("swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 2}, 4),
    ("convnext_atto", {}, 8), ("mobilenetv3_small_050", {}, 4), ("vgg11_bn", {}, 4),
])  # fmt: skip
def test_every_adapter_is_reached_by_a_gradient_and_starts_as_nothing(name, arguments, r):
    model = timm_model(name, **arguments).eval()
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(pictures)
    lora = Lora(r=r)
    lora.check(model)
    lora.inject(model)
    after = model(pictures)
    torch.testing.assert_close(after, before)
    after.square().sum().backward()
    adapters = {n: p for n, p in model.named_parameters() if ".lora_" in n}
    assert len(adapters) == 2 * len(lora_layers(model))
    assert all(p.grad is not None for p in adapters.values())


def lora_layers(model):
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


class Wrapped(nn.Module):
    """As a backbone holds its library's model."""

    def __init__(self, model):
        super().__init__()
        self.model = model


def moved(name, arguments, lora):
    backbone = Wrapped(timm_model(name, **arguments)).eval()
    lora.inject(backbone)
    with torch.no_grad():
        for parameter_name, parameter in backbone.named_parameters():
            if ".lora_B" in parameter_name:
                parameter.normal_(std=0.1)
    return backbone


FAMILIES = [("vit_tiny_patch16_224", VIT), ("resnet18", {"layers": [1, 1, 1, 1]})]


@pytest.mark.parametrize(("name", "arguments"), FAMILIES)
def test_a_saved_adapter_is_put_onto_the_pretrained_model_by_pefts_own_api(tmp_path, name, arguments):
    from peft import PeftModel

    lora = Lora(r=4, alpha=10.0)
    backbone = moved(name, arguments, lora)
    lora.save(backbone, tmp_path)
    pictures = torch.randn(2, 3, 32, 32)
    pretrained = timm_model(name, **arguments).eval()
    with torch.no_grad():
        expected, plain = backbone.model(pictures), pretrained(pictures)
        adapted = PeftModel.from_pretrained(pretrained, str(tmp_path)).eval()
        assert torch.equal(adapted(pictures), expected)
    assert not torch.allclose(plain, expected)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 10.0)


@pytest.mark.parametrize(("name", "arguments"), FAMILIES)
def test_a_folded_adapter_leaves_the_models_own_tensors_and_the_same_outputs(name, arguments):
    lora = Lora(r=4)
    backbone = moved(name, arguments, lora)
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = backbone.model(pictures)
        lora.fold(backbone)
        torch.testing.assert_close(backbone.model(pictures), expected, rtol=1e-4, atol=1e-4)
    assert set(backbone.model.state_dict()) == set(timm_model(name, **arguments).state_dict())


def test_adapters_take_as_many_parameters_as_the_paper_says():
    """r (inputs + outputs) for each adapted matrix (Hu et al. 2022, section 4.1)."""
    model = timm_model("vit_tiny_patch16_224", **VIT)
    Lora(r=4).inject(model)
    assert sum(p.numel() for n, p in model.named_parameters() if ".lora_" in n) == 2 * 4 * (16 + 48)
