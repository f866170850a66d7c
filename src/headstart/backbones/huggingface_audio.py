"""transformers' models of sound as configured: checked, identified and built."""

import json
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from headstart.backbones import huggingface_files as files
from headstart.backbones.backbone import Backbone, Reading, WeightsRecord
from headstart.backbones.huggingface import HuggingFace
from headstart.backbones.masks import BAND_MASKS, TIME_MASKS
from headstart.backbones.waveforms import sound_shapes
from headstart.errors import InputError
from headstart.ranges import Multiplier

_USUAL_SECONDS = 10.0
"""Length of the longest sound where the data does not say."""
_SPECTROGRAM, _WHISPER = "audio-spectrogram-transformer", "whisper"
_SILENCED = {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False, "add_adapter": False}
_SILENCED |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
"""What the models do of themselves in training, whatever is frozen: dropped layers, SpecAugment (see augmentation)."""


class HuggingFaceAudio(HuggingFace):
    """A model of sound in transformers: wav2vec 2.0, HuBERT, WavLM and their kin, AST, or Whisper's encoder.

    Their own SpecAugment and layerdrop are off; what augments is chosen by `augmentation`.

    Args:
        model: Its name on the hub (`owner/name`, `owner/name@revision`), a folder that `save_pretrained` wrote, or
            `package:<name>` for one that an installed package holds.
        weights: `hub` (those that come with the model), another folder or `package:<name>` (then its configuration
            counts too), or `none` for random ones.
        pooling: From the frames' vectors to the sound's: their mean, or (AST) what its classifier was trained on.
        layers: Features of the last layer, or of a learned weighting over all of them (SUPERB); the weights train with
            the tail, so they need a strategy that thaws it (`strategy=partial strategy.groups=[tail]`).
    """

    modality: Literal["audio"] = "audio"
    optional_inputs = frozenset({TIME_MASKS, BAND_MASKS})

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        pooling: Literal["mean", "pooler"] = "mean",
        layers: Literal["last", "weighted"] = "last",
        rate: Multiplier = 0.1,
    ) -> None:
        super().__init__(model, weights, rate)
        self.pooling: Literal["mean", "pooler"] = pooling
        self.layers = layers

    def check(self, pretrained: bool) -> None:
        self._check_weights(pretrained)
        problems = []
        if self.pooling == "pooler" and self._type != _SPECTROGRAM:
            problems.append(f"backbone.pooling=pooler is for AST alone; choose mean for {self.name}.")
        if self.pooling == "pooler" and self.layers == "weighted":
            problems.append("backbone.layers=weighted goes with backbone.pooling=mean, not with pooler.")
        if problems:
            raise InputError(*problems)
        self.layout  # noqa: B018

    def identity(self, pretrained: bool) -> dict[str, Any]:
        reader = {name: self._reader_setting(name, None) for name in ("do_normalize", "mean", "std", "max_length")}
        return {**self._identity(pretrained), "pooling": self.pooling, "layers": self.layers, "reader": reader}

    def shapes(self, num_examples: int, **reading: Any) -> dict[str, Tensor]:
        return sound_shapes(num_examples, reading["sample_rate"], reading.get("seconds", _USUAL_SECONDS))

    def reading(self) -> Reading:
        arguments = {"sample_rate": self.sample_rate}
        return Reading(arguments, dict(arguments))

    def build(self, pretrained: bool) -> Backbone:
        """Under `torch.device("meta")`, `pretrained=False` allocates nothing: for plans."""
        from headstart.backbones import huggingface_audio_model as live

        layout = self.layout
        model, record = self._loaded(pretrained)
        mix = live.LayerMix(layout.num_blocks + 1) if self.layers == "weighted" else None
        kinds = {_SPECTROGRAM: live.SpectrogramTransformer, _WHISPER: live.WhisperEncoder}
        kind = kinds.get(self._type, live.WaveformTransformer)
        return kind(model, layout, self.pooling, record, self._reader(), self.sample_rate, mix)

    @cached_property
    def config(self) -> Any:
        return files.read_config(self.place, **_SILENCED)

    @property
    def sample_rate(self) -> int:
        """Samples a second that the model was trained on."""
        return int(self._reader_setting("sampling_rate", 16_000))

    @property
    def _type(self) -> str:
        return self.config.model_type

    def _reader_setting(self, name: str, default: Any) -> Any:
        """An entry of the model's feature extractor's settings."""
        return self._reader_settings.get(name, default)

    @cached_property
    def _reader_settings(self) -> dict[str, Any]:
        path = self.place.folder / "preprocessor_config.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise InputError(f"{path} is not valid JSON ({error}): fetch it again.") from error

    def _reader(self) -> torch.nn.Module:
        from headstart.backbones.waveforms import KaldiFilterbank, Waveform, WhisperMel

        config = self.config
        if self._type == _SPECTROGRAM:
            mean, std = self._reader_setting("mean", -4.2677393), self._reader_setting("std", 4.5689974)
            return KaldiFilterbank(config.max_length, config.num_mel_bins, self.sample_rate, mean, std)
        if self._type == _WHISPER:
            return WhisperMel(2 * config.max_source_positions, config.num_mel_bins, self.sample_rate)
        return Waveform(bool(self._reader_setting("do_normalize", True)))

    def _loaded(self, pretrained: bool) -> tuple[torch.nn.Module, WeightsRecord]:
        model, record = super()._loaded(pretrained)
        if self._type != _WHISPER:
            _make_gradients_follow_parameters(model)
            return model, record
        ignored = (*record.ignored, "decoder") if record.source != "none" else ()
        return model.get_encoder(), WeightsRecord(record.source, record.sha256, ignored)  # type: ignore[operator]

    def _model(self) -> torch.nn.Module:
        model = super()._model()
        if self._type == _WHISPER:
            return model.get_encoder()  # type: ignore[operator]
        known = all(hasattr(model, part) for part in ("feature_extractor", "feature_projection", "encoder"))
        if self._type != _SPECTROGRAM and not known:
            raise InputError(
                f"backbone.model={self.name} is of the type {self._type!r}, but audio backbones are wav2vec2 and its "
                "kin (HuBERT, WavLM, data2vec), AST, and Whisper."
            )
        return model

    def _run(self, model: torch.nn.Module) -> torch.Tensor:
        if self._type == _SPECTROGRAM:
            inputs = torch.zeros(1, self.config.max_length, self.config.num_mel_bins)
        elif self._type == _WHISPER:
            inputs = torch.zeros(1, self.config.num_mel_bins, 2 * self.config.max_source_positions)
        else:
            inputs = torch.zeros(1, 16_000)
        return model(inputs).last_hidden_state


def _make_gradients_follow_parameters(model: Any) -> None:
    """Keep the convolutions from asking for their input's gradient: it would build a graph though they are frozen."""
    extractor = getattr(model, "feature_extractor", None)
    if extractor is not None and hasattr(extractor, "_requires_grad"):
        extractor._requires_grad = False
