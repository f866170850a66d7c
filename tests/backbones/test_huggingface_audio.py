"""Audio backbones: every family loaded from what save_pretrained wrote, against transformers' own extractors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.backbones.huggingface_audio import HuggingFaceAudio
from headstart.backbones.waveforms import Standardised, WhisperMel
from headstart.errors import InputError
from headstart.strategies.adapters import Lora
from headstart.training.thaw import hold

FAMILIES = ["wav2vec2", "wav2vec2_stable", "hubert", "wavlm", "ast", "whisper"]
WAVES = ["wav2vec2", "wav2vec2_stable", "hubert", "wavlm"]
KIN = ["unispeech", "unispeech_sat", "data2vec", "conformer"]
LENGTHS = [6000, 4321, 900, 16000]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_models) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: tiny_models.save_audio(root / family, family) for family in [*FAMILIES, *KIN]}


def sounds(lengths=LENGTHS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    waveform = torch.zeros(len(lengths), max(lengths))
    for place, length in enumerate(lengths):
        waveform[place, :length] = 0.1 * torch.randn(length, generator=generator) + 0.05
    return {"waveform": waveform, "lengths": torch.tensor(lengths)}


def one(inputs, place):
    length = int(inputs["lengths"][place])
    return {"waveform": inputs["waveform"][place : place + 1, :length], "lengths": inputs["lengths"][place : place + 1]}


@pytest.mark.parametrize("family", [*FAMILIES, *KIN])
@pytest.mark.parametrize("layers", ["last", "weighted"])
def test_a_padded_batch_gives_what_single_examples_give(folders, family, layers):
    factory = HuggingFaceAudio(str(folders[family]), layers=layers)
    factory.check(True)
    backbone, inputs = factory.build(True).eval(), sounds()
    with torch.no_grad():
        together = backbone(inputs)
        alone = torch.cat([backbone(one(inputs, place)) for place in range(len(LENGTHS))])
    assert together.shape == (len(LENGTHS), 32)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", [*FAMILIES, *KIN])
def test_a_model_in_double_precision_reads_sounds_in_single(folders, family):
    backbone, inputs = HuggingFaceAudio(str(folders[family])).build(True).eval(), sounds()
    with torch.no_grad():
        single, double = backbone(inputs), backbone.double()(inputs)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double, single.double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", [*WAVES, *KIN])
def test_features_of_waveforms_are_those_of_transformers_own_extractor_and_model(folders, family):
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    backbone, inputs = HuggingFaceAudio(str(folders[family])).build(True).eval(), sounds()
    oracle, extractor = AutoModel.from_pretrained(folders[family]).eval(), Wav2Vec2FeatureExtractor()
    for place in range(len(LENGTHS)):
        sound = one(inputs, place)
        values = extractor(sound["waveform"][0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = oracle(values).last_hidden_state.mean(1)
            torch.testing.assert_close(backbone(sound), expected, rtol=0, atol=1e-5)


def test_features_of_a_spectrogram_transformer_are_those_of_its_own_extractor_and_model(folders):
    from transformers import ASTFeatureExtractor, AutoModel

    extractor, inputs = ASTFeatureExtractor(num_mel_bins=32, max_length=64), sounds()
    theirs = [
        extractor(one(inputs, place)["waveform"][0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values[0]
        for place in range(len(LENGTHS))
    ]
    backbone = HuggingFaceAudio(str(folders["ast"]), pooling="pooler").build(True).eval()
    oracle = AutoModel.from_pretrained(folders["ast"]).eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(inputs), oracle(torch.stack(theirs)).pooler_output, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "window"), [("wav2vec2", None), ("ast", (400 + 63 * 160) / 16_000), ("whisper", 1)])
def test_the_most_that_a_model_reads_of_a_sound_is_what_its_positions_allow(folders, family, window):
    reading = HuggingFaceAudio(str(folders[family])).reading()
    assert reading.limits == ({} if window is None else {"seconds": window})
    assert reading.arguments == {"sample_rate": 16_000, "seconds": 10.0 if window is None else window}
    if window is not None:  # a sample more changes nothing, a sample less does
        samples = round(window * 16_000)
        read = HuggingFaceAudio(str(folders[family])).extractor.reader()
        inputs = sounds([samples + 1])
        whole, without_one, without_last = (
            read(inputs["waveform"][:, :length], torch.tensor([length]))
            for length in (samples + 1, samples, samples - 1)
        )
        assert torch.equal(whole, without_one)
        assert not torch.equal(without_one, without_last)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_whispers_spectrogram_is_made_in_full_precision_whatever_the_model_runs_in(kind):
    inputs = sounds()
    inputs["waveform"][0] = 0.0
    read = WhisperMel(200, 80, 16_000)
    whole = read(inputs["waveform"], inputs["lengths"])
    with torch.autocast("cpu", kind):
        assert torch.equal(read(inputs["waveform"], inputs["lengths"]), whole)
    assert whole.isfinite().all()


def test_waveforms_are_normalised_over_their_own_samples_only():
    inputs = sounds()
    values = Standardised(True)(inputs["waveform"], inputs["lengths"])
    for place, length in enumerate(LENGTHS):
        expected = inputs["waveform"][place, :length].numpy().astype(np.float64)
        expected = (expected - expected.mean()) / np.sqrt(expected.var() + 1e-7)
        np.testing.assert_allclose(values[place, :length].numpy(), expected, atol=1e-5)
        assert not values[place, length:].any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapted", [False, True])
def test_every_tensor_lies_in_exactly_one_group_in_order_of_depth(folders, family, adapted):
    factory = HuggingFaceAudio(str(folders[family]), layers="weighted" if adapted else "last")
    backbone = factory.build(True)
    if adapted:
        Lora(r=2).inject(backbone)
    for granularity in ("blocks", "stages"):
        groups = backbone.groups(granularity)
        grouped = [id(t) for group in groups for t in (*group.parameters.values(), *group.buffers.values())]
        assert len(grouped) == len(set(grouped))
        assert set(grouped) == {id(t) for t in (*backbone.parameters(), *backbone.buffers())}
    names = [group.name for group in backbone.groups()]
    has_tail = adapted or family in ("wav2vec2_stable", "ast", "whisper")
    assert names == ["stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", *(["tail"] if has_tail else [])]
    with torch.device("meta"):
        outline = factory.build(False)
    if not adapted:
        assert [list(g.parameters) for g in outline.groups()] == [list(g.parameters) for g in backbone.groups()]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_stem_draws_no_random_numbers_and_builds_no_graph(folders, family):
    backbone, inputs = HuggingFaceAudio(str(folders[family])).build(True), sounds([5000, 3000])
    groups = backbone.groups()
    backbone.train()
    frozen = groups[:2]
    for parameter in (p for group in frozen for p in group.parameters.values()):
        parameter.requires_grad_(False)
    hold([(m, "eval") for group in frozen for module in group.modules for m in module.modules()])
    first, second = (backbone.prefix(inputs, "blocks.0")["hidden"] for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    backbone.train()  # frozen by requires_grad alone: still no graph where nothing below wants one
    assert not backbone.prefix(inputs, "stem")["hidden"].requires_grad
    before = {name: p.detach().clone() for group in frozen for name, p in group.parameters.items()}
    backbone(inputs).sum().backward()
    assert all(p.grad is None for group in frozen for p in group.parameters.values())
    assert all(torch.equal(p, before[name]) for group in frozen for name, p in group.parameters.items())
    assert all(p.grad is not None for p in groups[2].parameters.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_no_layer_is_ever_dropped_and_nothing_masked_by_the_model_itself(folders, family):
    backbone, inputs = HuggingFaceAudio(str(folders[family])).build(True), sounds([5000, 3000])
    with torch.no_grad():
        expected = backbone.eval()(inputs)
        backbone.train()
        for module in backbone.modules():
            for name in ("p", "dropout", "attention_dropout", "activation_dropout", "dropout_prob"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        for _ in range(4):
            torch.testing.assert_close(backbone(inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_spec_augment_hides_does_not_reach_the_features(folders, family):
    """Two sounds that are hidden all through give the same features; hidden in part, others than without."""
    backbone, inputs = HuggingFaceAudio(str(folders[family])).build(True).eval(), sounds([6000])
    masks = {"time_masks": torch.tensor([[[0.4, 0.7]]]), "band_masks": torch.tensor([[[0.2, 0.3]]])}
    with torch.no_grad():
        plain, masked = backbone(inputs), backbone({**inputs, **masks})
        assert not torch.allclose(plain, masked, atol=1e-4)
        if family in WAVES or family == "ast":  # whisper's floor follows the loudest sound, hidden or not
            everything = {**masks, "time_masks": torch.tensor([[[0.0, 1.0]]])}
            louder = {**inputs, "waveform": inputs["waveform"].flip(1)}
            torch.testing.assert_close(backbone({**inputs, **everything}), backbone({**louder, **everything}))


@pytest.mark.parametrize("family", FAMILIES)
def test_cuts_are_exact(folders, family):
    backbone, inputs = HuggingFaceAudio(str(folders[family])).build(True).eval(), sounds()
    with torch.no_grad():
        whole, boundaries = backbone(inputs), backbone.boundaries
        for boundary in boundaries:
            activations = backbone.prefix(inputs, boundary)
            assert all(len(tensor) == len(LENGTHS) for tensor in activations.values())
            assert torch.equal(backbone.suffix(activations, boundary), whole)
    names = [group.name for group in backbone.groups()]
    # WavLM's layers hand on a position bias beside the hidden states
    assert boundaries == (["stem", names[-1]] if family == "wavlm" else names)


def test_the_weighting_over_layers_begins_even_and_trains_with_the_tail(folders):
    backbone, inputs = HuggingFaceAudio(str(folders["wav2vec2"]), layers="weighted").build(True).eval(), sounds()
    tail = backbone.groups()[-1]
    assert list(tail.parameters) == ["mix.weights"]
    names = [group.name for group in backbone.groups()][:-1]
    plain = HuggingFaceAudio(str(folders["wav2vec2"])).build(True).eval()
    with torch.no_grad():
        states = [plain.prefix(inputs, name)["hidden"] for name in ["stem", *names[1:-1]]]
        mask = plain.frame_mask(inputs["lengths"], states[0].shape[1])[..., None]
        means = [(state * mask).sum(1) / mask.sum(1) for state in states] + [plain(inputs)]
        torch.testing.assert_close(backbone(inputs), torch.stack(means).mean(0), rtol=0, atol=1e-5)
    backbone(inputs).sum().backward()
    assert tail.parameters["mix.weights"].grad is not None


def test_lora_targets_of_every_family(folders):
    projections = {
        "wav2vec2": {"q_proj", "k_proj", "v_proj"},
        "hubert": {"q_proj", "k_proj", "v_proj"},
        # its attention reads the projections' weights and never calls them, so adapters there would be passed over
        "wavlm": {"gru_rel_pos_linear", "intermediate_dense", "output_dense", "projection"},
        "whisper": {"q_proj", "k_proj", "v_proj"},
        "ast": {"q_proj", "k_proj", "v_proj"},
    }
    for family, expected in projections.items():
        backbone = HuggingFaceAudio(str(folders[family])).build(True)
        names = Lora(r=2).target_names(backbone)
        assert {name.rpartition(".")[2] for name in names} == expected, family
        assert not any("feature_extractor" in name for name in names)


def test_settings_that_do_not_fit_the_model_are_errors(folders, tmp_path, tiny_models):
    with pytest.raises(InputError, match="AST alone"):
        HuggingFaceAudio(str(folders["hubert"]), pooling="pooler").check(True)
    with pytest.raises(InputError, match="weighted goes with"):
        HuggingFaceAudio(str(folders["ast"]), pooling="pooler", layers="weighted").check(True)
    with pytest.raises(InputError, match="audio backbones are"):
        HuggingFaceAudio(str(tiny_models.save_text(tmp_path / "bert", "bert"))).check(True)
    with pytest.raises(InputError, match="'sew', but audio backbones are"):  # it has a norm between these parts
        HuggingFaceAudio(str(tiny_models.save_audio(tmp_path / "sew", "sew"))).check(True)
