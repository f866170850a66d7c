"""A finished run is loaded as the model that was scored, for every strategy and modality, without training data."""

import csv
import itertools
import json
import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.cli.main import main
from headstart.compat import declare_torchvision_operators
from headstart.config import recorded
from headstart.errors import InputError
from headstart.run.chosen import parts_of
from headstart.run.load import FinishedRun, load
from pictures import tiny, write_folder

declare_torchvision_operators()

STRATEGIES = {
    "feature_extraction": [],
    "fine_tune": [],
    "lora": ["strategy.adapter.r=2"],
    "lp_ft": ["unfreeze.epochs=1"],
}


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_models) -> dict[str, list[str]]:
    """By modality, a short run on a tiny model and on data of a few dozen examples."""
    root = tmp_path_factory.mktemp("loading")
    rng = np.random.default_rng(0)
    table = root / "sentences.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        known = tiny_models.WORDS.split()
        rows.writerows([" ".join(rng.choice(known, rng.integers(4, 9))), f"class{n % 2}"] for n in range(32))
    soundfile = pytest.importorskip("soundfile")
    for number in range(32):
        folder = root / "sounds" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(int(rng.integers(2000, 6000))), 16_000)
    own = ["trainer.max_epochs=2", "trainer.batch_size=8", "trainer.threads=1", "optimizer.lr=0.01", "logger=none"]
    text, sound = tiny_models.save_text(root / "bert", "bert"), tiny_models.save_audio(root / "wav2vec2", "wav2vec2")
    columns = ["data.text_column=text", "data.label_column=label"]
    return {
        "vision": tiny(write_folder(root / "pictures")),
        "text": ["backbone=huggingface_text", f"backbone.model={text}", "data=text_csv", f"data.path={table}", *columns,
                 *own],
        "audio": ["backbone=huggingface_audio", f"backbone.model={sound}", "data=audio_folder",
                  f"data.root={root / 'sounds'}", "data.seconds=0.4", *own],
    }  # fmt: skip


def predicted(run: FinishedRun) -> dict[str, np.ndarray]:
    """Probabilities of the run's own test examples, by their ids."""
    source = parts_of(recorded.load(run.directory.config)).data
    source.check()
    with np.load(run.directory.predictions) as kept:
        wanted = kept["test/id"].tolist()
    places = [source.ids.index(name) for name in wanted]
    examples = source.examples(**run.reading.arguments)
    batches = ({"inputs": examples.batch(places[start : start + 8])} for start in range(0, len(places), 8))
    probabilities = torch.softmax(run.predict(batches), dim=1).numpy()
    return dict(zip(wanted, probabilities, strict=True))


MODALITIES = ("vision", "text", "audio")
QUICK = {("vision", name) for name in STRATEGIES} | {("text", "lora"), ("audio", "fine_tune")}


@pytest.mark.parametrize(
    ("modality", "strategy"),
    [
        pytest.param(*both, marks=[] if both in QUICK else pytest.mark.slow)
        for both in itertools.product(MODALITIES, STRATEGIES)
    ],
)
def test_a_loaded_run_gives_its_own_predictions(at_home: Path, words, modality: str, strategy: str):
    assert main(["train", *words[modality], f"strategy={strategy}", *STRATEGIES[strategy], "hydra.run.dir=run"]) == 0
    torch.manual_seed(99)  # whatever was drawn before
    run = load(Path("run"))
    found = predicted(run)
    with np.load("run/predictions.npz") as kept:
        for name, probability in zip(kept["test/id"].tolist(), kept["test/probability"], strict=True):
            np.testing.assert_allclose(found[name], probability, atol=5e-4, rtol=1e-3)  # which are kept in float16
    assert run.classes == tuple(json.loads(Path("run/result.json").read_text())["data"]["classes"])
    assert not run.model.training
    assert not any(parameter.requires_grad for parameter in run.model.parameters())


def weights_of(folder: Path, seed: int) -> Path:
    import timm

    torch.manual_seed(seed)
    path = folder / "weights.pth"
    torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), path)
    return path


def test_no_training_data_are_needed(at_home: Path):
    pictures = write_folder(at_home / "pictures")
    train = ["train", *tiny(pictures, f"backbone.weights={weights_of(at_home, 0)}")]
    for strategy in ("feature_extraction", "fine_tune"):
        assert main([*train, f"strategy={strategy}", f"hydra.run.dir={strategy}"]) == 0
    shutil.rmtree(pictures)
    inputs = {"pixels": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)}
    for strategy in ("feature_extraction", "fine_tune"):
        assert load(Path(strategy)).predict([{"inputs": inputs}]).shape == (2, 3)


def test_a_head_needs_the_very_weights_that_it_was_trained_on(at_home: Path, caplog: pytest.LogCaptureFixture):
    words = tiny(write_folder(at_home / "pictures"), f"backbone.weights={weights_of(at_home, 0)}")
    assert main(["train", *words, "strategy=feature_extraction", "hydra.run.dir=run"]) == 0
    weights_of(at_home, 1)
    with pytest.raises(InputError, match="what is there now has"):
        load(Path("run"))
    (at_home / "weights.pth").unlink()
    with pytest.raises(InputError, match="they cannot be had"):
        load(Path("run"))
    weights_of(at_home, 0)
    with caplog.at_level(logging.WARNING, "headstart"):
        load(Path("run"))
    assert not caplog.messages


def test_what_is_no_finished_run_is_refused(at_home: Path):
    with pytest.raises(InputError, match="there is none"):
        load(Path("nothing"))
    words = tiny(write_folder(at_home / "pictures"), "strategy=feature_extraction", "trainer.max_epochs=1")
    assert main(["train", *words, "trainer.keep_checkpoint=false", "hydra.run.dir=without"]) == 0
    with pytest.raises(InputError, match="keeps no weights"):
        load(Path("without"))
    assert main(["train", *words, "hydra.run.dir=damaged"]) == 0
    best = Path("damaged/checkpoints/best.ckpt")
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 255
    best.write_bytes(content)
    with pytest.raises(InputError, match="cannot be used"):
        load(Path("damaged"))


def test_an_adapter_that_was_folded_in_needs_none(at_home: Path):
    words = tiny(write_folder(at_home / "pictures"), "strategy=lora", "strategy.adapter.r=2")
    for merge in ("true", "false"):
        assert main(["train", *words, f"strategy.adapter.merge={merge}", f"hydra.run.dir=run-{merge}"]) == 0
    inputs = {"pixels": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)}
    runs = [load(Path(f"run-{merge}")) for merge in ("true", "false")]
    adapted = [any("lora_" in name for name, _ in run.model.named_parameters()) for run in runs]
    assert adapted == [False, True]
    folded, apart = (run.predict([{"inputs": inputs}]) for run in runs)
    torch.testing.assert_close(folded, apart, atol=1e-4, rtol=1e-4)


def values_csv(root: Path, num_targets: int) -> list[str]:
    """Overrides for a regression on pictures, far from mean 0 and spread 1."""
    pictures = write_folder(root / "pictures")
    names = [f"target{number}" for number in range(num_targets)]
    with (root / "values.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *names])
        for place, path in enumerate(sorted(pictures.rglob("*.png"))):
            rows.writerow([path.relative_to(root), *(1000 * (number + 1) + 7 * place for number in range(num_targets))])
    columns = names[0] if num_targets == 1 else f"[{','.join(names)}]"
    own = ["data=image_csv", f"data.path={root / 'values.csv'}", f"data.label_column={columns}", "task=regression"]
    return [*(word for word in tiny(pictures) if not word.startswith(("data=", "data.root"))), *own]


@pytest.mark.parametrize("num_targets", [1, 2])
@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_numbers_come_back_in_the_units_of_the_data(at_home: Path, strategy: str, num_targets: int):
    assert main(["train", *values_csv(at_home, num_targets), f"strategy={strategy}", "hydra.run.dir=run"]) == 0
    run = load(Path("run"))
    source = parts_of(recorded.load(run.directory.config)).data
    source.encode = run.parts.task.encode
    source.check()
    with np.load("run/predictions.npz") as kept:
        places = [source.ids.index(name) for name in kept["test/id"].tolist()]
        batch = source.examples(**run.reading.arguments).batch(places)
        said = run.task.in_units(run.predict([{"inputs": batch}])).numpy()
        np.testing.assert_allclose(said, kept["test/predicted"], rtol=1e-5)


def test_loading_throws_no_dice(at_home: Path):
    words = tiny(write_folder(at_home / "pictures"), "strategy=feature_extraction")
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    before = torch.random.get_rng_state()
    load(Path("run"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_tokenizer_than_the_run_read_with_is_refused(at_home: Path, words, tiny_models):
    shutil.copytree(words["text"][1].partition("=")[2], "model")
    mine = ["backbone.model=model" if word.startswith("backbone.model=") else word for word in words["text"]]
    assert main(["train", *mine, "strategy=fine_tune", "hydra.run.dir=run"]) == 0
    shutil.rmtree("model")  # the run has its own copy
    load(Path("run"))
    path = Path("run/backbone/tokenizer.json")
    path.write_text(path.read_text().replace('"dog":', '"fog":'))
    with pytest.raises(InputError, match="tokenizer was"):
        load(Path("run"))


@pytest.mark.parametrize("modality", ["vision", *(pytest.param(one, marks=pytest.mark.slow) for one in MODALITIES[1:])])
@pytest.mark.parametrize("strategy", ["fine_tune", pytest.param("lora", marks=pytest.mark.slow)])
def test_its_module_takes_tensors_and_can_be_pickled_and_compiled(at_home: Path, words, modality: str, strategy: str):
    assert main(["train", *words[modality], f"strategy={strategy}", *STRATEGIES[strategy], "hydra.run.dir=run"]) == 0
    run = load(Path("run"))
    inputs = {
        "vision": {"pixels": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)},
        "text": {"input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 1]]),
                 "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])},
        "audio": {"waveform": torch.randn(2, 4000), "lengths": torch.tensor([4000, 4000])},
    }[modality]  # fmt: skip
    expected = run.predict([{"inputs": inputs}])
    module = pickle.loads(pickle.dumps(run.module))
    assert not module.training
    with torch.inference_mode():
        torch.testing.assert_close(module(*inputs.values()), expected)
        torch.testing.assert_close(torch.compile(module, backend="eager")(*inputs.values()), expected)
