"""transformers' models of sound as configured: checked, identified and built."""

from copy import copy
from dataclasses import replace
from functools import cached_property
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor

from headstart.backbones import huggingface_files as files
from headstart.backbones.backbone import Backbone, Reading
from headstart.backbones.huggingface import HuggingFace
from headstart.backbones.huggingface_extractor import SPECTROGRAM, WHISPER, Extractor, read_extractor
from headstart.backbones.masks import BAND_MASKS, TIME_MASKS
from headstart.backbones.pooling import Layers
from headstart.backbones.waveforms import sound_shapes
from headstart.config.ranges import Multiplier
from headstart.errors import InputError

_USUAL_SECONDS = 10.0
"""Most of a sound that is read where the data does not say."""
_WAVEFORM_PARTS = {"feature_extractor", "feature_projection", "encoder"}
"""What wav2vec 2.0 and its kin are made of; models with more between them (SEW) work otherwise."""
_SILENCED = {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False, "add_adapter": False}
_SILENCED |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
"""What the models do of themselves in training, whatever is frozen: dropped layers, SpecAugment (see augmentation)."""


class HuggingFaceAudio(HuggingFace):
    """A model of sound in transformers: wav2vec 2.0, HuBERT, WavLM and their kin, AST, or Whisper's encoder.

    Sounds are read as the model's own files say (see `huggingface_extractor`). Their own SpecAugment and layerdrop are
    off; what augments is chosen by `augmentation`.

    Args:
        model: Its name on the hub (`owner/name`, `owner/name@revision`), a folder that `save_pretrained` wrote, or
            `package:<name>` for one that an installed package holds.
        weights: `hub` (those that come with the model), another folder or `package:<name>` (then its configuration
            counts too), a checkpoint of this very model, or `none` for random ones.
        pooling: From the frames' vectors to the sound's: their mean, or (AST) what its classifier was trained on.
        layers: Features of the last layer, of a learned weighting over all of them (SUPERB), or of all side by side
            (see `HuggingFace`).
        weights_key: Where in a checkpoint the model is, if it holds several (see `checkpoint`).
        window: Of Whisper, what a sound is filled up to with silence: `full`, the thirty seconds that it was trained
            on, or `clip`, the most that is read of a sound, in whole seconds; its positions are cut to that.
    """

    modality: Literal["audio"] = "audio"
    optional_inputs = frozenset({TIME_MASKS, BAND_MASKS})

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        pooling: Literal["mean", "pooler"] = "mean",
        layers: Layers = "last",
        rate: Multiplier = 0.1,
        weights_key: str | None = None,
        window: Literal["full", "clip"] = "full",
    ) -> None:
        super().__init__(model, weights, rate, weights_key, layers)
        self.pooling: Literal["mean", "pooler"] = pooling
        self.window = window
        self._seconds: float | None = None

    def for_clips(self, seconds: float | None) -> "HuggingFaceAudio":
        found = copy(self)
        found._seconds = seconds
        return found

    def _check_settings(self) -> None:
        problems = []
        if self.pooling == "pooler" and self._type != SPECTROGRAM:
            problems.append(f"backbone.pooling=pooler is for AST alone; choose mean for {self.name}.")
        problems += self._layer_problems(self.pooling, "mean")
        if problems:
            raise InputError(*problems)

    def identity(self, pretrained: bool) -> dict[str, Any]:
        reader = dict(self.extractor.settings)
        more = {} if self._num_frames is None else {"num_frames": self._num_frames}
        return {**self._identity(pretrained), "pooling": self.pooling, "layers": self.layers, "reader": reader, **more}

    def shapes(self, num_examples: int, **reading: Any) -> dict[str, Tensor]:
        return sound_shapes(num_examples, reading["sample_rate"], reading["seconds"])

    def reading(self) -> Reading:
        rate, window = self._whole.sample_rate, self._whole.window
        limits = {} if window is None else {"seconds": window / rate}
        arguments = {"sample_rate": rate, "seconds": min([_USUAL_SECONDS, *limits.values()])}
        cut = {} if self._num_frames is None else {"window": (self.extractor.window or 0) / rate}
        return Reading(arguments, {**arguments, **cut}, limits)

    def build(self, pretrained: bool) -> Backbone:
        """Under `torch.device("meta")`, `pretrained=False` allocates nothing: for plans."""
        from headstart.backbones import huggingface_audio_model as live

        layout = self.layout
        model, record = self._loaded(pretrained)
        if self._num_frames is not None:
            live.cut_positions(model, self._num_frames // 2)
        kinds = {SPECTROGRAM: live.SpectrogramTransformer, WHISPER: live.WhisperEncoder}
        kind = kinds.get(self._type, live.WaveformTransformer)
        extractor = self.extractor
        return kind(model, layout, self.pooling, record, extractor.reader(), extractor.sample_rate, self.layers)

    @cached_property
    def config(self) -> Any:
        return files.read_config(self.place, **_SILENCED)

    @cached_property
    def extractor(self) -> Extractor:
        """How the model reads sounds."""
        whole, frames = self._whole, self._num_frames
        return whole if frames is None else replace(whole, sizes={**whole.sizes, "num_frames": frames})

    @cached_property
    def _whole(self) -> Extractor:
        """The same, whatever is cut."""
        return read_extractor(self.place, self.config)

    @cached_property
    def _num_frames(self) -> int | None:
        """Of the spectrogram of a window that is cut: two to a position; `None` where nothing is cut."""
        if self.window != "clip" or self._type != WHISPER:
            return None
        rate, hop, most = self._whole.sample_rate, int(self._whole.settings["hop_length"]), self._whole.window or 0
        seconds = self._seconds or min(_USUAL_SECONDS, most / rate)
        frames, rest = divmod(ceil(seconds) * rate, hop)
        # transformers' own extractor takes whole seconds, of whole positions
        return None if rest or frames % 2 or frames >= self._whole.sizes["num_frames"] else frames

    @property
    def _type(self) -> str:
        return self.config.model_type

    def _used(self, model: Any) -> torch.nn.Module:
        if self._type == WHISPER:
            return model.get_encoder()
        if self._type != SPECTROGRAM and {name for name, _ in model.named_children()} != _WAVEFORM_PARTS:
            raise InputError(
                f"backbone.model={self.name} is of the type {self._type!r}, but audio backbones are wav2vec2 and its "
                "kin (HuBERT, WavLM, UniSpeech, data2vec, Conformer), AST, and Whisper."
            )
        _make_gradients_follow_parameters(model)
        return model

    def _run(self, model: torch.nn.Module) -> torch.Tensor:
        if self._type == SPECTROGRAM:
            inputs = torch.zeros(1, self.config.max_length, self.config.num_mel_bins)
        elif self._type == WHISPER:
            inputs = torch.zeros(1, self.config.num_mel_bins, 2 * self.config.max_source_positions)
        else:
            inputs = torch.zeros(1, 16_000)
        return model(inputs).last_hidden_state


def _make_gradients_follow_parameters(model: Any) -> None:
    """Keep the convolutions from asking for their input's gradient: it would build a graph though they are frozen."""
    extractor = getattr(model, "feature_extractor", None)
    if extractor is not None and hasattr(extractor, "_requires_grad"):
        extractor._requires_grad = False
