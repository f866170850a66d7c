"""Augmentations of sounds: of the waveform, and (SpecAugment) of the spectrogram that a backbone makes of it."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from headstart.config.ranges import Concentration, Decibels, Few, Fraction, Views
from headstart.data.augmentation import Augmentation
from headstart.errors import InputError

MaskShare = Annotated[float, Gt(0), Le(1)]
ShiftShare = Annotated[float, Ge(0), Le(1)]
Gain = Annotated[float, Ge(0), Le(100)]


class SpecAugment(Augmentation):
    """Hides stretches of time and of frequency (Park et al. 2019, arXiv:1904.08779).

    The stretches are drawn here, example by example, and travel as shares beside the waveform (`time_masks`,
    `band_masks`). A backbone that makes a spectrogram sets them to its mean, on the device; one that reads waveforms
    silences the stretches of time and filters the bands of frequency out.

    Args:
        num_time_masks: Stretches of time that are hidden.
        max_time: The longest, as a share of the sound.
        num_band_masks: Bands of frequency that are hidden.
        max_band: The widest, as a share of the mel axis.
        views: Versions of each sound kept for a frozen backbone: the sound as it is, then augmented.
    """

    modality: Literal["vision", "text", "audio", "any"] = "audio"
    changes_examples = True
    adds = frozenset({"time_masks", "band_masks"})

    def __init__(
        self,
        num_time_masks: Few = 2,
        max_time: MaskShare = 0.2,
        num_band_masks: Few = 2,
        max_band: MaskShare = 0.25,
        views: Views = 1,
    ) -> None:
        self._time = (num_time_masks, max_time)
        self._band = (num_band_masks, max_band)
        self.is_idle = num_time_masks == num_band_masks == 0
        self.views = views

    def example(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sound as it is, with `time_masks` and `band_masks` `(n, 2)`: start and end, from 0 to 1."""
        return {**inputs, "time_masks": _stretches(*self._time), "band_masks": _stretches(*self._band)}


class Waveform(Augmentation):
    """Moves a sound in time, changes its loudness and adds white noise.

    Args:
        max_shift: Farthest move either way, as a share of the sound; silence comes in, what moves out is lost.
        max_gain_db: Largest change of loudness either way, in decibels.
        noise: Probability that noise is added.
        min_snr_db: Least power of the sound over that of the noise, in decibels.
        max_snr_db: Most of it.
        views: Versions of each sound kept for a frozen backbone: the sound as it is, then augmented.
    """

    modality: Literal["vision", "text", "audio", "any"] = "audio"
    changes_examples = True

    def __init__(
        self,
        max_shift: ShiftShare = 0.2,
        max_gain_db: Gain = 6.0,
        noise: Fraction = 0.5,
        min_snr_db: Decibels = 10.0,
        max_snr_db: Decibels = 40.0,
        views: Views = 1,
    ) -> None:
        if min_snr_db > max_snr_db:
            raise InputError(
                f"augmentation.min_snr_db <= augmentation.max_snr_db must hold, but got {min_snr_db} and {max_snr_db}."
            )
        self._max_shift = max_shift
        self._max_gain_db = max_gain_db
        self._noise = noise
        self._snr = (min_snr_db, max_snr_db)
        self.is_idle = max_shift == max_gain_db == noise == 0 and not self.mixes
        self.views = views

    def example(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`waveform` `(T,)`, changed up to its `lengths`; the same however far it is padded."""
        waveform, length = inputs["waveform"].clone(), int(inputs["lengths"])
        shift, gain, chance, snr = torch.rand(4).tolist()
        sound = _shifted(waveform[:length], round((2 * shift - 1) * self._max_shift * length))
        sound = sound * 10 ** ((2 * gain - 1) * self._max_gain_db / 20)
        if chance < self._noise:
            low, high = self._snr
            level = sound.square().mean().sqrt() * 10 ** (-(low + (high - low) * snr) / 20)
            sound = sound + level * torch.randn(length)
        waveform[:length] = sound
        return {**inputs, "waveform": waveform}


class AudioMixup(Waveform):
    """`Waveform` on each sound; then each sound of a batch is mixed with its neighbour's (Zhang et al. 2018).

    Args:
        alpha: Both parameters of the Beta distribution of a sound's share.
        max_shift, max_gain_db, noise, min_snr_db, max_snr_db, views: As for `Waveform`. Views are not mixed.
    """

    mixes = True

    def __init__(
        self,
        alpha: Concentration = 0.2,
        max_shift: ShiftShare = 0.2,
        max_gain_db: Gain = 6.0,
        noise: Fraction = 0.5,
        min_snr_db: Decibels = 10.0,
        max_snr_db: Decibels = 40.0,
        views: Views = 1,
    ) -> None:
        super().__init__(max_shift, max_gain_db, noise, min_snr_db, max_snr_db, views)
        self._alpha = alpha

    def batch(self, inputs: dict[str, Tensor], targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """`waveform` `(B, T)` and targets `(B, O)` mixed with the batch rolled by one, a share for each example.

        A mixed sound is as long as the longer of the two.
        """
        waveform, lengths = inputs["waveform"], inputs["lengths"]
        concentration = torch.tensor([self._alpha, self._alpha])
        share = torch.distributions.Dirichlet(concentration).sample((len(targets),))[:, :1].to(waveform.device)
        mixed = share * waveform + (1 - share) * waveform.roll(1, 0)
        shares = share * targets + (1 - share) * targets.roll(1, 0)
        return {**inputs, "waveform": mixed, "lengths": torch.maximum(lengths, lengths.roll(1, 0))}, shares


def _stretches(number: int, most: float) -> Tensor:
    """`(number, 2)`: starts and ends of stretches between 0 and 1, each of up to `most`."""
    width = torch.rand(number) * most
    start = torch.rand(number) * (1 - width)
    return torch.stack([start, start + width], 1)


def _shifted(sound: Tensor, by: int) -> Tensor:
    """`(T,)` moved to the right (to the left, if negative), with silence coming in."""
    moved = torch.zeros_like(sound)
    if by >= 0:
        moved[by:] = sound[: len(sound) - by]
    else:
        moved[:by] = sound[-by:]
    return moved
