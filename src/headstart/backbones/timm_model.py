"""A live timm model in the shape of every backbone."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, DepthGroup, Granularity, Inputs, WeightsRecord
from headstart.backbones.cuts import FEATURES, Cuts
from headstart.backbones.depth import depth_groups
from headstart.backbones.uses import named_tensors
from headstart.config.sides import Sides, height_width

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
CropMode = Literal["center", "squash", "border"]


@dataclass(frozen=True)
class Preprocessing:
    """What a picture goes through on its way in: `size` in pixels, `mean` and `std` of each channel's values, 0 to 1.

    `size` is the side of squares, or height and width; `crop_mode` says how a picture of another shape is brought to
    it: `center`, `squash` or `border`, as timm calls them.
    """

    size: Sides
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def in_timm(self) -> dict[str, Any]:
        """As timm's configurations and `timm.data.create_transform` have it."""
        return {
            "input_size": [self.channels, *height_width(self.size)],
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @property
    def sizing(self) -> dict[str, Any]:
        """What the data room has to know; the way of most models, `center`, goes without saying."""
        plain = {"size": self.size, "interpolation": self.interpolation, "crop_pct": self.crop_pct}
        if self.channels != 3:
            plain["channels"] = self.channels
        if self.crop_mode == "center":
            return plain
        fill = {"fill": [round(255 * value) for value in self.mean]} if self.crop_mode == "border" else {}
        return {**plain, "crop_mode": self.crop_mode, **fill}


def _white(pixels: Tensor) -> int:
    """The number that stands for white."""
    return 1 if pixels.is_floating_point() else 65_535 if pixels.dtype == torch.uint16 else 255


class TimmBackbone(Backbone):
    """A timm model without its classifier: `{"pixels": (B, C, H, W)}` → pooled features `(B, num_features)`.

    Pixels are uint8, uint16, or float from 0 to 1; they are scaled and normalised here, on the device they are on.
    """

    def __init__(
        self,
        model: nn.Module,
        num_features: int,
        preprocessing: Preprocessing,
        record: WeightsRecord,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.model: nn.Module = model
        if channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.num_features = num_features
        self.preprocessing = preprocessing
        self.weights = record
        self.channels_last = channels_last
        self._forget()

    def _forget(self) -> None:
        self._affine: dict[tuple[torch.device, int], tuple[Tensor, ...]] = {}
        self._groups: dict[Granularity, list[DepthGroup]] = {}
        self._grouped: list[tuple[str, int]] = []
        self._cuts: Cuts | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what is found again when asked for: graphs and groups hold references into this very model."""
        state = self.__dict__.copy()
        state.update(_affine={}, _groups={}, _grouped=[], _cuts=None)
        return state

    def forward(self, inputs: Inputs) -> Tensor:
        return self.model(self.normalised(inputs["pixels"]))

    def normalised(self, pixels: Tensor) -> Tensor:
        """`(pixels - mean) / std` in the model's dtype and memory format; one multiplication and addition."""
        shift, scale = self._shift_and_scale(pixels.device, _white(pixels))
        memory = torch.channels_last if self.channels_last else torch.contiguous_format
        values = torch.addcmul(shift, pixels.to(torch.float32, memory_format=memory), scale)
        return values.to(next(self.model.parameters()).dtype)

    def _shift_and_scale(self, device: torch.device, white: int) -> tuple[Tensor, ...]:
        """Kept per device, outside parameters and buffers: they are the data's, not the model's."""
        if (device, white) not in self._affine:
            with torch.inference_mode(False):
                mean, std = (
                    torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)
                    for values in (self.preprocessing.mean, self.preprocessing.std)
                )
                scale = 1 / (white * std)
                self._affine[device, white] = tuple(
                    t.float().to(device, non_blocking=True) for t in (-mean / std, scale)
                )
        return self._affine[device, white]

    def groups(self, granularity: Granularity = "blocks") -> list[DepthGroup]:
        present = [(name, id(tensor)) for name, tensor in named_tensors(self.model).items()]
        if present != self._grouped:  # first asked, or adapters came or went
            self._groups, self._cuts, self._grouped = {}, None, present
        if granularity not in self._groups:
            size = height_width(self.preprocessing.size)
            made = depth_groups(self.model, size, granularity, "model.", self.preprocessing.channels)
            self._groups[granularity] = made
        return list(self._groups[granularity])

    def channel_axis(self, values: Tensor) -> int:
        comes_last = str(getattr(self.model, "output_fmt", "")).endswith("HWC")
        return values.ndim - 1 if comes_last else super().channel_axis(values)

    @property
    def boundaries(self) -> list[str]:
        return self._exact_cuts(fresh=True).boundaries()

    def prefix(self, inputs: Inputs, boundary: str) -> dict[str, Tensor]:
        return self._exact_cuts().prefix(self.normalised(inputs["pixels"]), boundary)

    def suffix(self, activations: Inputs, boundary: str) -> Tensor:
        if FEATURES in activations:  # nothing is left to run
            return activations[FEATURES]
        return self._exact_cuts().suffix(activations, boundary)

    def _exact_cuts(self, fresh: bool = False) -> Cuts:
        """Found once; `fresh` looks whether the model's tensors are still the same ones, which takes a moment."""
        if fresh or self._cuts is None:
            groups = self.groups()
            if self._cuts is None:
                self._cuts = Cuts(self.model, groups, self._random_pixels)
        return self._cuts

    def _random_pixels(self) -> Tensor:
        shape = (2, self.preprocessing.channels, *height_width(self.preprocessing.size))
        pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        return self.normalised(pixels.to(next(self.model.parameters()).device))
