"""Pictures brought to the size that a backbone reads, as timm's evaluation transform does it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from headstart.config.sides import Sides, height_width
from headstart.data.picture_values import WHITE
from headstart.errors import InputError

CropMode = Literal["center", "squash", "border"]
Fit = Literal["crop", "squash", "letterbox"]
"""How a run may say it: `crop_mode`, so that all of a picture is kept but for `crop`."""
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
_MOST_PIXELS = 1 << 25
"""Of a picture on the way to its size (128 MiB): where there would be more, only what is needed is resized."""
_NARROW = 0.8
"""Share of the width below which it saves time to cut off the sides early."""


@dataclass(frozen=True)
class Sizing:
    """How a picture of any shape becomes one of `size` pixels.

    Attributes:
        size: Side of a square, or height and width.
        interpolation: Pillow's filter.
        crop_pct: Share of the resized sides that is kept; what is resized has sides of `size / crop_pct`.
        crop_mode: `center`: the picture is resized so that it just covers these, and what sticks out is cut off;
            `squash`: its sides become these, whatever the shape; `border`: it is resized so that it just fits into
            these, and the rest is filled.
        fill: Of each channel, the value (0 to 255) of what a picture does not reach.
    """

    size: Sides
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    crop_mode: str = "center"
    fill: tuple[int, ...] = (0, 0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fill", tuple(self.fill))
        for name, kind in (("interpolation", Interpolation), ("crop_mode", CropMode)):
            value, choices = getattr(self, name), get_args(kind)
            if value not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def fit(image: Any, sizing: Sizing) -> np.ndarray:
    """A `PIL.Image` in RGB as `(3, H, W)` uint8; one in grey as `(1, H, W)`; one in mode F, of numbers from 0 to 65,535
    (see `deep_pictures`), as `(1, H, W)` uint16.

    The same numbers as `timm.data.create_transform` gives before scaling. Only for pictures so long that the resized
    one would take more than 128 MiB, it may differ by the rounding of the filter's position.
    """
    (down, across), resample = height_width(sizing.size), _filter(sizing.interpolation)
    width, height = _resized_shape(image.size, sizing)
    left, across = _window(width, across)
    top, down = _window(height, down)
    if width * max(height, image.height) <= _MOST_PIXELS:
        image = _columns(image, (width, height), (left, left + across), resample)
        image = image.crop((0, top, across, top + down))
    elif sizing.crop_mode == "center":
        wide, high = image.width / width, image.height / height
        box = (left * wide, top * high, (left + across) * wide, (top + down) * high)
        image = image.resize((across, down), resample, box=box)
    else:  # Pillow resizes across first, which of a tall picture is the costly way
        image = image.resize((image.width, height), resample).resize((width, height), resample)
        image = image.crop((left, top, left + across, top + down))
    return _channels_first(_filled(image, sizing))


def _columns(image: Any, shape: tuple[int, int], columns: tuple[int, int], resample: Any) -> Any:
    """A picture resized to `shape` (width, height), from the one column of it to the other.

    Pillow resizes across first and then down, and rounds between; so what is cut off at the sides need not go down.
    """
    (width, height), (left, right) = shape, columns
    if right - left < _NARROW * width:
        image = image.resize((width, image.height), resample).crop((left, 0, right, image.height))
        return image.resize((right - left, height), resample)
    image = image if shape == image.size else image.resize(shape, resample)
    return image.crop((left, 0, right, height))


def fit_planes(planes: Sequence[Any], sizing: Sizing) -> np.ndarray:
    """As `fit`, of a picture in one piece or in planes of grey: `(C, H, W)` uint8 or uint16."""
    if len(planes) == 1:
        return fit(planes[0], sizing)
    fills = sizing.fill if len(sizing.fill) == len(planes) else (0,) * len(planes)
    return np.concatenate([fit(one, replace(sizing, fill=(fill,))) for one, fill in zip(planes, fills, strict=True)])


def shrunk(image: Any, side: int, interpolation: str) -> np.ndarray:
    """All of a `PIL.Image` as `(C, H, W)` uint8 or uint16, its longer side at most `side`."""
    ratio = max(image.size) / side
    if ratio > 1:
        width, height = (max(1, round(length / ratio)) for length in image.size)
        image = image.resize((width, height), _filter(interpolation), reducing_gap=3.0)
    return np.ascontiguousarray(_channels_first(image))


def _channels_first(image: Any) -> np.ndarray:
    values = np.asarray(image)
    if values.dtype == np.float32:  # filters may go beyond black and white
        values = np.rint(values.clip(0, WHITE)).astype(np.uint16)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _resized_shape(shape: tuple[int, int], sizing: Sizing) -> tuple[int, int]:
    width, height = shape
    down, across = (int(side / sizing.crop_pct) for side in height_width(sizing.size))
    if sizing.crop_mode == "squash":
        return across, down
    ratios = height / down, width / across
    if sizing.crop_mode == "border" or down != across:
        ratio = max(ratios) if sizing.crop_mode == "border" else min(ratios)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    # of squares torchvision rounds down
    return (across, int(down * height / width)) if width <= height else (int(across * width / height), down)


def _window(length: int, size: int) -> tuple[int, int]:
    """Where the middle of a side begins, and how much of it there is."""
    return (round((length - size) / 2), size) if length > size else (0, length)


def _filled(image: Any, sizing: Sizing) -> Any:
    """The picture in the middle of what it may not fill."""
    from PIL import Image

    height, width = height_width(sizing.size)
    if image.size == (width, height):
        return image
    bands = len(image.getbands())
    fill = sizing.fill if sizing.crop_mode == "border" else (0,) * bands
    if image.mode == "F":
        fill = tuple(value * WHITE // 255 for value in fill)
    filled = Image.new(image.mode, (width, height), fill if bands > 1 else fill[0])
    filled.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return filled


def _filter(name: str) -> Any:
    from PIL import Image

    return getattr(Image.Resampling, name.upper())
