"""Each format, by family, pooling and head: what was written gives the run's own outputs, loaded as its card says."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import headstart
from exported import kept
from headstart.cli.main import main
from headstart.export import export as room
from pictures import tiny, write_folder

MLP = ("head=mlp", "head.hidden=32")
NEW = "backbone.weights=none"
slow = pytest.mark.slow
TEXTS = {
    "bert-mean": ("bert", ("backbone.pooling=mean",), False),
    "gpt2-last": ("gpt2", ("backbone.pooling=last",), True),
    "bert-pooler": ("bert", ("backbone.pooling=pooler", NEW), True),
    "roberta-pooler": ("roberta", ("backbone.pooling=pooler", NEW), True),
    "distilbert-cls-mlp": ("distilbert", ("backbone.pooling=cls", *MLP), True),
    "deberta-cls": ("deberta", ("backbone.pooling=cls",), True),
    "deberta-cls-mlp": ("deberta", ("backbone.pooling=cls", *MLP), True),
    "electra-cls": ("electra", ("backbone.pooling=cls",), False),
    "llama-last": ("llama", ("backbone.pooling=last",), False),
}
"""Family, words, and whether transformers' own classifier does the same."""
SOUNDS = {
    "wav2vec2": ("wav2vec2", (), True),
    "whisper": ("whisper", (), False),
    "wav2vec2-weighted": ("wav2vec2", ("backbone.layers=weighted",), True),
    "wav2vec2-mlp": ("wav2vec2", MLP, False),
    "wavlm": ("wavlm", (), True),
    "ast-pooler": ("ast", ("backbone.pooling=pooler",), False),
    **{
        family: (family, (), True)
        for family in ("wav2vec2_stable", "hubert", "unispeech", "unispeech_sat", "data2vec", "conformer")
    },
    "wav2vec2_stable-weighted": ("wav2vec2_stable", ("backbone.layers=weighted",), True),
}
QUICK = ("bert-mean", "gpt2-last", "wav2vec2", "whisper")


def cells(table: dict) -> list:
    return [pytest.param(*cell, id=name, marks=() if name in QUICK else slow) for name, cell in table.items()]


@pytest.mark.parametrize(("family", "words", "own"), cells(TEXTS))
def test_text_models_in_transformers_and_plain(
    on_texts, tmp_path: Path, family: str, words: tuple[str, ...], own: bool
):
    run = on_texts(family, "strategy=fine_tune", *words)
    made = room.export(run, "transformers", tmp_path / "out")
    assert (tmp_path / "out" / "pooled_classifier.py").exists() != own
    assert made.difference < 1e-5
    assert room.export(run, "safetensors", tmp_path / "plain").difference < 1e-5


@pytest.mark.parametrize(("family", "words", "own"), cells(SOUNDS))
def test_sound_models_in_transformers_and_plain(
    on_sounds, tmp_path: Path, family: str, words: tuple[str, ...], own: bool
):
    run = on_sounds(family, "strategy=fine_tune", *words)
    made = room.export(run, "transformers", tmp_path / "out")
    assert (tmp_path / "out" / "pooled_classifier.py").exists() != own
    assert made.difference < 1e-5
    if "backbone.layers=weighted" not in words:
        assert room.export(run, "safetensors", tmp_path / "plain").difference < 1e-5


@slow
@pytest.mark.parametrize("name", TEXTS)
def test_graphs_of_text_models(on_texts, tmp_path: Path, name: str):
    family, words, _ = TEXTS[name]
    assert room.export(on_texts(family, "strategy=fine_tune", *words), "onnx", tmp_path / "out").difference < 1e-5


@slow
@pytest.mark.parametrize("name", ["wav2vec2", "whisper", "wavlm", "ast-pooler"])
def test_graphs_of_sound_models(on_sounds, tmp_path: Path, name: str):
    family, words, _ = SOUNDS[name]
    assert room.export(on_sounds(family, "strategy=fine_tune", *words), "onnx", tmp_path / "out").difference < 1e-5


def test_a_graph_of_pictures_takes_batches_of_any_size(vision: Path, pictures: Path, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    room.export(vision, "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    taken = session.get_inputs()[0]
    assert (taken.name, taken.type, taken.shape[1:]) == ("pixels", "tensor(uint8)", [3, 32, 32])
    assert session.get_modelmeta().custom_metadata_map["headstart.names"] == '["circle", "square", "stripes"]'
    assert session.run(None, {"pixels": np.zeros((5, 3, 32, 32), np.uint8)})[0].shape == (5, 3)


def test_the_code_of_a_card_gives_the_runs_predictions(train, pictures: Path, tmp_path: Path):
    """The ten lines, as they stand in the card, with only what a user fills in filled in."""
    run = train("mlp", *tiny(pictures, "strategy=feature_extraction", *MLP))
    room.export(run, "safetensors", tmp_path / "out")
    card = (tmp_path / "out" / room.CARD).read_text(encoding="utf8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    known = kept(run)
    paths = [str(pictures / name) for name in known]
    code = code.replace('folder = "."', f"folder = {str(tmp_path / 'out')!r}").replace('["picture.jpg"]', repr(paths))
    assert "headstart" not in code.replace(str(tmp_path), "")
    names: dict = {}
    exec(code, names)
    np.testing.assert_allclose(names["logits"].softmax(1).numpy(), np.stack(list(known.values())), atol=5e-4)


@pytest.fixture(scope="module")
def untidy(place: Path) -> Path:
    """Pictures as phones and drawing programs leave them: lying on their side, transparent, grey of 16 bits."""
    root, dice = write_folder(place / "untidy", size=30), np.random.default_rng(0)
    for name in ("circle", "square", "stripes"):
        first, second, third, *_ = sorted((root / name).glob("*.png"))
        wide = Image.fromarray(dice.integers(0, 256, (20, 40, 3), dtype=np.uint8))
        exif = wide.getexif()
        exif[274] = 6  # a quarter turn
        wide.save(first.with_suffix(".jpg"), exif=exif)
        first.unlink()
        clear = dice.integers(0, 256, (30, 30, 4), dtype=np.uint8)
        Image.fromarray(clear, "RGBA").save(second)
        Image.fromarray(clear, "RGBA").quantize(8).save(third)
    return root


@pytest.fixture(scope="module")
def deep(untidy: Path, place: Path) -> Path:
    """The same, with grey of 16 bits among them."""
    root = place / "deep"
    shutil.copytree(untidy, root)
    dice = np.random.default_rng(1)
    for name in ("circle", "square", "stripes"):
        for path in sorted((root / name).glob("*.png"))[3:6]:
            Image.fromarray(dice.integers(0, 4096, (30, 30), dtype=np.uint16)).save(path)
            negative = Image.fromarray(dice.integers(0, 4096, (30, 30), dtype=np.uint16))
            negative.save(path.with_suffix(".tif"), tiffinfo={262: 0})  # in which 0 is white
    return root


@pytest.mark.parametrize("form", ["timm", "safetensors", "onnx"])
@pytest.mark.parametrize(
    "words", [(), ("data.channels=1",), ("data.depth=8",), ("data.depth=8", "data.channels=1"), ("data.depth=16",)]
)
def test_the_code_of_a_card_opens_pictures_as_the_run_does(train, untidy: Path, deep: Path, tmp_path, form, words):
    root = deep if any("depth" in word for word in words) else untidy
    run = train(f"untidy-{'-'.join(words)}", *tiny(root, "strategy=fine_tune", "optimizer.lr=0.01", *words))
    made = room.export(run, form, tmp_path / "out")
    assert made.difference < 1e-4
    paths = [str(path) for path in sorted(root.rglob("*.*"))]
    model = headstart.load(run)
    wanted = [[answer.all[name] for name in model.classes] for answer in model.predict(paths)]
    if not words:  # so that it shows how they are opened
        plainly = model.predict([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        assert (
            np.abs([[answer.all[name] for name in model.classes] for answer in plainly] - np.array(wanted)).max() > 0.01
        )
    card = (tmp_path / "out" / room.CARD).read_text(encoding="utf8")
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        names: dict = {}
        code = code.replace('folder = "."', f"folder = {str(tmp_path / 'out')!r}")
        exec(code.replace('["picture.jpg"]', repr(paths)), names)
        found = torch.as_tensor(names["logits"]).softmax(1).numpy()
        np.testing.assert_allclose(found, np.stack(wanted), atol=5e-4)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="as-it-is"),
        pytest.param(("backbone.size=64",), id="square", marks=slow),
        pytest.param(("backbone.mean=-30", "backbone.std=20"), id="fixed-scale", marks=slow),
    ],
)
def test_plain_weights_of_a_picture_model_on_sounds(train, sounds: Path, tmp_path: Path, words: tuple[str, ...]):
    model = ["backbone=spectrogram", "backbone.model=test_efficientnet", "backbone.weights=none", "data=audio_folder"]
    own = [f"data.root={sounds}", "data.seconds=0.4", "trainer.max_epochs=1", "trainer.threads=1", "logger=none"]
    run = train("-".join(["spectrogram", *words]), *model, *own, *words)
    assert room.export(run, "safetensors", tmp_path / "plain").difference < 1e-5


def test_numbers_come_out_in_the_units_of_the_data(on_texts, sentences: Path, tmp_path: Path):
    from transformers import pipeline

    run = on_texts(
        "bert", "strategy=fine_tune", "task=regression", "data.label_column=number", "backbone.pooling=pooler", NEW
    )
    room.export(run, "transformers", tmp_path / "out")
    rows = sentences.read_text().splitlines()[1:]
    classify = pipeline("text-classification", model=str(tmp_path / "out"), truncation=True)
    said = kept(run, "predicted")
    for name, value in list(said.items())[:3]:
        text = rows[int(re.findall(r"\d+", name)[-1]) - 1].split(",")[0]
        assert 900 < value.item() < 1300
        assert classify(text)[0]["score"] == pytest.approx(value.item(), rel=1e-4)


def test_labels_of_their_own_and_pairs_of_texts(on_texts, tmp_path: Path):
    from transformers import AutoConfig

    run = on_texts(
        "gpt2", "strategy=feature_extraction", "task=multilabel", "data.label_column=several", "data.pair_column=other"
    )
    room.export(run, "transformers", tmp_path / "out")
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.problem_type, config.id2label) == ("multi_label_classification", {0: "a", 1: "b"})


def test_a_merged_adapter_goes_out_as_plain_weights(train, on_texts, pictures: Path, tmp_path: Path):
    run = train("lora", *tiny(pictures, "strategy=lora", "strategy.adapter.r=2", "optimizer.lr=0.01"))
    assert room.export(run, "timm", tmp_path / "timm").difference < 1e-5
    text = on_texts("bert", "strategy=lora", "strategy.adapter.r=2")
    assert room.export(text, "transformers", tmp_path / "text").difference < 1e-5


def test_a_format_that_a_family_cannot_go_to_names_those_it_can(vision: Path, on_sounds, capsys: pytest.CaptureFixture):
    assert main(["export", str(vision), "--to", "transformers"]) == 2
    assert "It can go to safetensors, timm" in capsys.readouterr().err
    run = on_sounds("whisper", "strategy=fine_tune")
    assert main(["export", str(run), "--to", "timm"]) == 2
    assert "It can go to safetensors, transformers" in capsys.readouterr().err
    assert not (vision / "exports" / "transformers").exists()


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_peft_loads_an_adapter_of_texts(on_texts, tmp_path: Path, pooling: str):
    family = {"mean": "bert", "last": "gpt2"}[pooling]
    run = on_texts(family, "strategy=lora", "strategy.adapter.r=2", f"backbone.pooling={pooling}")
    assert room.export(run, "adapter", tmp_path / "out").difference < 1e-5
    assert (tmp_path / "out" / "head.safetensors").exists() == (pooling == "mean")


@pytest.mark.parametrize(
    "family", ["wav2vec2", *(pytest.param(one, marks=slow) for one in ("whisper", "ast", "wavlm"))]
)
def test_peft_loads_an_adapter_of_sounds(on_sounds, tmp_path: Path, family: str):
    run = on_sounds(family, "strategy=lora", "strategy.adapter.r=2")
    assert room.export(run, "adapter", tmp_path / "out").difference < 1e-5
    assert (tmp_path / "out" / "head.safetensors").exists() == (family in ("whisper", "ast"))


def test_peft_loads_an_adapter_of_pictures(train, pictures: Path, place: Path, tmp_path: Path):
    import timm

    path = place / "base.safetensors"
    if not path.exists():
        save_file(timm.create_model("test_efficientnet").state_dict(), path)
    words = ("strategy=lora", "strategy.adapter.r=2", f"backbone.weights={path}", "optimizer.lr=0.01")
    run = train("lora-of-a-file", *tiny(pictures, *words))
    assert room.export(run, "adapter", tmp_path / "out").difference < 1e-5
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / room.CARD).read_text(encoding="utf8"), re.DOTALL)
    assert "PeftModel.from_pretrained(base, folder)" in code


def test_an_adapter_of_random_weights_is_refused(train, pictures: Path, capsys: pytest.CaptureFixture):
    run = train("lora", *tiny(pictures, "strategy=lora", "strategy.adapter.r=2", "optimizer.lr=0.01"))
    assert main(["export", str(run), "--to", "adapter"]) == 2
    assert "none that others can load" in capsys.readouterr().err
