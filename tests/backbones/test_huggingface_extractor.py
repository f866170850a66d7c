"""What a model of sound reads is what transformers' own feature extractor, from the same files, would give it."""

import json
from pathlib import Path

import pytest
import torch

from headstart.backbones.huggingface_audio import HuggingFaceAudio
from headstart.backbones.huggingface_extractor import read_extractor
from headstart.backbones.huggingface_files import Place
from headstart.backbones.waveforms import Standardised
from headstart.errors import InputError

LENGTHS = [6000, 4321, 901, 401, 16_000, 15_999]
WAVES = ["wav2vec2", "wav2vec2_stable", "hubert", "wavlm", "unispeech", "unispeech_sat", "data2vec", "conformer"]
CASES = [
    *((family, {"do_normalize": flag}) for family in WAVES for flag in (True, False)),
    ("wav2vec2", {"sampling_rate": 8000, "do_normalize": False}),
    ("wav2vec2", {"return_attention_mask": True, "padding_value": 0.5, "padding_side": "left", "feature_size": 1}),
    ("ast", {}),
    ("ast", {"do_normalize": False}),
    ("ast", {"mean": -1.5, "std": 2.0}),
    ("ast", {"sampling_rate": 8000}),
    ("whisper", {}),
    ("whisper", {"padding_value": 0.01, "return_attention_mask": True}),
    ("whisper", {"n_fft": 512, "hop_length": 160}),
    ("whisper", {"sampling_rate": 8000, "hop_length": 80, "n_fft": 200}),
    ("whisper", {"sampling_rate": 32_000, "hop_length": 320}),
]
SIZES = {"ast": {"num_mel_bins": 32, "max_length": 64}, "whisper": {"feature_size": 80, "chunk_length": 1}}


def extractor_of(family: str, flags: dict):
    import transformers as t

    kinds = {"ast": t.ASTFeatureExtractor, "whisper": t.WhisperFeatureExtractor}
    return kinds.get(family, t.Wav2Vec2FeatureExtractor)(**SIZES.get(family, {}), **flags)


@pytest.fixture
def model(tmp_path, tiny_models):
    """Writes a model's configuration, without weights, and what is given beside it; reads the extractor there."""

    def write(family: str, **contents: object) -> Path:
        tiny_models.audio_configs()[family].save_pretrained(tmp_path)
        for name, content in contents.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / f"{name}_config.json").write_text(text)
        return tmp_path

    return write


def read(folder: Path):
    return read_extractor(Place("here", folder), HuggingFaceAudio(str(folder)).config)


def sounds() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    waveform = torch.zeros(len(LENGTHS), max(LENGTHS))
    for row, length in zip(waveform, LENGTHS, strict=True):
        row[:length] = 0.1 * torch.randn(length, generator=rng) + 0.05
    return waveform, torch.tensor(LENGTHS)


@pytest.mark.parametrize("layout", ["preprocessor", "processor", "both"])
@pytest.mark.parametrize(("family", "flags"), CASES)
def test_inputs_are_those_of_transformers_own_extractor(model, caplog, family, flags, layout):
    from transformers import AutoFeatureExtractor

    told = extractor_of(family, flags).to_dict()
    files = {"preprocessor": told, "processor": {"feature_extractor": told, "processor_class": "Some"}}
    if layout == "both":  # transformers takes the newer one
        files["preprocessor"] = {"sampling_rate": 11_025, "feature_extractor_type": told["feature_extractor_type"]}
    folder = model(family, **{name: files[name] for name in files if layout in (name, "both")})
    ours = read(folder)
    theirs = AutoFeatureExtractor.from_pretrained(folder)
    assert ours.sample_rate == theirs.sampling_rate == flags.get("sampling_rate", 16_000)
    waveform, lengths = sounds()
    found = ours.reader()(waveform, lengths)
    for row, sound, length in zip(found, waveform, LENGTHS, strict=True):
        read_alone = theirs(sound[:length].numpy(), sampling_rate=ours.sample_rate, return_tensors="pt")
        expected = read_alone[theirs.model_input_names[0]][0]
        shown = row[: len(expected)] if family in WAVES else row
        torch.testing.assert_close(shown, expected.float(), rtol=0, atol=1e-5)
    frames_by_second_file = family == "ast" and ours.sample_rate != 16_000
    assert bool(caplog.records) == frames_by_second_file


def test_a_padded_batch_is_normalised_as_transformers_does_where_it_masks_padding():
    waveform, lengths = sounds()
    theirs = extractor_of("wav2vec2", {"return_attention_mask": True})
    rows = [row[:length].numpy() for row, length in zip(waveform, LENGTHS, strict=True)]
    expected = theirs(rows, sampling_rate=16_000, padding=True, return_tensors="pt").input_values
    torch.testing.assert_close(Standardised(True)(waveform, lengths), expected, rtol=0, atol=1e-5)


def test_what_a_processor_saves_is_read(tmp_path, model):
    """As transformers 5 writes it: processor_config.json alone."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2Processor

    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    flags = {"sampling_rate": 8000, "do_normalize": False}
    Wav2Vec2Processor(extractor_of("hubert", flags), tokenizer).save_pretrained(model("hubert"))
    assert not (tmp_path / "preprocessor_config.json").exists()
    assert read(tmp_path).settings == flags


@pytest.mark.parametrize(
    ("family", "content", "guessed"),
    [
        ("hubert", None, "sampling_rate=16000, do_normalize=True"),
        ("hubert", {"sampling_rate": 8000}, "do_normalize=True"),
        ("ast", {"do_normalize": False, "sampling_rate": 16_000}, "mean=-4.2677393, std=4.5689974"),
        ("whisper", None, "sampling_rate=16000, n_fft=400, hop_length=160"),
    ],
)
def test_what_no_file_says_is_guessed_aloud(model, caplog, family, content, guessed):
    read(model(family, **({} if content is None else {"preprocessor": content})))
    (record,) = caplog.records
    assert record.getMessage().endswith(f"{guessed}.")
    assert "here does not say how its sounds are read" in record.getMessage()


def test_a_processor_without_an_extractor_in_it_leaves_the_word_to_the_other_file(model, caplog):
    folder = model("wavlm", processor={"processor_class": "Wav2Vec2Processor"})
    read(folder)
    assert "does not say how its sounds are read" in caplog.text
    told = extractor_of("wavlm", {"do_normalize": False}).to_dict()
    caplog.clear()
    assert read(model("wavlm", preprocessor=told)).settings["do_normalize"] is False
    assert not caplog.records


def test_the_models_own_sizes_win_and_that_is_said(model, caplog):
    assert read(model("ast", preprocessor=extractor_of("ast", {}).to_dict() | {"max_length": 1024})).window == 10_480
    assert "the feature extractor says max_length=1024, but the model takes max_length=64" in caplog.text
    caplog.clear()
    told = extractor_of("whisper", {}).to_dict() | {"feature_size": 128, "chunk_length": 30}
    assert read(model("whisper", preprocessor=told)).window == 16_000
    assert "says feature_size=128, chunk_length=30, but the model takes feature_size=80, chunk_length=1" in caplog.text
    caplog.clear()
    read(model("whisper", preprocessor=extractor_of("whisper", {"dither": 1e-4}).to_dict()))
    assert "adds noise (dither=0.0001); it is left out" in caplog.text


@pytest.mark.parametrize(
    ("family", "content", "words"),
    [
        ("hubert", "{not json", "cannot read how here reads sounds"),
        ("hubert", [1], "cannot read how here reads sounds"),
        ("hubert", {"sampling_rate": 0, "do_normalize": True}, "sampling_rate must be a number above 0 and at most"),
        ("hubert", {"sampling_rate": "16k", "do_normalize": True}, "at most 1,000,000, but is '16k'"),
        ("ast", {"std": None}, "std must be a number above 0, but is None"),
        ("whisper", {"padding_side": "left"}, "padding_side must be right"),
        ("ast", {"feature_extractor_type": "WhisperFeatureExtractor"}, "reads sounds by WhisperFeatureExtractor, but"),
    ],
)
def test_files_that_cannot_be_followed_are_one_error(model, family, content, words):
    with pytest.raises(InputError, match=words):
        read(model(family, preprocessor=content))


@pytest.mark.parametrize(
    "asked", [{"feature_extractor_type": "Mine"}, {"auto_map": {"AutoFeatureExtractor": "code.Mine"}}]
)
def test_an_extractor_with_code_of_its_own_is_not_run_and_named(model, caplog, asked):
    told = {"sampling_rate": 8000, "do_normalize": False}
    folder = model("hubert", preprocessor={**told, **asked})
    (folder / "code.py").write_text("raise SystemExit('code from a model folder ran')")
    assert read(folder).settings == told
    (record,) = caplog.records
    assert "Mine, which transformers does not have; code from a model's files is never run" in record.getMessage()


def test_how_sounds_are_read_is_part_of_what_a_backbone_is(model):
    def identity(**told):
        folder = model("hubert", preprocessor={"sampling_rate": 16_000, "do_normalize": True, **told})
        return HuggingFaceAudio(str(folder), "none").identity(False)

    assert identity() == identity(padding_value=1.0)
    assert identity() != identity(do_normalize=False)
    assert identity() != identity(sampling_rate=8000)
