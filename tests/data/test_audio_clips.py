"""Sounds come out at the rate and length asked for, the same wherever they are kept."""

import hashlib
import io

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from headstart.data import array_cache, audio_clips
from headstart.data.audio_clips import SUFFIXES, Clips, SoundFiles, kind, read_sound, resampled, verify_sound
from headstart.data.contents import Files
from headstart.data.file_check import CheckedFiles


def tone(seconds=0.5, sample_rate=16_000, pitch=440.0):
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * pitch * times) * np.hanning(len(times))).astype(np.float32)


def encoded(samples, sample_rate=16_000, **how):
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, **{"format": "WAV", **how})
    return file.getvalue()


def clips(samples, seconds, padding="longest", rate=1000, **how):
    return Clips(lambda place: samples[place], len(samples), "test", rate, seconds, padding, **how)


NOISES = [np.random.default_rng(n).standard_normal(size).astype(np.float32) for n, size in enumerate((500, 900, 1400))]

# --- decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "most_wrong"),
    [
        ({"format": "WAV", "subtype": "FLOAT"}, 0),
        ({"format": "WAV", "subtype": "PCM_16"}, 2**-15),
        ({"format": "FLAC", "subtype": "PCM_24"}, 2**-22),
        ({"format": "AIFF", "subtype": "PCM_16"}, 2**-15),
        ({"format": "OGG", "subtype": "VORBIS"}, 0.03),
        ({"format": "OGG", "subtype": "OPUS"}, 0.05),
        ({"format": "MP3"}, 0.03),
    ],
)
def test_every_format_gives_back_the_sound(how, most_wrong):
    content = encoded(tone(), **how)
    verify_sound(content)
    samples, sample_rate = read_sound(content)
    assert sample_rate == 16_000
    assert samples.dtype == np.float32
    if how["format"] == "MP3":  # begins and ends on whole blocks
        assert abs(len(samples) - 8000) < 2400
        return
    assert len(samples) == 8000
    assert np.abs(samples - tone()).max() <= most_wrong


@pytest.mark.parametrize("form", sorted(SUFFIXES))
def test_every_format_that_libsndfile_knows_is_read_and_its_suffix_is_listed(form):
    assert form in soundfile.available_formats()
    assert set(SUFFIXES[form]) <= set(kind().suffixes)
    content = encoded(tone(1.0), format=form)
    verify_sound(content)
    samples, rate = read_sound(content)
    assert len(samples) == pytest.approx(16_000, abs=2400)
    assert rate == {"WVE": 8000, "XI": 44_100}.get(form, 16_000)


def test_every_format_of_libsndfile_is_read_or_left_out_on_purpose():
    assert set(soundfile.available_formats()) - set(SUFFIXES) == {"MAT4", "MAT5", "MPC2K", "RAW", "SD2", "WAVEX"}


@pytest.mark.parametrize("form", ["AIFF", "AU", "CAF", "NIST", "RF64", "SVX", "W64", "WAV"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_was_cut_off_is_told_by_its_header(form, share):
    content = encoded(tone(1.0), format=form)
    with pytest.raises((ValueError, RuntimeError), match=r"cut off|malformed"):
        verify_sound(content[: int(len(content) * share)])


def test_channels_become_their_mean():
    stereo = np.stack([tone(), np.zeros(8000, np.float32)], 1)
    samples, _ = read_sound(encoded(stereo, subtype="FLOAT"))
    np.testing.assert_allclose(samples, tone() / 2)


@pytest.mark.parametrize("rate", [44_100, 8000, 22_050, 48_000])
def test_resampling_agrees_with_scipys(rate):
    given = tone(sample_rate=rate)
    found = resampled(given, rate, 16_000)
    theirs = resample_poly(given.astype(np.float64), 16_000, rate)
    assert abs(len(found) - 8000) <= 1
    assert np.abs(found - theirs[: len(found)]).max() < 2e-3
    assert np.abs(found[:8000] - tone()[: len(found)]).max() < 2e-3
    assert resampled(given, rate, rate) is given


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded(np.zeros(0, np.float32)), "no sound in it"),
        (encoded(tone(0.01)), "too short: 0.0100 s, at least 0.025 s"),
        (encoded(np.full(8000, np.nan, np.float32), subtype="FLOAT"), "not numbers"),
        (encoded(tone())[:9000], "cut off: 9000 of 16044 bytes"),
        (encoded(tone(), format="AIFF")[:9000], "cut off: 9000 of 160"),
        (encoded(tone(2.0), format="FLAC")[:6000], "lost sync"),
        (encoded(tone(2.0), format="MP3")[:1500], r"cut off: \d+ of 32000 samples"),
        (b"no sound at all", "not recognised"),
    ],
)
def test_what_is_no_usable_sound_is_told(content, words):
    with pytest.raises((ValueError, RuntimeError), match=words):
        verify_sound(content)


def test_a_stream_without_a_size_is_taken():
    content = bytearray(encoded(tone()))
    content[4:8] = b"\xff\xff\xff\xff"
    verify_sound(bytes(content))
    assert np.array_equal(read_sound(bytes(content))[0], read_sound(encoded(tone()))[0])


# --- cutting, padding, keeping --------------------------------------------------------------------------------------


def test_long_sounds_are_cut_to_their_middle_and_short_ones_padded_to_the_longest():
    inputs = clips(NOISES, seconds=1.0).batch([2, 0])
    assert inputs["waveform"].shape == (2, 1000)
    assert inputs["lengths"].tolist() == [1000, 500]
    np.testing.assert_array_equal(inputs["waveform"][0], NOISES[2][200:1200])
    np.testing.assert_array_equal(inputs["waveform"][1, :500], NOISES[0])
    assert not inputs["waveform"][1, 500:].any()
    assert clips(NOISES, seconds=1.0).batch([0])["waveform"].shape == (1, 500)


def test_fixed_padding_gives_every_batch_the_same_length():
    found = clips(NOISES, 1.0, padding="fixed")
    assert found.batch([0])["waveform"].shape == (1, 1000)
    assert found.batch([0])["lengths"].tolist() == [500]
    assert found.lengths is None


def test_lengths_are_told_where_batches_of_like_ones_save_padding():
    assert clips(NOISES, 1.0).lengths.tolist() == [500, 900, 1000]
    assert clips(NOISES, 0.3).lengths is None


def test_statistics_tell_length_and_cutting():
    found = clips(NOISES, 1.0).statistics()
    assert found["num_seconds"] == 2.8
    assert found["seconds_per_example"] == {"mean": 0.933, "median": 0.9, "p95": 1.35, "max": 1.4}
    assert found["max_seconds"] == 1.0
    assert found["truncation_rate"] == pytest.approx(1 / 3)
    assert found["num_truncated"] == 1
    assert found["part"] == "middle"


@pytest.mark.parametrize(("part", "start"), [("first", 0), ("middle", 200), ("last", 400)])
@pytest.mark.parametrize("cache_bytes", ["auto", 1])
def test_the_part_asked_for_is_read_of_what_is_longer(part, start, cache_bytes, monkeypatch):
    if cache_bytes == 1:
        monkeypatch.setattr(array_cache, "_free_disk", lambda folder: 0)
    found = clips(NOISES, seconds=1.0, part=part, cache_bytes=cache_bytes)
    inputs = found.batch([2, 0])
    np.testing.assert_array_equal(inputs["waveform"][0], NOISES[2][start : start + 1000])
    np.testing.assert_array_equal(inputs["waveform"][1, :500], NOISES[0])
    assert found.statistics()["part"] == part


def test_what_is_cut_is_said_also_when_it_was_read_before(caplog):
    for _ in range(2):
        caplog.clear()
        clips(NOISES, seconds=1.0, part="last", name="shouts")
        (record,) = caplog.records
        assert record.getMessage().startswith(
            "shouts: 1 of 3 sounds is longer than what is read of it (the longest has 1.4 s): the last 1 s."
        )
    caplog.clear()
    clips(NOISES, seconds=1.4)
    assert not caplog.records


@pytest.mark.parametrize("padding", ["longest", "fixed"])
def test_sounds_are_the_same_from_disk_from_memory_and_on_demand(padding, monkeypatch):
    kept = clips(NOISES, 1.0, padding)
    on_disk = kept.batch([1, 2, 0])
    monkeypatch.setattr(array_cache, "_free_disk", lambda folder: 0)
    in_memory = Clips(lambda n: NOISES[n], 3, "memory", 1000, 1.0, padding)
    on_demand = Clips(lambda n: NOISES[n], 3, "demand", 1000, 1.0, padding, cache_bytes=1)
    assert in_memory._samples is not None
    assert on_demand._samples is None
    for other in (in_memory.batch([1, 2, 0]), on_demand.batch([1, 2, 0])):
        assert other.keys() == on_disk.keys()
        assert all((other[name] == on_disk[name]).all() for name in other)
    for other in (in_memory, on_demand):  # so that batches of like lengths are the same, and what is cut is counted
        assert np.array_equal(other.lengths, kept.lengths) if padding == "longest" else other.lengths is None
        assert other.statistics() == kept.statistics()


def test_sounds_are_read_once_and_found_again():
    asked = []

    def read(place):
        asked.append(place)
        return NOISES[place]

    first = Clips(read, 3, "once", 1000, 1.0).batch([0, 1])
    again = Clips(read, 3, "once", 1000, 1.0)
    assert (again.batch([0, 1])["waveform"] == first["waveform"]).all()
    assert sorted(asked) == [0, 1, 2]
    Clips(read, 3, "once", 1000, 0.5)
    assert len(asked) == 6


def test_batches_may_be_written_to():
    found = clips(NOISES, 1.0)
    found.batch([0])["waveform"].zero_()
    assert found.batch([0])["waveform"].any()


def test_files_are_read_at_the_rate_asked_for(tmp_path):
    path = tmp_path / "tone.flac"
    path.write_bytes(encoded(tone(sample_rate=44_100), 44_100, format="FLAC"))
    files = CheckedFiles(Files([path]), [hashlib.sha256(path.read_bytes()).hexdigest()])
    samples = SoundFiles(files, 16_000)(0)
    assert np.abs(samples - tone()[: len(samples)]).max() < 2e-3


def test_what_must_be_installed_is_told(monkeypatch):
    from headstart.errors import InputError

    monkeypatch.setattr(audio_clips, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs soundfile and soxr: pip install 'headstart\[audio\]'"):
        audio_clips.require_decoder()
