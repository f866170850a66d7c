"""Texts in Parquet and Arrow: read where they lie, and the same as from any other table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from headstart.data.arrow_columns import ArrowColumn, ArrowTexts, joined, taken
from headstart.data.cells import Missing, texts
from headstart.data.file_check import column_fingerprint, content_fingerprint
from headstart.data.hub import HubDataset
from headstart.data.records import is_table, read_records
from headstart.data.table import Table
from headstart.data.text_hub import TextHub
from headstart.data.text_sources import TextCsv, TextSource
from headstart.errors import InputError

ROWS = [(f"word {number} of many", ("good", "bad", "so")[number % 3]) for number in range(40)]
ROWS[3:7] = [(" blanks around ", "good"), ("nothing\0here", "bad"), ("", "so"), ("n/a", "so")]
"""With cells that are read otherwise than they are written, and two that are not read."""


def table() -> pa.Table:
    words, labels = zip(*ROWS, strict=True)
    useless = pa.array([b"\xff" * 50] * len(ROWS))
    whole = pa.table({"text": words, "label": labels, "useless": useless})
    return pa.concat_tables([whole.slice(start, 7) for start in range(0, len(ROWS), 7)])


@pytest.fixture(params=["parquet", "feather", "stream", "hub", "plain"])
def source(request, tmp_path: Path) -> TextSource:
    kind, content = request.param, table()
    if kind == "hub":
        parquet.write_table(content, tmp_path / "train.parquet", row_group_size=7)
        return TextHub(str(tmp_path))
    path = tmp_path / f"data.{ {'parquet': 'parquet', 'plain': 'jsonl'}.get(kind, 'arrow') }"
    if kind == "parquet":
        parquet.write_table(content, path, row_group_size=7)
    elif kind == "plain":
        path.write_text("".join(line + "\n" for line in map(_json, ROWS)))
    else:
        writer = (pa.ipc.new_file if kind == "feather" else pa.ipc.new_stream)(str(path), content.schema)
        with writer:
            writer.write_table(content)
    return TextCsv(str(path))


def _json(row: tuple[str, str]) -> str:
    import json

    return json.dumps({"text": row[0], "label": row[1]})


def test_what_is_read_is_the_same_from_every_kind_of_table(source: TextSource):
    content = source.content
    expected = [(text.strip().replace("\0", "\N{REPLACEMENT CHARACTER}"), label) for text, label in ROWS]
    expected = expected[:5] + expected[7:]
    assert list(zip(content.texts, content.cells, strict=True)) == expected
    assert [content.texts[place] for place in (0, 4, -1)] == [expected[place][0] for place in (0, 4, -1)]
    assert list(content.texts[2:9]) == [text for text, _ in expected[2:9]]
    rows = zip(content.ids, content.texts, [""] * 38, content.cells, content.parts or [""] * 38, strict=True)
    assert source.fingerprint == content_fingerprint(list(rows))
    assert isinstance(content.texts, ArrowTexts) == (not str(getattr(source, "_path", "")).endswith("jsonl"))


def test_fingerprints_of_columns_are_those_of_rows():
    dice = np.random.default_rng(0)
    ids = [f"{number}" for number in dice.permutation(2500)]
    words = ArrowTexts(ArrowColumn(pa.chunked_array([[f"é {place}" for place in range(2500)]])), {7: "seven"})
    labels = [("a", "b") if place % 2 else ("c",) for place in range(2500)]
    assert column_fingerprint(ids, words, labels) == content_fingerprint(list(zip(ids, words, labels, strict=True)))
    ids[5] = ids[6]
    assert column_fingerprint(ids, words, labels) == content_fingerprint(list(zip(ids, words, labels, strict=True)))


def test_a_column_of_many_chunks_is_read_at_random():
    values = [f"{number}" for number in range(5000)]
    column = ArrowColumn(pa.chunked_array([values[start : start + 3] for start in range(0, 5000, 3)]))
    places = np.random.default_rng(0).integers(0, 5000, 400)
    assert column.at(places) == [values[place] for place in places]
    assert list(column) == values
    some = ArrowTexts(column, {9: "nine"}).taken([8, 9, 4999])
    assert list(some) == ["8", "nine", "4999"]
    assert list(some.taken([2, 1])) == ["4999", "nine"]
    assert taken(values, [1, 0]) == ["1", "0"]
    assert list(joined([column, ["x"]])) == [*values, "x"]
    assert list(joined([column, ArrowColumn(pa.chunked_array([["x"]]))])) == [*values, "x"]


def test_only_columns_that_are_asked_for_are_read(tmp_path: Path, monkeypatch):
    parquet.write_table(table(), tmp_path / "data.parquet")
    read: list[list[str]] = []
    own = parquet.ParquetFile.read

    def noted(file: parquet.ParquetFile, columns: list[str]) -> pa.Table:
        read.append(columns)
        return own(file, columns=columns)

    monkeypatch.setattr(parquet.ParquetFile, "read", noted)
    found = read_records(tmp_path / "data.parquet")
    assert len(texts(found, "text")) == 40
    assert read == [["text"]]


def test_classes_and_lists_of_a_dataset_keep_their_names(tmp_path: Path):
    import datasets

    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["no", "yes"]),
        several=datasets.Sequence(datasets.ClassLabel(names=["x", "y"])),
        share=datasets.Value("float32"),
    )
    rows = {"text": ["a", "b"], "label": [1, -1], "several": [[0, 1], []], "share": [0.8, None]}
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features)).save_to_disk(str(tmp_path / "kept"))
    hub = HubDataset(str(tmp_path / "kept"))
    found, _ = hub.gathered(hub.chosen, {"label", "several", "share"})
    assert [list(found[name]) for name in ("label", "several", "share")] == [
        ["yes", None],
        [["x", "y"], []],
        [0.8, None],
    ]


def test_what_is_no_arrow_is_said(tmp_path: Path):
    (tmp_path / "data.arrow").write_bytes(b"ARROW1\0\0 and no more")
    (tmp_path / "other.feather").write_text("text,label\n")
    assert is_table(tmp_path / "data.arrow")
    with pytest.raises(InputError, match="cannot be read as Arrow: "):
        read_records(tmp_path / "data.arrow")
    with pytest.raises(InputError, match="cannot be read as Arrow: it does not begin like it"):
        read_records(tmp_path / "other.feather")


def test_texts_that_are_no_text_are_refused_as_ever():
    found = Table("it", {"text": ArrowColumn(pa.chunked_array([[b"\xff", b"fine"]]))}, ["1", "2"])
    with pytest.raises(InputError, match="bytes that are no text in UTF-8"):
        texts(found, "text")
    assert Missing()("nan")
