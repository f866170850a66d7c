"""One rule for the cells of every table: what is missing, a class, refused; what is left out is counted and said."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import pandas
import pytest

from dividing import parted
from headstart import notes
from headstart.data.images import ImageCsv
from headstart.data.text_hub import TextHub
from headstart.data.text_sources import TextCsv
from headstart.errors import InputError

KINDS = [("awful", "neg"), ("great", "pos")]
ROWS = [{"text": f"{KINDS[i % 2][0]} film number {i}", "label": KINDS[i % 2][1]} for i in range(60)]


def with_values(column: str, values: dict) -> list[dict]:
    return [{**row, column: values.get(i, row[column])} for i, row in enumerate(ROWS)]


def csv_table(folder: Path, rows) -> TextCsv:
    pandas.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return TextCsv(str(folder / "t.csv"))


def json_table(folder: Path, rows) -> TextCsv:
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return TextCsv(str(folder / "t.jsonl"))


def parquet_table(folder: Path, rows) -> TextCsv:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "t.parquet")
    return TextCsv(str(folder / "t.parquet"))


def hub_table(folder: Path, rows) -> TextHub:
    datasets = pytest.importorskip("datasets")
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)})
    saved.save_to_disk(str(folder / "saved"))
    return TextHub(str(folder / "saved"))


TABLES = [csv_table, json_table, parquet_table, hub_table]


def checked(source) -> list[str]:
    """What is said while a source is checked."""
    with notes.listening() as heard:
        source.check()
    return heard.messages


def refusal(source) -> str:
    with pytest.raises(InputError) as caught:
        source.check()
    return str(caught.value)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("column", ["text", "label"])
def test_rows_without_a_value_are_left_out_and_counted_alike_in_every_format(tmp_path, table, column):
    values = {3: None, 4: "NaN", 5: "nan", 6: " ", 7: "<NA>", 8: "\u200b\u200d"}
    source = table(tmp_path, with_values(column, values))
    (said,) = checked(source)
    assert len(source.ids) == 54
    assert source.classes == ("neg", "pos")
    assert f"6 of 60 rows of {source.content.where} have no value in column '{column}'" in said
    for count in ("3 empty", "1 'NaN'", "1 'nan'", "1 '<NA>'"):
        assert count in said
    assert "data.missing_values=[]" in said


@pytest.mark.parametrize("word", ["none", "NA", "n/a", "NULL"])
def test_a_word_that_may_be_a_class_of_its_own_is_asked_about(tmp_path, word):
    rows = with_values("label", dict.fromkeys(range(0, 60, 3), word))
    found = refusal(csv_table(tmp_path, rows))
    for text in (f"20 '{word}' among its 60 labels", "data.missing_values=[]", f"data.missing_values=[{word.lower()}]"):
        assert text in found
    path = str(tmp_path / "t.csv")
    own = TextCsv(path, missing_values=[])
    assert checked(own) == []
    assert own.classes == tuple(sorted(["neg", "pos", word]))
    left = TextCsv(path, missing_values=[word.lower()])
    assert "20 of 60" in checked(left)[0]
    assert left.classes == ("neg", "pos")


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "none"])
def test_any_word_can_be_a_class_or_mean_a_missing_value(tmp_path, word):
    rows = with_values("label", dict.fromkeys(range(0, 60, 3), word))
    json_table(tmp_path, rows)
    source = TextCsv(str(tmp_path / "t.jsonl"), missing_values=["neg"])
    checked(source)
    assert source.classes == tuple(sorted(["pos", word]))


@pytest.mark.parametrize(("word", "in_config"), [("nan", float("nan")), ("NULL", None), ("0", 0), ("True", True)])
def test_words_of_a_config_without_quotes_mean_what_they_look_like(tmp_path, word, in_config):
    json_table(tmp_path, with_values("label", dict.fromkeys(range(0, 60, 3), word)))
    source = TextCsv(str(tmp_path / "t.jsonl"), missing_values=[in_config])
    assert f"20 {word!r}" in checked(source)[0]
    assert source.classes == ("neg", "pos")


def test_words_that_mean_nothing_elsewhere_are_left_alone_in_the_middle_of_a_text(tmp_path):
    source = csv_table(tmp_path, with_values("text", {0: "none of it", 1: "NaN, said he"}))
    assert checked(source) == []
    assert len(source.ids) == 60


@pytest.mark.parametrize("table", TABLES)
def test_numbers_booleans_dates_and_bytes_are_classes_by_one_way_of_writing(tmp_path, table):
    def classes(values, name) -> tuple[str, ...]:
        folder = tmp_path / name
        folder.mkdir()
        source = table(folder, [{"text": row["text"], "label": values[i % 2]} for i, row in enumerate(ROWS)])
        checked(source)
        return source.classes

    assert classes((0.0, 1.0), "whole") == ("0", "1")
    assert classes((1, 2), "integers") == ("1", "2")
    assert classes((0.5, 1.0), "fractions") == ("0.5", "1.0")
    assert classes((True, False), "truth") == ("False", "True")
    assert classes(("007", "7"), "zeros") == ("007", "7")
    assert classes(("1.10", "1.1"), "versions") == ("1.1", "1.10")
    if table is not json_table:
        assert classes((datetime.date(2024, 1, 5), datetime.date(2023, 1, 5)), "dates") == ("2023-01-05", "2024-01-05")
        assert classes((Decimal("1.00"), Decimal("2.00")), "decimals") == ("1", "2")
    if table in (parquet_table, hub_table):
        assert classes(("é".encode(), b"b"), "bytes") == ("b", "é")


def test_a_column_of_whole_numbers_with_gaps_gives_the_classes_of_one_without(tmp_path):
    frame = pandas.DataFrame(ROWS)
    frame["label"] = [i % 3 for i in range(60)]
    frame.loc[5, "label"] = None  # which turns all into 1.0, 2.0
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "1.0" in (tmp_path / "t.csv").read_text()
    source = TextCsv(str(tmp_path / "t.csv"))
    assert "1 of 60 rows" in checked(source)[0]
    assert source.classes == ("0", "1", "2")


def test_numbers_of_32_bits_are_written_as_they_were_meant(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {"text": [row["text"] for row in ROWS], "label": pyarrow.array([0.8, 1.6] * 30, pyarrow.float32())}
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"train": datasets.Dataset(pyarrow.table(table))}).save_to_disk(str(tmp_path / "saved"))
    for source in (TextCsv(str(tmp_path / "t.parquet")), TextHub(str(tmp_path / "saved"))):
        source.check()
        assert source.classes == ("0.8", "1.6")


@pytest.mark.parametrize("table", TABLES)
def test_labels_that_measure_something_are_a_regression(tmp_path, table):
    found = refusal(table(tmp_path, with_values("label", {i: i % 26 / 5 for i in range(60)})))
    for text in ("26 different ones among 60 examples", "from 0 to 5", "regression"):
        assert text in found


def test_stars_with_halves_are_classes(tmp_path):
    source = csv_table(tmp_path, with_values("label", {i: i % 10 / 2 for i in range(60)}))
    source.check()
    assert len(source.classes) == 10


@pytest.mark.parametrize("table", [json_table, parquet_table, hub_table])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["funny", "long"], "has lists in column"),
        ({"title": "Review", "body": "good"}, "has objects with"),
    ],
)
@pytest.mark.parametrize("column", ["text", "label"])
def test_lists_and_objects_are_refused_and_no_words_of_python_are_texts_or_classes(
    tmp_path, table, value, text, column
):
    found = refusal(table(tmp_path, [{**row, column: value} for row in ROWS]))
    if column == "label" and isinstance(value, list):
        assert "task=multilabel" in found
        return
    assert text in found
    assert repr(column) in found
    assert "(60 in all)" in found
    other = "text" if column == "label" else "label"
    table(tmp_path, [{**row, "more": value} for row in ROWS]).check()  # no matter in other columns
    assert repr(other) not in found


def test_bytes_that_are_no_text_are_refused(tmp_path):
    found = refusal(parquet_table(tmp_path, [{**row, "text": b"\xff\xfe\x00"} for row in ROWS]))
    assert "bytes that are no text in UTF-8 in column 'text'" in found


def test_half_of_a_pair_is_replaced_in_a_row_that_is_named(tmp_path):
    lines = [json.dumps(row) for row in ROWS]
    lines[7] = lines[7].replace("number", "\\ud83d")
    lines[9] = lines[9].replace("number", "\\ud83d\\ude00 \\u0000")
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    source = TextCsv(str(tmp_path / "t.jsonl"))
    (said,) = checked(source)
    assert "2 of 60 cells in column 'text'" in said
    assert "line 8, 10" in said
    assert source.content.texts[7] == "great film \ufffd 7"
    assert source.content.texts[9] == "great film 😀 \ufffd 9"
    assert len(source.fingerprint) == 64


@pytest.mark.parametrize("kept_back", [None, -1, -1.0, "nan"])
@pytest.mark.parametrize("given", ["test", "val"])
def test_a_part_without_labels_is_set_aside_and_another_is_drawn(tmp_path, kept_back, given):
    rows = [
        {"text": row["text"], "label": i % 2 if i < 50 else kept_back, "split": "train" if i < 50 else given}
        for i, row in enumerate(ROWS)
    ]
    pandas.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    source = parted(TextCsv(str(tmp_path / "t.csv")), "split")
    (said,) = checked(source)
    assert f"10 of 60 rows of {tmp_path / 't.csv'}, all of its part {given}, have no label" in said
    assert f"{given} is drawn" in said
    assert source.classes == ("0", "1")
    assert source.parts.tolist() == ["train"] * 50


def test_minus_one_is_a_class_where_others_train_on_it_and_single_gaps_in_test_are_left_out(tmp_path):
    rows = [{**row, "label": -1 if i % 2 else 1, "split": "train" if i < 50 else "test"} for i, row in enumerate(ROWS)]
    rows[55]["label"] = None
    pandas.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    source = parted(TextCsv(str(tmp_path / "t.csv")), "split")
    (said,) = checked(source)
    assert "1 of 60 rows" in said
    assert source.classes == ("-1", "1")
    assert source.parts.tolist() == ["train"] * 50 + ["test"] * 9


def test_the_library_datasets_says_which_splits_have_no_labels(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    train = datasets.Dataset.from_list([{"text": row["text"], "label": i % 2} for i, row in enumerate(ROWS)], features)
    test = datasets.Dataset.from_list([{"text": row["text"], "label": -1} for row in ROWS[:7]], features)
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(tmp_path / "saved"))
    source = TextHub(str(tmp_path / "saved"))
    (said,) = checked(source)
    assert "7 of 67 rows" in said
    assert "all of its part test" in said
    assert source.classes == ("no", "yes")
    assert len(source.ids) == 60


def test_a_table_without_any_label_is_refused(tmp_path):
    empty = with_values("label", dict.fromkeys(range(60), " "))
    assert "no row with a value in each column" in refusal(csv_table(tmp_path, empty))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_tables_of_files_follow_the_same_rule(folder, tmp_path, suffix):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [{"image": file, "label": float(i % 2), "split": ""} for i, file in enumerate(files)]
    rows[0]["label"], rows[1]["image"], rows[2]["split"], rows[3]["split"] = None, None, "train", None
    frame, path = pandas.DataFrame(rows), folder / f"t{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False, na_rep="nan")
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    source = parted(ImageCsv(str(path), shifts={"again": str(path)}), "split")
    said = checked(source)
    assert len([message for message in said if message.startswith("1 of 24 rows")]) == 2
    assert source.classes == ("0", "1")
    assert len(source.ids) == 22
    assert sorted(set(source.parts)) == ["", "train"]
    assert len(source.shifts["again"].labels) == 22
    frame["label"] = ["none"] * 12 + ["cat"] * 12
    frame.to_csv(tmp_path / "none.csv", index=False)
    words = {"root": str(folder), "missing_values": []}
    assert "data.missing_values" in refusal(ImageCsv(str(tmp_path / "none.csv"), root=str(folder)))
    source = ImageCsv(str(tmp_path / "none.csv"), **words)
    checked(source)
    assert source.classes == ("cat", "none")
