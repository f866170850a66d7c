"""Pictures decoded, sized and cropped as a backbone asks for them, kept as bytes."""

import hashlib
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.data.array_cache import CacheBytes, decoded
from headstart.data.parallel import map_threads
from headstart.data.source import Examples
from headstart.errors import InputError

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
READER = "pictures 1"
"""Changes with every change of decoding or sizing, so that nothing kept from before is taken for the same."""
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def read_picture(content: bytes) -> Any:
    """A `PIL.Image` in RGB: turned upright as its EXIF says, transparency over white, 16-bit grey scaled to 8."""
    from PIL import Image, ImageOps

    image: Any = Image.open(io.BytesIO(content))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65_535) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def verify_picture(content: bytes) -> None:
    """Decode a picture in full; raises whatever the decoder raises."""
    read_picture(content)


def fit(image: Any, size: int, interpolation: str, crop_pct: float) -> np.ndarray:
    """The picture as `(3, size, size)` uint8: its shorter side resized to `size / crop_pct`, then the centre cut out.

    The same numbers as timm's evaluation transform gives before scaling (mode "center").
    """
    from PIL import Image

    short = int(size / crop_pct)
    width, height = image.size
    if width <= height:
        width, height = short, int(short * height / width)
    else:
        width, height = int(short * width / height), short
    if (width, height) != image.size:
        image = image.resize((width, height), getattr(Image.Resampling, interpolation.upper()))
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


class Pictures(Examples):
    """Pictures from files: `pixels` `(B, 3, size, size)`, uint8.

    Decoded once into one array on disk or in memory (see `array_cache.decoded`); on demand where neither holds it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        fingerprint: str,
        size: int,
        interpolation: str = "bicubic",
        crop_pct: float = 1.0,
        cache_bytes: CacheBytes = "auto",
    ) -> None:
        if interpolation not in INTERPOLATIONS:
            raise InputError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}.")
        self._paths = list(paths)
        self._how = (size, interpolation, crop_pct)
        key = hashlib.sha256(f"{READER} {fingerprint} {self._how}".encode()).hexdigest()[:24]
        self._array = decoded("pictures", key, (len(self._paths), 3, size, size), self._fill, cache_bytes)

    def __len__(self) -> int:
        return len(self._paths)

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        if self._array is not None:
            return {"pixels": take(self._array, indices)}
        chosen = [self._paths[index] for index in indices]
        pictures = map_threads(self._decode, chosen, "Decoding") if len(chosen) > 1 else map(self._decode, chosen)
        return {"pixels": torch.from_numpy(np.stack(list(pictures)))}

    def portrait(self, index: int) -> bytes:
        return png(self.batch([index])["pixels"][0])

    def _decode(self, path: Path) -> np.ndarray:
        return fit(read_picture(path.read_bytes()), *self._how)

    def _fill(self, array: np.ndarray) -> None:
        for place, picture in enumerate(map_threads(self._decode, self._paths, "Decoding pictures")):
            array[place] = picture


def png(pixels: Tensor) -> bytes:
    """A picture `(3, H, W)`, uint8, as a PNG file."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return _encoded(array.tobytes(), array.shape)


@lru_cache(maxsize=64)
def _encoded(data: bytes, shape: tuple[int, ...]) -> bytes:
    """The runs of a comparison often show the same pictures."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.frombuffer(data, np.uint8).reshape(shape)).save(buffer, "PNG")
    return buffer.getvalue()


def take(array: np.ndarray, indices: Sequence[int] | np.ndarray) -> Tensor:
    """Copies of the rows at `indices`, as a tensor that may be written to."""
    return torch.from_numpy(array[np.asarray(indices, dtype=np.int64)])
