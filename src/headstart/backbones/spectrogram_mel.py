"""From waveforms to normalised log-mel spectrograms, in torch, on the device that the waveforms are on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Inputs
from headstart.backbones.masks import hidden
from headstart.backbones.waveforms import full_precision

LEAST_POWER = 1e-10
LEAST_DEVIATION = 1e-3
"""In dB; below it a sound is silence all through."""


@dataclass(frozen=True)
class MelSettings:
    """How a spectrogram is made: lengths in samples, frequencies in Hz, `top_db` below the loudest as the floor.

    `mean` and `std` (in dB) normalise; `None` for each sound's own.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    num_mels: int
    f_min: float
    f_max: float
    top_db: float
    mean: float | None
    std: float | None

    def num_frames(self, num_samples: int) -> int:
        """Frames whose middle lies within a sound."""
        return -(-num_samples // self.hop_length)


def mel_filters(settings: MelSettings) -> Tensor:
    """Triangular filters `(num_mels, n_fft // 2 + 1)`, float64, evenly spaced on the mel scale (HTK), peaking at 1."""
    edges = torch.tensor([settings.f_min, settings.f_max], dtype=torch.float64, device="cpu")
    low, high = 2595 * torch.log10(1 + edges / 700)
    mels = low + (high - low) * torch.arange(settings.num_mels + 2, dtype=torch.float64, device="cpu") / (
        settings.num_mels + 1
    )
    corners = 700 * (10 ** (mels / 2595) - 1)
    bins = torch.arange(settings.n_fft // 2 + 1, dtype=torch.float64, device="cpu")
    frequencies = bins * (settings.sample_rate / settings.n_fft)
    rising = (frequencies - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - frequencies) / (corners[2:] - corners[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


class LogMel(nn.Module):
    """`{"waveform": (B, T), "lengths": (B,)}` → log-mel spectrograms `(B, 1, num_mels, frames)`, float32, normalised.

    Decibels, at most `top_db` below the sound's loudest. Normalised by the frames of the sound; those of its padding
    are 0, the mean, whatever the padding holds. It has neither parameters nor buffers: its tables are the input's, not
    the model's. What `time_masks` and `band_masks` name (SpecAugment) becomes 0 too.
    """

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        self.settings = settings
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def forward(self, inputs: Inputs) -> Tensor:
        waveform, lengths = inputs["waveform"], inputs["lengths"]
        with full_precision(waveform.device.type):
            decibels = self.decibels(waveform, lengths)
            frames = torch.arange(decibels.shape[2], device=lengths.device)
            num_frames = lengths.add(self.settings.hop_length - 1).div(self.settings.hop_length, rounding_mode="floor")
            real = (frames < num_frames[:, None])[:, None].to(decibels.dtype)
            return hidden(self._normalised(decibels, real) * real, num_frames, inputs)[:, None]

    def decibels(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, T)` with `lengths` `(B,)` in samples → decibels `(B, num_mels, frames)`, floored below the loudest."""
        settings = self.settings
        window, filters = self.tables(waveform.device)
        real = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
        spectrum = torch.stft(
            waveform.float() * real,
            settings.n_fft,
            settings.hop_length,
            window=window,
            pad_mode="constant",  # what follows a sound is silence, be it the clip's end or its padding
            return_complex=True,
        )[..., : settings.num_frames(waveform.shape[1])]
        power = spectrum.real.square() + spectrum.imag.square()
        decibels = 10 * (filters @ power).clamp(min=LEAST_POWER).log10()
        return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - settings.top_db)

    def _normalised(self, decibels: Tensor, real: Tensor) -> Tensor:
        if self.settings.mean is not None and self.settings.std is not None:
            return (decibels - self.settings.mean) / self.settings.std
        count = real.sum((1, 2), keepdim=True).clamp(min=1) * decibels.shape[1]
        centred = decibels - (decibels * real).sum((1, 2), keepdim=True) / count
        deviation = ((centred.square() * real).sum((1, 2), keepdim=True) / count).sqrt()
        return centred / deviation.clamp(min=LEAST_DEVIATION)

    def tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Window and filters, kept per device."""
        if device not in self._tables:
            with torch.inference_mode(False):
                settings = self.settings
                window = torch.hann_window(settings.win_length, dtype=torch.float64, device="cpu")
                before = (settings.n_fft - settings.win_length) // 2
                after = settings.n_fft - settings.win_length - before
                window = nn.functional.pad(window, (before, after))
                self._tables[device] = (window.float().to(device), mel_filters(settings).float().to(device))
        return self._tables[device]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tables": {}}
