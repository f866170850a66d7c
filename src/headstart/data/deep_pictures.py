"""Pictures in 16 bits: planes of numbers from 0, black, to 65,535, white, of files of whatever depth.

Pillow has no colours of more than 8 bits: of 16 it gives the upper 8. It gives the lower 8 as well, if it is told that
the two bytes of each value lie the other way round; so such a picture is decoded twice, and put together.
"""

import io
import sys
from typing import Any

import numpy as np

from headstart.data.picture_files import bands, load_upright, opaque, opened, pages, planes_of
from headstart.data.picture_values import WHITE, Scales, depth_of, own_scale, scale_of, spread

DEEP = 16
"""Bits of a value that is kept whole; the other choice is 8."""
_STEP = WHITE // 255
"""From one level of 8 bits to the next."""
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)
"""Of red, green and blue (ITU-R 601)."""
_BANDS = {"RGB": 3, "RGBA": 4, "RGBX": 3, "RGBa": 4, "CMYK": 4}
"""By what Pillow calls the order of values in a file, how many of them are read."""
_OTHER_WAY = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""By the byte that comes first (`N`: as on this machine), its opposite."""


def kept_planes(image: Any, scales: Scales | None, channels: int, depth: int) -> list[Any]:
    """An opened picture in its planes, as `planes_of` gives them; in 16 bits each in mode F, from 0 to 65,535."""
    from PIL import Image

    if depth != DEEP:
        return planes_of(image, scales, channels)
    if channels not in (1, 3):
        found = [plane for page in pages(image) for plane in _page_bands(page, scales)]
    else:
        values = _over_white(image, scales)
        found = [values] if values.ndim == 2 else [values[..., place] for place in range(3)]
        if channels == 1:
            found = found if len(found) == 1 else [values @ _BRIGHTNESS]
        elif len(found) == 1:
            found = 3 * found
    return [Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in found]


def plain_pages(content: bytes, channels: int) -> list[Any]:
    """The pages of a file that are read, upright, as Pillow has them: values of more than 8 bits as they are."""
    made = []
    with opened(content) as image:
        for page in pages(image):
            depth = depth_of(page)
            load_upright(page)
            if depth is not None and depth.kind != "colour":
                made.append(page.copy())
            else:
                made += [opaque(page, None).convert("RGB")] if channels in (1, 3) else bands(page, None)
            if channels in (1, 3):
                break
    return made


def array_planes(values: np.ndarray, scales: Scales) -> list[Any]:
    """The planes of an array `(H, W, C)`: uint8, or uint16 on the scale of the run's own pictures."""
    from PIL import Image

    if values.dtype == np.uint8:
        made = values.astype(np.float32) * _STEP
    else:
        known = scales.get("integer") or scales.get("colour")
        made = spread(values, known or scale_of("integer", [(int(values.min()), int(values.max()), 0)]))
    return [Image.fromarray(np.ascontiguousarray(made[..., place])) for place in range(made.shape[2])]


def _over_white(image: Any, scales: Scales | None) -> np.ndarray:
    """Upright: `(H, W)` of grey, `(H, W, 3)` of red, green and blue; transparent parts over white."""
    depth = depth_of(image)
    if depth is None:
        return _widened(opaque(image, scales).convert("RGB"))
    if depth.kind != "colour":
        return _grey(image, scales)
    return _in_colour(*_scaled_colours(image, scales))


def _page_bands(page: Any, scales: Scales | None) -> list[np.ndarray]:
    """The planes of one page, each by itself."""
    depth = depth_of(page)
    if depth is None:
        return [_widened(band) for band in bands(page, scales)]
    if depth.kind != "colour":
        return [_grey(page, scales)]
    values, _ = _scaled_colours(page, scales)
    return [values[..., place] for place in range(values.shape[2])]


def _widened(image: Any) -> np.ndarray:
    return np.asarray(image).astype(np.float32) * _STEP


def _grey(image: Any, scales: Scales | None) -> np.ndarray:
    depth = depth_of(image)
    assert depth is not None
    load_upright(image)
    return spread(np.asarray(image), (scales or {}).get(depth.kind) or own_scale(image, depth), depth.is_reversed)


def _scaled_colours(image: Any, scales: Scales | None) -> tuple[np.ndarray, str]:
    """Colours of 16 bits `(H, W, B)`, with transparency in whole numbers of its own, and what the bands are."""
    values, order, clear = colour_values(image)
    num_scaled = len(order) - ("A" in order)
    of_colour = values[..., :num_scaled]
    scale = (scales or {}).get("colour") or scale_of("colour", [(0, int(of_colour.max()), 0)])
    made = values.astype(np.float32)
    made[..., :num_scaled] = spread(of_colour, scale)
    if clear is not None:
        made[clear] = WHITE
    return made, order


def _in_colour(values: np.ndarray, order: str) -> np.ndarray:
    if order == "CMYK":
        return (WHITE - values[..., :3]) * (WHITE - values[..., 3:]) / WHITE
    if "A" not in order:
        return values[..., 0] if order == "L" else values
    colours, opacity = values[..., :-1], values[..., -1:] / WHITE
    laid = colours * opacity + WHITE * (1 - opacity)
    return laid[..., 0] if order == "LA" else laid


def colour_values(image: Any) -> tuple[np.ndarray, str, np.ndarray | None]:
    """Of an opened picture of 16 bits a colour: its values `(H, W, B)` uint16 as they lie in the file, upright; what
    the bands are (`RGB`, `RGBA`, `LA`, `CMYK`); and where a colour stands for what is transparent, if one does.

    Raises:
        ValueError: if they lie in an order that is not known here.
    """
    arguments = image.tile[0][3]
    order, _, ending = str(arguments[0] if isinstance(arguments, tuple) else arguments).partition(";")
    if image.tile[0][0] in ("ppm", "SGI16") or ending[-1:] not in _OTHER_WAY:
        return _raw_values(image)
    if order == "LA":  # of which both bytes of both values can be had as four bands
        four = _decoded(image, "RGBA").astype(np.uint16)
        return four[..., ::2] * 256 + four[..., 1::2], "LA", None
    if order not in _BANDS:
        raise ValueError(f"16 bits in the order {order} are not known: use data.depth=8, which reads the upper 8")
    return _both(image, order, ending)


def _both(image: Any, order: str, ending: str) -> tuple[np.ndarray, str, np.ndarray | None]:
    key = image.info.get("transparency")
    plain = "RGBA" if order == "RGBa" else order
    low = _decoded(image, f"{plain};16{_OTHER_WAY[ending[-1]]}", again=True)
    high = _decoded(image, f"{plain};{ending}")
    values = (high.astype(np.uint16) * 256 + low)[..., : _BANDS[order]]
    if order == "RGBa":  # colours that were multiplied by their opacity
        values = values.astype(np.float64)
        shown = np.maximum(values[..., 3:], 1)
        values[..., :3] = np.minimum(values[..., :3] / shown * WHITE, WHITE)
        return np.rint(values).astype(np.uint16), "RGBA", None
    clear = (values == np.array(key)).all(-1) if order == "RGB" and isinstance(key, tuple) else None
    return values, {"RGBX": "RGB"}.get(order, order), clear


def _decoded(image: Any, order: str, again: bool = False) -> np.ndarray:
    """The picture as if its bytes lay in that order; `again`: opened anew, so that it can still be decoded."""
    from PIL import Image

    if again:
        page, image = image.tell(), Image.open(io.BytesIO(image.fp.getvalue()))
        image.seek(page)
    image.tile = [
        type(one)(*one[:3], (order, *one[3][1:]) if isinstance(one[3], tuple) else order) for one in image.tile
    ]
    load_upright(image)
    return np.asarray(image)


def _raw_values(image: Any) -> tuple[np.ndarray, str, None]:
    """Of formats that keep plain numbers, the upper byte first."""
    decoder, _, offset, arguments = image.tile[0]
    data = image.fp.getvalue()
    if decoder == "ppm":  # whose highest value stands for white
        height, width = image.height, image.width
        values = np.frombuffer(data, ">u2", height * width * 3, offset).reshape(height, width, 3)
        values = np.rint(np.minimum(values / arguments[1], 1) * WHITE).astype(np.uint16)
    elif decoder == "SGI16":  # band by band, from the bottom up
        bands_of = len(image.getbands())
        values = np.frombuffer(data, ">u2", bands_of * image.height * image.width, 512)
        values = values.reshape(bands_of, image.height, image.width)[:, ::-1].transpose(1, 2, 0).astype(np.uint16)
    else:
        raise ValueError(f"16 bits as {decoder} has them are not known: use data.depth=8, which reads the upper 8")
    return values, "".join(image.getbands()), None
