"""Content that many runs have is one file of several names, and what lies at one of them stays its own."""

import os
from pathlib import Path

import pytest

from headstart.record.writing import Shared


def test_what_many_runs_show_is_one_file(tmp_path: Path):
    picture = Shared(b"a picture")
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        picture.write(tmp_path / name / "0.png")
    assert {(tmp_path / name / "0.png").read_bytes() for name in ("first", "second", "third")} == {b"a picture"}
    assert os.stat(tmp_path / "third" / "0.png").st_nlink == 3


@pytest.mark.parametrize("change", ["written anew", "written to", "removed", "of a removed run"])
def test_a_first_file_that_is_no_longer_what_it_was_is_not_linked_to(tmp_path: Path, change: str):
    picture, first, second = Shared(b"a picture"), tmp_path / "run" / "0.png", tmp_path / "1.png"
    first.parent.mkdir()
    picture.write(first)
    if change == "written anew":
        first.unlink()
        first.write_bytes(b"something else")
    elif change == "written to":
        first.write_bytes(b"a longer picture")
    else:
        first.unlink()
        if change == "of a removed run":
            first.parent.rmdir()
    picture.write(second)
    assert second.read_bytes() == b"a picture"
    assert not first.exists() or not second.samefile(first)


def test_what_lies_at_the_place_is_replaced_and_its_other_names_are_not(tmp_path: Path):
    picture, old = Shared(b"a picture"), Shared(b"an old one")
    for name in ("kept", "again"):
        old.write(tmp_path / name)
    for name in ("new", "again"):
        picture.write(tmp_path / name)
    assert (tmp_path / "again").read_bytes() == b"a picture"
    assert (tmp_path / "kept").read_bytes() == b"an old one"


def test_a_disk_without_links_gets_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*places: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    picture = Shared(b"a picture")
    for name in ("first", "second"):
        picture.write(tmp_path / name)
    assert [os.stat(tmp_path / name).st_nlink for name in ("first", "second")] == [1, 1]
    assert (tmp_path / "second").read_bytes() == b"a picture"
