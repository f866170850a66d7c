"""Exact copies are counted over the parts of the split and under labels, and said: for pictures, sounds and texts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from headstart import notes
from headstart.cli.main import main
from headstart.data.texts import text_contents
from headstart.splits.duplicates import find_duplicates, remarks
from headstart.splits.splitter import Split
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
    rng = np.random.default_rng(seed)
    contents = [str(number) for number in rng.integers(0, 3 + 4 * seed, 40)]
    labels = rng.integers(0, 3, 40).tolist()
    order = rng.permutation(40)
    parts = split(order[:22], order[22:30], order[30:38])
    shifts = {"dark": [str(number) for number in rng.integers(0, 100, 15)]}
    assert find_duplicates(contents, labels, parts, shifts).record == counted_by_hand(contents, labels, parts, shifts)


def test_what_is_said_names_some_and_counts_all():
    labels, parts = ["no", "no", "yes", "yes", "no", "yes", "yes"], split([0, 2, 5], [1], [3, 4, 6])
    found = find_duplicates(list("aabbbcd"), labels, parts, {})
    said = remarks(found, "toys", list("ABCDEFG"), labels, parts, "seed 3", "Remove them.")
    assert said == [
        "3 of 7 examples of toys are exact copies of others (A = B, C = D, C = E). As split by seed 3, 2 of 3 test "
        "examples have a copy in train or val and 1 of 1 val examples one in train: such scores are too high. Remove "
        "them.",
        "Several labels are given to one and the same content once in toys (C (yes) = E (no)): correct or remove them.",
    ]


def test_texts_are_copies_whatever_their_case_blanks_and_form():
    contents = text_contents(["Good  day", "good day ", "ＧＯＯＤ day", "good, day", "good day"], None)
    assert len(set(contents)) == 2
    assert contents[0] == contents[1] == contents[2] == contents[4]
    both = text_contents(["a b", "a", "a b"], ["c", "b c", "C"])
    assert both[0] == both[2] != both[1]


@pytest.fixture
def copied(at_home: Path) -> Path:
    """Pictures of which each lies there three times, and one under another label too."""
    pictures = write_folder(at_home / "pictures", per_class=8)
    for path in sorted(pictures.rglob("*.png")):
        for number in range(2):
            shutil.copy(path, path.with_name(f"{path.stem}_{number}.png"))
    shutil.copy(pictures / "circle" / "0.png", pictures / "square" / "circle.png")
    return pictures


def test_copies_that_the_data_put_into_two_parts_are_said_in_a_dry_run(at_home: Path, copied: Path, capsys):
    for part in ("train", "val", "test"):
        shutil.copytree(copied, at_home / "parts" / part)
    runs = [*tiny(at_home / "parts"), "strategy=feature_extraction", "seed=0,1", "name=copies"]
    notes.show().shown.clear()
    assert main(["train", "-m", *runs, "--dry-run"]) == 0
    shown = capsys.readouterr().err
    assert shown.count("are exact copies of others") == 1
    assert shown.count("Several labels are given") == 1
    assert "As split by the data themselves" in shown
    assert "put all copies of one into the same part" in shown


def test_copies_lie_in_one_part_unless_they_are_kept_as_they_come(at_home: Path, copied: Path, capsys):
    runs = [*tiny(copied), "strategy=feature_extraction", "split.duplicates=group,keep", "name=copies"]
    notes.show().shown.clear()
    assert main(["train", "-m", *runs]) == 0
    shown = capsys.readouterr().err
    assert "All copies of one lie in the same part" in shown
    records = [json.loads(path.read_text()) for path in (at_home / "outputs" / "copies").glob("*/result.json")]
    assert len(records) == 2
    for record in records:
        counts, sizes = record["data"]["duplicates"], record["data"]["sizes"]
        assert counts["two_labels"] == 1
        assert counts["copies"] == 49
        is_kept = record["settings"].get("split.duplicates") == "keep"
        assert (0 < counts["test_in_train_or_val"] <= sizes["test"]) == is_kept
        assert (counts["test_in_train_or_val"] == counts["val_in_train"] == 0) != is_kept
        (said,) = (note for note in record["notes"] if "are exact copies of others" in note)
        assert ("split.duplicates=group keeps all copies" in said) == is_kept
    report = (at_home / "outputs" / "copies" / "report" / "report.html").read_text()
    assert " an exact copy in train or val" in report


def test_copies_are_refused_where_they_are_an_error(at_home: Path, copied: Path, capsys):
    assert main(["train", *tiny(copied), "split.duplicates=error"]) == 2
    said = capsys.readouterr().err
    assert "must hold no exact copies of examples, as split.duplicates=error says" in said
    assert "49 of 73 examples of pictures" in said
    assert not (at_home / "outputs").exists()
