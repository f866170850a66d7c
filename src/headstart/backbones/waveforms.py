"""From waveforms to what an audio model reads, on the device: batched, the same for an example alone and in a batch."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sound_shapes(num_examples: int, sample_rate: int, seconds: float) -> dict[str, Tensor]:
    """A batch of sounds of so many `seconds`, without values: on the meta device."""
    waveform = torch.empty(num_examples, round(seconds * sample_rate), device="meta")
    return {"waveform": waveform, "lengths": torch.empty(num_examples, dtype=torch.int64, device="meta")}


class Standardised(nn.Module):
    """Each waveform brought to mean 0 and variance 1 over its own samples (wav2vec 2.0), or left as it is."""

    def __init__(self, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, T)` with `lengths` `(B,)` in samples → `(B, T)`, 0 where padded."""
        real = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
        if not self.normalise:
            return waveform * real
        count = lengths[:, None].to(waveform.dtype)
        mean = (waveform * real).sum(1, keepdim=True) / count
        centred = (waveform - mean) * real
        return centred / ((centred**2).sum(1, keepdim=True) / count + 1e-7).sqrt()


class KaldiFilterbank(nn.Module):
    """Log mel filterbank as Kaldi makes it: what the Audio Spectrogram Transformer reads.

    25 ms frames every 10 ms, each freed of its mean and pre-emphasised, a Hann window, a 512-point transform; padded
    with zeros or cut to `num_frames`; normalised by `scale`, a mean and half a deviation, where that is given. The same
    as `ASTFeatureExtractor` of transformers (without torchaudio).
    """

    def __init__(self, num_frames: int, num_bins: int, sample_rate: int, scale: tuple[float, float] | None) -> None:
        super().__init__()
        from transformers.audio_utils import window_function

        filters = _mel_filters(
            num_frequency_bins=257,
            num_mel_filters=num_bins,
            min_frequency=20,
            max_frequency=sample_rate // 2,
            sampling_rate=sample_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self._num_frames, self._scale = num_frames, scale
        self._tables = _Tables(filters, window_function(400, "hann", periodic=False))

    @staticmethod
    def samples(num_frames: int) -> int:
        """How many samples so many frames are made of."""
        return 400 + 160 * (num_frames - 1)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames of a sound `(B,)`, at least one, without those of its padding."""
        return (lengths - 400).div(160, rounding_mode="floor").clamp(0, self._num_frames - 1) + 1

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, T)` with `lengths` in samples → `(B, num_frames, num_bins)`."""
        filters, window = self._tables.on(waveform)
        samples = self.samples(self._num_frames)
        waveform = F.pad(waveform, (0, max(0, samples - waveform.shape[1])))[:, :samples]
        frames = waveform.to(window.dtype).unfold(1, 400, 160)
        frames = frames - frames.mean(2, keepdim=True)
        frames = torch.cat([frames[..., :1] * (1 - 0.97), frames[..., 1:] - 0.97 * frames[..., :-1]], 2)
        power = torch.fft.rfft(frames * window, n=512).abs() ** 2
        bank = (power @ filters).clamp(min=1.192092955078125e-07).log()
        whole = 1 + (lengths - 400).div(160, rounding_mode="floor").clamp(min=-1)
        real = torch.arange(self._num_frames, device=waveform.device) < whole[:, None]
        bank = bank * real[..., None]
        return (bank if self._scale is None else (bank - self._scale[0]) / (2 * self._scale[1])).float()


class WhisperMel(nn.Module):
    """Log10 mel spectrogram of thirty seconds (of as long as the model takes), as Whisper reads it.

    The same as `WhisperFeatureExtractor` of transformers. `lengths` are the samples of a Fourier transform and from one
    frame to the next; `fill` is what a sound is filled up with.
    """

    def __init__(
        self,
        num_frames: int,
        num_bins: int,
        sample_rate: int,
        lengths: tuple[int, int] = (400, 160),
        fill: float = 0.0,
    ) -> None:
        super().__init__()
        self._n_fft, self._hop = lengths
        self._num_frames, self._fill = num_frames, fill
        filters = _mel_filters(
            num_frequency_bins=1 + self._n_fft // 2,
            num_mel_filters=num_bins,
            min_frequency=0.0,
            max_frequency=8000.0,
            sampling_rate=sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self._tables = _Tables(filters, torch.hann_window(self._n_fft, dtype=torch.float64, device="cpu").numpy())

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames `(B,)` that a sound reaches into, at least one."""
        return (lengths + self._hop - 1).div(self._hop, rounding_mode="floor").clamp(1, self._num_frames)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, T)` with `lengths` in samples → `(B, num_bins, num_frames)`."""
        filters, window = (table.float() for table in self._tables.on(waveform))
        samples = self._num_frames * self._hop
        waveform = F.pad(waveform, (0, max(0, samples - waveform.shape[1])))[:, :samples]
        real = torch.arange(samples, device=waveform.device) < lengths[:, None]
        waveform = waveform.masked_fill(~real, self._fill)
        spectrum = torch.stft(waveform.float(), self._n_fft, self._hop, window=window, return_complex=True)
        power = (spectrum[..., :-1].abs() ** 2).contiguous()
        with full_precision(waveform.device.type):
            mel = (filters.T @ power).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def _mel_filters(**settings: Any) -> Any:
    """transformers' filters `(frequencies, bins)`, without its warning about bins that hold nothing: AST has some."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mel_filter_bank(**settings)


class _Tables:
    """Fixed numbers, kept per device outside the model's buffers: they are the input's, not the model's."""

    def __init__(self, *arrays: Any) -> None:
        self._arrays = arrays
        self._on: dict[torch.device, list[Tensor]] = {}

    def on(self, like: Tensor) -> list[Tensor]:
        """The tables in float64 on the device of `like`."""
        if like.device not in self._on:
            with torch.inference_mode(False):
                # MPS has no float64
                kind = torch.float32 if like.device.type == "mps" else torch.float64
                self._on[like.device] = [torch.tensor(a, dtype=kind, device=like.device) for a in self._arrays]
        return self._on[like.device]


def full_precision(device_type: str) -> AbstractContextManager:
    """Half precision, where the model runs in it, has too few digits for powers of sound."""
    if not torch.amp.is_autocast_available(device_type):  # as on the meta device
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
