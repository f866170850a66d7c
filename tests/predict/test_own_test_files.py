"""`headstart predict` on a run's own test files gives what the run itself was scored on, whatever was trained."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import tiny_models
from headstart.backbones import huggingface_files
from headstart.cli.main import main
from headstart.compat import declare_torchvision_operators
from pictures import tiny, write_folder

declare_torchvision_operators()

OWN = ["trainer.max_epochs=1", "trainer.batch_size=8", "trainer.threads=1", "optimizer.lr=0.01", "logger=none"]
CNN, VIT = "backbone.model=test_efficientnet", "backbone.model=test_vit"
VISION = {"cnn": [CNN], "vit": [VIT]}
TEXT, SOUND = ("bert", "gpt2"), ("wav2vec2", "ast", "whisper")
FAMILIES = (*VISION, *TEXT, *SOUND, "spectrogram")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pictures, sentences (with pairs, several labels and numbers) and sounds."""
    root = tmp_path_factory.mktemp("data")
    write_folder(root / "pictures", per_class=10)
    dice = np.random.default_rng(0)
    words = tiny_models.WORDS.split()
    with (root / "texts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "second", "label", "tags", "value"])
        for number in range(32):
            one, two = (" ".join(dice.choice(words, dice.integers(3, 8))) for _ in range(2))
            tags = ",".join(dice.choice(["x", "y", "z"], dice.integers(1, 3), replace=False))
            rows.writerow([one, two, f"class{number % 2}", tags, 500 + 20 * dice.standard_normal()])
    soundfile = pytest.importorskip("soundfile")
    for number in range(24):
        place = root / "sounds" / f"class{number % 2}" / f"{number}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, 0.1 * dice.standard_normal(int(dice.integers(2000, 6000))), 16_000)
    return root


def words(family: str, data: Path) -> list[str]:
    """Overrides for a run of a family on the data of its modality."""
    if family in VISION:
        return [*tiny(data / "pictures"), *VISION[family], *OWN]
    if family in TEXT:
        model, pooling = tiny_models.save_text(data / family, family), "last" if family == "gpt2" else "mean"
        own = ["backbone=huggingface_text", f"backbone.model={model}", f"backbone.pooling={pooling}", "data=text_csv"]
        return [*own, f"data.path={data / 'texts.csv'}", *OWN]
    folder = ["data=audio_folder", f"data.root={data / 'sounds'}", "data.seconds=0.3"]
    if family == "spectrogram":
        return ["backbone=spectrogram", CNN, "backbone.weights=none", *folder, *OWN]
    model = tiny_models.save_audio(data / family, family)
    return ["backbone=huggingface_audio", f"backbone.model={model}", *folder, *OWN]


def answers(run: str, what: Path, *more: str) -> dict[str, dict]:
    """What the command writes, by the id that the run knows each example by."""
    assert main(["predict", run, str(what), "--out=answers.jsonl", "--force", *more]) == 0
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    return {row["input"].removeprefix(str(what)).lstrip("/:"): row for row in rows}


def check_same(run: str, found: dict[str, dict]) -> None:
    names = json.loads(Path(run, "result.json").read_text())["data"]["classes"]
    with np.load(Path(run, "predictions.npz")) as kept:
        assert len(kept["test/id"]) > 2
        for name, expected in zip(kept["test/id"].tolist(), kept["test/probability"], strict=True):
            said = np.array([found[name]["scores"][one] for one in names])
            np.testing.assert_allclose(said, expected, rtol=1e-3, atol=1e-5)  # they are kept in float16


def place(family: str, data: Path) -> Path:
    return data / ("pictures" if family in VISION else "texts.csv" if family in TEXT else "sounds")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_as_it_was_fine_tuned(at_home: Path, data: Path, family: str):
    assert main(["train", *words(family, data), "strategy=fine_tune", "hydra.run.dir=run"]) == 0
    shutil.rmtree(data / family, ignore_errors=True)  # the model that it began from: its directory is enough
    check_same("run", answers("run", place(family, data)))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "strategy", ["feature_extraction", "lora", "lp_ft", "gradual_unfreeze", "partial", "norm_only"]
)
def test_every_family_under_every_strategy(at_home: Path, data: Path, family: str, strategy: str):
    more = {"lp_ft": ["unfreeze.epochs=1"], "lora": ["strategy.adapter.r=2"]}.get(strategy, [])
    epochs = ["trainer.max_epochs=3"] if strategy in ("lp_ft", "gradual_unfreeze") else []
    own = words(family, data)
    assert main(["train", *own, f"strategy={strategy}", *more, *epochs, "hydra.run.dir=run"]) == 0
    check_same("run", answers("run", place(family, data)))


WISE = "strategy.average=wise_ft"
AVERAGED = {
    "pictures": ("cnn", ["strategy=fine_tune", WISE, "trainer.max_epochs=2"]),
    "ema": ("cnn", ["strategy=partial", "strategy.average=ema", "trainer.monitor=val/loss", "trainer.patience=1"]),
    "adapter": ("bert", ["strategy=lora", "strategy.adapter.r=2", WISE]),
    "merged": (
        "bert",
        ["strategy=lora", "strategy.adapter.r=2", "strategy.adapter.merge=true", WISE],
    ),
    "labels": ("bert", ["strategy=fine_tune", "strategy.average=ema", "data.label_column=tags", "task=multilabel"]),
    "sounds": ("wav2vec2", ["strategy=lp_ft", "unfreeze.epochs=1", "trainer.max_epochs=3", WISE]),
    "spectrogram": ("spectrogram", ["strategy=gradual_unfreeze", "trainer.max_epochs=3", "strategy.average=ema"]),
}


@pytest.mark.parametrize("name", [n if n == "pictures" else pytest.param(n, marks=pytest.mark.slow) for n in AVERAGED])
def test_averaged_weights_are_what_was_scored_and_is_loaded(at_home: Path, data: Path, name: str):
    import timm  # after the package has mended torchvision

    family, more = AVERAGED[name]
    own = words(family, data)
    if family in ("cnn", "spectrogram"):
        save_file(timm.create_model("test_efficientnet", in_chans=3).state_dict(), "began.safetensors")
        own = [*(word for word in own if word != "backbone.weights=none"), "backbone.weights=began.safetensors"]
    assert main(["train", *own, *more, "hydra.run.dir=run"]) == 0
    check_same("run", answers("run", place(family, data)))
    result = json.loads(Path("run", "result.json").read_text())
    average, monitor = result["average"], result["selection"]["metric"]
    assert average["metric"] == monitor
    assert result["metrics"][monitor] == result["selection"]["value"] == average["after"]
    sign = -1 if monitor == "val/loss" else 1
    if average["how"] == "wise_ft":
        assert average["after"] == max(average["tried"].values(), key=lambda value: sign * value)
        assert average["before"] == average["tried"]["1"]
        assert average["head"] == ("mixed" if "strategy=lp_ft" in more else "as tuned")
    assert not Path("run/checkpoints/final.ckpt").exists()


@pytest.mark.parametrize("strategy", ["feature_extraction", "lora"])
def test_a_head_and_an_adapter(at_home: Path, data: Path, strategy: str):
    more = ["strategy.adapter.r=2"] if strategy == "lora" else []
    own = words("cnn", data)
    assert main(["train", *own, f"strategy={strategy}", *more, "hydra.run.dir=run"]) == 0
    check_same("run", answers("run", data / "pictures"))


def test_pictures_of_16_bits_are_scaled_as_the_training_pictures_were(at_home: Path):
    dice = np.random.default_rng(0)
    for number in range(24):
        place = Path("deep", "ab"[number % 2], f"{number}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        values = dice.integers(0, 1000 + 100 * number, (24, 24)).astype(np.uint16)
        Image.fromarray(values).save(place)
    own = [word for word in tiny(Path("deep")) if not word.startswith("trainer.max_epochs")]
    assert main(["train", *own, *OWN[:1], "strategy=fine_tune", "hydra.run.dir=run"]) == 0
    check_same("run", answers("run", Path("deep")))
    alone = {name: answers("run", Path("deep", name))[""] for name in ("a/0.png", "b/23.png")}
    together = answers("run", Path("deep"))
    for name, row in alone.items():
        assert row["scores"] == pytest.approx(together[name]["scores"], abs=1e-6)


def test_pairs_of_texts_with_several_labels(
    at_home: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    own = [*words("bert", data), "data.pair_column=second", "data.label_column=tags", "task=multilabel"]
    assert main(["train", *own, "strategy=feature_extraction", "hydra.run.dir=run"]) == 0
    read: list[object] = []
    load = huggingface_files.load
    monkeypatch.setattr(huggingface_files, "load", lambda *given: read.append(given) or load(*given))
    found = answers("run", data / "texts.csv")
    assert len(read) == 1  # of the frozen backbone
    check_same("run", found)
    shutil.rmtree(data / "bert")
    assert main(["predict", "run", str(data / "texts.csv"), "--out=other.csv"]) == 2
    assert "no folder" in capsys.readouterr().err
    assert not Path("other.csv").exists()
    for row in found.values():
        assert row["labels"] == sorted(
            (n for n, s in row["scores"].items() if s >= 0.5), key=lambda n: -row["scores"][n]
        )


def test_numbers_in_the_units_of_the_data(at_home: Path, data: Path):
    own = [*words("bert", data), "data.label_column=value", "task=regression"]
    assert main(["train", *own, "strategy=fine_tune", "hydra.run.dir=run"]) == 0
    found = answers("run", data / "texts.csv")
    with np.load("run/predictions.npz") as kept:
        said = [found[name]["value"] for name in kept["test/id"].tolist()]
        np.testing.assert_allclose(said, kept["test/predicted"][:, 0], rtol=1e-6)
        assert np.ptp(said) > 0
