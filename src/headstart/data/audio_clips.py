"""Sounds decoded, resampled and cut as a backbone asks for them, kept as numbers."""

import io
import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from headstart.data.array_cache import CacheBytes, decoded
from headstart.data.class_folders import Kind
from headstart.data.decoded import DecodedExamples
from headstart.data.file_check import CheckedFiles
from headstart.data.parallel import map_threads
from headstart.data.sound_headers import said_size
from headstart.errors import InputError
from headstart.names import agreeing
from headstart.system.cache import versions

SUFFIXES = {
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
    "AVR": (".avr",),
    "CAF": (".caf",),
    "FLAC": (".flac",),
    "HTK": (".htk",),
    "IRCAM": (".ircam", ".sf"),
    "MP3": (".mp3", ".mp2", ".mp1", ".mpga"),
    "NIST": (".sph", ".nist", ".wav"),
    "OGG": (".ogg", ".oga", ".opus"),
    "PAF": (".paf",),
    "PVF": (".pvf",),
    "RF64": (".rf64", ".wav"),
    "SDS": (".sds",),
    "SVX": (".iff", ".svx", ".8svx"),
    "VOC": (".voc",),
    "W64": (".w64",),
    "WAV": (".wav", ".wave", ".bwf"),
    "WVE": (".wve",),
    "XI": (".xi",),
}
"""What files of libsndfile's formats are called; without those that are no sounds in themselves (headerless samples,
tables of Matlab, Akai programs) or lie in two files (Sound Designer)."""
READER = "sounds 1"
"""Changes with every change of decoding, resampling or cutting, so that nothing kept from before is taken for it."""
MIN_SECONDS = 0.025
"""The shortest sound there may be: one window of a usual spectrogram."""
DEFAULT_SECONDS = 10.0
"""Most of a sound that is read where neither the data nor the backbone says otherwise."""
Padding = Literal["longest", "fixed"]
"""Up to what sounds are padded: the longest of their batch, or always the same length."""
Part = Literal["first", "middle", "last"]
"""What is read of a sound that is longer than what is read."""
_HEADER = 16
"""Bytes before the samples of a kept sound: its length and the length it had before it was cut, in samples."""
_log = logging.getLogger(__name__)


def set_over(seconds: float | None, part: Part) -> dict[str, Any]:
    """What a source sets over a backbone's reading."""
    return ({} if seconds is None else {"seconds": seconds}) | ({} if part == "middle" else {"part": part})


def require_decoder() -> None:
    """Raise `InputError` if what decodes and resamples files is not installed."""
    missing = [name for name in ("soundfile", "soxr") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Reading files of sound needs {' and '.join(missing)}: pip install 'headstart[audio]' "
            f"(or {' '.join(missing)})."
        )


@cache
def kind() -> Kind:
    """Files that libsndfile, as installed, can read; all of its formats where it is not."""
    try:
        import soundfile

        formats = soundfile.available_formats()
    except (ImportError, OSError):
        formats = SUFFIXES
    suffixes = frozenset(suffix for name in formats for suffix in SUFFIXES.get(name, ()))
    return Kind("sounds", suffixes, "Convert them to .wav or .flac (ffmpeg -i IN OUT.flac), or take them away.")


def read_sound(content: bytes) -> tuple[np.ndarray, int]:
    """Samples `(T,)` float32, the mean of all channels, and how many there are in a second."""
    import soundfile

    try:
        samples, sample_rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:  # its own words name the buffer, not the file
        raise ValueError(error.error_string.strip().rstrip(".")) from error
    return samples.mean(axis=1, dtype=np.float32), sample_rate


def verify_sound(content: bytes) -> None:
    """Decode a sound in full; raises whatever the decoder raises, and `ValueError` for what is no usable sound."""
    checked_sound(content)


def checked_sound(content: bytes) -> tuple[np.ndarray, int]:
    """As `read_sound`, but raises `ValueError` for what is no usable sound."""
    samples, sample_rate = read_sound(content)
    _check_complete(content, len(samples))
    if not len(samples):
        raise ValueError("no sound in it")
    if not np.isfinite(samples).all():
        raise ValueError("some samples are not numbers")
    if len(samples) < MIN_SECONDS * sample_rate:
        raise ValueError(f"too short: {len(samples) / sample_rate:.4f} s, at least {MIN_SECONDS} s are needed")
    return samples, sample_rate


def cut(samples: np.ndarray, most: int, part: Part) -> np.ndarray:
    """The `part` of a sound that is read where it has more than `most` samples."""
    beyond = max(0, len(samples) - most)
    start = {"first": 0, "middle": beyond // 2, "last": beyond}[part]
    return samples[start : start + most]


def resampled(samples: np.ndarray, sample_rate: int, wanted: int) -> np.ndarray:
    """Samples `(T,)` at `sample_rate` a second as `(T * wanted / sample_rate,)`, by a filter of high quality."""
    if sample_rate == wanted:
        return samples
    import soxr

    return soxr.resample(samples, sample_rate, wanted, quality="HQ")


@cache
def decoders() -> str:
    """Versions of what reads and resamples files: an upgrade may give other samples."""
    import soundfile
    import soxr

    libraries = f"libsndfile={soundfile.__libsndfile_version__} libsoxr={soxr.__libsoxr_version__}"
    return f"{versions('soundfile', 'soxr', 'numpy')} {libraries}"


class SoundFiles:
    """Reads files by their place: samples `(T,)` float32 at `sample_rate`."""

    def __init__(self, files: CheckedFiles, sample_rate: int) -> None:
        self._files = files
        self._sample_rate = sample_rate

    def __call__(self, place: int) -> np.ndarray:
        return resampled(*read_sound(self._files(place)), self._sample_rate)


class Clips(DecodedExamples):
    """Sounds of at most `seconds`: `waveform` `(B, T)` float32, 0 where padded, and `lengths` `(B,)` int64 in samples.

    Of what is longer, one `part` is read; that is counted and said. What is shorter is followed by silence, up to the
    longest of the batch or (`padding="fixed"`) to `seconds`. Read once into one array on disk or in memory (see
    `array_cache.decoded`); on demand where neither holds it.

    Args:
        read: Gives the samples `(T,)` float32 of a sound by its place, at `sample_rate`, in full.
        num_clips: How many there are.
        identity: Names what `read` gives, for finding it again.
        name: Whose sounds they are, for what is said.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        num_clips: int,
        identity: str,
        sample_rate: int,
        seconds: float,
        padding: Padding = "longest",
        part: Part = "middle",
        cache_bytes: CacheBytes = "auto",
        name: str = "data",
    ) -> None:
        self._read = read
        self._num_clips = num_clips
        self._sample_rate = sample_rate
        self._most = max(1, round(seconds * sample_rate))
        self._padding = padding
        self._part: Part = part
        told = f"{READER} {identity} {sample_rate} {self._most}" + ("" if part == "middle" else f" {part}")
        key = self._find("sounds", told, (num_clips, _HEADER + 4 * self._most), self._fill, cache_bytes)
        kept = self._kept
        self._samples = None if kept is None else kept.array[:, _HEADER:].view(np.float32)
        if kept is None:  # lengths are always known, so that batches are the same however the sounds are kept
            kept = decoded("sounds", f"{key}-lengths", (num_clips, _HEADER), self._measure, "auto")
        assert kept is not None, "a few bytes a sound"
        self._sizes = np.ascontiguousarray(kept.array[:, :_HEADER]).view(np.int64)
        self._say_what_is_cut(name)

    def __len__(self) -> int:
        return self._num_clips

    @property
    def lengths(self) -> np.ndarray | None:
        if self._padding == "fixed" or (self._sizes[:, 0] == self._sizes[0, 0]).all():
            return None
        return self._sizes[:, 0]

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self._sizes[chosen, 0]
        width = self._most if self._padding == "fixed" else int(lengths.max())
        if self._samples is not None:
            waveform = self._samples[chosen, :width]
        else:
            waveform = np.zeros((len(chosen), width), np.float32)
            for row, place, length in zip(waveform, chosen.tolist(), lengths, strict=True):
                row[:length] = self._cut(place)[0]
        return {"waveform": torch.from_numpy(np.ascontiguousarray(waveform)), "lengths": torch.from_numpy(lengths)}

    def statistics(self) -> dict[str, Any]:
        """How long the sounds are before they are cut, how many of them are cut, and to which part."""
        full = self._sizes[:, 1] / self._sample_rate
        is_cut = self._sizes[:, 1] > self._most
        return {
            "num_seconds": round(float(full.sum()), 3),
            "seconds_per_example": {
                "mean": round(float(full.mean()), 3),
                "median": round(float(np.median(full)), 3),
                "p95": round(float(np.percentile(full, 95)), 3),
                "max": round(float(full.max()), 3),
            },
            "max_seconds": self._most / self._sample_rate,
            "part": self._part,
            "num_truncated": int(is_cut.sum()),
            "truncation_rate": float(is_cut.mean()),
        }

    def _say_what_is_cut(self, name: str) -> None:
        full = self._sizes[:, 1]
        num_cut = int((full > self._most).sum())
        if num_cut:
            _log.warning(
                "%s: %d of %d sounds %s (the longest has %.1f s): the %s %g s. "
                "data.seconds says how much is read, data.part which part.",
                name,
                num_cut,
                len(full),
                agreeing(num_cut, "are longer than what is read of them"),
                full.max() / self._sample_rate,
                self._part,
                round(self._most / self._sample_rate, 3),
            )

    def _cut(self, place: int) -> tuple[np.ndarray, int]:
        """What is read of a sound, and how many samples it has in full."""
        samples = self._read(place)
        return cut(samples, self._most, self._part), len(samples)

    def _fill(self, array: np.ndarray) -> None:
        clips = map_threads(self._cut, range(self._num_clips), "Decoding sounds")
        for row, (clip, full) in zip(array, clips, strict=True):
            row[:_HEADER] = np.array([len(clip), full], dtype=np.int64).view(np.uint8)
            end = _HEADER + 4 * len(clip)
            row[_HEADER:end] = np.ascontiguousarray(clip, dtype=np.float32).view(np.uint8)
            row[end:] = 0

    def _measure(self, array: np.ndarray) -> None:
        full = map_threads(lambda place: len(self._read(place)), range(self._num_clips), "Measuring sounds")
        for row, length in zip(array, full, strict=True):
            row[:] = np.array([min(length, self._most), length], dtype=np.int64).view(np.uint8)


def _check_complete(content: bytes, num_samples: int) -> None:
    """The decoder takes what is left of a file that was cut off for all of it; what its header says tells."""
    import soundfile

    said = said_size(content)
    if said is not None and said > len(content) + 8:
        raise ValueError(f"cut off: {len(content)} of {said} bytes")
    said = soundfile.info(io.BytesIO(content)).frames
    if num_samples < 0.98 * said < 1 << 62:  # how much silence encoders add is told by some and not by others
        raise ValueError(f"cut off: {num_samples} of {said} samples")
