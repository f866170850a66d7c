"""Pictures and sounds of the `datasets` library, from folders as it writes and reads them."""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.cli.main import main
from headstart.data.audio import AudioFolder
from headstart.data.audio_hub import AudioHub
from headstart.data.image_hub import ImageHub
from headstart.data.images import ImageCsv, ImageFolder
from headstart.data.text_hub import TextHub
from headstart.data.text_sources import TextCsv
from headstart.errors import InputError
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression
from pictures import tiny, write_folder

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("hub") / "pictures", per_class=12)


def saved(
    folder: Path, splits: dict[str, list[Any]], names: list[str] | None = None, **more: dict[str, list[Any]]
) -> Path:
    """A folder as `save_to_disk` leaves it; a picture is its bytes, and its class the number of its name."""
    made = {}
    for split, rows in splits.items():
        label = datasets.ClassLabel(names=names or ["circle", "square", "triangle"])
        columns = {"image": datasets.Image(), "label": label}
        values = {"image": [content and {"bytes": content, "path": None} for content, _ in rows]}
        values["label"] = [number for _, number in rows]
        for name, kinds in more.items():
            values[name] = kinds[split]
        own = datasets.Features({**columns, **{name: _kind(kinds[split]) for name, kinds in more.items()}})
        made[split] = datasets.Dataset.from_dict(values, own)
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return folder


def _kind(values: list[Any]) -> Any:
    if isinstance(values[0], list):
        return datasets.Sequence(datasets.ClassLabel(names=["red", "blue"]))
    return datasets.Value("float32" if isinstance(values[0], float) else "string")


def rows_of(pictures: Path) -> list[tuple[bytes, int]]:
    classes = sorted(path.name for path in pictures.iterdir())
    return [(path.read_bytes(), classes.index(path.parent.name)) for path in sorted(pictures.rglob("*.png"))]


def source(made: Any, task: Any = None) -> Any:
    made.encode = (task or Multiclass()).encode
    made.check()
    return made


def test_pictures_in_cells_are_those_in_files(tmp_path: Path, pictures: Path):
    names = sorted(path.name for path in pictures.iterdir())
    cells = source(ImageHub(str(saved(tmp_path / "saved", {"train": rows_of(pictures)}, names))))
    links = source(ImageHub(str(pictures)))  # class folders are a layout of the hub too
    files = source(ImageFolder(str(pictures)))
    wanted = files.examples(24).batch(range(36))["pixels"]
    for hub in (cells, links):
        assert hub.classes == files.classes
        assert hub.labels.tolist() == files.labels.tolist()
        assert hub.ids[17] == "train/17"
        torch.testing.assert_close(hub.examples(24).batch(range(36))["pixels"], wanted, rtol=0, atol=0)
        assert sorted(hub.contents) == sorted(files.contents)
    assert cells.fingerprint == links.fingerprint


def test_one_split_and_single_files_are_datasets(tmp_path: Path, pictures: Path):
    """What `Dataset.save_to_disk`, `to_parquet` and pyarrow leave, whatever kinds of columns they tell."""
    rows = rows_of(pictures)
    whole = datasets.load_from_disk(str(saved(tmp_path / "saved", {"train": rows})))["train"]
    odd = tmp_path / "a [v2] ü"  # a pattern to the library
    whole.save_to_disk(str(odd / "one"))
    whole.to_parquet(str(odd / "all of it.parquet"))
    cells = {"image": [content for content, _ in rows], "label": [number for _, number in rows]}
    parquet.write_table(pyarrow.table(cells), odd / "bytes.pq")
    named = source(ImageHub(str(tmp_path / "saved")))
    for place, name in (("one", "one"), ("all of it.parquet", "all of it"), ("bytes.pq", "bytes")):
        hub = source(ImageHub(str(odd / place)))
        assert (hub.name, hub.ids[17], hub.is_here) == (name, "train/17", True)
        assert hub.labels.tolist() == named.labels.tolist()
        assert sorted(hub.contents) == sorted(named.contents)
    datasets.Dataset(whole.data, split="train[:50%]").save_to_disk(str(odd / "part"))
    assert len(source(ImageHub(str(odd / "part"))).ids) == len(rows)
    with pytest.raises(InputError, match=r"one of \[ \] \* \?.*Rename or move"):
        source(ImageHub(str(odd)))
    for place, made in (("one", "save_to_disk wrote"), ("bytes.pq", "one file")):
        with pytest.raises(InputError, match=rf"data\.subset=x .*{made}"):
            ImageHub(str(odd / place), subset="x")
    with pytest.raises(InputError, match=r"data\.revision=x .*a file, which has none"):
        ImageHub(str(odd / "bytes.pq"), revision="x")
    (odd / "rows.csv").write_text("image,label\n")
    with pytest.raises(InputError, match=r"only those of Parquet and Arrow.*data\.path=.*rows\.csv"):
        source(ImageHub(str(odd / "rows.csv")))


def test_one_of_several_files_is_said(tmp_path: Path, pictures: Path, caplog):
    kinds = {"train": ["a", "b", "c"] * 12}
    whole = datasets.load_from_disk(str(saved(tmp_path / "saved", {"train": rows_of(pictures)}, kind=kinds)))["train"]
    whole.to_parquet(str(tmp_path / "parts" / "train-00000-of-00002.parquet"))
    for read in (
        lambda path: source(ImageHub(str(path))),
        lambda path: source(TextCsv(str(path), text_column="kind", label_column="label")),
    ):
        with caplog.at_level(logging.WARNING):
            read(tmp_path / "parts" / "train-00000-of-00002.parquet")
        assert "one of 2 files of a table; the others are not read" in caplog.text
        caplog.clear()
    with pytest.raises(InputError, match=r"data=text_hub, image_hub or audio_hub data\.dataset=.*parts"):
        source(TextCsv(str(tmp_path / "parts")))


def test_pictures_in_cells_of_a_table_are_told_where_they_are_read(tmp_path: Path, pictures: Path):
    rows = rows_of(pictures)
    for name, cells in (
        ("bytes", [content for content, _ in rows]),
        ("objects", [{"bytes": content, "path": None} for content, _ in rows]),
    ):
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pyarrow.table({"image": cells, "label": [number for _, number in rows]}), path)
        told = rf"read by data=image_hub or audio_hub with data\.dataset={path}"
        with pytest.raises(InputError, match=told):
            source(ImageCsv(str(path), image_column="image", label_column="label"))
        assert len(source(ImageHub(str(path))).ids) == len(rows)


def test_splits_are_chosen_by_name_and_those_that_are_not_read_are_told(tmp_path: Path, pictures: Path, caplog):
    rows = rows_of(pictures)
    folder = saved(tmp_path / "saved", {"fit": rows, "held": rows[::3], "odd": rows[::4], "rest": rows[:5]})
    chosen = {"train": "fit", "test": "held"}
    with caplog.at_level(logging.WARNING):
        hub = source(ImageHub(str(folder), splits=chosen, shifts={"strange": "odd"}))
    assert "fit, held are read; rest are not (5 rows)" in caplog.text
    assert hub.parts.tolist() == ["train"] * 36 + ["test"] * 12
    assert hub.shifts["strange"].ids == tuple(f"odd/{row}" for row in range(9))
    for settings, message in (
        ({}, r"no split for training, but only fit, held, odd, rest.*data\.splits"),
        ({"splits": {"train": "fitt"}}, r"data\.splits\.train.*fit"),
        ({"splits": {"training": "fit"}}, r"train, val and test, but names training"),
        ({"splits": {"train": "fit", "val": "fit"}}, "a different split each"),
        ({"splits": {"train": "fit"}, "shifts": {"x": "fit"}}, "a different split each"),
        ({"splits": {"train": "fit"}, "shifts": {"x": "no"}}, r"data\.shifts\.x"),
        ({"splits": {"train": "fit"}, "image_column": "label"}, "column of files"),
        ({"splits": {"train": "fit"}, "image_column": "picture"}, r"no column 'picture'"),
    ):
        with pytest.raises(InputError, match=message):
            source(ImageHub(str(folder), **settings))


def test_what_cannot_be_read_is_named_and_what_is_empty_counted(tmp_path: Path, pictures: Path, caplog):
    rows: list[Any] = rows_of(pictures)
    rows[3] = (rows[3][0][:100], 0)
    folder = saved(tmp_path / "damaged", {"train": rows})
    with pytest.raises(InputError, match=r"1 of 36 files in damaged cannot be read: train/3 \("):
        source(ImageHub(str(folder)))
    rows[3:5] = [(None, 0), (rows[4][0], -1)]
    folder = saved(tmp_path / "gaps", {"train": rows, "test": [(content, -1) for content, _ in rows[5:8]]})
    with caplog.at_level(logging.WARNING):
        hub = source(ImageHub(str(folder)))
    assert len(hub.ids) == 34
    assert "1 of 39 rows of gaps has no value in column 'image'" in caplog.text
    assert "all of its part test, have no label" in caplog.text


def test_lists_of_classes_and_numbers_are_labels(tmp_path: Path, pictures: Path):
    rows = rows_of(pictures)
    colours, heights = [[[0], [0, 1], []][n % 3] for n in range(36)], [n / 4 for n in range(36)]
    folder = saved(tmp_path / "saved", {"train": rows}, colours={"train": colours}, height={"train": heights})
    hub = source(ImageHub(str(folder), label_column="colours"), Multilabel())
    assert hub.classes == ("blue", "red")
    assert hub.labels[:3].tolist() == [[0, 1], [1, 1], [0, 0]]
    hub = source(ImageHub(str(folder), label_column="height"), Regression())
    np.testing.assert_allclose(hub.labels[:, 0], heights, rtol=1e-6)


def test_sounds_in_cells_are_those_in_files(tmp_path: Path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "sounds" / "ab"[number % 2] / f"{number:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(4000 + 10 * number), 8000)
    paths = sorted((tmp_path / "sounds").rglob("*.wav"))
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    table = pyarrow.table({"audio": cells, "label": [path.parent.name for path in paths]})
    (tmp_path / "hub").mkdir()
    parquet.write_table(table, tmp_path / "hub" / "train-00000-of-00001.parquet")
    files = source(AudioFolder(str(tmp_path / "sounds")))
    hub = source(AudioHub(str(tmp_path / "hub")))
    assert hub.labels.tolist() == files.labels.tolist()
    found, wanted = (one.examples(16_000).batch(range(12)) for one in (hub, files))
    assert torch.equal(found["waveform"], wanted["waveform"])
    assert torch.equal(found["lengths"], wanted["lengths"])
    if importlib.util.find_spec("torchcodec") is None:
        with pytest.raises(InputError, match=r"data=audio_folder data\.root=FOLDER"):
            source(AudioHub(str(tmp_path / "sounds")))


def test_texts_take_the_splits_that_are_named(tmp_path: Path):
    for name in ("train", "validation_matched", "validation_mismatched"):
        rows = [{"text": f"{name} {n}", "label": "ab"[n % 2]} for n in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {name: f"{name}.jsonl" for name in ("train", "validation_matched", "validation_mismatched")}
    listed = "".join(f"  - split: {name}\n    path: {path}\n" for name, path in files.items())
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{listed}---\n")
    splits = {"train": "train", "test": "validation_matched"}
    text = source(TextHub(str(tmp_path), splits=splits, shifts={"other": "validation_mismatched"}))
    assert text.parts.tolist() == ["train"] * 8 + ["test"] * 8
    assert text.shifts["other"].content.texts[0] == "validation_mismatched 0"


@pytest.mark.parametrize("strategy", ["feature_extraction", pytest.param("fine_tune", marks=pytest.mark.slow)])
def test_folds_by_group_over_a_dataset_of_the_hub_run_and_are_reported(
    at_home: Path, pictures: Path, strategy: str, capsys
):
    groups = [f"person {n % 9}" for n in range(36)]
    rows = rows_of(pictures)
    folder = saved(Path("a folder"), {"train": rows, "odd": rows[::2]}, who={"train": groups, "odd": groups[::2]})
    words = tiny(pictures, f"strategy={strategy}", "split=kfold", "split.folds=3", "split.fold=0,1,2")
    words = ["data=image_hub" if word == "data=image_folder" else word for word in words if "data.root" not in word]
    own = [f'data.dataset="{folder}"', "data.size=32", "data.shifts={odd: odd}", "split.group_column=who", "name=folds"]
    assert main(["train", "-m", *words, *own]) == 0
    done = [json.loads(path.read_text()) for path in Path("outputs/folds").glob("*/result.json")]
    assert [one["status"] for one in done] == ["completed"] * 3
    tested: list[str] = []
    for path in Path("outputs/folds").glob("*/predictions.npz"):
        with np.load(path) as kept:
            tested += kept["test/id"].tolist()
            assert {groups[int(name.partition("/")[2])] for name in kept["test/id"].tolist()}.__len__() == 3
    assert sorted(tested) == sorted(f"train/{n}" for n in range(36))
    assert all("shift/odd/accuracy" in one["metrics"] for one in done)
