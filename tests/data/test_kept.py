"""What is kept of reading: a bit that has changed or an end that is cut off is noticed, said, and made anew; what
another version of a library made is not taken for this one's."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from headstart.data import audio_clips, contents, file_check, openmoji, picture_files
from headstart.data.audio_clips import Clips
from headstart.data.contents import Files
from headstart.data.file_check import CheckedFiles
from headstart.data.images import ImageFolder
from headstart.data.openmoji import Drawings
from headstart.data.pictures import Pictures
from headstart.data.sizing import Sizing
from headstart.data.source import Examples
from headstart.data.texts import Texts
from headstart.system import cache, checksums

WORDS = ("abc", "z", "hello there", "xy")


class Letters:
    """Each letter is a token."""

    identity, pad_id, mask_id, unknown_id, part, has_types = "letters", 0, 9, 3, "first", True

    def encode(self, texts: Any, pairs: Any, max_length: int) -> dict[str, Any]:
        rows = [list(text.encode())[:max_length] for text in texts]
        none = [[0] * len(row) for row in rows]
        return {"ids": rows, "types": none, "special": none, "full": list(map(len, texts))}


def pictures(folder: Path) -> Examples:
    paths = sorted(folder.rglob("*.png"))
    files = CheckedFiles(Files(paths), [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    return Pictures(files, "x", Sizing(8))


def sounds(folder: Path) -> Examples:
    return Clips(lambda place: np.linspace(0, 1, 40 + place, dtype=np.float32), 5, "x", 100, 1.0)


def tokens(folder: Path) -> Examples:
    return Texts(WORDS, None, "x", Letters(), 8)


def drawings(folder: Path) -> Examples:
    return Drawings(["1F600", "1F601", "1F602"], "x", 16, "colour")


KINDS = {"pictures": pictures, "sounds": sounds, "tokens": tokens, "openmoji": drawings}


def everything(examples: Examples) -> dict[str, Tensor]:
    return examples.batch(range(len(examples)))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def damages(size: int, number: int) -> Iterator[Callable[[bytes], bytes]]:
    """Flips of single bits over the whole file, and cuts."""
    for place in np.random.default_rng(0).integers(0, size * 8, number).tolist():
        yield lambda content, place=place: flipped(content, place)
    for share in (0.0, 0.3, 0.9):
        yield lambda content, share=share: content[: int(share * len(content))]
    yield lambda content: content[:-1]


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("number", [25, pytest.param(2000, marks=pytest.mark.slow)], ids=["some", "many"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_that_flips_or_an_end_that_is_cut_is_noticed_said_and_made_anew(
    kind: str, number: int, folder: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
):
    make = KINDS[kind]
    first = make(folder)
    expected, identity = everything(first), first.identity
    (path,) = (own_cache / kind).iterdir()
    content = path.read_bytes()
    silent = 0
    for damage in damages(len(content), number):
        caplog.clear()
        path.write_bytes(damage(content))
        again = make(folder)
        assert same(everything(again), expected)
        assert again.identity == identity
        assert [kept.name for kept in (own_cache / kind).iterdir()] == [path.name]
        if "are damaged" not in caplog.text:
            silent += 1  # a bit that says nothing, such as a date in an archive
            path.write_bytes(content)
        else:
            assert path.read_bytes()[-4:] == content[-4:]
    assert silent <= (0.05 if kind != "tokens" else 0.5) * number + 1


def test_findings_in_files_are_held_against_their_checksum(folder: Path, own_cache: Path, caplog):
    ImageFolder(str(folder)).check()
    before = ImageFolder(str(folder)).fingerprint
    (path,) = (own_cache / "checks").iterdir()
    content = path.read_bytes()
    for damage in damages(len(content), 12):
        caplog.clear()
        path.write_bytes(damage(content))
        assert ImageFolder(str(folder)).fingerprint == before
        assert "is damaged" in caplog.text
        assert len(path.read_bytes()) == len(content)


def test_a_kept_file_is_read_for_its_checksum_once_by_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch):
    real, read = checksums.zlib.crc32, []

    def counting(*values: Any) -> int:
        read.append(1)
        return real(*values)

    monkeypatch.setattr(checksums.zlib, "crc32", counting)
    pictures(folder)
    first = everything(pictures(folder))  # which has another place than when it was written
    assert read
    read.clear()
    assert same(everything(pictures(folder)), first)
    assert not read


def test_on_a_disk_without_room_examples_are_kept_in_memory_with_the_same_checksum(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    kept = pictures(folder)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for path in (own_cache / "pictures").iterdir():
        path.unlink()
    again = pictures(folder)
    assert "cannot be kept" in caplog.text
    assert not list((own_cache / "pictures").iterdir())
    assert same(everything(again), everything(kept))
    assert again.identity == kept.identity


UPGRADES = {
    "pictures": ["pillow"],
    "sounds": [],  # of files; see below
    "tokens": ["tokenizers", "transformers", "sentencepiece"],
    "openmoji": ["pillow", "numpy"],
}


def upgrade(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version = cache.version
    monkeypatch.setattr(cache, "version", lambda name: "999" if name == package else version(name))
    for known in (cache.versions, picture_files.decoders, audio_clips.decoders, openmoji.drawers):
        known.cache_clear()


@pytest.fixture(autouse=True)
def _as_installed() -> Iterator[None]:
    yield
    for known in (cache.versions, picture_files.decoders, audio_clips.decoders, openmoji.drawers):
        known.cache_clear()


@pytest.mark.parametrize(("kind", "package"), [(kind, name) for kind, names in UPGRADES.items() for name in names])
def test_what_another_version_made_is_made_anew(
    kind: str, package: str, folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    before = KINDS[kind](folder).identity
    upgrade(package, monkeypatch)
    assert KINDS[kind](folder).identity != before
    assert len(list((own_cache / kind).iterdir())) == 2


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_sounds_of_another_versions_decoder_are_decoded_anew(package: str, monkeypatch: pytest.MonkeyPatch):
    before = audio_clips.decoders()
    upgrade(package, monkeypatch)
    assert audio_clips.decoders() != before
    assert f"{package}=999" in audio_clips.decoders()


def test_a_file_that_an_older_version_could_not_read_is_tried_again_by_a_newer_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", 0)
    ImageFolder(str(folder)).check()
    read = []
    original = file_check._read
    monkeypatch.setattr(file_check, "_read", lambda own, n, verify: read.append(n) or original(own, n, verify))
    ImageFolder(str(folder)).check()
    assert not read
    upgrade("pillow", monkeypatch)
    ImageFolder(str(folder)).check()
    assert len(read) == 24
