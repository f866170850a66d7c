"""Finished runs on tiny models, made once."""

import csv
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from headstart.cli.main import main
from pictures import tiny, write_folder

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def train(place: Path) -> Train:
    """Makes a run of these words, once, in a folder of this name."""

    def make(name: str, *words: str) -> Path:
        folder = place / re.sub(r"[^a-z0-9]+", "-", name)
        before = os.getcwd()
        os.chdir(place)
        try:
            if not folder.exists():
                assert main(["train", *words, f"hydra.run.dir={folder}"]) == 0
        finally:
            os.chdir(before)
        return folder

    return make


@pytest.fixture(scope="session")
def pictures(place: Path) -> Path:
    return write_folder(place / "pictures")


@pytest.fixture(scope="session")
def vision(train: Train, pictures: Path) -> Path:
    """A fine-tuned run on pictures."""
    return train("vision", *tiny(pictures, "strategy=fine_tune", "optimizer.lr=0.01"))


OWN = ["trainer.max_epochs=1", "trainer.batch_size=8", "trainer.threads=1", "optimizer.lr=0.01", "logger=none"]


@pytest.fixture(scope="session")
def sentences(place: Path) -> Path:
    """A table of short texts, with a second text, two classes, two labels of each and a number."""
    dice = np.random.default_rng(0)
    table, known = place / "sentences.csv", tiny_models.WORDS.split()
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "other", "label", "several", "number"])
        for n in range(32):
            text, other = (" ".join(dice.choice(known, dice.integers(4, 9))) for _ in range(2))
            rows.writerow([text, other, f"class{n % 2}", "a,b" if n % 3 else "b", 1000 + 50 * (n % 5)])
    return table


@pytest.fixture(scope="session")
def sounds(place: Path) -> Path:
    """Class folders of short sounds of unlike lengths."""
    soundfile = pytest.importorskip("soundfile")
    dice = np.random.default_rng(0)
    for number in range(24):
        folder = place / "sounds" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        wave = 0.1 * dice.standard_normal(int(dice.integers(3000, 9000)))
        soundfile.write(folder / f"{number}.wav", wave, 16_000)
    return place / "sounds"


@pytest.fixture(scope="session")
def on_texts(train: Train, place: Path, sentences: Path) -> Train:
    """Makes a run of a family of text models."""

    def make(family: str, *words: str) -> Path:
        model = place / "models" / family
        if not model.exists():
            tiny_models.save_text(model, family)
        backbone = ["backbone=huggingface_text", f"backbone.model={model}"]
        data = ["data=text_csv", f"data.path={sentences}", "data.text_column=text", "data.label_column=label"]
        return train(
            "-".join([family, *(word.replace("/", "_") for word in words)])[:150], *backbone, *data, *OWN, *words
        )

    return make


@pytest.fixture(scope="session")
def on_sounds(train: Train, place: Path, sounds: Path) -> Train:
    """Makes a run of a family of sound models."""

    def make(family: str, *words: str) -> Path:
        model = place / "models" / family
        if not model.exists():
            tiny_models.save_audio(model, family)
        backbone = ["backbone=huggingface_audio", f"backbone.model={model}"]
        data = ["data=audio_folder", f"data.root={sounds}", "data.seconds=0.4"]
        return train("-".join([family, *words]), *backbone, *data, *OWN, *words)

    return make
