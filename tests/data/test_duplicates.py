"""Exact copies are counted over the parts of the split and under labels, and said: for pictures, sounds and texts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from headstart import notes
from headstart.cli.main import main
from headstart.data.audio import AudioFolder
from headstart.data.duplicates import find_duplicates, remarks, text_contents
from headstart.data.images import ImageFolder
from headstart.data.splits import Split
from headstart.data.text_sources import OpenMojiNames, TextCsv
from pictures import tiny, write_folder


def split(train, val, test):
    return Split(*(np.array(part, dtype=np.int64) for part in (train, val, test)))


def counted_by_hand(contents, labels, parts, shifts):
    """The same counts, by comparing every pair."""
    size = len(contents)
    copies = sum(any(contents[i] == contents[j] for j in range(i)) for i in range(size))
    groups = {content: {labels[i] for i in range(size) if contents[i] == content} for content in contents}
    train, val = ({contents[i] for i in part} for part in (parts.train, parts.val))
    return {
        "copies": copies,
        "contents": sum(contents.count(content) > 1 for content in set(contents)),
        "two_labels": sum(len(found) > 1 for found in groups.values()),
        "val_in_train": sum(contents[i] in train for i in parts.val),
        "test_in_train_or_val": sum(contents[i] in train or contents[i] in val for i in parts.test),
        "in_shifts": {name: sum(c in train or c in val for c in others) for name, others in shifts.items()},
    }


@pytest.mark.parametrize("seed", range(20))
def test_copies_are_counted_as_by_hand(seed):
    dice = np.random.default_rng(seed)
    contents = [str(number) for number in dice.integers(0, 3 + 4 * seed, 40)]
    labels = dice.integers(0, 3, 40)
    order = dice.permutation(40)
    parts = split(order[:22], order[22:30], order[30:38])
    shifts = {"dark": [str(number) for number in dice.integers(0, 100, 15)]}
    assert find_duplicates(contents, labels, parts, shifts).record == counted_by_hand(contents, labels, parts, shifts)


def test_what_is_said_names_some_and_counts_all():
    labels, parts = np.array([0, 0, 1, 1, 0, 1, 1]), split([0, 2, 5], [1], [3, 4, 6])
    found = find_duplicates(list("aabbbcd"), labels, parts, {})
    said = remarks(found, "toys", list("ABCDEFG"), labels, ("no", "yes"), parts, "seed 3")
    assert said == [
        "3 of 7 examples of toys are exact copies of others (A = B, C = D, C = E). As split by seed 3, 2 of 3 test "
        "examples have a copy in train or val and 1 of 1 val examples one in train: such scores are too high. Remove "
        "them, or keep all copies of one in the same part (data.split_column, or folders train, val and test).",
        "Several labels are given to one and the same content once in toys (C (yes) = E (no)): correct or remove them.",
    ]


def test_texts_are_copies_whatever_their_case_blanks_and_form():
    contents = text_contents(["Good  day", "good day ", "ＧＯＯＤ day", "good, day", "good day"], None)
    assert len(set(contents)) == 2
    assert contents[0] == contents[1] == contents[2] == contents[4]
    both = text_contents(["a b", "a", "a b"], ["c", "b c", "C"])
    assert both[0] == both[2] != both[1]


def test_every_source_of_files_and_texts_knows_its_copies(folder, tmp_path):
    shutil.copy(folder / "ant" / "ant0.png", folder / "bee" / "again.png")
    pictures = ImageFolder(str(folder))
    assert len(set(pictures.contents)) == len(pictures.ids) - 1
    import soundfile

    for name in ("a", "b"):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for number in range(3):
            soundfile.write(tmp_path / "sounds" / name / f"{number}.wav", 0.1 * np.ones(4000), 8000)
    assert len(set(AudioFolder(str(tmp_path / "sounds")).contents)) == 1
    table = tmp_path / "t.csv"
    table.write_text("text,label\nOne two,a\none  TWO,b\nthree,a\n")
    assert len(set(TextCsv(str(table)).contents)) == 2


def test_the_embedded_texts_have_no_copies():
    contents = OpenMojiNames().contents
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize("is_given", [False, True])
def test_copies_are_said_in_a_dry_run_and_counted_in_every_record(at_home: Path, capsys, is_given):
    pictures = write_folder(at_home / "pictures", per_class=8)
    for path in sorted(pictures.rglob("*.png")):
        for number in range(2):
            shutil.copy(path, path.with_name(f"{path.stem}_{number}.png"))
    shutil.copy(pictures / "circle" / "0.png", pictures / "square" / "circle.png")
    if is_given:
        for part in ("train", "val", "test"):
            shutil.copytree(pictures, at_home / "parts" / part)
        pictures = at_home / "parts"
    runs = [*tiny(pictures), "strategy=feature_extraction", "seed=0,1", "name=copies"]
    notes.show().shown.clear()
    assert main(["train", "-m", *runs, "--dry-run"]) == 0
    shown = capsys.readouterr().err
    assert shown.count("are exact copies of others") == 1
    assert shown.count("Several labels are given") == 1
    assert ("As split by the data themselves" in shown) == is_given
    assert ("As split by seed 0" in shown) != is_given
    if is_given:
        return
    assert main(["train", "-m", *runs]) == 0
    records = [json.loads(path.read_text()) for path in (at_home / "outputs" / "copies").glob("*/result.json")]
    assert len(records) == 2
    for record in records:
        counts, sizes = record["data"]["duplicates"], record["data"]["sizes"]
        assert counts["two_labels"] == 1
        assert counts["copies"] == 49
        assert 0 < counts["test_in_train_or_val"] <= sizes["test"]
        assert any("are exact copies of others" in note for note in record["notes"])
    report = (at_home / "outputs" / "copies" / "report" / "report.html").read_text()
    assert "have an exact copy in train or val" in report
