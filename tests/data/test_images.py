import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dividing import parted
from headstart.data import contents, file_check
from headstart.data.images import ImageCsv, ImageFolder
from headstart.errors import InputError


def message(source) -> str:
    with pytest.raises(InputError) as error:
        source.check()
    return str(error.value)


@pytest.fixture
def table(folder):
    """A table beside the class folders, written from rows of text."""

    def write(rows, header="image,label", name="table.csv"):
        path = folder / name
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def rows(folder):
    return [f"{path.relative_to(folder).as_posix()},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]


def test_class_folders_give_sorted_classes_labels_and_relative_ids(folder):
    source = ImageFolder(str(folder))
    source.check()
    assert source.classes == ("ant", "bee", "cow")
    assert source.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert source.ids[0] == "ant/ant0.png"
    assert source.parts is None
    assert source.examples(size=8).batch([0, 23])["pixels"].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("val_name", ["val", "valid", "validation", "Val"])
def test_folders_of_parts_above_the_classes_are_respected(tmp_path, paint, val_name):
    for part in ("train", val_name, "test"):
        for name in ("ant", "bee"):
            paint(tmp_path / part / name / f"{part}{name}.png")
    source = ImageFolder(str(tmp_path))
    source.check()
    assert source.classes == ("ant", "bee")
    assert sorted(source.parts) == ["test", "test", "train", "train", "val", "val"]


def test_a_class_called_train_is_a_class(tmp_path, paint):
    for name in ("train", "bus", "car"):
        for number in range(3):
            paint(tmp_path / name / f"{number}.png")
    source = ImageFolder(str(tmp_path))
    source.check()
    assert source.classes == ("bus", "car", "train")


def test_parts_beside_other_folders_are_refused(tmp_path, paint):
    for part in ("train", "test", "extra"):
        paint(tmp_path / part / "ant" / "1.png")
    assert "beside others (extra)" in message(ImageFolder(str(tmp_path)))


def test_hidden_files_and_folders_and_nested_ones(folder, paint):
    paint(folder / ".ipynb_checkpoints" / "x.png")
    (folder / "ant" / "._ant0.png").write_bytes(b"not a picture")
    (folder / "ant" / "notes.txt").write_text("no picture")
    paint(folder / "ant" / "deep" / "er.PNG")
    source = ImageFolder(str(folder))
    source.check()
    assert len(source.ids) == 25
    assert source.classes == ("ant", "bee", "cow")


def test_missing_folder_empty_folder_and_single_class(tmp_path, paint):
    assert "does not exist: data.root" in message(ImageFolder(str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    assert "no class folders" in message(ImageFolder(str(tmp_path / "empty")))
    paint(tmp_path / "one" / "ant" / "1.png")
    assert "at least two" in message(ImageFolder(str(tmp_path / "one")))


def test_empty_class_and_every_unreadable_picture_are_named_together(folder):
    (folder / "dog").mkdir()
    (folder / "ant" / "ant0.png").write_bytes(b"no picture")
    whole = (folder / "bee" / "bee1.png").read_bytes()
    (folder / "bee" / "bee1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cow" / "cow2.png").write_bytes(b"")
    found = message(ImageFolder(str(folder)))
    for name in ("dog", "3 of 24 files", "ant/ant0.png", "bee/bee1.png", "cow/cow2.png (empty file)"):
        assert name in found
    assert "bee/bee0.png" not in found


def test_long_lists_of_unreadable_pictures_are_cut_with_their_count(folder):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no picture")
    found = message(ImageFolder(str(folder)))
    assert "… (24 in all)" in found
    assert found.count(".png") == 20


def test_findings_are_kept_and_only_changed_files_are_read_again(folder, monkeypatch):
    read = []
    original = file_check._read
    monkeypatch.setattr(
        file_check, "_read", lambda own, n, verify: read.append(Path(own.name(n)).name) or original(own, n, verify)
    )
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", 0)
    first = ImageFolder(str(folder))
    first.check()
    assert len(read) == 24
    ImageFolder(str(folder)).check()
    assert len(read) == 24
    Image.new("RGB", (5, 5)).save(folder / "ant" / "ant3.png")
    changed = ImageFolder(str(folder))
    changed.check()
    assert read[24:] == ["ant3.png"]
    assert changed.fingerprint != first.fingerprint


@pytest.mark.parametrize("content", ["{", "[]", '{"ant/ant0.png": 3}', '{"ant/ant0.png": {"stat": [1, 2]}}', ""])
def test_damaged_findings_are_made_anew(folder, own_cache, content):
    ImageFolder(str(folder)).check()
    (kept,) = (own_cache / "checks").iterdir()
    kept.write_text(content)
    ImageFolder(str(folder)).check()
    assert len(json.loads(kept.read_text().partition("\n")[2])["found"]) == 24


def test_unwritable_cache_does_not_stop_the_check(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    source = ImageFolder(str(folder))
    source.check()
    assert source.examples(size=8).batch([0])["pixels"].shape == (1, 3, 8, 8)


def test_fingerprint_is_the_same_wherever_the_folder_lies(folder, tmp_path):
    first = ImageFolder(str(folder))
    first.check()
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    second = ImageFolder(str(moved))
    second.check()
    assert first.fingerprint == second.fingerprint
    (moved / "ant" / "ant0.png").rename(moved / "bee" / "ant0.png")
    third = ImageFolder(str(moved))
    third.check()
    assert third.fingerprint != first.fingerprint


def test_table_with_paths_relative_to_it_or_to_a_root(folder, tmp_path, table, rows):
    beside = ImageCsv(str(table(rows)))
    beside.check()
    away = tmp_path / "away.tsv"
    away.write_text("label\tfile\n" + "\n".join("\t".join(reversed(row.split(","))) for row in rows))
    elsewhere = ImageCsv(str(away), root=str(folder), image_column="file")
    elsewhere.check()
    assert beside.classes == ("ant", "bee", "cow")
    assert beside.fingerprint == elsewhere.fingerprint
    assert beside.ids == elsewhere.ids


def test_absolute_paths_do_not_enter_ids_or_fingerprint(folder, tmp_path, table, rows):
    relative = ImageCsv(str(table(rows)))
    relative.check()
    away = tmp_path / "deep" / "er" / "away.csv"
    away.parent.mkdir(parents=True)
    away.write_text("image,label\n" + "\n".join(f"{folder}/{row}" for row in rows))
    absolute = ImageCsv(str(away))
    absolute.check()
    assert absolute.ids == relative.ids
    assert absolute.fingerprint == relative.fingerprint


def test_split_column_is_respected_and_enters_the_fingerprint(table, rows):
    parts = ["train", "Valid", "test", ""] * 6
    lines = [f"{row},{part}" for row, part in zip(rows, parts, strict=True)]
    source = parted(ImageCsv(str(table(lines, "image,label,part"))))
    source.check()
    assert source.parts.tolist() == ["train", "val", "test", ""] * 6
    drawn = ImageCsv(str(table(rows, name="drawn.csv")))
    drawn.check()
    assert drawn.fingerprint != source.fingerprint


def test_lacking_columns_are_named_with_those_there_are_and_the_nearest(table, rows):
    found = message(parted(ImageCsv(str(table(rows, "images,class")))))
    for text in ("no column 'image', which data.image_column names", "Did you mean images?", "class, images"):
        assert text in found
    assert "data.label_column" in found
    assert "split.column" in found


def test_all_faults_of_a_table_are_told_together(folder, table, rows):
    rows += ["gone/one.png,ant,train", "bee/bee0.png,cow,train", "cow/cow1.png,cow,tset"]
    (folder / "ant" / "ant5.png").write_bytes(b"no picture")
    path = table([row if row.count(",") == 2 else f"{row},train" for row in rows], "image,label,part")
    found = message(parted(ImageCsv(str(path))))
    for text in (
        "names 1 file not found under",
        "gone/one.png",
        "different labels: bee/bee0.png",
        "line 28: 'tset'",
        "ant/ant5.png",
    ):
        assert text in found


def test_same_row_twice_counts_once_and_in_two_parts_is_refused(table, rows):
    source = ImageCsv(str(table([*rows, rows[0]])))
    source.check()
    assert len(source.ids) == 24
    lines = [f"{row},train" for row in rows] + [f"{rows[0]},test"]
    found = message(parted(ImageCsv(str(table(lines, "image,label,part")))))
    assert "different parts of the split: ant/ant0.png" in found


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"image,label\n", "no rows"),
        (b"image,label,label\nx,y,z\n", "names a column twice"),
        (b"image,label\nx,y,z\n", "line 2 (3)"),
        (b"image,label\n\xff\xfe,y\n", "UTF-8"),
    ],
)
def test_unusable_tables_say_why(tmp_path, content, text):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert text in message(ImageCsv(str(path)))
    assert "data.path must name a table" in message(ImageCsv(str(tmp_path / "none.csv")))


def test_shifts_from_folder_and_table_share_the_classes(folder, tmp_path, paint, table, rows):
    for name in ("bee", "cow"):
        paint(tmp_path / "sketch" / name / "1.png")
    places = {"sketch": str(tmp_path / "sketch"), "again": str(table(rows))}
    source = ImageFolder(str(folder), shifts=places)
    source.check()
    assert not source.paired_shifts
    assert source.shifts["sketch"].classes == source.classes
    assert source.shifts["sketch"].labels.tolist() == [1, 2]
    assert len(source.shifts["again"].labels) == 24


def test_faults_of_shifts_are_told_with_the_settings_name(folder, tmp_path, paint):
    paint(tmp_path / "sketch" / "dog" / "1.png")
    places = {"sketch": str(tmp_path / "sketch"), "gone": str(tmp_path / "gone"), "table": "gone.csv"}
    found = message(ImageFolder(str(folder), shifts=places))
    for text in ("training data lacks: dog", "data.shifts.gone", "data.shifts.table"):
        assert text in found


def test_overrides_hold_the_size_only_if_given(folder):
    assert ImageFolder(str(folder)).overrides == {}
    assert ImageFolder(str(folder), size=32).overrides == {"size": 32}
