"""timm's vision models on sounds, as configured: checked, identified and built."""

from contextlib import nullcontext, suppress
from dataclasses import asdict
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from headstart.backbones import checkpoint
from headstart.backbones.backbone import BackboneFactory, Reading, WeightsRecord, in_json
from headstart.backbones.channels import adapted
from headstart.backbones.masks import BAND_MASKS, TIME_MASKS
from headstart.backbones.spectrogram_mel import LogMel, MelSettings, mel_filters
from headstart.backbones.spectrogram_model import SpectrogramBackbone
from headstart.backbones.timm import Timm
from headstart.backbones.timm_create import Created, create, skipped_init
from headstart.backbones.waveforms import sound_shapes
from headstart.config.ranges import Multiplier, NonNegative, Positive, ProperFraction, Seconds, Side, Spread
from headstart.config.sides import Sides
from headstart.errors import InputError

SampleRate = Annotated[int, Ge(1000), Le(1_000_000)]
Window = Annotated[int, Ge(8), Le(65_536)]
Hop = Annotated[int, Ge(1), Le(65_536)]
Bands = Annotated[int, Ge(1), Le(1024)]
Floor = Annotated[float, Ge(1), Le(200)]


class Spectrogram(BackboneFactory):
    """Any image model of timm on log-mel spectrograms, in one channel; weights for three are summed over them.

    Args:
        model, weights, weights_key, drop_rate, drop_path_rate, channels_last, arguments: As for
            `headstart.backbones.timm.Timm`.
        size: Side in pixels of the square that spectrograms are resized to; `None` for as they are, but for models of
            one size only (vision transformers) what the weights were trained at.
        seconds: Length that sounds are cut or padded to where the data does not say.
        sample_rate: Samples a second that sounds are resampled to.
        n_fft: Samples of each Fourier transform.
        win_length: Samples of the (Hann) window in it.
        hop_length: Samples from one frame to the next.
        num_mels: Mel bands: the height of the picture.
        f_min, f_max: Lowest and highest frequency in Hz; `f_max` `None` for half the sample rate.
        top_db: Floor, in decibels below a sound's loudest.
        mean, std: Normalisation in decibels; `None` for each sound's own.
        rate: Of the strategy's rate, for the backbone's own layers; transformers are tuned more gently than CNNs.
    """

    modality: Literal["audio"] = "audio"
    reads_one_size = True
    optional_inputs = frozenset({TIME_MASKS, BAND_MASKS})

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        drop_rate: ProperFraction = 0.0,
        drop_path_rate: ProperFraction = 0.0,
        size: Side | None = None,
        seconds: Seconds = 5.0,
        sample_rate: SampleRate = 16_000,
        n_fft: Window = 1024,
        win_length: Window = 1024,
        hop_length: Hop = 320,
        num_mels: Bands = 128,
        f_min: NonNegative = 50.0,
        f_max: Positive | None = None,
        top_db: Floor = 80.0,
        mean: float | None = None,
        std: Spread | None = None,
        channels_last: bool = True,
        arguments: dict[str, Any] | None = None,
        rate: Multiplier = 1.0,
        weights_key: str | None = None,
    ) -> None:
        self.name = model
        self.rate = rate
        self.size = size
        self.seconds = seconds
        top = sample_rate / 2 if f_max is None else f_max
        self.settings = MelSettings(sample_rate, n_fft, win_length, hop_length, num_mels, f_min, top, top_db, mean, std)
        self._pictures = _Pictures(
            model,
            weights,
            drop_rate,
            drop_path_rate,
            size,
            channels_last=channels_last,
            arguments=arguments,
            weights_key=weights_key,
        )

    # --- what is asked before building --------------------------------------------------------------------------------

    def check(self, pretrained: bool) -> None:
        problems = _problems(self.settings)
        if problems:
            raise InputError(*problems)
        self._pictures.check(pretrained)
        self._runs  # noqa: B018

    def identity(self, pretrained: bool) -> dict[str, Any]:
        colour = self._pictures.identity(pretrained)
        kept = {name: value for name, value in colour.items() if name not in ("mean", "std", "crop_mode")}
        patches = {"patch_step": self._patch_step} if self._patch_step > 1 else {}
        return {
            **kept,
            **patches,
            "spectrogram": asdict(self.settings),
            **in_json({"side": self._side}),
            "channels": "summed",
        }

    def record(self, pretrained: bool) -> WeightsRecord:
        return self._pictures.record(pretrained)

    def shapes(self, num_examples: int, **reading: Any) -> dict[str, Tensor]:
        return sound_shapes(num_examples, reading["sample_rate"], reading["seconds"])

    def reading(self) -> Reading:
        arguments = {"sample_rate": self.settings.sample_rate, "seconds": self.seconds, "padding": "fixed"}
        return Reading(arguments, dict(arguments))

    @property
    def _side(self) -> Sides | None:
        """What spectrograms are resized to, where they must be of one size."""
        fixed = "img_size" in self._pictures.identity(False)["arguments"]
        return self._pictures.preprocessing.size if fixed else self.size

    @property
    def _patch_step(self) -> int:
        """Up to a multiple of what spectrograms are padded, so that the model's patches reach all of them."""
        return self._pictures.patch_step if self._side is None else 1

    @cached_property
    def _runs(self) -> bool:
        """Whether the model takes one channel and pictures of this shape; raises `InputError` where it does not."""
        try:
            with torch.no_grad():
                backbone = self._without_memory()
                num_samples = round(self.seconds * self.settings.sample_rate)
                sound = torch.empty(2, num_samples, device="meta"), torch.empty(2, dtype=torch.long, device="meta")
                shape = backbone.eval()(dict(zip(("waveform", "lengths"), sound, strict=True))).shape
        except InputError:
            raise
        except Exception as error:  # timm raises all kinds
            raise InputError(
                f"backbone.model={self.name} cannot read spectrograms of {self.settings.num_mels} mel bands and "
                f"{self.seconds} s in one channel: {' '.join(str(error).split())[:300]}. Choose backbone.size, other "
                "backbone.num_mels, or another model."
            ) from error
        return tuple(shape) == (2, backbone.num_features)

    def _without_memory(self) -> SpectrogramBackbone:
        with torch.device("meta"):
            return self.build(False)

    # --- building -----------------------------------------------------------------------------------------------------

    def build(self, pretrained: bool) -> SpectrogramBackbone:
        """Under `torch.device("meta")`, `pretrained=False` allocates nothing: for plans."""
        pictures, record = self._pictures, WeightsRecord("none")
        probe, load = pictures.probe, pretrained and pictures.weights != "none"
        with skipped_init() if load else nullcontext():
            model = pictures.one_channel().model
        if load:
            found, record = pictures.fitting_state(probe)
            checkpoint.load_strictly(model, adapted(found.state, model, 1)[0], record.source)
        return SpectrogramBackbone(
            model,
            probe.shape[1],
            pictures.preprocessing,
            record,
            pictures.channels_last,
            LogMel(self.settings),
            self._side,
            self._patch_step,
            round(self.seconds * self.settings.sample_rate),
        )

    def source_classifier(self) -> nn.Linear:
        return self._pictures.source_classifier()


class _Pictures(Timm):
    """The model for pictures in colour, whose weights may also be a file's for one channel: a run's on spectrograms."""

    def one_channel(self) -> Created:
        return create(self.name, num_classes=0, in_chans=1, **self.identity(False)["arguments"])

    def fitting_state(self, created: Created) -> tuple[checkpoint.FoundModel, WeightsRecord]:
        """Of three channels; if they don't fit, of one."""
        try:
            return super().fitting_state(created)
        except InputError:
            with suppress(InputError), torch.random.fork_rng(devices=[]), skipped_init():
                return super().fitting_state(self.one_channel())
            raise


def _problems(settings: MelSettings) -> list[str]:
    """What keeps a spectrogram from being made so."""
    problems = []
    if settings.win_length > settings.n_fft:
        problems.append(
            f"backbone.win_length must be at most backbone.n_fft, but {settings.win_length} > {settings.n_fft}."
        )
    if settings.hop_length > settings.win_length:
        problems.append(
            f"backbone.hop_length must be at most backbone.win_length, or sound between the frames is lost, but "
            f"{settings.hop_length} > {settings.win_length}."
        )
    if (settings.mean is None) != (settings.std is None):
        problems.append("backbone.mean and backbone.std go together: give both, or neither for each sound's own.")
    if not settings.f_min < settings.f_max <= settings.sample_rate / 2:
        problems.append(
            f"backbone.f_min < backbone.f_max <= half of backbone.sample_rate must hold, but got {settings.f_min}, "
            f"{settings.f_max} and {settings.sample_rate / 2}."
        )
    elif empty := int((mel_filters(settings) <= 0).all(1).sum()):
        problems.append(
            f"backbone.num_mels={settings.num_mels} is more than backbone.n_fft={settings.n_fft} can tell apart: "
            f"{empty} bands would hold nothing. Use fewer bands, a larger n_fft, or a higher f_min."
        )
    return problems
