"""Sizes at which part of a picture would not be read are refused, with the nearest ones that do."""

import pytest
import torch

from headstart.backbones.spectrogram import Spectrogram
from headstart.backbones.timm import Timm
from headstart.errors import InputError

SMALL = (
    ("test_vit_relpos", (64, 65, 100), {}),
    ("test_convnext", (96, 97, 98), {}),
    ("test_efficientnet", (64, 65, 66), {}),
    ("test_mambaout", (64, 66), {}),
    ("test_resnet", (65, 66), {}),
    ("eva02_tiny_patch14_224", (56, 64), {"depth": 1}),
    ("visformer_tiny", (96, 100), {}),
    ("tnt_s_legacy_patch16_224", (96, 100), {"depth": 1}),
)


def unread_by_gradient(model: torch.nn.Module, size: int) -> int:
    """Rows and columns at the end whose pixels change nothing in what the model gives."""
    pixels = torch.randn(1, 3, size, size, requires_grad=True)
    features = model.eval()(pixels)
    (gradient,) = torch.autograd.grad((features * torch.randn_like(features)).sum(), pixels)
    silent = gradient.abs().sum((0, 1)) == 0
    rows, columns = int(silent.all(1).sum()), int(silent.all(0).sum())
    assert rows == columns
    assert not silent[: size - rows, : size - columns].any()
    return rows


@pytest.mark.parametrize(("name", "sizes", "arguments"), SMALL)
def test_what_is_refused_is_what_has_no_influence(name, sizes, arguments):
    for size in sizes:
        factory = Timm(name, weights="none", size=size, arguments=arguments)
        trial = factory._tried(size)
        model = factory._create(size).model
        for parameter in model.parameters():  # layer scales near 0 would hide what is read
            torch.nn.init.normal_(parameter, 0.1 * (parameter.ndim < 2), 0.1)
        unread = unread_by_gradient(model, size)
        assert trial.patches.unread == (unread, unread), size
        if unread:
            with pytest.raises(InputError, match=f"the last {unread} rows and columns"):
                factory.check(False)
        else:
            factory.check(False)


def test_the_nearest_sizes_are_told_and_are_read_in_full():
    with pytest.raises(InputError) as error:
        Timm("eva02_tiny_patch14_224", weights="none", size=64).check(False)
    assert "reads patches of 14 px" in str(error.value)
    assert "23% of the picture" in str(error.value)
    assert "to 56 or 70, or to 224, its weights' own" in str(error.value)
    for size in (56, 70, 224):
        Timm("eva02_tiny_patch14_224", weights="none", size=size).check(False)


@pytest.mark.parametrize(("name", "size", "near"), [("test_vit", 100, "96 or 112"), ("maxvit_tiny_tf_224", 200, "192")])
def test_a_size_that_a_model_cannot_have_is_refused_with_those_it_can(name, size, near):
    with pytest.raises(InputError, match=rf"for pictures of {size} px: .* to {near}, or to \d+, its weights' own"):
        Timm(name, weights="none", size=size).check(False)


def test_a_size_at_which_a_model_looks_up_what_is_not_there_is_refused():
    """On the meta device it passes: there no place is out of range."""
    with pytest.raises(InputError, match="for pictures of 100 px: index 23 is out of bounds"):
        Timm("mvitv2_tiny", weights="none", size=100).check(False)
    Timm("swin_tiny_patch4_window7_224", weights="none", size=100).check(False)


def test_an_argument_that_is_wrong_is_not_taken_for_a_wrong_size():
    with pytest.raises(InputError) as error:
        Timm("test_vit", weights="none", size=64, arguments={"nonsense": 1}).check(False)
    assert "data.size" not in str(error.value)


def test_what_the_weights_were_trained_at_is_right_for_them():
    for size in (None, 384):
        factory = Timm("vit_so400m_patch14_siglip_384", weights="none", size=size)
        factory.check(False)
        assert factory.probe.patches.unread == (384 - 27 * 14,) * 2


def test_a_spectrogram_is_padded_until_patches_reach_all_of_it():
    factory = Spectrogram("test_convnext", weights="none", seconds=2.02, num_mels=62, n_fft=2048)
    factory.check(False)
    backbone = factory.build(False)
    sound = {"waveform": torch.randn(2, 32_320), "lengths": torch.tensor([32_320] * 2)}
    plain = backbone.spectrogram(sound)
    assert plain.shape == (2, 1, 62, 101)
    seen = backbone.pictures(sound)
    assert seen.shape == (2, 1, 64, 104)
    assert torch.equal(seen[..., :62, :101], plain)
    assert seen[..., 101:].abs().max() == seen[..., 62:, :].abs().max() == 0
    assert factory.identity(False)["patch_step"] == 4
    overlapping = Spectrogram("test_efficientnet", weights="none")
    assert "patch_step" not in overlapping.identity(False)
    assert overlapping.build(False).pictures(sound).shape == (2, 1, 128, 101)


def test_a_spectrogram_made_square_keeps_to_the_grid():
    with pytest.raises(InputError, match=r"patches of 16 px.*backbone.size\) to 96 or 112"):
        Spectrogram("test_vit_relpos", weights="none", size=100).check(False)
