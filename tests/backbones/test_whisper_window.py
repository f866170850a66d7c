"""Whisper's window cut to the longest sound: against transformers' own extractor and encoder with as many positions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import headstart
import tiny_models as made
from headstart.backbones.huggingface_audio import HuggingFaceAudio
from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.cli.plan import forecast
from headstart.compat import declare_torchvision_operators
from headstart.export import export as room
from headstart.run.prepare import draft, job_config
from tiny_runs import words_for

declare_torchvision_operators()


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four seconds."""
    import transformers

    folder, config = tmp_path_factory.mktemp("whisper"), made.audio_configs()["whisper"]
    config.max_source_positions = 200
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16_000}))
    return folder


def sounds(*lengths: int) -> dict[str, torch.Tensor]:
    wave = 0.1 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(0))
    counts = torch.tensor(lengths)
    return {"waveform": wave * (torch.arange(max(lengths)) < counts[:, None]), "lengths": counts}


@pytest.mark.parametrize(("seconds", "positions"), [(0.4, 50), (1.0, 50), (1.2, 100), (3.0, 150), (None, 200)])
def test_the_features_are_those_of_transformers_with_a_window_of_whole_seconds(whisper: Path, seconds, positions):
    import transformers

    factory = HuggingFaceAudio(str(whisper), window="clip").for_clips(seconds)
    backbone, inputs = factory.build(True).eval(), sounds(6400, 4000)
    assert backbone.model.embed_positions.weight.shape[0] == positions
    theirs = transformers.AutoModel.from_pretrained(whisper).get_encoder().eval()
    theirs.config.max_source_positions = positions
    theirs.embed_positions = torch.nn.Embedding.from_pretrained(theirs.embed_positions.weight.detach()[:positions])
    read = transformers.WhisperFeatureExtractor(chunk_length=positions // 50)
    with torch.no_grad():
        for place, length in enumerate((6400, 4000)):
            sound = inputs["waveform"][place, :length].numpy()
            features = read(sound, sampling_rate=16_000, return_tensors="pt").input_features
            frames = (-(-length // 160) + 1) // 2
            wanted = theirs(features).last_hidden_state[:, :frames].mean(1)
            torch.testing.assert_close(backbone(inputs)[place, None], wanted, rtol=1e-4, atol=1e-4)


def test_a_full_window_gives_the_numbers_that_it_gave_and_a_cut_one_is_another_run(whisper: Path):
    inputs = sounds(6400, 4000)
    full, plain = (HuggingFaceAudio(str(whisper), **more) for more in ({"window": "full"}, {}))
    cut = HuggingFaceAudio(str(whisper), window="clip")
    with torch.no_grad():
        same = [one.for_clips(1.0).build(True).eval()(inputs) for one in (full, plain)]
    assert torch.equal(*same)
    assert full.for_clips(1.0).identity(True) == plain.identity(True) == cut.for_clips(4.0).identity(True)
    assert cut.for_clips(1.0).identity(True) == {**plain.identity(True), "num_frames": 100}
    assert cut.for_clips(1.0).reading().limits == plain.reading().limits == {"seconds": 4.0}
    assert cut.for_clips(1.0).reading().description["window"] == 1.0
    assert replace(plain.extractor) == cut.for_clips(4.0).extractor


@pytest.mark.parametrize("strategy", ["feature_extraction", "lp_ft"])
def test_a_run_says_its_window_and_is_predicted_and_exported_with_it(at_home: Path, places, whisper, strategy):
    words = [word for word in words_for("whisper", places) if not word.startswith("backbone.model=")]
    words += [f"backbone.model={whisper}", f"strategy={strategy}"]
    work = [
        forecast(draft(job_config(compose_config([*words, f"backbone.window={window}", *more]))))["phases"]
        for window, more in (("clip", ["strategy=fine_tune"]), ("full", ["strategy=fine_tune"]))
    ]
    assert work[0][0]["flops_per_example"] < work[1][0]["flops_per_example"] / 3
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    done = json.loads(Path("run/result.json").read_text())
    assert done["reading"]["window"] == 1.0
    with np.load("run/predictions.npz") as kept:
        ids, wanted = kept["test/id"].tolist(), kept["test/probability"].astype(np.float32)
    found = headstart.load("run").predict([places["sounds"] / name for name in ids])
    np.testing.assert_allclose([[one.all[f"class{n}"] for n in (0, 1)] for one in found], wanted, atol=1e-3)
    for form in ("transformers", "safetensors"):
        assert room.export(Path("run"), form, at_home / form).difference < 1e-4
    assert main(["rerun", "run", "--check"]) == 0
    assert main(["train", *words, "backbone.window=full", "hydra.run.dir=full"]) == 0
    full = json.loads(Path("full/result.json").read_text())
    assert full["run_id"] != done["run_id"]
    assert "window" not in full["reading"]
