"""Examples that come one by one and without labels, read as a run read its own; nothing of them is kept."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.config.sides import Sides
from headstart.data import audio_clips, picture_files
from headstart.data.audio_clips import DEFAULT_SECONDS, Padding, Part, checked_sound, cut, require_decoder, resampled
from headstart.data.class_folders import Kind
from headstart.data.decoded import pixels_of
from headstart.data.deep_pictures import DEEP, array_planes, kept_planes
from headstart.data.picture_facts import READ_OTHERWISE
from headstart.data.picture_files import check_values, is_clear, opened, shape_facts
from headstart.data.picture_values import Scales
from headstart.data.shard_files import PackedFile
from headstart.data.sizing import CropMode, Sizing, fit_planes
from headstart.data.texts import Tokenizer, encoded, padded
from headstart.names import agreeing, plural

TEXT_SUFFIXES = frozenset({".txt", ".md"})
"""Files that hold one text each."""
Content = Any
"""A file (`Path`, or `PackedFile` of a picture in an archive); a text, or two of a pair (`tuple[str, ...]`); a
`PIL.Image` or an array `(H, W, C)`; samples `(T,)` with their rate."""
_log = logging.getLogger(__name__)


class Reader(ABC):
    """Reads examples of one modality; `read` may be called by several threads at once."""

    kind: Kind
    window: int = 1
    """Batches' worth of examples among which those of like length are put together."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """What was odd about the examples, and how many there were (`all`)."""
        self._lock = Lock()

    def count(self, *names: str) -> None:
        """Count an example as what it is; several threads do."""
        with self._lock:
            self.counts.update(names)

    def check(self) -> None:  # noqa: B027
        """Raise `InputError` where what reads them is not installed."""

    @abstractmethod
    def read(self, content: Content) -> Any:
        """One example, as `batch` takes it. Raises whatever the decoder raises, `ValueError`, `OSError`."""

    def length(self, item: Any) -> int:
        """By which examples are put together in batches."""
        return 0

    @abstractmethod
    def batch(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Examples as the backbone takes them: batch-first tensors, by name."""

    def say(self) -> None:  # noqa: B027
        """Tell in words what was odd, with counts."""


class PictureReader(Reader):
    """Files of pictures as `pixels` `(B, C, H, W)`, uint8 or floats from 0 to 1; `scales` as the run's own had them."""

    def __init__(
        self,
        scales: Scales,
        size: Sides,
        interpolation: str = "bicubic",
        crop_pct: float = 1.0,
        crop_mode: CropMode = "center",
        fill: Sequence[int] = (0, 0, 0),
        channels: int = 3,
        depth: int = 8,
    ) -> None:
        super().__init__()
        self._sizing = Sizing(size, interpolation, crop_pct, crop_mode, tuple(fill))
        self._channels, self._depth = channels, depth
        self._scales = scales
        self.kind = picture_files.kind()

    def read(self, content: Content) -> np.ndarray:
        if isinstance(content, np.ndarray) or hasattr(content, "convert"):
            return fit_planes(_planes(content, self._channels, self._depth, self._scales), self._sizing)
        data = _bytes(content)
        with opened(data) as image:
            facts, kind = [*shape_facts(image)], check_values(image, data, self._channels)
            if self._channels not in (1, 3):
                facts = [fact for fact in facts if fact != "frames"]
            if kind is not None:
                is_reduced = kind == "colour" and self._depth == 8
                facts += ["colour"] if is_reduced else ["deep"] * (kind not in self._scales)
            elif self._channels in (1, 3) and is_clear(image):
                facts.append("clear")
            made = fit_planes(kept_planes(image, self._scales, self._channels, self._depth), self._sizing)
        self.count("all", *facts)
        return made

    def batch(self, items: Sequence[np.ndarray]) -> dict[str, Tensor]:
        return {"pixels": pixels_of(np.stack(items))}

    def say(self) -> None:
        deep = "hold more than 8 bits a value, as none that the run was trained on: each is read by its own values"
        for name, words in {"deep": deep, **READ_OTHERWISE}.items():
            if self.counts[name]:
                count = self.counts[name]
                _log.warning("%d of %d pictures %s.", count, self.counts["all"], agreeing(count, words))


class SoundReader(Reader):
    """Files of sound as `waveform` `(B, T)` float32, 0 where padded, and `lengths` `(B,)` int64."""

    window = 4

    def __init__(
        self,
        sample_rate: int,
        seconds: float = DEFAULT_SECONDS,
        padding: Padding = "longest",
        part: Part = "middle",
    ) -> None:
        super().__init__()
        self._rate, self._most, self._part = sample_rate, max(1, round(seconds * sample_rate)), part
        self._padding = padding
        self.kind = audio_clips.kind()

    def check(self) -> None:
        require_decoder()

    def read(self, content: Content) -> np.ndarray:
        found = checked_sound(_bytes(content)) if isinstance(content, Path) else _sound(*content)
        samples = resampled(*found, self._rate)
        self.count("all", *["cut"] * (len(samples) > self._most))
        return cut(samples, self._most, self._part)

    def length(self, item: np.ndarray) -> int:
        return len(item)

    def batch(self, items: Sequence[np.ndarray]) -> dict[str, Tensor]:
        lengths = np.array([len(item) for item in items], dtype=np.int64)
        width = self._most if self._padding == "fixed" else int(lengths.max())
        waveform = np.zeros((len(items), width), np.float32)
        for row, item in zip(waveform, items, strict=True):
            row[: len(item)] = item
        return {"waveform": torch.from_numpy(waveform), "lengths": torch.from_numpy(lengths)}

    def say(self) -> None:
        if self.counts["cut"]:
            _log.warning(
                "%d of %d sounds %s: the %s %g s.",
                *(self.counts["cut"], self.counts["all"]),
                *(
                    agreeing(self.counts["cut"], "are longer than what the run reads of them"),
                    self._part,
                    self._most / self._rate,
                ),
            )


class TextReader(Reader):
    """Texts, or pairs of them, as token ids with their mask and, where tokens have types, these."""

    window = 16
    kind = Kind("texts", TEXT_SUFFIXES, "Save them as .txt in UTF-8, or as a table.")

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        super().__init__()
        self._encode = partial(encoded, tokenizer=tokenizer, max_length=max_length)
        self._tokens = tokenizer.pad_id, tokenizer.mask_id, tokenizer.has_types
        self._most, self._part = max_length, tokenizer.part

    def read(self, content: Content) -> tuple[str, ...]:
        texts = (_bytes(content).decode("utf-8-sig").strip(),) if isinstance(content, Path) else content
        if not all(texts):
            raise ValueError("there is no text")
        return texts

    def length(self, item: tuple[str, ...]) -> int:
        return sum(map(len, item))

    def batch(self, items: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
        texts, *pairs = zip(*items, strict=True)
        kept = self._encode(texts, pairs[0] if pairs else None)
        self.counts["all"] += len(items)
        self.counts["cut"] += int((kept["full"] > self._most).sum())
        inputs = padded(kept, np.arange(len(items)), *self._tokens)
        del inputs["masked_ids"]  # for augmentation alone
        return inputs

    def say(self) -> None:
        if self.counts["cut"]:
            _log.warning(
                "%d of %d texts %s: the %s %d.",
                *(self.counts["cut"], self.counts["all"]),
                *(agreeing(self.counts["cut"], "have more tokens than the run reads of them"), self._part, self._most),
            )


def reader_of(modality: str, scales: Scales, arguments: dict[str, Any]) -> Reader:
    """The reader for what a run was trained on; `arguments` are those of its `reading`."""
    if modality == "vision":
        return PictureReader(scales, **arguments)
    return TextReader(**arguments) if modality == "text" else SoundReader(**arguments)


def _planes(content: Any, channels: int, depth: int, scales: Scales) -> list[Any]:
    """Of a picture in memory."""
    from PIL import Image

    if 0 in (content.shape if isinstance(content, np.ndarray) else content.size):
        raise ValueError("it has no pixels")
    if not isinstance(content, np.ndarray):
        planes = kept_planes(content.copy(), scales if depth == DEEP else None, channels, depth)  # turned in place
        if channels not in (1, 3) and len(planes) != channels:
            raise ValueError(f"it holds {plural(len(planes), 'channel')}, and the run reads {channels}")
        return planes
    values = content[..., None] if content.ndim == 2 and channels == 1 else content
    known = ("uint8",) if depth == 8 else ("uint8", "uint16")
    if str(values.dtype) not in known or values.ndim != 3 or values.shape[2] != channels:
        kinds = " or ".join(known)
        raise ValueError(f"an array must be (H, W, {channels}) {kinds}, but is {content.shape} {content.dtype}")
    if depth == DEEP:
        return array_planes(values, scales)
    if channels == 3:
        return [Image.fromarray(values)]
    return [Image.fromarray(np.ascontiguousarray(values[..., place])) for place in range(channels)]


def _sound(samples: Any, rate: int) -> tuple[np.ndarray, int]:
    found = np.asarray(samples, dtype=np.float32)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise ValueError(f"samples must be (T,) finite numbers, but are {found.shape}")
    return found, rate


def _bytes(content: Content) -> bytes:
    if not isinstance(content, (Path, PackedFile)):
        raise ValueError(f"{type(content).__name__} is no path")
    if isinstance(content, Path) and content.exists() and not content.is_file():
        raise ValueError("it is no regular file")  # a pipe or a device would be waited for without end
    data = content.read_bytes()
    if not data:
        raise ValueError("empty file")
    return data
