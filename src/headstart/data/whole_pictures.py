"""Whole pictures, for augmentations that cut their own part out: all of each, shrunk to fit a square.

What evaluation reads has lost its rims; a random crop of it sees less than one of the picture does.
"""

import numpy as np
from torch import Tensor

from headstart.data.array_cache import CacheBytes
from headstart.data.decoded import DecodedExamples, pixels_of
from headstart.data.deep_pictures import kept_planes
from headstart.data.file_check import CheckedFiles
from headstart.data.parallel import map_threads
from headstart.data.picture_files import opened
from headstart.data.picture_values import Scales
from headstart.data.sizing import shrunk

_SHAPE_BYTES = 8
"""In front of each picture: its height and width, four bytes each."""


class WholePictures(DecodedExamples):
    """Pictures `(C, H, W)` of at most `side` pixels a side, smaller ones as they are: uint8, or floats from 0 to 1.

    Where nothing holds them all, each is decoded when it is asked for.

    Args:
        files: Their contents.
        described: All but `side` and `interpolation` that decides their pixels.
        interpolation: Pillow's filter.
    """

    def __init__(
        self,
        files: CheckedFiles,
        described: str,
        side: int,
        interpolation: str,
        scales: Scales,
        cache_bytes: CacheBytes = "auto",
        channels: int = 3,
        depth: int = 8,
    ) -> None:
        self.side, self._interpolation = side, interpolation
        self._files, self._scales, self._channels, self._depth = files, scales, channels, depth
        self._kind = np.dtype("u1" if depth == 8 else "<u2")
        shape = (len(files), _SHAPE_BYTES + self._kind.itemsize * channels * side * side)
        self._find("pictures", f"whole 1 {described} {side} {interpolation}", shape, self._fill, cache_bytes)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> Tensor:
        if self._kept is None:
            return pixels_of(self._picture(place).copy())
        row = self._kept.array[place]
        height, width = row[:_SHAPE_BYTES].view("<u4").tolist()
        end = _SHAPE_BYTES + self._kind.itemsize * self._channels * height * width
        return pixels_of(row[_SHAPE_BYTES:end].view(self._kind).reshape(self._channels, height, width).copy())

    def batch(self, indices: object) -> dict[str, Tensor]:
        raise NotImplementedError("whole pictures differ in shape")

    def _picture(self, place: int) -> np.ndarray:
        with opened(self._files(place)) as image:
            planes = kept_planes(image, self._scales, self._channels, self._depth)
            return np.concatenate([shrunk(plane, self.side, self._interpolation) for plane in planes])

    def _fill(self, array: np.ndarray) -> None:
        pictures = map_threads(self._picture, range(len(self._files)), "Decoding whole pictures")
        for place, picture in enumerate(pictures):
            array[place, :_SHAPE_BYTES] = np.array(picture.shape[1:], "<u4").view(np.uint8)
            values = np.ascontiguousarray(picture, self._kind).reshape(-1).view(np.uint8)
            array[place, _SHAPE_BYTES : _SHAPE_BYTES + values.size] = values
            array[place, _SHAPE_BYTES + values.size :] = 0
