"""Live transformers models of sound in the shape of every backbone."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.backbones.backbone import Inputs, WeightsRecord
from headstart.backbones.huggingface_depth import Layout
from headstart.backbones.huggingface_model import MASK, TransformersBackbone
from headstart.backbones.masks import hidden, hidden_in_waveform
from headstart.backbones.pooling import Pooling


class AudioBackbone(TransformersBackbone):
    """`{"waveform": (B, T) float, "lengths": (B,) int64 in samples}` → pooled features `(B, D)`.

    `reader` turns waveforms, of `sample_rate` samples a second, into what the model reads; what `time_masks` and
    `band_masks` name (SpecAugment) is hidden there.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        pooling: Pooling,
        record: WeightsRecord,
        reader: nn.Module,
        sample_rate: int,
        layers: str = "last",
    ) -> None:
        super().__init__(model, layout, pooling, record, layers)
        self.reader: Any = reader
        self.sample_rate = sample_rate

    def states(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        return self.model(self.in_kind(self.read(inputs)), **self._wanted), self.frame_mask(inputs["lengths"])

    def in_kind(self, values: Tensor) -> Tensor:
        """What is read of sounds, in the model's dtype: sounds come in single precision."""
        return values.to(next(self.model.parameters()).dtype)

    @abstractmethod
    def read(self, inputs: Inputs) -> Tensor:
        """What the model reads, with what is masked hidden."""

    def context(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        return {"lengths": inputs["lengths"]}

    def resume(self, hidden: Tensor, context: Inputs) -> tuple[Any, Tensor | None]:
        lengths = context["lengths"]
        silence = torch.zeros(len(lengths), 400, device=hidden.device)
        read = self.reader(silence, torch.full_like(lengths, 400)).to(hidden.dtype)
        return self.model(read, **self._wanted), self.frame_mask(lengths)

    def frame_mask(self, lengths: Tensor) -> Tensor | None:
        """Which of the model's frames `(B, T)` are not padding; `None` where all count."""
        return None

    def example(self) -> dict[str, Tensor]:
        device = next(self.model.parameters()).device
        waveform = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)).to(device)
        lengths = torch.tensor([4000, 2500], device=device)
        return {"waveform": waveform * (torch.arange(4000, device=device) < lengths[:, None]), "lengths": lengths}


class SpectrogramTransformer(AudioBackbone):
    """The Audio Spectrogram Transformer (Gong et al. 2021, arXiv:2104.01778); all of its frames count."""

    def read(self, inputs: Inputs) -> Tensor:
        spectrogram = self.reader(inputs["waveform"], inputs["lengths"])
        num_frames = self.reader.num_frames(inputs["lengths"])
        return hidden(spectrogram.transpose(1, 2), num_frames, inputs).transpose(1, 2)


class WhisperEncoder(AudioBackbone):
    """Whisper's encoder (Radford et al. 2022, arXiv:2212.04356): pooled over the frames of the sound, not the silence
    that it is filled up with."""

    def read(self, inputs: Inputs) -> Tensor:
        spectrogram = self.reader(inputs["waveform"], inputs["lengths"])
        return hidden(spectrogram, self.reader.num_frames(inputs["lengths"]), inputs)

    def frame_mask(self, lengths: Tensor) -> Tensor:
        positions = int(self.model.config.max_source_positions)  # type: ignore[union-attr, arg-type]
        used = (self.reader.num_frames(lengths) + 1).div(
            2, rounding_mode="floor"
        )  # its second convolution has stride 2
        return torch.arange(positions, device=lengths.device) < used[:, None]


def cut_positions(encoder: Any, num_positions: int) -> None:
    """Let Whisper's encoder read as many positions, the first of those that it knows."""
    weight, whole = encoder.embed_positions.weight, encoder.config
    kept = nn.Embedding.from_pretrained(weight.detach()[:num_positions].clone())
    encoder.embed_positions = kept.requires_grad_(weight.requires_grad)
    encoder.max_source_positions = num_positions
    config = deepcopy(whole)
    config.max_source_positions = num_positions
    for module in encoder.modules():
        if getattr(module, "config", None) is whole:
            module.config = config


class WaveformTransformer(AudioBackbone):
    """wav2vec 2.0, HuBERT, WavLM and their kin: convolutions over the waveform, then layers over their frames."""

    def states(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        waveform, lengths = inputs["waveform"], inputs["lengths"]
        model: Any = self.model
        read = self.in_kind(self.read(inputs))
        read = F.pad(read, (0, max(0, self._shortest() - read.shape[1])))
        # on other devices looking would make the CPU wait, in every step
        padded = waveform.device.type != "cpu" or bool((lengths != waveform.shape[1]).any())
        with _norm_over_sound(model, lengths) if padded else nullcontext():
            frames = model.feature_extractor(read).transpose(1, 2)
        projected = model.feature_projection(frames)
        hidden = projected[0] if isinstance(projected, tuple) else projected
        return self._layers(hidden, self.frame_mask(lengths, frames.shape[1]))

    def read(self, inputs: Inputs) -> Tensor:
        waveform, lengths = inputs["waveform"], inputs["lengths"]
        return hidden_in_waveform(self.reader(waveform, lengths), lengths, self.sample_rate, inputs)

    def context(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        return {MASK: self.frame_mask(inputs["lengths"], hidden.shape[1])}

    def num_positions(self, lengths: np.ndarray) -> np.ndarray:
        frames = self.model._get_feat_extract_output_lengths(torch.tensor(lengths, device="cpu"))  # type: ignore[operator]
        return frames.clamp(min=1).numpy()

    def resume(self, hidden: Tensor, context: Inputs) -> tuple[Any, Tensor | None]:
        return self._layers(hidden, context[MASK])

    def frame_mask(self, lengths: Tensor, num_frames: int = 0) -> Tensor:
        frames = self.model._get_feat_extract_output_lengths(lengths)  # type: ignore[operator]
        return torch.arange(num_frames, device=lengths.device) < frames.clamp(min=1)[:, None]

    def _layers(self, hidden: Tensor, mask: Tensor) -> tuple[Any, Tensor]:
        encoder: Any = self.model.encoder
        collected: list[Tensor] = []
        hooks = []
        if self.layers != "last":  # the states that enter the first layer, and those that leave each one
            layers = self.layout.layers(self.model)
            hooks = [layers[0].register_forward_pre_hook(lambda _, args: collected.append(args[0]))]
            hooks += [layer.register_forward_hook(lambda *call: collected.append(_hidden(call[2]))) for layer in layers]
        try:
            with _convolved_over_sound(encoder, mask):
                # the encoder silences padding in place
                output = encoder(hidden.clone(), attention_mask=mask)
        finally:
            for hook in hooks:
                hook.remove()
        if self.layers != "last":
            output.hidden_states = tuple(collected)
        return output, mask

    def _shortest(self) -> int:
        """Samples that make one frame."""
        config: Any = self.model.config
        samples = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


def _hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def _norm_over_sound(model: Any, lengths: Tensor) -> Iterator[None]:
    """Let a first convolution's group norm, whose statistics run over time, see the sound alone and not the padding.

    `lengths` `(B,)` are in samples. (Models with layer norms in their convolutions see one frame at a time anyway.)
    """
    norm = getattr(model.feature_extractor.conv_layers[0], "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        yield
        return
    assert norm.num_groups == norm.num_channels, "statistics are each channel's own"
    frames = (lengths - model.config.conv_kernel[0]).div(model.config.conv_stride[0], rounding_mode="floor") + 1

    def over_sound(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        (hidden,) = args
        real = torch.arange(hidden.shape[2], device=hidden.device) < frames[:, None]
        weights = real[:, None].to(hidden.dtype)
        count = weights.sum(2, keepdim=True).clamp(min=1)
        mean = (hidden * weights).sum(2, keepdim=True) / count
        variance = (((hidden - mean) * weights) ** 2).sum(2, keepdim=True) / count
        scaled = (hidden - mean) * (variance + norm.eps).rsqrt()
        return scaled * norm.weight[:, None] + norm.bias[:, None]

    hook = norm.register_forward_hook(over_sound)  # another `forward` in its place could not be compiled
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _convolved_over_sound(encoder: nn.Module, mask: Tensor) -> Iterator[None]:
    """Let convolutions over the frames see silence where `mask` `(B, T)` is false, as after a sound's end.

    The first one does so anyway; those that come after another layer (data2vec's positions, Conformer's blocks) would
    see what that layer made of the padding.
    """

    def silenced(module: nn.Module, args: tuple) -> tuple:
        return (args[0] * mask[:, None].to(args[0].dtype), *args[1:])

    over_time = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv1d) and layer.kernel_size[0] > 1]
    hooks = [layer.register_forward_pre_hook(silenced) for layer in over_time]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
