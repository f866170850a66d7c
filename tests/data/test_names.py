"""What data sets and classes are called, and what is said of files that are not there as they are named."""

import json
import logging
from pathlib import Path

import pytest

from dividing import divided
from headstart import notes
from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.data.audio import AudioCsv, AudioFolder
from headstart.data.images import ImageCsv, ImageFolder
from headstart.data.text_hub import TextHub
from headstart.data.text_sources import TextCsv
from headstart.errors import InputError
from headstart.run.prepare import job_config, prepare
from pictures import tiny, write_folder

C, D = "caf\u00e9", "cafe\u0301"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos")


def test_data_is_called_by_its_own_name_or_by_that_which_is_given(pictures: Path, tmp_path: Path):
    (tmp_path / "a folder").mkdir()
    assert ImageFolder(str(pictures)).name == "photos"
    assert ImageFolder(str(pictures / "..")).name == tmp_path.name
    assert AudioFolder("x/clips").name == "clips"
    assert [ImageCsv("t/a.csv").name, AudioCsv("b.tsv").name, TextCsv("c.jsonl").name] == ["a", "b", "c"]
    assert TextCsv("reviews.csv.gz").name == "reviews"
    assert TextHub("owner/set").name == "owner/set"
    assert TextHub(str(tmp_path / "a folder"), "en").name == "a folder/en"
    made = [ImageFolder("r", name="mine"), ImageCsv("t.csv", name="mine"), AudioFolder("r", name="mine")]
    made += [AudioCsv("t.csv", name="mine"), TextCsv("t.csv", name="mine"), TextHub("a/b", name="mine")]
    assert {source.name for source in made} == {"mine"}


def test_a_name_changes_no_run(pictures: Path):
    jobs = [prepare(job_config(compose_config(tiny(pictures, *more)))) for more in ([], ["data.name=2024_01"])]
    assert jobs[0].run_id == jobs[1].run_id
    assert [job.source.name for job in jobs] == ["photos", "2024_01"]


def test_class_folders_that_look_the_same_are_one_class_and_said_to_be(
    pictures: Path, caplog: pytest.LogCaptureFixture
):
    (pictures / "circle").rename(pictures / C)
    (pictures / "square").rename(pictures / D)
    source = ImageFolder(str(pictures))
    with notes.listening() as heard:
        source.check()
    assert source.classes == (C, "stripes")
    assert (source.labels == 0).sum() == 24
    (said,) = heard.messages
    assert said.startswith(f"1 of the classes of {pictures} are written in two ways")
    assert C in said


def test_a_shift_may_write_a_class_in_another_way(tmp_path: Path):
    for name, form in (("own", C), ("shift", D)):
        write_folder(tmp_path / name, per_class=6)
        (tmp_path / name / "circle").rename(tmp_path / name / form)
    source = ImageFolder(str(tmp_path / "own"), shifts={"other": str(tmp_path / "shift")})
    with notes.listening() as heard:
        source.check()
    assert source.shifts["other"].labels.tolist().count(0) == 6
    assert heard.messages == []


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_labels_of_a_table_that_look_the_same_are_one_class_and_said_to_be(tmp_path: Path, suffix: str):
    rows = [(f"text {i}", [C, D, "tea"][i % 3]) for i in range(30)]
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    else:
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    source = TextCsv(str(path))
    with notes.listening() as heard:
        source.check()
    assert source.classes == (C, "tea")
    assert (source.labels == 0).sum() == 20
    assert any("written in two ways that look the same" in message for message in heard.messages)


def test_test_pictures_without_classes_beside_train_are_set_aside_and_said(pictures: Path, tmp_path: Path):
    root = tmp_path / "kaggle"
    (root / "test").mkdir(parents=True)
    pictures.rename(root / "train")
    (root / "train" / "circle" / "0.png").rename(root / "test" / "1.png")
    source = ImageFolder(str(root))
    with notes.listening() as heard:
        parts = divided(source)
    assert "1 pictures in test/" in heard.messages[0]
    assert "test is drawn from train (split.test_fraction)" in heard.messages[0]
    assert not any("test/" in name for name in source.ids)
    assert len(parts.test)


@pytest.mark.parametrize(
    ("written", "on_disk", "hint"),
    [
        ("circle\\0.png", "circle/0.png", "1 of them are there with / in place of \\, as Windows writes paths"),
        ("C:\\photos\\0.png", "circle/0.png", "write / in the table, and paths from data.root on"),
        (
            f"{C}.png",
            f"{D}.png",
            "1 of them are there with letters with marks written otherwise",
        ),
        (f"{D}.png", f"{C}.png", "normal form C"),
        ("nowhere.png", "circle/0.png", "not found under"),
    ],
)
def test_files_that_are_not_there_as_they_are_named_have_a_hint(pictures: Path, written: str, on_disk: str, hint: str):
    (pictures / "circle" / "0.png").rename(pictures / "moved.png")
    (pictures / "moved.png").rename(pictures / on_disk)
    others = "".join(f"{path.relative_to(pictures).as_posix()},{path.parent.name}\n" for path in pictures.glob("s*/*"))
    (pictures / "t.csv").write_text(f"image,label\n{written},circle\n{others}")
    with pytest.raises(InputError) as error:
        ImageCsv(str(pictures / "t.csv")).check()
    assert hint in str(error.value)


def test_a_comparison_speaks_of_the_data_by_its_name(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from headstart.report import style

    picture = '<svg role="img" aria-label="not drawn"></svg>'
    monkeypatch.setattr(style, "finish", lambda _, *words: style.Drawing(*words, picture, {"svg": b"", "pdf": b""}))
    logging.getLogger("headstart.data").setLevel(logging.NOTSET)
    (pictures / "circle").rename(pictures / C)
    (pictures / "square").rename(pictures / D)
    words = tiny(pictures, "strategy=feature_extraction", "seed=0,1", "name=s", "data.name='my [b] photos'")
    assert main(["train", "-m", *words, "trainer.max_epochs=1"]) == 0
    out, err = capsys.readouterr()
    assert "on my [b] photos" in out
    assert err.count("written in two ways that look the same") == 1
    table = (at_home / "outputs" / "s" / "report" / "tables" / "notes.md").read_text()
    assert "written in two ways that look the same" in table
    assert "| 2 |" in table
    assert "written in two ways" in (at_home / "outputs" / "s" / "report" / "report.html").read_text()
