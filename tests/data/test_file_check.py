"""A finding does not outlive its file."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from headstart.data import contents, file_check
from headstart.data.images import ImageFolder


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are read, in order; the clock's grain is none."""
    names = []
    original = file_check._read
    monkeypatch.setattr(
        file_check, "_read", lambda own, n, verify: names.append(Path(own.name(n)).name) or original(own, n, verify)
    )
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", 0)
    return names


def same_size_and_time(path, content):
    """The file written anew so that size and time of change show nothing."""
    before = path.stat()
    assert len(content) == before.st_size
    time.sleep(0.02)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def bitmaps(folder):
    """Every picture as a BMP, all of one size."""
    from PIL import Image

    for path in folder.rglob("*.png"):
        Image.open(path).convert("RGB").save(path.with_suffix(".bmp"))
        path.unlink()
    return sorted(folder.rglob("*.bmp"))


def test_a_file_written_anew_with_its_old_size_and_time_is_read_again(folder, read):
    paths = bitmaps(folder)
    first = ImageFolder(str(folder))
    first.check()
    before = first.examples(size=8).batch([3])["pixels"]
    read.clear()
    same_size_and_time(paths[3], paths[4].read_bytes())
    second = ImageFolder(str(folder))
    second.check()
    assert read == [paths[3].name]
    assert second.fingerprint != first.fingerprint
    examples = second.examples(size=8)
    assert (examples.batch([3])["pixels"] == examples.batch([4])["pixels"]).all()
    assert (examples.batch([3])["pixels"] != before).any()


def test_a_file_put_in_place_of_another_is_read_again(folder, read):
    paths = bitmaps(folder)
    ImageFolder(str(folder)).check()
    read.clear()
    before = paths[0].stat()
    fresh = folder / "fresh"
    fresh.write_bytes(paths[1].read_bytes())
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(paths[0])
    ImageFolder(str(folder)).check()
    assert read == [paths[0].name]


def test_fingerprints_are_what_json_makes_of_each_row():
    rows = [
        ("b/\u00e9.png", "0" * 64, 'a "quoted" \\ label\n', ""),
        ("a.png", "1" * 64, "\u2028\x7f\x00", "train"),
        ("c.png", "2" * 64, ("two", "labels"), ""),
        ("d.png", "3" * 64, (("x", "0.5"),), ""),
    ]
    plain = "".join(json.dumps(row, ensure_ascii=False) for row in sorted(rows))
    assert file_check.content_fingerprint(rows) == hashlib.sha256(plain.encode()).hexdigest()


def test_what_was_only_just_written_is_not_relied_on(folder, monkeypatch):
    ImageFolder(str(folder)).check()
    seen = []
    original = file_check._read
    monkeypatch.setattr(
        file_check, "_read", lambda own, n, verify: seen.append(Path(own.name(n)).name) or original(own, n, verify)
    )
    ImageFolder(str(folder)).check()
    assert len(seen) == 24
    later = time.time() + 60
    monkeypatch.setattr(contents.time, "time", lambda: later)
    ImageFolder(str(folder)).check()
    ImageFolder(str(folder)).check()
    assert len(seen) == 48
