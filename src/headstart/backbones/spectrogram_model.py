"""A live timm model that reads sounds as grey pictures: their log-mel spectrograms."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.backbones.backbone import DepthGroup, Granularity, Inputs, WeightsRecord
from headstart.backbones.spectrogram_mel import LogMel
from headstart.backbones.timm_model import Preprocessing, TimmBackbone
from headstart.config.sides import Sides, height_width


class SpectrogramBackbone(TimmBackbone):
    """`{"waveform": (B, T) float, "lengths": (B,) int64 in samples}` → pooled features `(B, num_features)`.

    `model` takes one channel. With `side`, spectrograms are resized to it (pixels, see `sides`), for models that take
    one size only; else they go in as they are, frequency by time, followed by zeros (the mean) up to a multiple of
    `patch_step`. `example_samples`: length of a usual sound.
    """

    def __init__(
        self,
        model: nn.Module,
        num_features: int,
        preprocessing: Preprocessing,
        record: WeightsRecord,
        channels_last: bool,
        spectrogram: LogMel,
        side: Sides | None,
        patch_step: int,
        example_samples: int,
    ) -> None:
        super().__init__(model, num_features, preprocessing, record, channels_last)
        self.spectrogram = spectrogram
        self.side = side
        self.patch_step = patch_step
        self.example_samples = example_samples

    def forward(self, inputs: Inputs) -> Tensor:
        return self.model(self.pictures(inputs))

    def pictures(self, inputs: Inputs) -> Tensor:
        """Spectrograms `(B, 1, H, W)` in the model's dtype and memory format: low frequencies on top, time to the
        right."""
        pictures = self.spectrogram(inputs)
        if self.side is not None:
            pictures = F.interpolate(pictures, height_width(self.side), mode="bilinear", antialias=True)
        height, width = pictures.shape[-2:]
        pictures = F.pad(pictures, (0, -width % self.patch_step, 0, -height % self.patch_step))
        memory = torch.channels_last if self.channels_last else torch.contiguous_format
        return pictures.to(next(self.model.parameters()).dtype, memory_format=memory)

    def groups(self, granularity: Granularity = "blocks") -> list[DepthGroup]:
        # the search for depth shows the model a picture in three colours
        grey = self.model.register_forward_pre_hook(lambda _, args: (args[0][:, :1], *args[1:]))
        try:
            return super().groups(granularity)
        finally:
            grey.remove()

    def prefix(self, inputs: Inputs, boundary: str) -> dict[str, Tensor]:
        return self._exact_cuts().prefix(self.pictures(inputs), boundary)

    def _random_pixels(self) -> Tensor:
        rng = torch.Generator().manual_seed(0)
        device = next(self.model.parameters()).device
        waveform = torch.randn(2, self.example_samples, generator=rng).to(device)
        lengths = torch.tensor([self.example_samples, self.example_samples * 2 // 3 + 1], device=device)
        return self.pictures({"waveform": waveform, "lengths": lengths})
