"""The embedded sounds: generated, not recorded, so that audio can be tried without any data."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from math import gcd
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from headstart.config.ranges import Seconds
from headstart.data.audio_clips import Clips, Padding, Part, set_over
from headstart.data.source import Source
from headstart.data.tones import GENERATOR, MAX_CLIP, SAMPLE_RATE, SHAPES, generate
from headstart.errors import check_distinct
from headstart.seeding import stream
from headstart.system.cache import versions

Variant = Literal["plain", "noisy", "telephone"]
ClipsPerClass = Annotated[int, Ge(1), Le(10_000)]


class SyntheticAudio(Source):
    """Synthetic sounds in eight classes (steady, swinging, gliding, bursting; see `tones`): a trial, not a benchmark.

    The clips follow from their class and number alone, so that they are the same for every run and every seed.

    Args:
        seconds: Length that clips (of 1 to 2 s) are cut or padded to.
        part: What is read of a clip that is longer than that.
        clips_per_class: Clips generated for each class, over train, val and test.
        shifts: Which to score: "noisy" (10 dB more background), "telephone" (300 to 3,400 Hz alone).
        variant: What is trained on; "plain", or one of the shifts.
    """

    modality: Literal["vision", "text", "audio"] = "audio"
    content_columns = ("audio",)
    paired_shifts = True
    fractions = (0.15, 0.25)

    def __init__(
        self,
        seconds: Seconds = MAX_CLIP,
        part: Part = "middle",
        clips_per_class: ClipsPerClass = 100,
        shifts: list[Variant] | None = None,
        variant: Variant = "plain",
    ) -> None:
        self.name = "synthetic_audio" if variant == "plain" else f"synthetic_audio ({variant})"
        self.seconds = seconds
        self.part: Part = part
        self.clips_per_class = clips_per_class
        self._shift_names = check_distinct(shifts or [], "data.shifts")
        self._variant: Variant = variant

    def check(self) -> None:
        """Nothing has to be read."""
        _ = self.encoded

    @cached_property
    def cells(self) -> tuple[str, ...]:
        return tuple(name for name in sorted(SHAPES) for _ in range(self.clips_per_class))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"{name}-{number:04d}" for name in sorted(SHAPES) for number in range(self.clips_per_class))

    @property
    def parts(self) -> np.ndarray | None:
        return None

    @property
    def fingerprint(self) -> str:
        """Over what the clips are generated from; generates nothing."""
        return hashlib.sha256(f"tones {GENERATOR} {self.ids} {self._variant}".encode()).hexdigest()

    @cached_property
    def shifts(self) -> Mapping[str, Source]:
        made: dict[str, Source] = {}
        for name in self._shift_names:
            made[name] = shift = SyntheticAudio(self.seconds, self.part, self.clips_per_class, variant=name)
            shift.origin, shift.encode = self, self.encode
        return made

    @property
    def overrides(self) -> dict[str, Any]:
        return set_over(self.seconds, self.part)

    def examples(  # type: ignore[override]
        self, sample_rate: int, seconds: float = MAX_CLIP, padding: Padding = "longest", part: Part = "middle"
    ) -> Clips:
        """Clips at `sample_rate` a second, of at most `seconds`; of longer ones, `part`."""
        read = Generated(tuple(sorted(SHAPES)), self.clips_per_class, self._variant, sample_rate)
        known = f"{self.fingerprint} {versions('numpy', 'scipy')}"
        return Clips(read, len(self.ids), known, sample_rate, seconds, padding, part, name=self.name)


class Generated:
    """Generates the clip at a place: samples `(T,)` float32 at `sample_rate`."""

    def __init__(self, classes: tuple[str, ...], clips_per_class: int, variant: Variant, sample_rate: int) -> None:
        self._classes = classes
        self._clips_per_class = clips_per_class
        self._variant = variant
        self._sample_rate = sample_rate

    def __call__(self, place: int) -> np.ndarray:
        label, number = divmod(place, self._clips_per_class)
        clip = generate(self._classes[label], stream(0, "tones", label, number), self._variant)
        if self._sample_rate == SAMPLE_RATE:
            return clip
        from scipy.signal import resample_poly

        common = gcd(self._sample_rate, SAMPLE_RATE)
        return resample_poly(clip, self._sample_rate // common, SAMPLE_RATE // common).astype(np.float32)
