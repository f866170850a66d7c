"""What SpecAugment hides (Park et al. 2019, arXiv:1904.08779): in spectrograms, and in waveforms."""

import math

import torch
from torch import Tensor

from headstart.backbones.backbone import Inputs

TIME_MASKS, BAND_MASKS = "time_masks", "band_masks"
"""Inputs `(B, n, 2)`: stretches to hide (start and end), as shares of the sound's length and of the mel axis."""


def hidden(spectrogram: Tensor, num_frames: Tensor, inputs: Inputs) -> Tensor:
    """A normalised spectrogram `(B, F, T)` with what the inputs' masks name set to 0.

    `num_frames` `(B,)`: how many frames of each are of the sound; time masks are shares of them. Without masks among
    the inputs, the spectrogram itself.
    """
    if TIME_MASKS in inputs:
        frames = torch.arange(spectrogram.shape[2], device=spectrogram.device)
        masked = _within(frames, inputs[TIME_MASKS] * num_frames[:, None, None])
        spectrogram = spectrogram.masked_fill(masked[:, None], 0.0)
    if BAND_MASKS in inputs:
        bands = torch.arange(spectrogram.shape[1], device=spectrogram.device)
        masked = _within(bands, inputs[BAND_MASKS] * spectrogram.shape[1])
        spectrogram = spectrogram.masked_fill(masked[:, :, None], 0.0)
    return spectrogram


def hidden_in_waveform(waveform: Tensor, lengths: Tensor, sample_rate: int, inputs: Inputs) -> Tensor:
    """A waveform `(B, T)` without the frequencies that the inputs' masks name, and silent where they say.

    For models that make no spectrogram. The mel axis goes from 0 to half the `sample_rate` (Hz); `lengths` `(B,)` are
    in samples. Without masks among the inputs, the waveform itself.
    """
    samples = torch.arange(waveform.shape[1], device=waveform.device)
    if BAND_MASKS in inputs and inputs[BAND_MASKS].shape[1]:
        top = 2595 * math.log10(1 + sample_rate / 2 / 700)
        edges = 700 * (10 ** (inputs[BAND_MASKS] * (top / 2595)) - 1) / sample_rate
        filtered = _without_bands(waveform.float(), edges.float(), sample_rate // 32).to(waveform.dtype)
        waveform = filtered * (samples < lengths[:, None])  # a filter rings on into the padding
    if TIME_MASKS in inputs:
        waveform = waveform.masked_fill(_within(samples, inputs[TIME_MASKS] * lengths[:, None, None]), 0.0)
    return waveform


def _without_bands(waveform: Tensor, edges: Tensor, reach: int) -> Tensor:
    """`(B, T)` after a band-stop filter for each of `edges` `(B, n, 2)`, in cycles per sample.

    Windowed sincs of `reach` samples to either side, convolved in full, so that padding changes nothing.
    """
    steps = torch.arange(-reach, reach + 1, device=waveform.device, dtype=waveform.dtype)
    low, high = (2 * edge[..., None] * torch.sinc(2 * edge[..., None] * steps) for edge in edges.unbind(2))
    kernels = (low - high) * torch.hann_window(len(steps), periodic=False, device=waveform.device)
    kernels[..., reach] += 1
    delay = edges.shape[1] * reach
    size = waveform.shape[1] + 2 * delay
    response = torch.fft.rfft(kernels, size).prod(1)
    return torch.fft.irfft(torch.fft.rfft(waveform, size) * response, size)[:, delay : delay + waveform.shape[1]]


def _within(places: Tensor, stretches: Tensor) -> Tensor:
    """Which places `(P,)` lie in any of the stretches `(B, n, 2)`, start included, end excluded: `(B, P)`."""
    start, end = stretches.round().unbind(2)
    return ((places >= start[..., None]) & (places < end[..., None])).any(1)
