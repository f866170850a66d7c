"""Labels that are several, whatever they are read from, and texts that come in pairs."""

import csv

import numpy as np
import pytest

from headstart.data.openmoji import OpenMoji
from headstart.data.text_hub import TextHub
from headstart.data.text_sources import TextCsv
from headstart.errors import InputError
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression


def test_lists_of_classes_of_a_hub_dataset_are_labels_by_their_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    kind = datasets.Sequence(datasets.ClassLabel(names=["dull", "funny"]))
    features = datasets.Features({"text": datasets.Value("string"), "label": kind})
    rows = {"text": ["one", "two", "three"], "label": [[0, 1], [], [1]]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features)}).save_to_disk(str(tmp_path / "saved"))
    source = TextHub(str(tmp_path / "saved"))
    source.encode = Multilabel().encode
    source.check()
    assert source.classes == ("dull", "funny")
    assert source.labels.tolist() == [[1, 1], [0, 0], [0, 1]]


def table(path, **columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def test_two_columns_of_texts_are_pairs_with_a_number_each(tmp_path):
    path = table(tmp_path / "t.csv", a=["x", "y", "z"], b=["u", "v", "w"], label=["0.5", "1,25", "3"])
    one, other = TextCsv(path, text_column=["a", "b"]), TextCsv(path, text_column="a", pair_column="b")
    for source in (one, other):
        source.encode = Regression().encode
        source.check()
    assert tuple(one.content.pairs) == ("u", "v", "w")
    assert one.fingerprint == other.fingerprint
    assert one.labels.tolist() == [[0.5], [1.25], [3.0]]
    with pytest.raises(InputError, match=r"data\.text_column must name one column, or two"):
        TextCsv(path, text_column=["a", "b", "label"])


def test_rows_without_a_value_in_one_of_the_label_columns_are_left_out_and_counted(tmp_path, caplog):
    path = table(tmp_path / "t.csv", text=["x", "y", "z"], a=["1", "", "0"], b=["0", "1", "1"])
    source = TextCsv(path, label_column=["a", "b"])
    source.encode = Multilabel().encode
    source.check()
    assert source.labels.tolist() == [[1, 0], [0, 1]]
    assert "1 of 3 rows" in caplog.text
    with pytest.raises(InputError, match=r"no column 'c', which data\.label_column names"):
        TextCsv(path, label_column=["a", "c"]).check()


def test_the_embedded_pictures_have_words_and_ink():
    words, ink = OpenMoji(label="words"), OpenMoji(label="ink")
    words.encode, ink.encode = Multilabel().encode, Regression().encode
    assert words.labels.sum(0).min() >= 20
    assert "face" in words.classes
    shares = ink.labels[:, 0]
    assert shares.shape == (1372,)
    assert 0 < np.percentile(shares, 1) < np.percentile(shares, 99) < 100
    assert len({OpenMoji().fingerprint, words.fingerprint, ink.fingerprint}) == 3
