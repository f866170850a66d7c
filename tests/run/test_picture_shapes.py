"""Pictures of other shapes than squares: read in one way by a run, by predict, and by every export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.backbones.timm import Timm
from headstart.cli.main import main
from headstart.config.identity import settings
from headstart.data.image_augmentation import Light
from headstart.data.sizing import Sizing, fit
from headstart.errors import InputError
from headstart.export.export import export
from pictures import tiny

SHAPES = ((24, 40), (40, 24), (30, 30))


def write_shapes(root: Path) -> Path:
    """Two classes of noisy pictures of several shapes."""
    dice = np.random.default_rng(0)
    for number in range(24):
        place = root / f"class{number % 2}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = dice.integers(0, 120, (*SHAPES[number % 3], 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(place)
    return root


def check_predicts_itself(run: Path, root: Path) -> Any:
    """The run's model says of the files what the run was scored on, by their names and as pictures in memory."""
    model = headstart.load(run)
    with np.load(run / "predictions.npz") as kept:
        names, expected = kept["test/id"].tolist(), kept["test/probability"]
    for given in ([root / name for name in names], [Image.open(root / name) for name in names]):
        said = [[answer.all[name] for name in model.classes] for answer in model.predict(given)]
        np.testing.assert_array_equal(np.float16(said), expected)
    return model


@pytest.mark.parametrize(
    ("fit", "model", "strategy", "augmentation"),
    [
        ("letterbox", "test_efficientnet", "fine_tune", "standard"),
        ("squash", "test_resnet", "feature_extraction", "light"),
        ("crop", "test_vit", "lora", "mixup_cutmix"),
    ],
)
def test_rectangles_are_read_alike_everywhere(at_home: Path, fit: str, model: str, strategy: str, augmentation: str):
    root = write_shapes(at_home / "pictures")
    words = [f"backbone.model={model}", "data.size=[32,48]", f"data.fit={fit}", "trainer.max_epochs=1"]
    words += [f"strategy={strategy}", f"augmentation={augmentation}", "hydra.run.dir=run"]
    assert main(["train", *tiny(root, *words)]) == 0
    record = json.loads(Path("run/result.json").read_text())
    assert record["reading"]["size"] == [32, 48]
    loaded = check_predicts_itself(Path("run"), root)
    assert loaded.module.trained.backbone.preprocessing.in_timm["input_size"] == [3, 32, 48]
    for form in ("timm", "safetensors"):
        assert export(Path("run"), form).difference < 1e-4  # the card's own code, on the run's files
    assert "size \\[32, 48\\]" in Path(f"run/exports/{form}/README.md").read_text().replace("`", "")


def test_letterbox_and_squash_show_the_whole_picture():
    frame = np.zeros((50, 100, 3), np.uint8)
    frame[[0, -1]], frame[:, [0, -1]] = 255, 255
    for name, mode in (("letterbox", "border"), ("squash", "squash")):
        reading = Timm("resnet50").for_pictures((64, 96), name).reading().arguments
        assert (reading["crop_mode"], reading["crop_pct"]) == (mode, 1.0)
        read = fit(Image.fromarray(frame), Sizing(**reading))[0].astype(int)
        rows, columns = np.nonzero(read > read.max() - 60)
        assert (columns.min(), columns.max()) == (0, 95)
        assert (rows.min(), rows.max()) == ((8, 55) if name == "letterbox" else (0, 63))
    own, cropped = (Timm("resnet50").for_pictures(64, name).reading().arguments for name in (None, "crop"))
    assert own == cropped
    assert own["crop_pct"] < 1


def test_a_square_has_one_name():
    plain = {"data": {"_target_": "x", "size": 32, "fit": None}}
    assert (
        settings(plain)
        == settings({"data": {"_target_": "x", "size": [32, 32]}})
        == {"data._target_": "x", "data.size": 32}
    )
    assert Timm("resnet18", size=[32, 32]).reading() == Timm("resnet18", size=32).reading()


def test_crops_of_rectangles_keep_the_shape_that_is_read():
    from headstart.data.image_augmentation import _v2

    crop = Light().transform(_v2(), (32, 64)).transforms[0]
    assert tuple(crop.ratio) == (1.5, 8 / 3)
    assert tuple(Light().transform(_v2(), (33, 33)).transforms[0].ratio) == (3 / 4, 4 / 3)


def test_what_cannot_be_is_said_before_anything_is_read(at_home: Path, capsys):
    assert main(["train", *tiny(at_home / "nothing", "data.fit=crop", "+backbone.crop_mode=squash")]) == 2
    assert "data.fit=crop and backbone.crop_mode=squash" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"48 × 75 px: .*Set data.size .* to \[48,64\] or \[48,80\], or to 160"):
        Timm("test_vit", weights="none", size=[48, 75]).check(False)
    with pytest.raises(InputError, match=r"the last 12 rows, 20% of the picture"):
        Timm("test_vit_relpos", weights="none", size=[60, 64]).check(False)


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["letterbox", "squash", "crop"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_graph_reads_as_the_run_did(at_home: Path, fit: str, channels: int):
    root = write_shapes(at_home / "pictures")
    for path in root.rglob("*.png") if channels == 4 else ():
        Image.open(path).convert("RGBA").save(path)
    words = ["data.size=[32,48]", f"data.fit={fit}", f"data.channels={channels}", "trainer.max_epochs=1"]
    assert main(["train", *tiny(root, *words, "strategy=fine_tune", "hydra.run.dir=run")]) == 0
    check_predicts_itself(Path("run"), root)
    assert export(Path("run"), "onnx").difference < 1e-4
