"""Generated sounds in eight classes that differ in how they change with time, each with a pitch, a timbre, a length,
a loudness and a background noise of its own."""

from collections.abc import Callable

import numpy as np

SAMPLE_RATE = 16_000
GENERATOR = 1
"""Changes with every change of what is generated."""
MIN_CLIP, MAX_CLIP = 1.0, 2.0
"""Seconds of a clip; the sound is in it somewhere."""
_SNR = (-4.0, 16.0)
"""Power of the sound over that of the background, in dB."""

Rng = np.random.Generator
Shape = Callable[[Rng, np.ndarray], np.ndarray]
"""Times `(T,)` in seconds → samples `(T,)`."""


def generate(name: str, rng: Rng, variant: str = "plain") -> np.ndarray:
    """One clip `(T,)` float32 of the class `name` at `SAMPLE_RATE`; "noisy" has 10 dB more background, "telephone" only
    what lies between 300 and 3,400 Hz."""
    num_samples = int(rng.uniform(MIN_CLIP, MAX_CLIP) * SAMPLE_RATE)
    num_sounding = int(rng.uniform(0.6, 1.0) * num_samples)
    start = int(rng.integers(0, num_samples - num_sounding + 1))
    sound = SHAPES[name](rng, np.arange(num_sounding) / SAMPLE_RATE) * _envelope(rng, num_sounding)
    background = _coloured_noise(rng, num_samples)
    snr = rng.uniform(*_SNR) - (10.0 if variant == "noisy" else 0.0)
    clip = background * 10 ** (-snr / 20)
    clip[start : start + num_sounding] += _unit(sound)
    if variant == "telephone":
        clip = _band(clip, 300.0, 3400.0)
    loudness = 10 ** (rng.uniform(-24.0, -1.0) / 20)
    return (clip * (loudness / np.abs(clip).max())).astype(np.float32)


def _tone(rng: Rng, times: np.ndarray) -> np.ndarray:
    return _voice(rng, np.full_like(times, _pitch(rng)))


def _vibrato(rng: Rng, times: np.ndarray) -> np.ndarray:
    """A pitch that swings by 0.4 to 1.6 semitones, 3.5 to 8 times a second."""
    swing = rng.uniform(0.4, 1.6) * np.sin(2 * np.pi * (rng.uniform(3.5, 8.0) * times + rng.random()))
    return _voice(rng, _pitch(rng) * 2 ** (swing / 12))


def _tremolo(rng: Rng, times: np.ndarray) -> np.ndarray:
    """A loudness that swings by a quarter to nine tenths, 3.5 to 8 times a second."""
    swing = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(3.5, 8.0) * times + rng.random()))
    return _voice(rng, np.full_like(times, _pitch(rng))) * (1 - rng.uniform(0.25, 0.9) * swing)


def _glide(direction: int) -> Shape:
    """A pitch that moves evenly by 2 to 9 semitones."""

    def shape(rng: Rng, times: np.ndarray) -> np.ndarray:
        course = direction * rng.uniform(2.0, 9.0) * (times / times[-1] - 0.5)
        return _voice(rng, _pitch(rng) * 2 ** (course / 12))

    return shape


def _bursts(even: bool) -> Shape:
    """Four to nine decaying bursts a second, of noise or of a tone, evenly spaced (to 2%) or not (by 25 to 60%)."""

    def shape(rng: Rng, times: np.ndarray) -> np.ndarray:
        rate = rng.uniform(4.0, 9.0)
        spread = 0.02 if even else rng.uniform(0.25, 0.6)
        gaps = (1 + spread * rng.uniform(-1, 1, int(times[-1] * rate * 3) + 4)) / rate
        starts = rng.uniform(0, 0.1) + np.cumsum(gaps) - gaps[0]
        since = times - starts[np.searchsorted(starts, times, side="right") - 1]
        carrier = _band_noise(rng, times) if rng.random() < 0.5 else _tone(rng, times)
        return np.where(times < starts[0], 0.0, _unit(carrier) * np.exp(-since / rng.uniform(0.015, 0.05)))

    return shape


def _band_noise(rng: Rng, times: np.ndarray) -> np.ndarray:
    """Noise a third of an octave to an octave wide."""
    centre, width = _pitch(rng), rng.uniform(0.33, 1.0)
    return _band(rng.standard_normal(len(times)), centre * 2 ** (-width / 2), centre * 2 ** (width / 2))


SHAPES: dict[str, Shape] = {
    "band_noise": _band_noise,
    "bursts_even": _bursts(even=True),
    "bursts_uneven": _bursts(even=False),
    "glide_down": _glide(-1),
    "glide_up": _glide(1),
    "tone": _tone,
    "tremolo": _tremolo,
    "vibrato": _vibrato,
}
"""The classes, sorted."""


def _pitch(rng: Rng) -> float:
    """150 to 1,800 Hz, every octave as likely as another."""
    return float(150 * 12 ** rng.random())


def _voice(rng: Rng, frequency: np.ndarray) -> np.ndarray:
    """One to six harmonics of a frequency `(T,)` in Hz, each at a phase and a loudness of its own."""
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    falloff = rng.uniform(0.3, 2.0)
    samples = np.zeros_like(phase)
    for harmonic in range(1, int(rng.integers(1, 7)) + 1):
        amplitude = harmonic**-falloff * rng.uniform(0.5, 1.0)
        audible = harmonic * frequency < 0.45 * SAMPLE_RATE
        samples += amplitude * audible * np.sin(harmonic * phase + 2 * np.pi * rng.random())
    return samples


def _envelope(rng: Rng, num_samples: int) -> np.ndarray:
    """In over 5 to 60 ms and out over 20 to 200 ms."""
    rise, fall = (int(rng.uniform(*span) * SAMPLE_RATE) for span in ((0.005, 0.06), (0.02, 0.2)))
    envelope = np.ones(num_samples)
    envelope[:rise] = np.linspace(0, 1, rise, endpoint=False)
    envelope[-fall:] *= np.linspace(1, 0, fall)
    return envelope


def _coloured_noise(rng: Rng, num_samples: int) -> np.ndarray:
    """Noise between white and a fall of 4.5 dB an octave, of power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
    return _unit(np.fft.irfft(spectrum * np.maximum(frequencies, 50.0) ** -rng.uniform(0.0, 0.75), num_samples))


def _band(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """What lies between two frequencies in Hz."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return np.fft.irfft(np.where((frequencies >= low) & (frequencies <= high), spectrum, 0), len(samples))


def _unit(samples: np.ndarray) -> np.ndarray:
    """Scaled to power 1."""
    return samples / max(float(np.sqrt(np.mean(samples**2))), 1e-9)
