"""Files of pictures: which suffixes are read, what is odd about a file, and how it becomes red, green and blue."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from headstart.data.class_folders import Kind
from headstart.data.picture_values import Scales, as_grey, depth_of, extremes, scale_of
from headstart.system.cache import versions

_LARGE = 1 << 25
"""Pixels from which on one picture is read at a time, so that memory holds whatever the number of processors."""
_LONG = 32
"""Times that one side is the other, from which on little of a picture is left by cutting or squeezing it square."""
_UNREADABLE = frozenset({"BUFR", "GRIB", "HDF5", "WMF", "MPEG"})
"""What Pillow can tell but not read."""
_UNSAFE = frozenset({"EPS"})
"""What Pillow reads by running another program, Ghostscript."""
_NO_FRAMES = frozenset({"MPO", "PSD", "ICO", "ICNS"})
"""Whose further pictures are previews, layers or other sizes of the first."""

_one_at_a_time = threading.Lock()


@cache
def kind() -> Kind:
    """Files that Pillow, as installed, can read."""
    pillow = _pillow()
    formats = pillow.OPEN.keys() - _UNREADABLE - _UNSAFE
    suffixes = frozenset(suffix for suffix, name in pillow.registered_extensions().items() if name in formats)
    return Kind("pictures", suffixes, "Save them as .png or .jpg, or take them away.")


@cache
def decoders() -> str:
    """Versions of Pillow and of the libraries that it reads with: an upgrade may give other pixels."""
    from PIL import features

    names = [name for name in ("jpg", "libjpeg_turbo", "jpg_2000", "libtiff", "webp", "avif") if _has(name)]
    return " ".join([versions("pillow", "numpy"), *(f"{name}={features.version(name)}" for name in names)])


def _has(feature: str) -> bool:
    from PIL import features

    return feature in features.get_supported()


@contextmanager
def opened(content: bytes) -> Iterator[Any]:
    """A picture of which the header is read; of large ones, one at a time.

    Pillow refuses what has more than 178,956,970 pixels, which take some 3 GB while they are read.
    """
    with ExitStack() as stack:
        image = stack.enter_context(_pillow().open(io.BytesIO(content)))
        if image.width * image.height > _LARGE:
            stack.enter_context(_one_at_a_time)
        yield image


def read_picture(content: bytes, scales: Scales | None = None) -> Any:
    """A `PIL.Image` in RGB, of the first frame: turned upright as its EXIF says, transparency over white.

    Values of more than 8 bits are brought to 0 to 255 by `scales` (see `picture_values`); without, by its own values.
    """
    with opened(content) as image:
        return as_rgb(image, scales)


def as_rgb(image: Any, scales: Scales | None = None) -> Any:
    """An opened picture as `read_picture` gives it."""
    from PIL import Image

    depth = depth_of(image)
    _load_upright(image)
    if depth is not None and depth.kind != "colour":
        known = (scales or {}).get(depth.kind) or scale_of(depth.kind, [(*extremes(image), depth.declared)])
        return as_grey(image, known, depth.is_reversed).convert("RGB")
    if has_alpha(image):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def check_values(image: Any, content: bytes) -> str | None:
    """Of an opened picture and its file, the kind of values if they have more than 8 bits.

    Raises:
        ValueError: if they cannot be brought to 0 to 255.
    """
    depth = depth_of(image)
    _refuse_signed_bytes(image)
    if depth is not None and depth.kind != "colour":
        inspect_picture(content)
    return None if depth is None else depth.kind


def inspect_picture(content: bytes) -> dict[str, Any]:
    """Decode a picture in full, and tell what is odd about it; raises whatever the decoder raises.

    Facts: `depth` (kind, lowest and highest value, declared white), `frames` (true where there are more than the one
    that is read), `clear` (true where something is transparent), `long` (width and height).
    """
    with opened(content) as image:
        facts = shape_facts(image)
        depth = depth_of(image)
        _refuse_signed_bytes(image)
        _load_upright(image)
        if depth is not None and depth.kind != "colour":
            return {**facts, "depth": [depth.kind, *extremes(image), depth.declared]}
        if is_clear(image):
            facts["clear"] = True
        image = image.convert("RGB")
        if depth is not None:
            facts["depth"] = ["colour", 0, max(high for _, high in image.getextrema()), 0]
        return facts


def shape_facts(image: Any) -> dict[str, Any]:
    """Of an opened picture `frames` and `long`, as `inspect_picture` tells them."""
    facts: dict[str, Any] = {}
    if image.format not in _NO_FRAMES and getattr(image, "is_animated", False):
        facts["frames"] = True
    if max(image.size) > _LONG * min(image.size):
        facts["long"] = list(image.size)
    return facts


def has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def is_clear(image: Any) -> bool:
    """Whether something of an opened picture is transparent."""
    return has_alpha(image) and image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def _load_upright(image: Any) -> None:
    from PIL import ImageOps

    image.load()
    ImageOps.exif_transpose(image, in_place=True)


def _refuse_signed_bytes(image: Any) -> None:
    """Pillow takes signed bytes for unsigned ones: what is below 0 would be brightest."""
    if image.format == "TIFF" and image.mode == "L" and image.tag_v2.get(339, (1,))[0] == 2:
        raise ValueError("its values are signed bytes: save them as 16 bits, or from 0 to 255")


@cache
def _pillow() -> Any:
    from PIL import Image

    Image.init()  # all formats; opening alone would find them one by one
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # given at half of what is refused
    return Image
