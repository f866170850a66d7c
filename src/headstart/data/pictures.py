"""Pictures decoded, sized and cropped as a backbone asks for them, kept as bytes or in 16 bits."""

from typing import Any

import numpy as np

from headstart.config.sides import height_width
from headstart.data.array_cache import CacheBytes
from headstart.data.decoded import DecodedPictures
from headstart.data.deep_pictures import kept_planes
from headstart.data.file_check import CheckedFiles
from headstart.data.picture_files import decoders, opened
from headstart.data.picture_values import Scales
from headstart.data.sizing import Sizing, fit_planes
from headstart.data.whole_pictures import WholePictures

TIMES = 2
"""Of the longer side that is read: the longest side of whole pictures, where a run does not say."""
READER = "pictures 2"
"""Changes with every change of decoding or sizing, so that nothing kept from before is taken for the same."""


class Pictures(DecodedPictures):
    """Pictures from files: `pixels` `(B, C, H, W)`, uint8, or floats from 0 to 1.

    Args:
        files: Their contents.
        fingerprint: Names the contents, for finding the array again.
        sizing: How they are brought to one size.
        scales: Black and white of values of more than 8 bits (see `picture_values`).
        channels: How many they have (see `picture_files.planes_of`).
        depth: Bits of a value that are kept: 8 or 16.
        cache_side: Longest side of whole pictures, where augmentations are to cut from these.
    """

    def __init__(
        self,
        files: CheckedFiles,
        fingerprint: str,
        sizing: Sizing,
        scales: Scales | None = None,
        cache_bytes: CacheBytes = "auto",
        cache_side: int | None = None,
        channels: int = 3,
        depth: int = 8,
    ) -> None:
        self._files, self._cache_side, self._cache_bytes = files, cache_side, cache_bytes
        self._channels, self._depth = channels, depth
        more = (f" {channels}" if channels != 3 else "") + (f" {depth} bits" if depth != 8 else "")
        self._described = f"{READER} {decoders()} {fingerprint}{more}"
        self._whole: WholePictures | None = None
        self._sizing, self._scales = sizing, dict(scales or {})
        how = f"{self._described} {sizing} {self._scales}"
        super().__init__("pictures", len(files), sizing.size, how, "Decoding", cache_bytes, channels, depth)

    def _picture(self, place: int) -> np.ndarray:
        with opened(self._files(place)) as image:
            return fit_planes(kept_planes(image, self._scales, self._channels, self._depth), self._sizing)

    def uncut(self, needed: bool) -> WholePictures | None:
        side = self._cache_side or (TIMES * max(height_width(self._sizing.size)) if needed else None)
        if side is not None and self._whole is None:
            described = f"{self._described} {self._scales}"
            self._whole = WholePictures(
                self._files,
                described,
                side,
                self._sizing.interpolation,
                self._scales,
                self._cache_bytes,
                self._channels,
                self._depth,
            )
        return self._whole

    def verify(self) -> None:
        super().verify()
        if self._whole is not None:
            self._whole.verify()

    def statistics(self) -> dict[str, Any]:
        return {} if self._whole is None else {"cut_from": self._whole.side}
