"""Whole pictures, for augmentations that cut their own part out: all of each, shrunk to fit a square.

What evaluation reads has lost its rims; a random crop of it sees less than one of the picture does.
"""

import numpy as np
import torch
from torch import Tensor

from headstart.data.array_cache import CacheBytes
from headstart.data.decoded import DecodedExamples
from headstart.data.file_check import CheckedFiles
from headstart.data.parallel import map_threads
from headstart.data.picture_files import opened, planes_of
from headstart.data.picture_values import Scales
from headstart.data.sizing import shrunk

_SHAPE_BYTES = 8
"""In front of each picture: its height and width, four bytes each."""


class WholePictures(DecodedExamples):
    """Pictures `(C, H, W)`, uint8, of at most `side` pixels a side; smaller ones stay as they are.

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
    ) -> None:
        self.side, self._interpolation = side, interpolation
        self._files, self._scales, self._channels = files, scales, channels
        shape = (len(files), _SHAPE_BYTES + channels * side * side)
        self._find("pictures", f"whole 1 {described} {side} {interpolation}", shape, self._fill, cache_bytes)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> Tensor:
        if self._kept is None:
            return torch.from_numpy(self._picture(place).copy())
        row = self._kept.array[place]
        height, width = row[:_SHAPE_BYTES].view("<u4").tolist()
        end = _SHAPE_BYTES + self._channels * height * width
        return torch.from_numpy(row[_SHAPE_BYTES:end].reshape(self._channels, height, width).copy())

    def batch(self, indices: object) -> dict[str, Tensor]:
        raise NotImplementedError("whole pictures differ in shape")

    def _picture(self, place: int) -> np.ndarray:
        with opened(self._files(place)) as image:
            planes = planes_of(image, self._scales, self._channels)
            return np.concatenate([shrunk(plane, self.side, self._interpolation) for plane in planes])

    def _fill(self, array: np.ndarray) -> None:
        pictures = map_threads(self._picture, range(len(self._files)), "Decoding whole pictures")
        for place, picture in enumerate(pictures):
            array[place, :_SHAPE_BYTES] = np.array(picture.shape[1:], "<u4").view(np.uint8)
            array[place, _SHAPE_BYTES : _SHAPE_BYTES + picture.size] = picture.ravel()
            array[place, _SHAPE_BYTES + picture.size :] = 0
