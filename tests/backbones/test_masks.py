"""What SpecAugment hides: where it says, and nothing else."""

import math

import pytest
import torch

from headstart.backbones.masks import hidden, hidden_in_waveform

RATE = 16_000


def test_masks_hide_shares_of_the_sound_and_of_the_bands():
    spectrogram = torch.ones(2, 10, 20)
    masks = {
        "time_masks": torch.tensor([[[0.0, 0.25]], [[0.5, 1.0]]]),
        "band_masks": torch.tensor([[[0.5, 0.7], [0.0, 0.1]], [[0.3, 0.3], [0.9, 1.0]]]),
    }
    found = hidden(spectrogram, torch.tensor([20, 10]), masks)
    expected = torch.ones(2, 10, 20)
    expected[0, :, :5] = expected[0, 5:7] = expected[0, 0] = 0
    expected[1, :, 5:10] = expected[1, 9] = 0
    assert torch.equal(found, expected)
    assert hidden(spectrogram, torch.tensor([20, 10]), {}) is spectrogram


def tone(frequency: float, length: int = RATE) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(length) / RATE)


def mel_share(frequency: float) -> float:
    """Where a frequency lies on the mel axis (HTK) from 0 to half the rate."""
    return math.log10(1 + frequency / 700) / math.log10(1 + RATE / 2 / 700)


@pytest.mark.parametrize(("frequency", "stays"), [(500, True), (900, True), (1200, False), (1700, False), (2200, True)])
def test_a_band_of_a_waveform_is_silenced_and_what_lies_beside_it_stays(frequency, stays):
    sound = tone(frequency)[None]
    masks = {"band_masks": torch.tensor([[[mel_share(1000), mel_share(2000)], [mel_share(1500), mel_share(1900)]]])}
    found = hidden_in_waveform(sound, torch.tensor([RATE]), RATE, masks)
    inner = slice(2000, -2000)
    level = found[0, inner].square().mean().sqrt() / sound[0, inner].square().mean().sqrt()
    assert float(level) == pytest.approx(1.0 if stays else 0.0, abs=0.02)
    if stays:
        torch.testing.assert_close(found[0, inner], sound[0, inner], rtol=0, atol=0.02)


def test_stretches_of_a_waveform_are_silenced_and_padding_changes_nothing():
    sound = tone(440, 8000)[None]
    masks = {"time_masks": torch.tensor([[[0.25, 0.5]]]), "band_masks": torch.tensor([[[0.1, 0.2]]])}
    lengths = torch.tensor([8000])
    alone = hidden_in_waveform(sound, lengths, RATE, masks)
    assert not alone[0, 2000:4000].any()
    assert alone[0, :2000].abs().min() < alone[0, :2000].abs().max()
    padded = hidden_in_waveform(torch.nn.functional.pad(sound, (0, 5000)), lengths, RATE, masks)
    torch.testing.assert_close(padded[:, :8000], alone, rtol=0, atol=1e-5)
    assert not padded[:, 8000:].any()


def test_a_waveform_without_masks_is_left_as_it_is():
    sound = tone(440)[None]
    assert hidden_in_waveform(sound, torch.tensor([RATE]), RATE, {}) is sound
    none = {"time_masks": torch.zeros(1, 0, 2), "band_masks": torch.zeros(1, 0, 2)}
    torch.testing.assert_close(hidden_in_waveform(sound, torch.tensor([RATE]), RATE, none), sound, rtol=0, atol=1e-5)
