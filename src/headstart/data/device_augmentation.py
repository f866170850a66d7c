"""Crops, mirror images, changed colours and erased rectangles of whole batches, on the device that they are on.

What is thrown for an example are the very numbers that torchvision's transforms throw for it alone, in their order; so
neither the place, the batch nor the number of processes changes a picture. Resampling is two products with matrices of
the filter that torchvision's resizing has (triangles, as wide as what is made smaller), which no step waits for.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from headstart.errors import InputError

_NUM = 16
"""Numbers thrown for an example: top, left, height and width of the crop; 1 if it is mirrored; places of brightness,
contrast and saturation in the order of changes; their factors; top, left, height and width of what is erased; the level
(0 to 255) that it gets."""
_CROP, _FLIP, _ORDER, _FACTORS, _ERASED = slice(0, 4), 4, slice(5, 8), slice(8, 11), slice(11, 15)
_FILL = 15
_GREY = (0.2989, 0.587, 0.114)
"""Of red, green and blue, as torchvision has it."""


def check_steps(steps: Sequence[Any]) -> None:
    """Raise `InputError` for transforms that are not offered on a device."""
    strange = [type(step).__name__ for step in steps if type(step).__name__ not in _DRAWN]
    if strange:
        raise InputError(
            "augmentation.place=device is for crops, mirror images, colours (jitter) and erasing, but this "
            f"augmentation has {', '.join(strange)} too: use augmentation.place=workers, or augmentation.policy=null."
        )


def drawn(steps: Sequence[Any], shape: Sequence[int], size: tuple[int, int]) -> Tensor:
    """The numbers `(16,)` that torchvision's transforms throw for a picture of `shape` (C, H, W) to become `size`."""
    found = torch.zeros(_NUM)
    found[_CROP] = torch.tensor([0.0, 0.0, *shape[-2:]])
    found[_FACTORS] = 1
    current = torch.empty(tuple(shape), device="meta")
    for step in steps:
        _DRAWN[type(step).__name__](step, current, found)
        current = torch.empty((shape[0], *size), device="meta")
    return found


def _draw_crop(step: Any, picture: Tensor, found: Tensor) -> None:
    params = step.make_params([picture])
    found[_CROP] = torch.tensor([float(params[name]) for name in ("top", "left", "height", "width")])


def _draw_flip(step: Any, picture: Tensor, found: Tensor) -> None:
    found[_FLIP] = bool(torch.rand(1) < step.p)


def _draw_colours(step: Any, picture: Tensor, found: Tensor) -> None:
    params = step.make_params([picture])
    order = params["fn_idx"].tolist()
    found[_ORDER] = torch.tensor([float(order.index(kind)) for kind in range(3)])
    factors = [params[f"{name}_factor"] for name in ("brightness", "contrast", "saturation")]
    found[_FACTORS] = torch.tensor([1.0 if factor is None else factor for factor in factors])


def _draw_erasing(step: Any, picture: Tensor, found: Tensor) -> None:
    if torch.rand(1) >= step.p:
        return
    params = step.make_params([picture])
    if params["v"] is not None:
        found[_ERASED] = torch.tensor([float(params[name]) for name in ("i", "j", "h", "w")])
        found[_FILL] = float(params["v"])


_DRAWN = {
    "RandomResizedCrop": _draw_crop,
    "RandomHorizontalFlip": _draw_flip,
    "ColorJitter": _draw_colours,
    "RandomErasing": _draw_erasing,
}
"""By torchvision's name of a transform, what throws for it as it does itself."""


def padded(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures `(C, H, W)` of several shapes in one tensor `(B, C, H, W)`, 0 beyond each."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    made = pictures[0].new_zeros((len(pictures), pictures[0].shape[0], height, width))
    for row, picture in zip(made, pictures, strict=True):
        row[:, : picture.shape[1], : picture.shape[2]] = picture
    return made


def changed(pixels: Tensor, dice: Tensor, size: tuple[int, int], colours: bool = False) -> Tensor:
    """Pictures `(B, C, H, W)`, uint8 or floats from 0 to 1, cut to `size` and changed as the `dice` `(B, 16)` say.

    `colours`: whether any are to be changed.
    """
    of_bytes = not pixels.is_floating_point()
    white = 255.0 if of_bytes else 1.0
    top, left, height, width = dice[:, _CROP].unbind(1)
    rows = _filter(pixels.shape[2], size[0], top, height)
    columns = _filter(pixels.shape[3], size[1], left, width)
    columns = torch.where(dice[:, _FLIP, None, None] > 0, columns.flip(1), columns)
    made = rows[:, None] @ pixels.float() @ columns[:, None].transpose(2, 3)
    made = made.round_() if of_bytes else made
    made = made.clamp_(0, white)
    if colours:
        made = _recoloured(made, dice, white, of_bytes)
    fill = dice[:, _FILL, None, None, None] * (white / 255)
    made = torch.where(_inside(dice[:, _ERASED], size), fill, made)
    return made.to(pixels.dtype)


def _filter(length: int, size: int, begin: Tensor, extent: Tensor) -> Tensor:
    """What each pixel of the result takes of those there are, `(B, size, length)`: `extent` of them from `begin` on."""
    scale = (extent / size)[:, None, None]
    centre = (torch.arange(size, device=begin.device) + 0.5)[:, None] * scale
    place = torch.arange(length, device=begin.device) - begin[:, None, None]
    weight = (1 - ((place + 0.5 - centre) / scale.clamp(min=1)).abs()).clamp_(min=0)
    weight = weight * ((place >= 0) & (place < extent[:, None, None]))
    return weight / weight.sum(2, keepdim=True)


def _inside(rectangle: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels `(B, 1, H, W)` lie in a rectangle of each picture."""
    top, left, height, width = (values[:, None] for values in rectangle.unbind(1))
    down, across = (torch.arange(side, device=rectangle.device) for side in size)
    rows = (down >= top) & (down < top + height)
    columns = (across >= left) & (across < left + width)
    return (rows[:, :, None] & columns[:, None])[:, None]


def _recoloured(pixels: Tensor, dice: Tensor, white: float, of_bytes: bool) -> Tensor:
    """Brightness, contrast and saturation changed, in each picture's own order (hue has one of four places)."""
    for place in range(4):
        for kind in range(3):
            factor = dice[:, _FACTORS][:, kind, None, None, None]
            is_now = dice[:, _ORDER][:, kind, None, None, None] == place
            pixels = torch.where(is_now & (factor != 1), _blended(pixels, kind, factor, white, of_bytes), pixels)
    return pixels


def _blended(pixels: Tensor, kind: int, factor: Tensor, white: float, of_bytes: bool) -> Tensor:
    """Towards black, the mean of grey, or grey; cut to whole numbers as torchvision does it of bytes."""
    if kind == 0:
        made = pixels * factor
    elif kind == 2 and pixels.shape[1] == 1:
        return pixels
    else:
        grey = pixels
        if pixels.shape[1] == 3:
            red, green, blue = pixels.split(1, 1)
            grey = red * _GREY[0] + green * _GREY[1] + blue * _GREY[2]
            grey = grey.floor() if of_bytes else grey
        grey = grey.mean((1, 2, 3), keepdim=True) if kind == 1 else grey
        made = pixels * factor + grey * (1 - factor)
    made = made.clamp(0, white)
    return made.floor() if of_bytes else made
