"""Pictures decoded, sized and cropped as a backbone asks for them, kept as bytes."""

import hashlib
import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from headstart.data.array_cache import CacheBytes, decoded, named
from headstart.data.file_check import CheckedFiles
from headstart.data.parallel import map_threads
from headstart.data.picture_files import as_rgb, decoders, opened
from headstart.data.picture_values import Scales
from headstart.data.sizing import Sizing, fit
from headstart.data.source import Examples

READER = "pictures 2"
"""Changes with every change of decoding or sizing, so that nothing kept from before is taken for the same."""


class Pictures(Examples):
    """Pictures from files: `pixels` `(B, 3, size, size)`, uint8.

    Decoded once into one array on disk or in memory (see `array_cache.decoded`); on demand where neither holds it.

    Args:
        files: Their contents.
        fingerprint: Names the contents, for finding the array again.
        sizing: How they become squares of one size.
        scales: Black and white of values of more than 8 bits (see `picture_values`).
    """

    def __init__(
        self,
        files: CheckedFiles,
        fingerprint: str,
        sizing: Sizing,
        scales: Scales | None = None,
        cache_bytes: CacheBytes = "auto",
    ) -> None:
        self._files = files
        self._sizing, self._scales = sizing, dict(scales or {})
        how = f"{READER} {decoders()} {fingerprint} {sizing} {self._scales}"
        key = hashlib.sha256(how.encode()).hexdigest()[:24]
        kept = decoded("pictures", key, (len(files), 3, sizing.size, sizing.size), self._fill, cache_bytes)
        self._kept, self._identity = kept, named(key, kept)
        self._array = None if kept is None else kept.array

    def __len__(self) -> int:
        return len(self._files)

    @property
    def identity(self) -> str:
        return self._identity

    def verify(self) -> None:
        if self._kept is not None:
            self._kept.verify()

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        if self._array is not None:
            return {"pixels": take(self._array, indices)}
        chosen = [int(index) for index in indices]
        pictures = map_threads(self._decode, chosen, "Decoding") if len(chosen) > 1 else map(self._decode, chosen)
        return {"pixels": torch.from_numpy(np.stack(list(pictures)))}

    def preview(self, index: int) -> bytes:
        return png(self.batch([index])["pixels"][0])

    def _decode(self, place: int) -> np.ndarray:
        with opened(self._files(place)) as image:
            return fit(as_rgb(image, self._scales), self._sizing)

    def _fill(self, array: np.ndarray) -> None:
        for place, picture in enumerate(map_threads(self._decode, range(len(self._files)), "Decoding pictures")):
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
