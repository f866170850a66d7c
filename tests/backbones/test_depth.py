"""The partition into depth groups, on architectures built without memory."""

import pytest
import torch
from torch import nn

from headstart.backbones.depth import depth_groups
from headstart.backbones.timm import Timm
from headstart.backbones.uses import named_tensors, trace_uses
from headstart.errors import InputError

ARCHITECTURES = {  # name: number of (blocks, stages), counted in the papers' tables; stem and tail included
    "resnet18": (1 + 8, 1 + 4),
    "resnet50": (1 + 16, 1 + 4),
    "resnext50_32x4d": (1 + 16, 1 + 4),
    "wide_resnet50_2": (1 + 16, 1 + 4),
    "efficientnet_b0": (1 + 16 + 1, 1 + 7 + 1),
    "tf_efficientnet_lite0": (1 + 16 + 1, 1 + 7 + 1),
    "tf_efficientnetv2_s": (1 + 40 + 1, 1 + 6 + 1),
    "vgg11": (5 + 1, 5 + 1),
    "vgg16": (5 + 1, 5 + 1),
    "vgg16_bn": (5 + 1, 5 + 1),
    "vgg19": (5 + 1, 5 + 1),
    "mobilenetv2_100": (1 + 17 + 1, 1 + 7 + 1),
    "mobilenetv3_large_100": (1 + 15 + 1 + 1, 1 + 6 + 1 + 1),
    "mobilenetv3_small_100": (1 + 11 + 1 + 1, 1 + 5 + 1 + 1),
    "mobilenetv4_conv_small": (1 + 17 + 1, 1 + 5 + 1),
    "convnext_tiny": (1 + 18 + 1, 1 + 4 + 1),
    "densenet121": (1 + 58 + 1, 1 + 4 + 1),
    "regnety_004": (1 + 16, 1 + 4),
    "regnetx_002": (1 + 13, 1 + 4),
    "vit_small_patch16_224": (1 + 12 + 1, 1 + 12 + 1),
    "deit_small_patch16_224": (1 + 12 + 1, 1 + 12 + 1),
    "deit_small_distilled_patch16_224": (1 + 12 + 1, 1 + 12 + 1),
    "swin_tiny_patch4_window7_224": (1 + 12 + 1, 1 + 4 + 1),
    "beit_base_patch16_224": (1 + 12 + 1, 1 + 12 + 1),
    "eva02_tiny_patch14_224": (1 + 12 + 1, 1 + 12 + 1),
    # an architecture whose matcher is a function, one that has none, one with parallel branches
    "inception_v3": (None, None),
    "pit_ti_224": (None, None),
    "hrnet_w18_small": (None, None),
    # shared modules, and LSTMs, which hold their weights in a second place
    "coat_tiny": (None, None),
    "sequencer2d_s": (None, None),
}


SHARES_MODULES = {"coat_tiny"}
"""A module in several blocks is called, and reached, from each; its tensors are of the group that uses them first."""


OF_EACH_KIND = {"resnet18", "tf_efficientnet_lite0", "vgg11", "mobilenetv3_small_100", "mobilenetv4_conv_small"}
OF_EACH_KIND |= {"convnext_tiny", "vit_small_patch16_224", "swin_tiny_patch4_window7_224", "coat_tiny"}
"""The quick tests' share; each of the others costs seconds."""


def without_memory(name: str, **settings):
    with torch.device("meta"):
        return Timm(name, weights="none", **settings).build(pretrained=False)


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[] if n in OF_EACH_KIND else [pytest.mark.slow]) for n in ARCHITECTURES],
)
def architecture(request):
    return request.param, without_memory(request.param)


def test_every_tensor_lies_in_exactly_one_group(architecture):
    _, backbone = architecture
    for granularity in ("blocks", "stages"):
        groups = backbone.groups(granularity)
        found = [id(t) for g in groups for t in (*g.parameters.values(), *g.buffers.values())]
        assert len(set(found)) == len(found)
        assert set(found) == {id(t) for t in (*backbone.parameters(), *backbone.buffers())}
        assert {n for g in groups for n in g.parameters} == {n for n, _ in backbone.named_parameters()}
        assert {n for g in groups for n in g.buffers} == {n for n, _ in backbone.named_buffers()}
        assert len({g.name for g in groups}) == len(groups)


def test_groups_come_into_use_one_after_the_other(architecture):
    """An oracle of its own: the order in which the modules that own parameters are called in a real pass."""
    name, backbone = architecture
    if name in SHARES_MODULES:
        pytest.skip("modules are called again further up")
    depth = {id(p): d for d, g in enumerate(backbone.groups()) for p in g.parameters.values()}
    called: list[int] = []

    def note(module, inputs):
        called.append(min(depth[id(p)] for p in module.parameters(recurse=False)))

    owners = [m for m in backbone.model.modules() if next(m.parameters(recurse=False), None) is not None]
    hooks = [m.register_forward_pre_hook(note) for m in owners if m is not backbone.model]
    backbone.eval()(inputs_of(backbone))
    for hook in hooks:
        hook.remove()
    assert called == sorted(called), name
    assert len(set(called)) >= len(backbone.groups()) - 1


def inputs_of(backbone, device="meta"):
    size = backbone.preprocessing.size
    return {"pixels": torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)}


def test_the_number_of_groups_is_that_of_the_published_architecture(architecture):
    name, backbone = architecture
    blocks, stages = ARCHITECTURES[name]
    if blocks is None:
        assert len(backbone.groups()) > 5
    else:
        assert (len(backbone.groups("blocks")), len(backbone.groups("stages"))) == (blocks, stages)


def test_features_are_as_wide_as_announced(architecture):
    _, backbone = architecture
    assert backbone.eval()(inputs_of(backbone)).shape == (1, backbone.num_features)


def test_modules_reach_every_layer_once_and_only_its_own_group(architecture):
    name, backbone = architecture
    if name in SHARES_MODULES:
        pytest.skip("modules are reached from several blocks")
    groups = backbone.groups()
    reached = [id(m) for g in groups for module in g.modules for m in module.modules()]
    assert len(set(reached)) == len(reached)
    owners = {id(m) for m in backbone.modules() if next(m.buffers(recurse=False), None) is not None}
    assert owners - {id(backbone.model)} <= set(reached)
    for group in groups:
        own = {id(t) for t in (*group.parameters.values(), *group.buffers.values())}
        for module in group.modules:
            assert {id(t) for t in (*module.parameters(), *module.buffers())} <= own


def test_every_norm_goes_with_its_convolution(architecture):
    name, backbone = architecture
    group_of = {n: g.name for g in backbone.groups() for n in (*g.parameters, *g.buffers)}
    for path, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            tensors = [n for n, _ in (*module.named_parameters(), *module.named_buffers())]
            assert len({group_of[f"{path}.{n}"] for n in tensors}) == 1, (name, path)


def test_groups_of_resnet50_are_named_after_its_blocks():
    groups = without_memory("resnet50").groups()
    blocks = [f"layer{stage}.{block}" for stage, count in enumerate((3, 4, 6, 3), 1) for block in range(count)]
    assert [g.name for g in groups] == ["stem", *blocks]
    assert set(groups[0].parameters) == {"model.conv1.weight", "model.bn1.weight", "model.bn1.bias"}
    assert set(groups[0].buffers) == {f"model.bn1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}


def test_groups_of_vit_hold_embeddings_in_the_stem_and_the_last_norm_in_the_tail():
    groups = without_memory("vit_small_patch16_224").groups()
    assert [g.name for g in groups] == ["stem", *(f"blocks.{i}" for i in range(12)), "tail"]
    embeddings = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert set(groups[0].parameters) == {f"model.{n}" for n in embeddings}
    assert set(groups[-1].parameters) == {"model.norm.weight", "model.norm.bias"}
    assert any(isinstance(m, nn.Dropout) for m in groups[0].modules)


@pytest.mark.parametrize(("name", "layers"), [("vgg16", (2, 2, 3, 3, 3)), ("vgg16_bn", (2, 2, 3, 3, 3))])
def test_groups_of_vgg_end_at_its_poolings(name, layers):
    backbone = without_memory(name)
    groups = backbone.groups()
    assert [g.name for g in groups] == ["stage1", "stage2", "stage3", "stage4", "stage5", "tail"]
    assert [sum(p.ndim == 4 for p in g.parameters.values()) for g in groups[:-1]] == list(layers)
    assert sum(p.numel() for p in groups[-1].parameters.values()) == 25088 * 4096 + 4096 * 4096 + 2 * 4096
    assert backbone.num_features == 4096


def test_the_wide_convolution_of_mobilenetv3_is_the_tail():
    backbone = without_memory("mobilenetv3_large_100")
    assert set(backbone.groups()[-1].parameters) == {"model.conv_head.weight", "model.conv_head.bias"}
    assert backbone.num_features == 1280


def test_downsampling_goes_with_the_block_after_it():
    convnext = {n: g.name for g in without_memory("convnext_tiny").groups() for n in g.parameters}
    assert convnext["model.stages.1.downsample.1.weight"] == "stages.1.blocks.0"
    densenet = {n: g.name for g in without_memory("densenet121").groups() for n in g.parameters}
    assert densenet["model.features.transition1.conv.weight"] == "features.denseblock1.denselayer6"


def test_adapters_belong_to_the_group_of_their_host():
    from peft import LoraConfig, inject_adapter_in_model

    backbone = without_memory("vit_small_patch16_224")
    before = [g.name for g in backbone.groups()]
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["qkv", "patch_embed.proj"]), backbone)
    groups = {g.name: g for g in backbone.groups()}
    assert list(groups) == before
    assert {n for n in groups["blocks.3"].parameters if "lora" in n} == {
        f"model.blocks.3.attn.qkv.lora_{m}.default.weight" for m in "AB"
    }
    assert "model.blocks.3.attn.qkv.base_layer.weight" in groups["blocks.3"].parameters
    assert any("lora" in n for n in groups["stem"].parameters)
    found = [id(p) for g in groups.values() for p in g.parameters.values()]
    assert sorted(found) == sorted(map(id, backbone.parameters()))


def test_adapters_leave_the_stages_of_vgg_as_they_are():
    from peft import LoraConfig, inject_adapter_in_model

    backbone = without_memory("vgg16_bn")
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["features.0", "features.10"]), backbone)
    group_of = {n: g.name for g in backbone.groups() for n in g.parameters}
    assert set(group_of.values()) == {"stage1", "stage2", "stage3", "stage4", "stage5", "tail"}
    assert group_of["model.features.0.lora_A.default.weight"] == "stage1"
    assert group_of["model.features.10.lora_B.default.weight"] == "stage2"


def test_looking_for_groups_changes_nothing():
    backbone = Timm("resnet18", weights="none", size=32).build(pretrained=False)
    backbone.model.layer1.eval()
    modes = [m.training for m in backbone.modules()]
    tensors = {n: t.clone() for n, t in named_tensors(backbone).items()}
    state = torch.get_rng_state()
    backbone.groups()
    assert modes == [m.training for m in backbone.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(t, tensors[n]) for n, t in named_tensors(backbone).items())


class Shared(nn.Module):
    """One module in two places, as the position encodings of CoaT."""

    def __init__(self):
        super().__init__()
        self.encoding = nn.Conv2d(3, 3, 1)
        self.blocks = nn.ModuleList(nn.ModuleList([self.encoding, nn.Conv2d(3, 3, 1)]) for _ in range(2))

    def forward(self, x):
        for encoding, conv in self.blocks:
            x = conv(encoding(x))
        return x.mean((2, 3))


def test_shared_modules_keep_their_tensors():
    model = Shared()
    before = {n: (id(t), t.clone()) for n, t in model.state_dict(keep_vars=True).items()}
    assert [g.name for g in depth_groups(model, (4, 4), "blocks", "")] == ["stem", "blocks.0.1", "blocks.1.1"]
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert id(tensor) == before[name][0]
        assert torch.equal(tensor, before[name][1])


class Parallel(nn.Module):
    """Blocks that are used in turns have no order of depth among themselves."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2)) for _ in range(3))

    def group_matcher(self, coarse=False):
        return {"blocks": r"^blocks\.(\d+)"}

    def forward(self, x):
        x = self.blocks[2][0](x)
        for step in range(2):
            x = self.blocks[0][step](x) + self.blocks[1][step](x)
        return self.blocks[2][1](x).mean((2, 3))


def test_blocks_used_in_turns_become_one_group_and_order_is_that_of_use():
    model = Parallel()
    assert [g.name for g in depth_groups(model, (4, 4), "blocks", "")] == ["blocks.2+"]
    model.forward = lambda x: model.blocks[2][0](model.blocks[0][0](model.blocks[1][0](x)))
    assert [g.name for g in depth_groups(model, (4, 4), "blocks", "")] == ["blocks.1", "blocks.0", "blocks.2"]


def test_a_model_without_any_parts_is_an_error():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x.mean((2, 3)) * self.weight

    with pytest.raises(InputError, match="order of depth"):
        depth_groups(Flat(), (4, 4), "blocks", "")


def test_a_tensor_that_is_used_without_calling_its_module_is_seen():
    class Borrower(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return nn.functional.linear(x.mean((2, 3)), self.linear.weight)

    assert list(trace_uses(Borrower(), (4, 4)).tensors) == ["linear.weight"]
