"""Model folders in the hub's layout that someone damaged or made up: each is refused by one message, runs no code."""

import json
import os
import pickle
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from headstart.cli.main import main

EVIL = "open('canary', 'w').close()\n\n\nclass Evil:\n    pass\n"
OWN_CODE = {"auto_map": {f"Auto{kind}": "evil.Evil" for kind in ("Config", "Model", "FeatureExtractor", "Processor")}}
CONFIG, WORDS, SOUNDS, TENSORS = "config.json", "tokenizer_config.json", "preprocessor_config.json", "model.safetensors"
TOKENS = "tokenizer.json"


class Bomb:
    def __reduce__(self):
        return os.system, ("touch canary",)


def entries(name: str, **changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return damage


def content(name: str, what: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(what) and None


def header(text: bytes, values: bytes = b"") -> Callable[[Path], None]:
    return content(TENSORS, struct.pack("<Q", len(text)) + text + values)


def code(name: str, **changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "evil.py").write_text(EVIL)
        entries(name, **OWN_CODE, **changes)(folder)

    return damage


def pickled(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / TENSORS).unlink()
        (folder / name).write_bytes(pickle.dumps(Bomb()))

    return damage


def index(where: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / TENSORS).rename(folder / "shard.safetensors")
        (folder / f"{TENSORS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"a": where}}))

    return damage


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


READ, MADE, WEIGHTS = "cannot read the configuration", "cannot make and run the model", "cannot be read: "
TOKENIZER, EXTRACTOR = "holds no tokenizer that transformers can read", "cannot read how"
ODD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "null": ("text", content(CONFIG, b"null"), READ),
    "unknown": ("text", entries(CONFIG, model_type="evil"), READ),
    "unlike": ("text", content(CONFIG, b'{"model_type": "clip"}'), MADE),
    "code": ("text", code(CONFIG, model_type="evil"), READ),
    "kernel": ("text", entries(CONFIG, attn_implementation="evil/kernel"), "for which code would be fetched"),
    "text_width": ("text", entries(CONFIG, hidden_size="x"), READ),
    "odd_width": ("text", entries(CONFIG, hidden_size=33), MADE),
    "negative_width": ("text", entries(CONFIG, intermediate_size=-3), MADE),
    "huge_width": ("text", entries(CONFIG, intermediate_size=10**10), "must fit into memory, but its weights alone"),
    "huge_vocabulary": ("text", entries(CONFIG, vocab_size=10**10), "must fit into memory, but its weights alone"),
    "small_vocabulary": ("text", entries(CONFIG, vocab_size=5), "must know all tokens of its tokenizer, but has 5"),
    "no_layers": ("text", entries(CONFIG, num_hidden_layers=0), "backbone.model"),
    "one_length": ("text", content(CONFIG, b'{"model_type": "reformer"}'), f"{MADE}.*If training, make sure"),
    "no_tuples": ("text", entries(CONFIG, return_dict=False), MADE),
    "no_words": ("text", gone(TOKENS), TOKENIZER),
    "cut_words": ("text", content(TOKENS, b'{"version": "1.0", "model"'), TOKENIZER),
    "length_as_text": ("text", entries(WORDS, model_max_length="long"), "backbone.model"),
    "sure_dropout": ("audio", entries(CONFIG, attention_dropout=100000), "attention_dropout must lie between 0 and 1"),
    "eps_nan": ("audio", entries(CONFIG, layer_norm_eps=float("nan")), "layer_norm_eps must lie between 0 and 1"),
    "rate_inf": ("audio", entries(SOUNDS, sampling_rate=float("inf")), "sampling_rate must be a number above 0"),
    "rate_huge": ("audio", entries(SOUNDS, sampling_rate=10**30), "at most 1,000,000"),
    "no_rate": ("audio", entries(SOUNDS, sampling_rate=0), "sampling_rate must be a number above 0"),
    "rate_as_text": ("audio", entries(SOUNDS, sampling_rate="fast"), "sampling_rate must be a number above 0"),
    "sounds_as_list": ("audio", content(SOUNDS, b"[1]"), EXTRACTOR),
    "no_convolutions": ("audio", entries(CONFIG, conv_dim=[]), READ),
    "stride": ("audio", entries(CONFIG, conv_stride=[5, 0, 4]), MADE),
}
BAD_WEIGHTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "none": (gone(TENSORS), "holds no weights"),
    "length": (content(TENSORS, struct.pack("<Q", 2**60) + b"{}"), WEIGHTS),
    "huge_shape": (header(b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'), WEIGHTS),
    "overflow": (header(b'{"a":{"dtype":"F32","shape":[9999999999999,9999999999999],"data_offsets":[0,4]}}'), WEIGHTS),
    "another": (header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "missing keys"),
    "pickle": (pickled("pytorch_model.bin"), WEIGHTS),
    "pickle_by_another_name": (content(TENSORS, pickle.dumps(Bomb())), WEIGHTS),
    "outside": (index("../../../etc/passwd"), WEIGHTS),
    "shard_that_is_not_there": (index("nowhere.safetensors"), WEIGHTS),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of texts and one of sounds."""
    home = tmp_path_factory.mktemp("whole")
    return {
        "text": tiny_models.save_text(home / "text", "bert"),
        "audio": tiny_models.save_audio(home / "audio", "wav2vec2"),
    }


def said_of(whole: Path, kind: str, damage: Callable[[Path], None], command: str, capsys: Any) -> str:
    """What is said about a damaged copy of a model, having made sure of all that every case must keep."""
    folder = Path("model")
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damage(folder)
    words = ["data=synthetic_audio", "data.seconds=0.5", "data.clips_per_class=4"]
    if kind == "text":
        Path("texts.csv").write_text("text,label\n" + "".join(f"the cat {n} runs,{'ab'[n % 2]}\n" for n in range(40)))
        words = ["data=text_csv", "data.path=texts.csv"]
    words += [f"backbone=huggingface_{kind}", "backbone.model=model", "logger=none", "trainer.max_epochs=1"]
    began = time.process_time()
    assert main([command, *words]) == 2
    assert time.process_time() - began < 10
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("headstart: ") == 1
    assert len(said) < 1500
    assert not Path("canary").exists()
    assert not Path("outputs").exists()
    return said


@pytest.mark.parametrize("name", ODD)
def test_odd_models_are_refused_by_a_plan_already(at_home: Path, whole: dict[str, Path], capsys, name: str):
    kind, damage, expected = ODD[name]
    assert re.search(expected, said_of(whole[kind], kind, damage, "plan", capsys))


def test_a_model_that_loops_over_its_tokens_is_planned_without_its_work(
    at_home: Path, whole: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    mamba = {"model_type": "mamba", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps(mamba))
    for path in whole["text"].glob("token*"):
        Path("model", path.name).write_bytes(path.read_bytes())
    Path("texts.csv").write_text("text,label\n" + "".join(f"the cat {n} runs,{'ab'[n % 2]}\n" for n in range(40)))
    monkeypatch.setattr("headstart.training.work.PATIENCE", 0.2)
    words = ["data=text_csv", "data.path=texts.csv", "backbone=huggingface_text", "backbone.model=model"]
    assert main(["plan", *words, "backbone.weights=none", "data.max_length=500"]) == 0
    said = capsys.readouterr().err
    assert "the model takes more than 0.2 s on shapes alone" in said


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_bad_weights_are_refused_before_a_run_begins(at_home: Path, whole: dict[str, Path], capsys, name: str):
    damage, expected = BAD_WEIGHTS[name]
    assert expected in said_of(whole["text"], "text", damage, "train", capsys)
