"""Examples that are decoded once and then found on disk, or in memory."""

import hashlib
import io
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from headstart.config.sides import Sides, height_width
from headstart.data.array_cache import CacheBytes, Decoded, Fill, decoded, named
from headstart.data.parallel import map_few, map_threads
from headstart.data.picture_values import WHITE
from headstart.data.source import Examples


class DecodedExamples(Examples):
    """Examples out of an array of bytes that is found again by what `described` says of it; see `array_cache`."""

    def _find(
        self,
        room: str,
        described: str,
        shape: tuple[int, ...],
        fill: Fill,
        cache_bytes: CacheBytes,
        dtype: type = np.uint8,
    ) -> str:
        """Find the array, or make it by `fill`; returns its key. `self._kept` is `None` where nothing can hold it."""
        key = hashlib.sha256(described.encode()).hexdigest()[:24]
        self._kept: Decoded | None = decoded(room, key, shape, fill, cache_bytes, dtype)
        self._identity = named(key, self._kept)
        return key

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def is_kept(self) -> bool:
        return self._kept is not None

    def verify(self) -> None:
        if self._kept is not None:
            self._kept.verify()


class DecodedPictures(DecodedExamples):
    """Pictures: `pixels` `(B, C, H, W)`, uint8; of a `depth` of 16, kept as uint16 and given as floats from 0 to 1.

    Where nothing holds them all, each is made when it is asked for.

    Args:
        num_pictures: How many there are.
        size: Their side, or height and width.
        described: Everything that decides their pixels.
        making: What is said while they are made.
    """

    def __init__(
        self,
        room: str,
        num_pictures: int,
        size: Sides,
        described: str,
        making: str,
        cache_bytes: CacheBytes = "auto",
        channels: int = 3,
        depth: int = 8,
    ) -> None:
        self._num_pictures, self._making = num_pictures, making
        shape, kind = (num_pictures, channels, *height_width(size)), np.uint8 if depth == 8 else np.uint16
        self._find(room, described, shape, self._fill, cache_bytes, kind)

    @abstractmethod
    def _picture(self, place: int) -> np.ndarray:
        """One picture `(C, H, W)`, uint8 or uint16."""

    def __len__(self) -> int:
        return self._num_pictures

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        chosen = np.asarray(indices, dtype=np.int64)
        if self._kept is not None:
            return {"pixels": pixels_of(self._kept.array[chosen])}  # a copy, which may be written to
        return {"pixels": pixels_of(np.stack(map_few(self._picture, chosen.tolist())))}

    def preview(self, index: int) -> bytes:
        return _png(self.batch([index])["pixels"][0])

    def _fill(self, array: np.ndarray) -> None:
        pictures = map_threads(self._picture, range(self._num_pictures), f"{self._making} pictures")
        for place, picture in enumerate(pictures):
            array[place] = picture


def pixels_of(values: np.ndarray) -> Tensor:
    """Pictures as a backbone takes them: uint8, or of uint16 floats from 0 to 1."""
    if values.dtype == np.uint8:
        return torch.from_numpy(values)
    return torch.from_numpy(values.astype(np.float32) / np.float32(WHITE))


def _png(pixels: Tensor) -> bytes:
    """A picture `(C, H, W)` as a PNG file of 8 bits: of more than three channels the first three; of two, the first."""
    pixels = (255 * pixels).round().to(torch.uint8) if pixels.is_floating_point() else pixels
    shown = pixels[:3].permute(1, 2, 0) if len(pixels) >= 3 else pixels[0]
    array = shown.contiguous().numpy()
    return _encoded(array.tobytes(), array.shape)


@lru_cache(maxsize=64)
def _encoded(data: bytes, shape: tuple[int, ...]) -> bytes:
    """The runs of a comparison often show the same pictures."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.frombuffer(data, np.uint8).reshape(shape)).save(buffer, "PNG")
    return buffer.getvalue()
