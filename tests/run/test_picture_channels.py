"""Pictures of one channel and of many: what is read, weights adapted to them, and what a run of them says."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import headstart
from headstart.backbones.timm import Timm
from headstart.cli.main import main
from headstart.data.augmentation import Augmentation
from headstart.data.image_augmentation import Light, MixupCutmix, RandAugment, Standard, TrivialAugment, _without_colour
from headstart.data.picture_files import inspect_picture, read_planes
from headstart.errors import InputError
from headstart.export.export import export
from pictures import tiny, write_weights


def tiff(planes: np.ndarray) -> bytes:
    """A page for each plane of `(C, H, W)`."""
    first, *more = map(Image.fromarray, planes)
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=more)
    return file.getvalue()


def write_planes(root: Path, channels: int, top: int = 255) -> Path:
    """Two classes: TIFFs of so many pages; of three channels, PNGs in colour."""
    dice = np.random.default_rng(0)
    for number in range(24):
        place = root / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        values = (dice.integers(0, 120, (channels, 30, 40)) + 100 * (number % 2)) / 255 * top
        planes = values.astype(np.uint8 if top == 255 else np.uint16)
        if channels == 3:
            Image.fromarray(planes.transpose(1, 2, 0)).save(place / f"{number}.png")
        else:
            (place / f"{number}.tif").write_bytes(tiff(planes))
    return root


# --- what is read ----------------------------------------------------------------------------------------------------


def test_planes_are_the_files_own():
    dice = np.random.default_rng(0)
    planes = dice.integers(0, 256, (5, 6, 7), dtype=np.uint8)
    np.testing.assert_array_equal([np.asarray(one) for one in read_planes(tiff(planes), None, 5)], planes)
    deep = dice.integers(0, 65_536, (4, 6, 7), dtype=np.uint16)
    read = [np.asarray(one) for one in read_planes(tiff(deep), {"integer": (0.0, 65_535.0)}, 4)]
    np.testing.assert_array_equal(read, np.rint(deep / 65_535 * 255).astype(np.uint8))
    assert inspect_picture(tiff(deep), 4) == {"depth": ["integer", deep.min(), deep.max(), 0]}
    rgba = dice.integers(0, 256, (6, 7, 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    np.testing.assert_array_equal(np.stack([np.asarray(one) for one in read_planes(file.getvalue(), None, 4)], 2), rgba)


def test_one_channel_is_brightness_and_lost_colours_are_found():
    colours = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    for pixels, is_coloured in ((colours, True), (colours[..., :1].repeat(3, 2), False)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        (read,) = read_planes(file.getvalue(), None, 1)
        brightness = pixels.astype(np.uint32) @ np.array([19_595, 38_470, 7_471], np.uint32)
        np.testing.assert_array_equal(np.asarray(read), (brightness + 32_768) >> 16)
        assert ("coloured" in inspect_picture(file.getvalue(), 1)) is is_coloured
        assert "coloured" not in inspect_picture(file.getvalue())


def test_files_of_other_channels_are_named():
    planes = np.zeros((5, 6, 7), np.uint8)
    with pytest.raises(ValueError, match=r"it holds 5 channels, and data.channels asks for 4"):
        inspect_picture(tiff(planes), 4)
    first, other = Image.fromarray(planes[0]), Image.fromarray(planes[0, :4])
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=[other])
    with pytest.raises(ValueError, match="pages differ in size"):
        inspect_picture(file.getvalue(), 2)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit", "test_resnet"])
def test_adapted_weights_give_of_repeated_channels_what_they_gave_of_colours(tmp_path: Path, model: str, caplog):
    import timm

    weights = tmp_path / "weights.pt"
    torch.save(timm.create_model(model, num_classes=7).state_dict(), weights)
    factory = Timm(model, str(weights), size=160, mean=[0.5] * 3, std=[0.25] * 3)
    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    grey = pixels[:, :1].repeat(1, 3, 1, 1)
    colour = factory.build(True).eval()
    one, six = (factory.for_pictures(160, None, channels) for channels in (1, 6))
    one.mean, one.std, six.mean, six.std = [0.5], [0.25], [0.5] * 6, [0.25] * 6
    with torch.no_grad():
        for made, given, expected in ((one, grey[:, :1], grey), (six, pixels.repeat(1, 2, 1, 1), pixels)):
            found = made.build(True).eval()({"pixels": given})
            torch.testing.assert_close(found, colour({"pixels": expected}), rtol=1e-4, atol=1e-4)
            own = tmp_path / "own.pt"
            torch.save(made.build(True).model.state_dict(), own)
            again = Timm(model, str(own), size=160, mean=[0.5] * 3, std=[0.25] * 3).for_pictures(
                160, None, made.channels
            )
            again.mean, again.std, said = made.mean, made.std, len(caplog.messages)
            assert torch.equal(again.build(True).eval()({"pixels": given}), found)
            assert len(caplog.messages) == said
    assert "its kernels for red, green and blue are summed" in caplog.text
    assert "are repeated in turn and multiplied by 3/6" in caplog.text


def test_means_of_channels_follow_those_of_red_green_and_blue():
    mean = Timm("resnet18").preprocessing.mean
    one, five = (Timm("resnet18").for_pictures(None, None, channels).preprocessing for channels in (1, 5))
    assert one.mean == pytest.approx([np.mean(mean)], abs=1e-6)
    assert five.mean == (*mean, *mean[:2])
    with pytest.raises(InputError, match=r"backbone\.mean must have 5 values, one for each channel"):
        Timm("resnet18", mean=[0.5] * 3).for_pictures(None, None, 5).check(False)


# --- augmentation ----------------------------------------------------------------------------------------------------

OF_SHAPES = (Light(), Standard(erase=1.0), MixupCutmix())
OF_COLOURS = (Standard(jitter=0.4), Standard(policy="trivial_augment"), Standard(policy="rand_augment"),
              Standard(policy="three_augment"), TrivialAugment(), RandAugment())  # fmt: skip


def test_every_augmentation_keeps_the_channels():
    for channels, some in ((1, OF_SHAPES + OF_COLOURS), (5, OF_SHAPES)):
        pixels = torch.randint(0, 256, (channels, 24, 40), dtype=torch.uint8)
        for augmentation in some:
            for seed in range(12):
                torch.manual_seed(seed)
                found = augmentation.example({"pixels": pixels})["pixels"]
                assert (found.shape, found.dtype) == (pixels.shape, torch.uint8), augmentation
    mixed, _ = MixupCutmix().batch({"pixels": pixels[None].repeat(2, 1, 1, 1)}, torch.eye(2))
    assert mixed["pixels"].shape == (2, 5, 24, 40)
    assert [one.of_colours for one in (*OF_SHAPES, *OF_COLOURS)] == [False] * 3 + [True] * 6
    assert not Augmentation.of_colours


def test_colours_turn_grey_as_torchvision_does_it():
    from torchvision.transforms import v2

    pixels = torch.randint(0, 256, (3, 9, 8), dtype=torch.uint8)
    assert torch.equal(_without_colour(pixels), v2.Grayscale(3)(pixels))
    assert torch.equal(_without_colour(pixels[:1]), pixels[:1])


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "top", "words"),
    [
        (1, 255, ["strategy=fine_tune", "augmentation=three_augment"]),
        (5, 4095, ["strategy=lora", "augmentation=standard", "data.size=[32,48]", "data.fit=letterbox"]),
    ],
)
def test_a_run_predicts_and_exports_what_it_read(at_home: Path, capsys, channels: int, top: int, words: list[str]):
    root = write_planes(at_home / "pictures", 3 if channels == 1 else channels, top)
    weights = write_weights(at_home / "weights.pt")
    own = [f"data.channels={channels}", f"backbone.weights={weights}", "trainer.max_epochs=1", "hydra.run.dir=run"]
    assert main(["train", *tiny(root, *own, *words, f"data.shifts={{again: {root}}}")]) == 0
    said = capsys.readouterr().err
    assert said.count(f"Pictures have {channels} channel") == 1
    record = json.loads(Path("run/result.json").read_text())
    assert record["reading"]["channels"] == channels
    assert record["data"].get("brightness_only") == (24 if channels == 1 else None)
    model = headstart.load("run")
    with np.load("run/predictions.npz") as kept:
        names, expected = kept["test/id"].tolist(), kept["test/probability"]
    answers = model.predict([root / name for name in names])
    found = [[answer.all[name] for name in model.classes] for answer in answers]
    np.testing.assert_array_equal(np.float16(found), expected)
    array = np.asarray(Image.open(root / names[0]).convert("L")) if channels == 1 else np.zeros((9, 9, 5), np.uint8)
    assert not model.predict([array])[0].error
    assert "must be (H, W, " in model.predict([np.zeros((9, 9, 2), np.uint8)])[0].error
    for form in ("timm", "safetensors"):
        assert export(Path("run"), form).difference < 1e-4


def test_what_cannot_be_is_said_before_training(at_home: Path, capsys):
    root = write_planes(at_home / "pictures", 5)
    assert main(["train", *tiny(root, "data.channels=5", "augmentation=colour_jitter")]) == 2
    assert "The augmentation changes colours" in capsys.readouterr().err
    assert main(["train", *tiny(root, "data.channels=4")]) == 2
    assert "it holds 5 channels, and data.channels asks for 4" in capsys.readouterr().err
    assert not Path("outputs").exists()
