"""Figures' font: smaller than the one it is cut from, of the same widths, and never in the way."""

from pathlib import Path

import pytest

from headstart.report import font
from headstart.report.style import draw


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    font.families.cache_clear()
    yield tmp_path / "fonts"
    font.families.cache_clear()


def drawn(text: str) -> bytes:
    picture = draw("x", "x", "x", "x", 1.0, lambda figure: figure.text(0.1, 0.5, text))
    return picture.files["pdf"]


def test_outlines_and_widths_are_those_of_the_whole_font(fresh: Path):
    from fontTools.ttLib import TTFont
    from matplotlib import font_manager

    assert font.families() == (font.SMALLER, font.WHOLE)
    (file,) = fresh.iterdir()
    small, whole = TTFont(file), TTFont(font_manager.findfont(font.WHOLE))
    letters, theirs = small.getBestCmap(), whole.getBestCmap()
    assert file.stat().st_size < 300_000
    for letter in "Aäg±−–≥αЖ↓0%":
        ours, name = letters[ord(letter)], theirs[ord(letter)]
        assert small["hmtx"][ours] == whole["hmtx"][name]
        assert small["glyf"][ours] == whole["glyf"][name] or small["glyf"][ours].isComposite()


def test_a_letter_that_it_lacks_comes_from_the_whole_one(fresh: Path):
    assert drawn("abc").count(b"/FontFile2") == 1
    assert b"DejaVu" not in drawn("abc")
    assert b"DejaVu" in drawn("abc \u05d0")


def test_a_damaged_one_or_no_place_for_it_is_no_obstacle(fresh: Path):
    font.families()
    (file,) = fresh.iterdir()
    file.write_bytes(b"no font")
    font.families.cache_clear()
    assert font.families() == (font.WHOLE,)
    assert b"DejaVu" in drawn("abc")
