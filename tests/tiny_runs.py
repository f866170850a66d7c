"""Short runs on tiny transformers: models, sentences and sounds, and the words of a command."""

import csv
from pathlib import Path

import numpy as np
import pytest

import tiny_models

TEXT = ["bert", "roberta", "distilbert", "electra", "deberta", "gpt2", "llama"]
AUDIO = ["wav2vec2", "hubert", "wavlm", "ast", "whisper"]


def make_places(root: Path) -> dict[str, Path]:
    """Models in the hub's layout by family, a table of sentences, and a folder of sounds."""
    made = {family: tiny_models.save_text(root / family, family) for family in TEXT}
    made |= {family: tiny_models.save_audio(root / family, family) for family in AUDIO}
    rng = np.random.default_rng(0)
    made["table"] = root / "sentences.csv"
    with made["table"].open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        words = tiny_models.WORDS.split()
        rows.writerows([" ".join(rng.choice(words, rng.integers(4, 9))), f"class{n % 2}"] for n in range(32))
    made["sounds"] = root / "sounds"
    _write_sounds(made["sounds"], rng)
    return made


def _write_sounds(folder: Path, rng: np.random.Generator) -> None:
    soundfile = pytest.importorskip("soundfile")
    for number in range(32):
        (folder / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        sound = 0.1 * rng.standard_normal(int(rng.integers(2000, 6000)))
        soundfile.write(folder / f"class{number % 2}" / f"{number}.wav", sound, 16_000)


def words_for(family: str, places: dict[str, Path]) -> list[str]:
    """A short run on a family's model and its modality's data."""
    if family in TEXT:
        kind, data = "text", ["data=text_csv", f"data.path={places['table']}"]
        data += ["data.text_column=text", "data.label_column=label"]
    else:
        kind, data = "audio", ["data=audio_folder", f"data.root={places['sounds']}", "data.seconds=0.4"]
    return [f"backbone=huggingface_{kind}", f"backbone.model={places[family]}", *data, "trainer.max_epochs=2",
            "trainer.batch_size=8", "trainer.threads=1", "optimizer.lr=0.01", "logger=none"]  # fmt: skip
