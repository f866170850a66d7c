"""Generated sounds: the same every time, honest, varied, and telling."""

import numpy as np
import pytest

from dividing import divided
from headstart.data.audio_synthetic import SyntheticAudio
from headstart.data.tones import SAMPLE_RATE, SHAPES, generate
from headstart.seeding import stream


def small(**changes):
    return SyntheticAudio(**{"clips_per_class": 4, **changes})


def test_it_is_checked_and_labelled_without_generating_anything(monkeypatch):
    monkeypatch.setattr("headstart.data.audio_synthetic.generate", None)
    source = SyntheticAudio(shifts=["noisy"])
    source.check()
    assert source.name == "synthetic_audio"
    assert len(source.classes) == 8
    assert len(source.ids) == len(set(source.ids)) == len(source.labels) == 800
    assert source.ids[100].startswith(source.classes[1])
    assert source.fingerprint != source.shifts["noisy"].fingerprint
    assert list(SHAPES) == sorted(SHAPES)


def test_clips_are_the_same_every_time_and_differ_from_each_other():
    first, again = (small().examples(16_000, 2.0).batch(np.arange(32)) for _ in range(2))
    assert all((first[name] == again[name]).all() for name in first)
    assert len({row.tobytes() for row in first["waveform"].numpy()}) == 32
    assert (first["lengths"] >= SAMPLE_RATE).all()
    assert (first["lengths"] <= 2 * SAMPLE_RATE).all()
    assert len(set(first["lengths"].tolist())) > 20
    assert np.isfinite(first["waveform"].numpy()).all()
    assert (first["waveform"].abs().amax(1) < 1).all()


def test_fewer_clips_are_the_first_of_more():
    few = small(clips_per_class=2).examples(16_000).batch([3])["waveform"]  # the second clip of the second class
    many = small(clips_per_class=5).examples(16_000).batch([6])["waveform"]
    assert (few == many).all()


def test_too_few_clips_to_split_are_refused():
    from headstart.errors import InputError

    with pytest.raises(InputError, match="needs at least 3 examples"):
        divided(small(clips_per_class=2))


def test_other_sample_rates_give_the_same_sound():
    plain, half = (small().examples(rate, 2.0).batch([20]) for rate in (16_000, 8000))
    assert abs(2 * int(half["lengths"][0]) - int(plain["lengths"][0])) <= 2
    spectra = [np.abs(np.fft.rfft(one["waveform"][0].numpy(), 32_000 // step)) for one, step in ((plain, 1), (half, 2))]
    assert np.corrcoef(spectra[0][:6000], 2 * spectra[1][:6000])[0, 1] > 0.99


def test_shifts_are_the_same_clips_otherwise():
    source = small(shifts=["noisy", "telephone"])
    assert source.paired_shifts
    plain = source.examples(16_000).batch([9])["waveform"][0].numpy()
    found = {name: shift.examples(16_000).batch([9])["waveform"][0].numpy() for name, shift in source.shifts.items()}
    assert all(len(one) == len(plain) for one in found.values())
    spectrum = np.abs(np.fft.rfft(found["telephone"])) ** 2
    frequencies = np.fft.rfftfreq(len(plain), 1 / SAMPLE_RATE)
    outside = (frequencies < 295) | (frequencies > 3405)
    assert spectrum[outside].sum() < 1e-6 * spectrum.sum()
    assert not np.allclose(found["noisy"], plain)


def test_classes_are_what_they_are_called():
    """Pitch by the loudest frequency of short windows, in little noise."""

    def course(name, number):
        rng = stream(0, "check", number)
        samples = SHAPES[name](rng, np.arange(int(1.2 * SAMPLE_RATE)) / SAMPLE_RATE)
        frames = np.lib.stride_tricks.sliding_window_view(samples, 2048)[::1024] * np.hanning(2048)
        return np.abs(np.fft.rfft(frames, 16_384)).argmax(1)

    for number in range(10):
        assert course("glide_up", number)[-1] > course("glide_up", number)[0]
        assert course("glide_down", number)[-1] < course("glide_down", number)[0]
        assert np.ptp(course("tone", number)) <= 1


def test_every_class_can_be_made_in_every_variant():
    for name in SHAPES:
        for variant in ("plain", "noisy", "telephone"):
            clip = generate(name, stream(0, "check"), variant)
            assert clip.dtype == np.float32
            assert SAMPLE_RATE <= len(clip) <= 2 * SAMPLE_RATE
