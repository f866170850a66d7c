"""Pictures of more than 8 bits a value: what they hold, and how that becomes 0 to 255, or 0 to 65,535.

One scale serves all pictures of a data set, so that which of two is brighter stays as it was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Scale = tuple[float, float]
"""The values that become black and white."""
Scales = Mapping[str, Scale]
"""By kind of number: `integer`, `float`; `colour` where these are read whole."""
WHITE = 65_535
"""Of pictures that are kept in 16 bits."""
_STANDS_FOR_NOTHING = 1e30
"""Beyond this, numbers mark what was not measured."""
_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Depth:
    """That a picture holds more than 8 bits, as its file's header says."""

    kind: str
    """`integer` or `float` values; or `colour`: 16 bits a channel, of which Pillow by itself reads the upper 8."""
    declared: float = 0
    """What stands for white by the file's own word; 0 where it does not say."""
    is_reversed: bool = False
    """Whether 0 is white. (Pillow itself turns pictures of 8 bits and less.)"""


def depth_of(image: Any) -> Depth | None:
    """The depth of an open `PIL.Image` whose content has not been loaded; `None` for 8 bits and less."""
    if image.mode.startswith("I"):
        kind = "integer"
    elif image.mode == "F":
        kind = "float"
    elif _is_reduced(image):
        kind = "colour"
    else:
        return None
    return Depth(kind, _declared(image), image.format == "TIFF" and image.tag_v2.get(262) == 0)


def extremes(image: Any) -> tuple[float, float]:
    """The lowest and highest value of a picture.

    Raises:
        ValueError: if some values are not numbers.
    """
    lowest, highest = np.inf, -np.inf
    for rows in _blocks(image):
        low, high = float(rows.min()), float(rows.max())  # either is no number if any value is none
        if not abs(low) < _STANDS_FOR_NOTHING or not abs(high) < _STANDS_FOR_NOTHING:
            raise ValueError("some values are no numbers, or stand for missing ones (NaN, or beyond 1e30): fill them")
        lowest, highest = min(lowest, low), max(highest, high)
    return lowest, highest


def scale_of(kind: str, found: Iterable[Sequence[float]]) -> Scale:
    """Black and white for all pictures of a data set, from what is `found` in each: lowest, highest, declared white.

    Whole numbers from 0 on go by their bits: up to 255, 1,023, 4,095, 16,383 or 65,535 and so on, whichever holds the
    highest (or is declared). Fractions go up to 1 or 255 if they come near it. What goes below 0, fills less than an
    eighth of that scale, or has no such scale, goes from the lowest value of all pictures to the highest.
    """
    lows, highs, declared = zip(*found, strict=True)
    low, high, top = min(lows), max(highs), max(declared)
    if low >= 0 and kind != "float":
        bits = max(8, int(high).bit_length())
        top = max(top, 2 ** (bits + bits % 2) - 1)
        if top == 255 or 8 * (high - low) >= top:
            return 0.0, float(top)
    if low >= 0 and kind == "float":
        for top in (1, 255):
            if top / 2 < high <= top:
                return 0.0, float(top)
    return (low, high) if high > low else (low, low + 1)


def own_scale(image: Any, depth: Depth) -> Scale:
    """Black and white by what one loaded picture holds."""
    return scale_of(depth.kind, [(*extremes(image), depth.declared)])


def spread(values: np.ndarray, scale: Scale, reverse: bool = False) -> np.ndarray:
    """Values as float32 from 0, black, to 65,535, white, not rounded."""
    ends = (WHITE, 0) if reverse else (0, WHITE)
    return np.interp(values, scale, ends).astype(np.float32)


def as_grey(image: Any, scale: Scale, reverse: bool = False) -> Any:
    """The picture in 8 bits (mode L): `scale` from black to white, to the nearest level."""
    from PIL import Image

    low, high = scale
    ends = (255, 0) if reverse else (0, 255)
    blocks = [np.rint(np.interp(rows, (low, high), ends)).astype(np.uint8) for rows in _blocks(image)]
    return Image.fromarray(np.concatenate(blocks))


def _blocks(image: Any) -> Iterable[np.ndarray]:
    """Some rows of a picture at a time, so that their numbers take little memory."""
    step = max(1, _ROWS_AT_ONCE // image.width)
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        yield np.asarray(rows).astype(np.float64)


def _is_reduced(image: Any) -> bool:
    if not getattr(image, "tile", None):  # which pictures that come from no file lack
        return False
    decoder, _, _, arguments = image.tile[0][:4]
    first, *rest = arguments if isinstance(arguments, tuple) else (arguments,)
    if decoder == "ppm":  # of 16 bits where the highest value says so
        return bool(rest) and rest[0] > 255
    return decoder == "SGI16" or (isinstance(first, str) and ";16" in first)


def _declared(image: Any) -> float:
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (0,))[0]
        return 2**bits - 1 if 8 < bits < 16 else 0  # 16 and 32 are a computer's units, and say nothing of the values
    if image.format == "PPM" and image.mode == "I" and image.tile[0][0] == "ppm":
        return 65_535  # to which Pillow brings what the file declares as its highest value
    return 0
