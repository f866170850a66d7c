"""Files of pictures: which suffixes are read, what is odd about a file, and how it becomes red, green and blue."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from headstart.data.class_folders import Kind
from headstart.data.picture_values import Depth, Scales, as_grey, depth_of, extremes, own_scale
from headstart.names import plural
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

BANDED = frozenset({"L", "LA", "RGB", "RGBA", "RGBX", "CMYK"})
"""Modes whose bands are what the file holds."""

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


def read_planes(content: bytes, scales: Scales | None, channels: int) -> list[Any]:
    """A picture in its planes (see `planes_of`)."""
    with opened(content) as image:
        return planes_of(image, scales, channels)


def as_rgb(image: Any, scales: Scales | None = None) -> Any:
    """An opened picture as `read_picture` gives it."""
    return opaque(image, scales).convert("RGB")


def planes_of(image: Any, scales: Scales | None = None, channels: int = 3) -> list[Any]:
    """An opened picture of so many channels: in RGB, or in planes of grey, as `data.channels` asks for it.

    One plane is brightness (ITU-R 601: 0.299 red, 0.587 green, 0.114 blue). More are the bands of the file, or the
    pages of a TIFF, each by itself.
    """
    if channels == 3:
        return [as_rgb(image, scales)]
    if channels == 1:
        return [opaque(image, scales).convert("L")]
    return [plane for page in pages(image) for plane in bands(page, scales)]


def pages(image: Any) -> Iterator[Any]:
    """An opened picture at each of its pages, where it is a TIFF; other pictures have one."""
    for number in range(num_pages(image)):
        if number:
            image.seek(number)
        yield image


def num_pages(image: Any) -> int:
    return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1


def opaque(image: Any, scales: Scales | None) -> Any:
    """Upright, in 8 bits, over white."""
    depth = depth_of(image)
    load_upright(image)
    if depth is not None and depth.kind != "colour":
        return _in_grey(image, depth, scales)
    return _over_white(image)


def _over_white(image: Any) -> Any:
    from PIL import Image

    if not has_alpha(image):
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def bands(page: Any, scales: Scales | None) -> list[Any]:
    """A page's bands, upright and in 8 bits; what names colours otherwise (palettes, YCbCr …) in red, green, blue."""
    depth = depth_of(page)
    load_upright(page)
    if depth is not None and depth.kind != "colour":
        return [_in_grey(page, depth, scales)]
    if page.mode == "1":
        return [page.convert("L")]
    return list((page if page.mode in BANDED else page.convert("RGB")).split())


def _in_grey(image: Any, depth: Depth, scales: Scales | None) -> Any:
    known = (scales or {}).get(depth.kind) or own_scale(image, depth)
    return as_grey(image, known, depth.is_reversed)


def check_values(image: Any, content: bytes, channels: int = 3) -> str | None:
    """Of an opened picture and its file, the kind of values if they have more than 8 bits.

    Raises:
        ValueError: if they cannot be brought to 0 to 255, or it has not so many channels.
    """
    depth = depth_of(image)
    _refuse_signed_bytes(image)
    if channels not in (1, 3) or (depth is not None and depth.kind != "colour"):
        inspect_picture(content, channels)
    return None if depth is None else depth.kind


def inspect_picture(content: bytes, channels: int = 3) -> dict[str, Any]:
    """Decode a picture in full, and tell what is odd about it; raises whatever the decoder raises.

    Facts: `depth` (kind, lowest and highest value, declared white), `frames` (true where there are more than the one
    that is read), `clear` (true where something is transparent), `long` (width and height), `coloured` (true where one
    channel is asked for, and colours are lost).
    """
    with opened(content) as image:
        facts = shape_facts(image)
        if channels not in (1, 3):
            return _inspect_planes(image, channels, facts)
        depth = depth_of(image)
        _refuse_signed_bytes(image)
        load_upright(image)
        if depth is not None and depth.kind != "colour":
            return {**facts, "depth": [depth.kind, *extremes(image), depth.declared]}
        if is_clear(image):
            facts["clear"] = True
        seen = _over_white(image).convert("RGB")  # as it is read
        if channels == 1 and _is_coloured(seen):
            facts["coloured"] = True
        if depth is not None:
            facts["depth"] = ["colour", 0, max(high for _, high in image.convert("RGB").getextrema()), 0]
        return facts


def _inspect_planes(image: Any, channels: int, facts: dict[str, Any]) -> dict[str, Any]:
    """The same of the planes of a picture, which are all read."""
    facts.pop("frames", None)
    depths, sizes, num_planes = [], set(), 0
    for page in pages(image):
        depth = depth_of(page)
        _refuse_signed_bytes(page)
        if depth is not None and depth.kind != "colour":
            load_upright(page)
            depths.append((depth.kind, *extremes(page), depth.declared))
            num_planes += 1
        else:
            num_planes += len(bands(page, None))
        sizes.add(page.size)
    if num_planes != channels:
        raise ValueError(f"it holds {plural(num_planes, 'channel')}, and data.channels asks for {channels}")
    if len(sizes) > 1:
        raise ValueError("its pages differ in size")
    if not depths:
        return facts
    kinds, lows, highs, declared = zip(*depths, strict=True)
    if len(set(kinds)) > 1 or len(depths) != num_pages(image):
        raise ValueError("its pages hold values of several kinds")
    return {**facts, "depth": [kinds[0], min(lows), max(highs), max(declared)]}


def _is_coloured(image: Any) -> bool:
    """Whether a picture in RGB is more than grey."""
    from PIL import ImageChops

    red, green, blue = image.split()
    return any(ImageChops.difference(red, other).getbbox() is not None for other in (green, blue))


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


def load_upright(image: Any) -> None:
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
