"""Pictures decoded, sized and cropped as a backbone asks for them, kept as bytes."""

import numpy as np

from headstart.data.array_cache import CacheBytes
from headstart.data.decoded import DecodedPictures
from headstart.data.file_check import CheckedFiles
from headstart.data.picture_files import as_rgb, decoders, opened
from headstart.data.picture_values import Scales
from headstart.data.sizing import Sizing, fit

READER = "pictures 2"
"""Changes with every change of decoding or sizing, so that nothing kept from before is taken for the same."""


class Pictures(DecodedPictures):
    """Pictures from files: `pixels` `(B, 3, size, size)`, uint8.

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
        super().__init__("pictures", len(files), sizing.size, how, "Decoding", cache_bytes)

    def _picture(self, place: int) -> np.ndarray:
        with opened(self._files(place)) as image:
            return fit(as_rgb(image, self._scales), self._sizing)
