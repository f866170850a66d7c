"""Spectrograms in torch against the ones that transformers makes in numpy."""

import pickle

import numpy as np
import pytest
import torch

from headstart.backbones.spectrogram_mel import LogMel, MelSettings, mel_filters


def settings(**changes) -> MelSettings:
    usual = {
        "sample_rate": 16_000,
        "n_fft": 1024,
        "win_length": 1024,
        "hop_length": 320,
        "num_mels": 64,
        "f_min": 50.0,
        "f_max": 8000.0,
        "top_db": 80.0,
        "mean": None,
        "std": None,
    }
    return MelSettings(**{**usual, **changes})


def sounds(num_samples=16_000, num=2, seed=0):
    """Tones in noise, so that both peaks and floors occur."""
    rng = torch.Generator().manual_seed(seed)
    times = torch.arange(num_samples) / 16_000
    pitches = torch.tensor([440.0, 3000.0, 90.0])[:num, None]
    return 0.3 * torch.sin(2 * torch.pi * pitches * times) + 0.01 * torch.randn(num, num_samples, generator=rng)


def full(waveform):
    return torch.full((len(waveform),), waveform.shape[1])


VARIANTS = [
    {},
    {"n_fft": 2048, "win_length": 400, "hop_length": 160, "num_mels": 128, "f_min": 0.0},
    {"sample_rate": 44_100, "f_max": 20_000.0, "num_mels": 40, "hop_length": 441},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_mel_filters_are_those_of_transformers(changes):
    from transformers.audio_utils import mel_filter_bank

    ours = settings(**changes)
    theirs = mel_filter_bank(
        num_frequency_bins=ours.n_fft // 2 + 1,
        num_mel_filters=ours.num_mels,
        min_frequency=ours.f_min,
        max_frequency=ours.f_max,
        sampling_rate=ours.sample_rate,
        norm=None,
        mel_scale="htk",
    )
    np.testing.assert_allclose(mel_filters(ours).numpy(), theirs.T, atol=1e-9)


@pytest.mark.parametrize("changes", VARIANTS)
def test_decibels_are_those_of_transformers(changes):
    from transformers.audio_utils import spectrogram, window_function

    ours = settings(**changes)
    waveform = sounds()
    found = LogMel(ours).decibels(waveform, full(waveform)).numpy()
    for one, expected in zip(found, waveform.double().numpy(), strict=True):
        theirs = spectrogram(
            expected,
            window_function(ours.win_length, "hann"),
            frame_length=ours.win_length,
            hop_length=ours.hop_length,
            fft_length=ours.n_fft,
            power=2.0,
            center=True,
            pad_mode="constant",
            mel_filters=mel_filters(ours).numpy().T,
            log_mel="dB",
            db_range=ours.top_db,
        )
        assert one.shape == (ours.num_mels, ours.num_frames(16_000))
        np.testing.assert_allclose(one, theirs[:, : one.shape[1]], atol=2e-3)


def test_a_sound_has_mean_0_and_deviation_1_whatever_its_loudness():
    waveform = sounds()
    spectrograms = LogMel(settings())({"waveform": waveform, "lengths": full(waveform)})
    assert spectrograms.shape == (2, 1, 64, 50)
    torch.testing.assert_close(spectrograms.mean((1, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(spectrograms.std((1, 2, 3), unbiased=False), torch.ones(2), atol=1e-4, rtol=0)
    softer = LogMel(settings())({"waveform": waveform * 0.05, "lengths": full(waveform)})
    torch.testing.assert_close(softer, spectrograms, atol=2e-3, rtol=0)


def test_given_statistics_normalise():
    waveform = sounds()
    own = LogMel(settings(mean=-20.0, std=15.0))
    expected = (own.decibels(waveform, full(waveform)) + 20.0) / 15.0
    torch.testing.assert_close(own({"waveform": waveform, "lengths": full(waveform)})[:, 0], expected)


def test_silence_gives_zeros():
    spectrograms = LogMel(settings())({"waveform": torch.zeros(1, 4000), "lengths": torch.tensor([4000])})
    assert torch.equal(spectrograms, torch.zeros_like(spectrograms))


@pytest.mark.parametrize("length", [9_600, 9_700, 16_000])
def test_padding_is_zero_and_changes_nothing_else(length):
    sound = sounds(num=1)[:, :length]
    alone = LogMel(settings())({"waveform": sound, "lengths": torch.tensor([length])})
    padded = torch.cat([sound, torch.zeros(1, 20_000 - length)], 1)
    beside = LogMel(settings())({"waveform": padded, "lengths": torch.tensor([length])})
    frames = alone.shape[3]
    assert frames == -(-length // 320)
    torch.testing.assert_close(beside[..., :frames], alone, atol=1e-4, rtol=0)
    assert not beside[..., frames:].any()
    padded[:, length:] = torch.randn(1, 20_000 - length)
    assert torch.equal(LogMel(settings())({"waveform": padded, "lengths": torch.tensor([length])}), beside)


def test_half_precision_around_it_changes_nothing():
    inputs = {"waveform": sounds(), "lengths": torch.tensor([16_000, 9_000])}
    plain = LogMel(settings())(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LogMel(settings())(inputs), plain)


def test_it_has_no_tensors_of_its_own_and_pickles():
    front = LogMel(settings())
    inputs = {"waveform": sounds(), "lengths": torch.tensor([16_000, 9_000])}
    with torch.inference_mode():
        front(inputs)
    assert not front.state_dict()
    assert not [*front.parameters(), *front.buffers()]
    assert torch.equal(pickle.loads(pickle.dumps(front))(inputs), front(inputs))
