"""Pieces of the code that cards show: how examples are read, without this program."""

import itertools
from typing import Any

from omegaconf import OmegaConf

from headstart.backbones.timm_model import Preprocessing
from headstart.config.sides import height_width
from headstart.data.picture_files import BANDED
from headstart.data.picture_values import WHITE, Scales
from headstart.export.plain_model import PlainModel

GIVEN = {
    "vision": 'paths = ["picture.jpg"]',
    "text": 'texts = ["A text."]',
    "audio": "sounds = [...]  # of each, its samples: a float32 array (T,), one channel",
}
"""What a stranger fills in, by modality."""


def head_of(model: PlainModel) -> str:
    """An expression that makes the head, with random weights."""
    widths = model.widths
    pairs = list(itertools.pairwise(widths))
    layers = [f"torch.nn.Linear({one}, {other})" for one, other in pairs]
    return f"torch.nn.Sequential({', torch.nn.ReLU(), '.join(layers)})"


def opened(channels: int, scales: Scales) -> str:
    """A function from a file to a picture of Pillow's in 8 bits, of one or three channels, as runs read it.

    `scales` are the run's black and white of values of more than 8 bits.
    """
    return (
        "def opened(path):  # upright as its EXIF says, over white where it is transparent\n"
        "    file = Image.open(path)\n"
        "    picture = ImageOps.exif_transpose(file)\n"
        f"{_in_8_bits('    ', 'picture', scales)}"
        f"{_over_white('    ', 'picture')}"
        f'    return picture.convert("{"L" if channels == 1 else "RGB"}")\n'
    )


def numpy_for(scales: Scales) -> str:
    """The import that `opened` needs besides those of Pillow."""
    return "import numpy\n" if _numbers(scales) else ""


def _over_white(indent: str, name: str) -> str:
    return (
        f'{indent}if {name}.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in {name}.info:\n'
        f'{indent}    {name} = {name}.convert("RGBA")\n'
        f'{indent}    {name} = Image.alpha_composite(Image.new("RGBA", {name}.size, "white"), {name})\n'
    )


def _in_8_bits(indent: str, name: str, scales: Scales) -> str:
    if not (known := _numbers(scales)):
        return ""
    return (
        f'{indent}if {name}.mode[0] in "IF":  # values of more than 8 bits: from the run\'s black to its white\n'
        f"{indent}    ends = {_ends(255)}\n"
        f"{indent}    values = numpy.interp(numpy.asarray({name}), {known}[{name}.mode[0]], ends)\n"
        f'{indent}    {name} = Image.fromarray(numpy.rint(values).astype("uint8"))\n'
    )


def _ends(white: int) -> str:
    """An expression for what the least and the greatest value become: TIFF may say that 0 is white."""
    return f'({white}, 0) if getattr(file, "tag_v2", {{}}).get(262) == 0 else (0, {white})'


def _numbers(scales: Scales) -> dict[str, tuple[float, float]]:
    """Black and white by the first letter of Pillow's mode."""
    return {name: scales[kind] for name, kind in (("I", "integer"), ("F", "float")) if kind in scales}


def picture_reader(reading: Preprocessing, scales: Scales, deep: bool = False) -> str:
    """A function from a file to a picture `(C, H, W)`, uint8, as numpy has it; of a run that kept 16 bits a value
    (`deep`), float32 from 0 to 1. `scales` as for `opened`."""
    height, width = height_width(reading.size)
    down, across = (int(side / reading.crop_pct) for side in (height, width))
    scaled = "    shape = [max(1, round(length / scale)) for length in picture.size]\n"
    resize = {
        "center": f"    shape = [{down} if length == min(picture.size) else int({down} * length / min(picture.size)) "
        "for length in picture.size]\n"
        if down == across
        else f"    scale = min(picture.height / {down}, picture.width / {across})\n{scaled}",
        "squash": f"    shape = ({across}, {down})\n",
        "border": f"    scale = max(picture.height / {down}, picture.width / {across})\n{scaled}",
    }[reading.crop_mode]
    fill = tuple(round(255 * value) for value in reading.mean) if reading.crop_mode == "border" else (0, 0, 0)
    if deep:
        return _reader(resize, reading, "F", "fill").replace("def read(path)", "def fitted(picture, fill)") + _deep(
            reading, scales, fill if reading.crop_mode == "border" else (0,) * reading.channels
        )
    if reading.channels in (1, 3):
        mode, filled = ("RGB", fill) if reading.channels == 3 else ("L", fill[0])
        read = _reader(f"    picture = opened(path)\n{resize}", reading, mode, filled)
        return f"{opened(reading.channels, scales)}\n\n{read}"
    return (
        _reader(resize, reading, "L", "fill").replace("def read(path)", "def fitted(picture, fill)")
        + "\n\ndef read(path):  # all pages of a TIFF, all bands of a page\n"
        "    planes, file = [], Image.open(path)\n"
        "    for page in ImageSequence.Iterator(file):\n"
        "        page = ImageOps.exif_transpose(page)\n"
        f"{_in_8_bits('        ', 'page', scales)}"
        '        page = page.convert("L") if page.mode == "1" else page\n'
        f"        is_plain = page.mode in {tuple(sorted(BANDED))}\n"
        '        planes += (page if is_plain else page.convert("RGB")).split()\n'
        f"    fills = {list(fill) if reading.crop_mode == 'border' else [0] * reading.channels}\n"
        "    return numpy.concatenate([fitted(*pair) for pair in zip(planes, fills)])\n"
    )


def _deep(reading: Preprocessing, scales: Scales, fill: tuple[int, ...]) -> str:
    """Code of `read` after `fitted`: values of more than 8 bits go from the run's black to its white."""
    known = _numbers(scales)
    fills = [value * WHITE // 255 for value in fill]
    if reading.channels in (1, 3):
        page = (
            '        if page.mode[0] not in "IF":\n'
            f"{_over_white('            ', 'page')}"
            '            page = page.convert("RGB")\n'
        )
        taken = "    pages = pages[:1]\n"
        joined = {
            3: "    planes = 3 * planes if len(planes) == 1 else planes\n",
            1: "    if len(planes) == 3:\n"
            "        planes = [0.299 * planes[0] + 0.587 * planes[1] + 0.114 * planes[2]]\n",
        }[reading.channels]
    else:
        page = taken = joined = ""
    return (
        f"\n\nscales = {known}  # of values of more than 8 bits: black and white\n\n\n"
        "def read(path):\n"
        "    planes, file = [], Image.open(path)\n"
        f"    ends = {_ends(WHITE)}\n"
        "    pages = [ImageOps.exif_transpose(page) for page in ImageSequence.Iterator(file)]\n"
        f"{taken}"
        "    for page in pages:\n"
        f"{page}"
        "        values = numpy.asarray(page).astype(numpy.float64)\n"
        '        if page.mode[0] in "IF":\n'
        f"            values = numpy.interp(values, scales.get(page.mode[0], (0, {WHITE})), ends)\n"
        "        else:\n"
        "            values = 257 * values\n"
        "        planes += [values] if values.ndim == 2 else list(values.transpose(2, 0, 1))\n"
        f"{joined}"
        "    planes = [Image.fromarray(plane.astype(numpy.float32)) for plane in planes]\n"
        f"    made = numpy.concatenate([fitted(*pair) for pair in zip(planes, {fills})])\n"
        f"    return numpy.rint(made.clip(0, {WHITE})).astype(numpy.float32) / numpy.float32({WHITE})\n"
    )


def planes_reader(reading: Preprocessing, scales: Scales, deep: bool) -> str:
    """Code from `paths` to `pictures` as a model of timm takes them, where they are no pictures to timm."""
    return (
        f"{picture_reader(reading, scales, deep)}\n\n"
        f"mean = torch.tensor({list(reading.mean)}).reshape(-1, 1, 1)\n"
        f"std = torch.tensor({list(reading.std)}).reshape(-1, 1, 1)\n"
        "pictures = torch.stack([(torch.from_numpy(read(path))UNIT - mean) / std for path in paths])\n"
    ).replace("UNIT", "" if deep else " / 255")


PLANES_IMPORTS = "import numpy\nimport timm\nimport torch\nfrom PIL import Image, ImageOps, ImageSequence\n"


def _reader(opened: str, reading: Preprocessing, mode: str, fill: Any) -> str:
    """The code of `read`, of which the beginning gives `picture` and the `shape` that it is resized to."""
    height, width = height_width(reading.size)
    return (
        "def read(path):\n"
        f"{opened}"
        f"    picture = picture.resize(shape, Image.Resampling.{reading.interpolation.upper()})\n"
        f"    left = round(max(0, picture.width - {width}) / 2)\n"
        f"    top = round(max(0, picture.height - {height}) / 2)\n"
        f"    picture = picture.crop((left, top, left + min(picture.width, {width}), "
        f"top + min(picture.height, {height})))\n"
        f'    filled = Image.new("{mode}", ({width}, {height}), {fill})\n'
        f"    filled.paste(picture, (({width} - picture.width) // 2, ({height} - picture.height) // 2))\n"
        f"    return numpy.asarray(filled){'' if mode == 'RGB' else '[:, :, None]'}.transpose(2, 0, 1)\n"
    )


IMPORT_POOLED = """\
import sys

sys.path.insert(0, folder)
import pooled_classifier  # noqa: E402, F401  (the model's code, which lies beside its weights)
"""


def has_pairs(model: PlainModel) -> bool:
    """Whether each example is two texts."""
    said = model.run.cfg.data
    return bool(said.get("pair_column")) or OmegaConf.is_list(said.get("text_column"))


def texts(model: PlainModel) -> str:
    """Arguments of a tokenizer."""
    return "[one for one, _ in texts], [other for _, other in texts]" if has_pairs(model) else "texts"


def piped(model: PlainModel) -> str:
    """What a pipeline is given, one at a time."""
    if model.modality == "audio":
        return "sounds"
    if has_pairs(model):
        return '[{"text": one, "text_pair": other} for one, other in texts]'
    return "texts"
