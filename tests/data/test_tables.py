"""Tables as strangers write them: marks, quotes, encodings, compression. Every row comes out, or the reason is said."""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import zipfile
from pathlib import Path

import pandas
import pytest

from headstart import notes
from headstart.data.records import read_records
from headstart.data.table import Table
from headstart.errors import InputError

ROWS = [[f"{'great' if i % 2 else 'awful'} film number {i}", "pos" if i % 2 else "neg"] for i in range(60)]
HEADER = ["text", "label"]


def save(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def plain(rows=ROWS, mark: str = ",", end: str = "\n", header=HEADER) -> str:
    return end.join(mark.join(cells) for cells in (header, *rows)) + end


def read(path: Path, **more) -> tuple[Table, list[str]]:
    """The table, and what was said of it."""
    with notes.listening() as heard:
        return read_records(path, **more), heard.messages


def cells(table: Table, header=HEADER) -> list[list[str]]:
    return [list(row) for row in zip(*(table[name] for name in header), strict=True)]


def refusal(path: Path, **more) -> str:
    with pytest.raises(InputError) as caught:
        read_records(path, **more)
    return str(caught.value)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_whatever_a_csv_writer_quotes_comes_back(tmp_path, mark, quoting, end):
    rng = random.Random(f"{mark}{quoting}{end}")
    pieces = ["a", "word", '"', '""', ",", ";", "\t", "|", "\n", "'", " ", "é", "\u2028", "\x85", "\x0c", "😀", "\\"]
    if end == "\r":
        pieces.remove("\n")  # which this writer then leaves without quotes
    rows = [["x" + "".join(rng.choices(pieces, k=rng.randrange(8))) + "x", f"{i}"] for i in range(300)]
    rows += [['"quoted from end to end"', "1"], ['"', "2"], ["", "3"]]
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=mark, quoting=quoting, lineterminator=end).writerows([HEADER, *rows])
    table, said = read(save(tmp_path / "t.csv", written.getvalue()))
    assert cells(table) == rows
    assert [message for message in said if "look like" not in message] == [
        f"{tmp_path / 't.csv'} is read with {name} between its cells."
        for name in {";": ["semicolons"], "\t": ["tabs"], "|": ["bars"]}.get(mark, [])
    ]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    "odd",
    [
        {20: '"So good, said {}', 31: '"Never again {}'},
        {20: '"So good, said {}'},
        {20: '"So good, said {}', 31: '{} was the end"'},  # the second closes what the first opens
        {20: '"{}"', 31: '"{}'},
        {20: '"{}"'},
        {20: 'a 5" {}', 21: '{} ""', 22: '""{}'},
    ],
)
def test_a_quote_in_an_unquoted_tab_separated_file_is_a_character(tmp_path, place, odd):
    rows = [[odd.get(i, "{}").format(text), label] for i, (text, label) in enumerate(ROWS)]
    order = [HEADER, *rows] if not place else [row[::-1] for row in (HEADER, *rows)]
    table, said = read(save(tmp_path / "t.tsv", plain(order[1:], "\t", header=order[0])))
    assert cells(table) == rows
    assert all("read as characters" in message for message in said)


@pytest.mark.parametrize("text", ['He said "no" to all', "two\nlines", "a\ttab"])
def test_quotes_that_a_writer_of_tabs_put_around_a_cell_are_no_characters(tmp_path, text):
    frame = pandas.DataFrame([[text, "pos"], *ROWS], columns=HEADER)
    frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    table, said = read(tmp_path / "t.tsv")
    assert cells(table) == frame.to_numpy().tolist()
    assert said == []


def test_quotes_that_do_not_stand_as_they_should_are_read_in_the_way_that_fits_all_rows_or_refused(tmp_path):
    escaped = [['"He said \\"no, no\\""', "pos"], *ROWS]
    table, said = read(save(tmp_path / "escaped.csv", plain(escaped)))
    assert cells(table)[0][0] == 'He said "no, no"'
    assert "escaped.csv is read with" in said[0]
    table, said = read(save(tmp_path / "naive.csv", plain([['"So good', "pos"], *ROWS])))
    assert cells(table) == [['"So good', "pos"], *ROWS]
    assert "line 2" in said[0]
    table, _ = read(save(tmp_path / "spaced.csv", plain([['"a, b" ', "pos"], ['  "c, d"', "neg"]])))
    assert [text.strip() for text, _ in cells(table)] == ["a, b", "c, d"]
    found = refusal(save(tmp_path / "open.csv", plain([*ROWS[:3], ['"So good', "pos"], ["a, b", "neg"]])))
    assert "line 6" in found
    assert "twice" in found


def test_a_cell_that_swallows_what_looks_like_rows_is_said(tmp_path):
    rows = [*ROWS[:5], ['"So good', "pos"], *ROWS[6:9], ['so bad"', "neg"], *ROWS[10:]]
    table, said = read(save(tmp_path / "t.csv", plain(rows)))
    assert len(table) == 56
    assert "line 7 to 11" in said[0]
    _, said = read(save(tmp_path / "poem.csv", plain([['"a poem\nin two\nand three lines"', "pos"], *ROWS])))
    assert said == []


def test_cells_may_be_long_and_lines_end_only_where_lines_end(tmp_path):
    long = [["word " * 60_000 + "x", "pos"], ["form\x0cfeed \x1c\u2028\u2029\x85 x", "neg"], *ROWS]
    before = csv.field_size_limit()
    assert cells(read(save(tmp_path / "t.csv", plain(long)))[0]) == long
    assert csv.field_size_limit() == before
    lines = [json.dumps(dict(zip(HEADER, row, strict=True)), ensure_ascii=False) for row in long]
    table, _ = read(save(tmp_path / "t.jsonl", "\r\n".join(lines)))
    assert cells(table) == long
    assert table.ids[-1] == "62"


def test_the_mark_between_cells_is_found_whatever_else_stands_in_header_and_cells(tmp_path):
    header = ["Review (de, fr, it, en)", "Sterne"]
    rows = [[f'"{text} 😀\nממש טוב; ""wow"""', label] for text, label in ROWS]
    table, said = read(save(tmp_path / "excel.csv", "\ufeff" + plain(rows, ";", "\r\n", header)))
    assert cells(table, header)[0] == [f'{ROWS[0][0]} 😀\nממש טוב; "wow"', "neg"]
    assert len(table) == 60
    assert "semicolons" in said[0]
    for text in ("sep=;\n", '"sep=;"\r\n'):
        table, said = read(save(tmp_path / "sep.csv", text + plain([["a|b, c", "x"], ["d|e, f", "y"]], ";")))
        assert cells(table) == [["a|b, c", "x"], ["d|e, f", "y"]]
        assert (list(table.ids), said) == (["3", "4"], [])
    assert read(save(tmp_path / "t.tsv", plain()))[1] == [
        "%s is read with commas between its cells." % (tmp_path / "t.tsv")
    ]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_that_show_are_read_and_said(tmp_path, codec):
    rows = [[f"café {text}", label] for text, label in ROWS]
    for name, content in (
        ("t.csv", plain(rows)),
        ("t.jsonl", "\n".join(json.dumps({"text": "é", "label": "a"}) * 1 for _ in ROWS)),
    ):
        table, said = read(save(tmp_path / name, content.encode(codec)))
        assert table["text"][0] == (rows[0][0] if name == "t.csv" else "é")
        assert len(table) == 60
        assert [message.rpartition(" ")[2] for message in said] == [f"{codec.upper()}."] * (codec != "utf-8-sig")


def test_an_encoding_that_does_not_show_is_asked_for_with_what_it_would_give(tmp_path):
    path = save(tmp_path / "t.csv", plain([["plain", "a"], ["café crème", "b"]]).encode("cp1252"))
    found = refusal(path)
    for text in ("line 3", "0xe9", "data.encoding=cp1252", "café crème"):
        assert text in found
    assert read(path, encoding="cp1252")[0]["text"][1] == "café crème"
    assert "data.encoding" in refusal(path, encoding="base64")
    assert "data.encoding" in refusal(path, encoding="nonsense")
    assert "not text in ASCII" in refusal(path, encoding="ascii")


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zst", "zip"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_format_may_be_compressed(tmp_path, suffix, pack):
    pyarrow = pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(ROWS, columns=HEADER)
    inside = tmp_path / f"reviews{suffix}"
    writers = {
        ".csv": lambda: frame.to_csv(inside, index=False),
        ".tsv": lambda: frame.to_csv(inside, sep="\t", index=False),
        ".jsonl": lambda: frame.to_json(inside, orient="records", lines=True),
        ".json": lambda: frame.to_json(inside, orient="records", indent=1),
        ".parquet": lambda: frame.to_parquet(inside),
    }
    writers[suffix]()
    assert cells(read(inside)[0]) == ROWS
    path, content = Path(f"{inside}.{pack}"), inside.read_bytes()
    if pack == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"folder/{inside.name}", content)
            archive.writestr(f"__MACOSX/folder/._{inside.name}", b"of a Mac")
    elif pack == "zst":
        path.write_bytes(pyarrow.compress(content, "zstd", asbytes=True))
    else:
        path.write_bytes({"gz": gzip, "bz2": bz2, "xz": lzma}[pack].compress(content))
    table, said = read(path)
    assert cells(table) == ROWS
    assert said == []
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be" in refusal(path)


def test_what_is_no_table_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("train.csv", plain())
        archive.writestr("test.csv", plain())
    assert "test.csv, train.csv" in refusal(tmp_path / "two.zip")
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    assert "workbook" in refusal(tmp_path / "book.xlsx")
    assert "SQLite" in refusal(save(tmp_path / "t.db", b"SQLite format 3\0" + b"\0" * 100))
    assert "Parquet" in refusal(save(tmp_path / "t.parquet", plain()))
    assert "cannot be read as Parquet" in refusal(save(tmp_path / "b.parquet", b"PAR1 and no more"))
    assert "one JSON object" in refusal(save(tmp_path / "columns.json", '{"text": {"0": "a"},\n"label": {"0": "b"}}'))
    assert "cannot be read as JSON" in refusal(save(tmp_path / "cut.json", '[{"text": "a"}, {"te'))
    assert "row 2 is none" in refusal(save(tmp_path / "mixed.json", '[{"text": "a"}, 3]'))
    assert "no rows" in refusal(save(tmp_path / "none.json", "[]"))
    assert "no rows" in refusal(save(tmp_path / "empty.jsonl", "\n\n"))


def test_rows_that_do_not_fit_the_header_are_named_and_what_is_empty_does_not_count(tmp_path):
    content = "id,text,label,,\n1,a,x,,\n\n2,b,y\n3,c,x,,,,\n ,\t,\n,,,,\n\n"
    table, _ = read(save(tmp_path / "t.csv", content))
    assert cells(table) == [["a", "x"], ["b", "y"], ["c", "x"]]
    assert list(table.ids) == ["2", "4", "5"]
    assert "line 3 (1), 4 (3)" in refusal(save(tmp_path / "odd.csv", "text,label\na,x\nb\nc,y,z\n"))
    assert "no rows" in refusal(save(tmp_path / "head.csv", "text,label\n"))
    assert "is empty" in refusal(save(tmp_path / "empty.csv", "\n \n"))


def test_columns_of_one_name_are_refused_only_if_one_is_asked_for_and_letters_compare_as_they_look(tmp_path):
    table, _ = read(save(tmp_path / "t.csv", ",x,x, Cafe\u0301 ,\n0,1,2,a,b\n"))
    assert table["Caf\u00e9"] == table["Cafe\u0301"] == ["a"]
    table.require(**{"data.text_column": "Café", "data.pair_column": None})
    with pytest.raises(InputError, match=r"names a column twice, 'x', which data\.label_column asks"):
        table.require(**{"data.text_column": "Café", "data.label_column": "x"})
    with pytest.raises(InputError, match=r"no column 'y', which data\.label_column names"):
        table.require(**{"data.label_column": "y"})
    table, _ = read(save(tmp_path / "t.jsonl", '{"Cafe\u0301": "a", "x": 1}\n{"x": 2}\n'))
    assert table["Café"] == ["a", None]


def test_null_characters_are_replaced_and_said(tmp_path):
    table, said = read(save(tmp_path / "t.csv", plain([["a\0b", "x"], *ROWS])))
    assert table["text"][0] == "a\ufffdb"
    assert "line 2" in said[0]
