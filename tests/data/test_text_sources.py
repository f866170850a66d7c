"""Labelled texts from tables, datasets and the embedded names: read, checked and fingerprinted."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from dividing import divided, parted
from headstart.data.text_hub import TextHub
from headstart.data.text_sources import OpenMojiNames, TextCsv
from headstart.errors import InputError
from headstart.splits.holdout import Column

ROWS = [{"text": f"text {i}, and more", "other": f"second {i}", "label": "ab"[i % 2]} for i in range(12)]


def write(path: Path, rows=ROWS) -> Path:
    names = list(rows[0])
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        import pandas

        pandas.DataFrame(rows).to_parquet(path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(names), *(mark.join(f'"{row[name]}"' for name in names) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_texts(tmp_path, suffix):
    source = TextCsv(str(write(tmp_path / f"table{suffix}")), pair_column="other")
    source.check()
    assert tuple(source.content.texts) == tuple(row["text"] for row in ROWS)
    assert tuple(source.content.pairs) == tuple(row["other"] for row in ROWS)
    assert source.classes == ("a", "b")
    np.testing.assert_array_equal(source.labels, [i % 2 for i in range(12)])
    assert source.labels.dtype == np.int64
    assert len(set(source.ids)) == 12
    assert source.parts is None


def test_the_fingerprint_follows_contents_labels_and_split_and_not_the_place(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    base = TextCsv(str(write(tmp_path / "table.csv"))).fingerprint
    assert TextCsv(str(write(tmp_path / "elsewhere" / "other.csv"))).fingerprint == base
    assert TextCsv(str(write(tmp_path / "table.csv")), max_length=8).fingerprint == base
    assert TextCsv(str(write(tmp_path / "table.csv")), pair_column="other").fingerprint != base
    for column in ("text", "label"):
        changed = [dict(row) for row in ROWS]
        changed[3][column] = "a" if column == "label" else "changed"
        assert TextCsv(str(write(tmp_path / "changed.csv", changed))).fingerprint != base


def test_a_split_column_is_kept(tmp_path):
    rows = [{**row, "part": ["train", "train", "train", "valid", "test", ""][i // 2]} for i, row in enumerate(ROWS)]
    source = parted(TextCsv(str(write(tmp_path / "table.csv", rows))))
    source.check()
    assert source.parts.tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 2 + [""] * 2


def test_what_is_wrong_with_a_table_is_said_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        TextCsv(str(tmp_path / "none.jsonl")).check()
    with pytest.raises(InputError) as caught:
        TextCsv(str(write(tmp_path / "table.csv")), text_column="sentence", pair_column="two").check()
    assert "data.text_column" in str(caught.value)
    assert "data.pair_column" in str(caught.value)
    strange = [{**row, "part": "test" if i > 9 else "train"} for i, row in enumerate(ROWS)]
    strange[-1]["label"] = "never trained"
    with pytest.raises(InputError, match=r"'never trained' is in val or test, but train has no example"):
        divided(TextCsv(str(write(tmp_path / "strange.csv", strange))), Column("part"))
    (tmp_path / "broken.jsonl").write_text('{"text": "a", "label": "b"}\nnot json\n[1]\n')
    with pytest.raises(InputError, match=r"line 2, 3 are none"):
        TextCsv(str(tmp_path / "broken.jsonl")).check()
    with pytest.raises(InputError, match="one class"):
        TextCsv(str(write(tmp_path / "one.csv", [{**row, "label": "a"} for row in ROWS]))).check()


def test_a_shift_has_the_classes_of_its_source(tmp_path):
    shifted = [{**row, "label": "b"} for row in ROWS[:4]]
    write(tmp_path / "shift.csv", shifted)
    source = TextCsv(str(write(tmp_path / "table.csv")), shifts={"later": str(tmp_path / "shift.csv")})
    source.check()
    assert source.shifts["later"].labels.tolist() == [1, 1, 1, 1]
    write(tmp_path / "shift.csv", [{**row, "label": "c"} for row in ROWS[:4]])
    with pytest.raises(InputError, match="lacks: c"):
        TextCsv(str(tmp_path / "table.csv"), shifts={"later": str(tmp_path / "shift.csv")}).check()


def test_the_embedded_names_are_those_of_the_pictures():
    from headstart.data.openmoji import OpenMoji

    names, pictures = OpenMojiNames(), OpenMoji()
    names.check()
    assert names.ids == pictures.ids
    assert names.classes == pictures.classes
    np.testing.assert_array_equal(names.labels, pictures.labels)
    assert dict(zip(names.ids, names.content.texts, strict=True))["1F436"] == "dog face"
    assert OpenMojiNames(max_length=7).overrides == {"max_length": 7}


def test_a_local_folder_of_the_datasets_library_is_read_with_its_splits(tmp_path):
    pytest.importorskip("datasets")
    for name, rows in {"train": ROWS, "validation": ROWS[:4], "test": ROWS[4:8]}.items():
        write(tmp_path / f"{name}.jsonl", rows)
    source = TextHub(str(tmp_path), pair_column="other", shifts={"again": "test"})
    source.check()
    assert source.parts.tolist() == ["train"] * 12 + ["val"] * 4
    assert source.ids[12] == "validation/0"
    assert source.shifts["again"].labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(InputError, match=r"data\.text_column"):
        TextHub(str(tmp_path), text_column="sentence").check()


def test_a_local_folder_written_anew_with_its_old_size_and_time_is_read_again(tmp_path):
    pytest.importorskip("datasets")
    path = write(tmp_path / "train.jsonl", ROWS)
    TextHub(str(tmp_path)).check()
    before = path.stat()
    time.sleep(0.02)
    path.write_text(path.read_text().replace(ROWS[0]["text"], ROWS[0]["text"].swapcase()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert TextHub(str(tmp_path)).content.texts[0] == ROWS[0]["text"].swapcase()


def test_labels_of_the_datasets_library_go_by_their_names_and_kept_back_ones_are_left_out(tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "train.jsonl", [{"text": "ab"[i % 2], "label": 1 - i % 2} for i in range(12)])
    write(folder / "test.jsonl", [{"text": text, "label": -1} for text in "cd"])
    names = "  - name: text\n    dtype: string\n  - name: label\n    dtype:\n      class_label:\n        names:\n"
    names += "          '0': 'no'\n          '1': 'yes'\n"
    (folder / "README.md").write_text(f"---\ndataset_info:\n  features:\n{names}---\n")
    datasets.load_dataset(str(folder)).save_to_disk(str(tmp_path / "saved"))
    for place in (folder, tmp_path / "saved"):
        source = TextHub(str(place))
        source.check()
        assert source.classes == ("no", "yes")
        assert len(source.ids) == 12
        assert source.labels[:2].tolist() == [1, 0]


def test_without_the_library_the_way_to_install_it_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'headstart\[hub\]'"):
        TextHub("someone/something").check()
