"""What `headstart predict` reads, writes and refuses, tried through the command."""

import csv
import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.cli.main import main
from headstart.compat import declare_torchvision_operators
from headstart.predict.answer import Answer, answers
from headstart.predict.layout import Layout
from headstart.predict.stream import Said
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.result import Failure
from headstart.tasks.multiclass import Multiclass
from pictures import CLASSES, tiny, write_folder

declare_torchvision_operators()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A comparison of two strategies, two seeds each, on small pictures."""
    root = tmp_path_factory.mktemp("home")
    write_folder(root / "pictures", per_class=30)
    own = [*tiny(root / "pictures"), "optimizer.lr=0.01", "trainer.max_epochs=1", f"hydra.sweep.dir={root / 'sweep'}"]
    assert main(["train", "-m", *own, "strategy=feature_extraction,fine_tune", "seed=0,1"]) == 0
    return root


@pytest.fixture
def run(home: Path) -> Path:
    return next(path.parent for path in sorted((home / "sweep").glob("*/result.json")))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one message of a command that exits with 2."""
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_files_that_cannot_be_read_are_listed_with_their_reason(
    at_home: Path, home: Path, run: Path, caplog: pytest.LogCaptureFixture
):
    shutil.copytree(home / "pictures" / CLASSES[0], "mixed")
    Path("mixed/broken.png").write_bytes(b"no picture")
    Path("mixed/empty.jpg").write_bytes(b"")
    Path("mixed/film.mp4").write_bytes(b"x")
    Path("mixed/notes.txt").write_text("about them")
    assert main(["predict", str(run), "mixed", "--out=out.csv"]) == 1
    found = {Path(row["input"]).name: row for row in rows(Path("out.csv"))}
    assert len(found) == 30 + 3
    assert "1 of 34 files in mixed are passed over, as they are hidden, notes or tables: .txt (1)" in caplog.text
    assert {name for name, row in found.items() if row["error"]} == {"broken.png", "empty.jpg", "film.mp4"}
    assert found["empty.jpg"]["error"] == "empty file"
    assert all(row["label"] in CLASSES for row in found.values() if not row["error"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_in_place_of_a_picture_is_not_waited_for(at_home: Path, run: Path):
    os.mkfifo("pipe.png")
    Path("list.csv").write_text("image\npipe.png\n")
    assert main(["predict", str(run), "pipe.png", "list.csv", "--out=out.csv"]) == 1
    assert [row["error"] for row in rows(Path("out.csv"))] == ["it is no regular file"] * 2


def test_what_is_not_read_of_a_picture_is_counted(at_home: Path, run: Path, caplog: pytest.LogCaptureFixture):
    picture = Image.new("RGB", (40, 40), "red")
    picture.save("moves.gif", save_all=True, append_images=[Image.new("RGB", (40, 40), "blue")])
    Image.new("RGBA", (40, 40), (255, 0, 0, 99)).save("clear.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 255)).save("solid.png")
    Image.new("RGB", (400, 4)).save("long.png")
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40).save("deep.png")
    assert main(["predict", str(run), "."]) == 0
    for words in ("animated", "transparent in places", "more than 32 times as long", "more than 8 bits a value"):
        (line,) = [message for message in caplog.messages if words in message]
        assert line.startswith("1 of 5 pictures")


def test_formats_say_the_same(at_home: Path, home: Path, run: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    what = str(home / "pictures")
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        assert main(["predict", str(run), what, f"--out={name}"]) == 0
    table, lines = rows(Path("out.csv")), [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    kept = parquet.read_table("out.parquet").to_pylist()
    assert len(table) == len(lines) == len(kept) == 90
    for one, two, three in zip(table, lines, kept, strict=True):
        assert one["input"] == two["input"] == three["input"]
        assert one["label"] == two["label"] == three["label"] == max(two["scores"], key=two["scores"].get)
        assert float(one["score"]) == two["score"] == three["score"]
        assert float(one["score_circle"]) == two["scores"]["circle"] == three["score_circle"]
        assert sum(two["scores"].values()) == pytest.approx(1, abs=1e-6)
    assert main(["predict", str(run), what, "--out=top.csv", "--top", "2"]) == 0
    assert list(rows(Path("top.csv"))[0]) == ["input", "label", "score", "label_2", "score_2", "error"]


def test_a_table_names_files_and_patterns_find_them(at_home: Path, home: Path, run: Path):
    Path("list.csv").write_text(f"image,more\n{home / 'pictures/circle/0.png'},x\n,y\nlost.png,z\n")
    assert main(["predict", str(run), "list.csv", str(home / "pictures/**/1.png"), "--out=out.csv"]) == 1
    found = rows(Path("out.csv"))
    assert [bool(row["error"]) for row in found] == [False, True, True, False, False, False]
    assert found[1]["error"] == "there is nothing in column 'image'"
    assert found[2]["error"] == "No such file or directory"


def test_names_that_a_spreadsheet_would_run_are_neutralised(at_home: Path, home: Path, run: Path):
    shutil.copy(home / "pictures/circle/0.png", "=1+1.png")
    assert main(["predict", str(run), "=1+1.png", "--out=out.csv"]) == 0
    assert rows(Path("out.csv"))[0]["input"] == "'=1+1.png"


def test_the_order_and_the_batches_change_nothing(at_home: Path, home: Path, run: Path):
    names = [str(path) for path in sorted((home / "pictures").rglob("*.png"))]
    assert main(["predict", str(run), *names, "--out=a.jsonl"]) == 0
    assert main(["predict", str(run), *reversed(names), "--out=b.jsonl", "--batch-size=7"]) == 0
    one, two = ([json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()] for name in "ab")
    assert [row["input"] for row in one] == names == [row["input"] for row in two][::-1]
    for first, second in zip(one, two[::-1], strict=True):
        np.testing.assert_allclose([*first["scores"].values()], [*second["scores"].values()], atol=1e-5)


def test_bad_input_is_one_message_and_nothing_is_written(
    at_home: Path, home: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    pictures = home / "pictures"
    Path("nothing").mkdir()
    Path("sound.wav").write_bytes(b"RIFF")
    Path("other.csv").write_text("file,label\na.png,b\n")
    Path("there.csv").write_text("mine")
    assert "there is none" in refused(capsys, "nothing", pictures)
    assert "finds no file" in refused(capsys, run, "no*.png")
    assert "does not exist" in refused(capsys, run, "lost.png", "--out=x.csv")
    assert "file of sounds, but the run reads pictures" in refused(capsys, run, "sound.wav")
    assert "no column 'image'" in refused(capsys, run, "other.csv", "--out=x.csv")
    assert "holds no pictures" in refused(capsys, run, "nothing")
    assert "exists already" in refused(capsys, run, pictures, "--out=there.csv")
    assert "ending of --out" in refused(capsys, run, pictures, "--out=x.xls")
    assert "the run reads pictures" in refused(capsys, run, "-")
    assert "whole number above 0" in refused(capsys, run, pictures, "--top=0")
    assert "Unknown option" in refused(capsys, run, pictures, "--oops")
    assert "needs a value" in refused(capsys, run, pictures, "--out")
    assert "comparison" in refused(capsys, run, pictures, "--ensemble")
    assert Path("there.csv").read_text() == "mine"
    assert {path.name for path in at_home.iterdir()} == {"nothing", "sound.wav", "other.csv", "there.csv"}
    assert main(["predict", str(run), str(pictures), "--out=there.csv", "--force"]) == 0
    assert len(rows(Path("there.csv"))) == 90


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_run_that_is_not_completed_is_refused(
    at_home: Path, home: Path, run: Path, capsys: pytest.CaptureFixture[str], status: str
):
    shutil.copytree(run, status)
    directory = RunDirectory(Path(status))
    done = result.read(directory)
    assert done is not None
    val = {name: value for name, value in done.metrics.items() if not name.startswith("test/")}
    error = Failure(message="too hot") if status == "failed" else None
    result.write(directory, replace(done, status=status, error=error, metrics=val))
    before = sorted(at_home.rglob("*"))
    for words in (["predict", status, str(home / "pictures"), "--out=out.csv"], ["export", status, "--to", "timm"]):
        assert main(words) == 2
        assert f"must hold a run that is completed, but it is recorded as {status}" in capsys.readouterr().err
    assert sorted(at_home.rglob("*")) == before


def test_a_comparison_stands_for_its_best_run_on_val(at_home: Path, home: Path, capsys: pytest.CaptureFixture[str]):
    results = [json.loads(path.read_text()) for path in (home / "sweep").glob("*/result.json")]
    means = {}
    for strategy in ("feature_extraction", "fine_tune"):
        scores = [one["metrics"]["val/accuracy"] for one in results if one["choices"]["strategy"] == strategy]
        means[strategy] = sum(scores) / len(scores)
    best = max(means.values())
    assert main(["predict", str(home / "sweep"), str(home / "pictures"), "--out=one.jsonl"]) == 0
    words = capsys.readouterr().err
    chosen = next(one for one in results if f"run on val is {one['run_id']} " in words)
    assert means[chosen["choices"]["strategy"]] == best
    mine = [one for one in results if one["choices"]["strategy"] == chosen["choices"]["strategy"]]
    assert chosen["metrics"]["val/accuracy"] == max(one["metrics"]["val/accuracy"] for one in mine)
    for one in mine:
        place = home / "sweep" / one["run_id"]
        assert main(["predict", str(place), str(home / "pictures"), f"--out={one['seed']}.jsonl"]) == 0
    assert main(["predict", str(home / "sweep"), str(home / "pictures"), "--ensemble", "--out=all.jsonl"]) == 0

    def read(name: object) -> np.ndarray:
        lines = Path(f"{name}.jsonl").read_text().splitlines()
        return np.array([list(json.loads(line)["scores"].values()) for line in lines])

    np.testing.assert_allclose(read("one"), read(chosen["seed"]), atol=1e-6)
    np.testing.assert_allclose(read("all"), np.mean([read(seed) for seed in range(2)], axis=0), atol=1e-6)


def test_texts_on_standard_input(at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import tiny_models

    model = tiny_models.save_text(at_home / "bert", "bert")
    Path("texts.csv").write_text(
        "text,label\n" + "\n".join(f"the {'cat' if n % 2 else 'dog'} runs {n},{n % 2}" for n in range(24))
    )
    own = ["backbone=huggingface_text", f"backbone.model={model}", "data=text_csv", "data.path=texts.csv"]
    more = ["trainer.max_epochs=1", "trainer.batch_size=8", "trainer.threads=1", "logger=none"]
    assert main(["train", *own, *more, "strategy=feature_extraction", "hydra.run.dir=run"]) == 0
    lines = b"the cat runs 1\n\nthe dog runs 0\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert main(["predict", "run", "-", "--out=out.jsonl"]) == 1
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["input"] for row in found] == ["the cat runs 1", "line 2", "the dog runs 0"]
    assert found[1]["error"] == "there is no text"
    assert main(["predict", "run", "texts.csv"]) == 0
    assert "texts.csv:3" in capsys.readouterr().out


def test_calibrated_scores_are_those_at_the_runs_temperature(
    at_home: Path, home: Path, capsys: pytest.CaptureFixture[str]
):
    found = {path.parent: json.loads(path.read_text()) for path in sorted((home / "sweep").glob("*/result.json"))}
    run = next(run for run, entry in found.items() if "temperature" in entry["calibration"])
    entry = found[run]
    kept = entry["calibration"]
    assert kept["num_val"] == entry["data"]["sizes"]["val"]
    before = kept["calibration_error"]["test"][0]
    assert before == pytest.approx(entry["metrics"]["test/expected_calibration_error"], abs=1e-5)
    what = str(home / "pictures")
    for name, more in (("plain", []), ("calibrated", ["--calibrated"]), ("sets", ["--interval=0.5"])):
        assert main(["predict", str(run), what, f"--out={name}.jsonl", *more]) == 0
    plain, calibrated, sets = (
        [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]
        for name in ("plain", "calibrated", "sets")
    )
    for one, two, three in zip(plain, calibrated, sets, strict=True):
        logs = np.log([*one["scores"].values()]) / kept["temperature"]
        np.testing.assert_allclose([*two["scores"].values()], np.exp(logs) / np.exp(logs).sum(), atol=1e-5)
        assert three["scores"] == two["scores"]
        assert three["set"][0] == two["label"]
    assert "validation examples or more" in refused(capsys, run, what, "--interval=0.999")
    assert "as 0.9" in refused(capsys, run, what, "--interval=90")
    assert "no calibration of its own" in refused(capsys, home / "sweep", what, "--ensemble", "--calibrated")
    sure = next(run for run, entry in found.items() if "temperature" not in entry["calibration"])
    assert "as they are all answered right" in refused(capsys, sure, what, "--calibrated")
    assert main(["predict", str(sure), what, "--out=sure.jsonl", "--interval=0.5"]) == 0
    scores = [json.loads(line)["scores"] for line in Path("sure.jsonl").read_text().splitlines()]
    assert main(["predict", str(sure), what, "--out=as-they-are.jsonl"]) == 0
    assert [json.loads(line)["scores"] for line in Path("as-they-are.jsonl").read_text().splitlines()] == scores


def test_the_report_tells_how_sure_the_models_are(home: Path):
    table = rows(home / "sweep" / "report" / "tables" / "sureness.csv")
    results = [json.loads(path.read_text()) for path in (home / "sweep").glob("*/result.json")]
    for row in table:
        mine = [one["calibration"] for one in results if one["choices"]["strategy"] == row["contender"]]
        errors = [one["calibration_error"]["test"] for one in mine]
        assert float(row["calibration_error"]) == pytest.approx(np.mean([pair[0] for pair in errors]))
        calibrated = [pair[1] for pair in errors if len(pair) == 2]  # of those with a temperature
        assert (
            row["calibrated_error"] == ""
            if not calibrated
            else float(row["calibrated_error"]) == pytest.approx(np.mean(calibrated))
        )
    assert len(table) == 2


def test_a_table_in_the_runs_own_encoding(at_home: Path, monkeypatch, capsys):
    """And of texts that are in none: on standard input, and from Python."""
    import tiny_models

    model = tiny_models.save_text(at_home / "bert", "bert")
    table = "Text,label\n" + "\n".join(f"the {'çat' if n % 2 else 'dög'} runs {n},{n % 2}" for n in range(24))
    Path("texts.csv").write_bytes(table.encode("cp1252"))
    own = ["backbone=huggingface_text", f"backbone.model={model}", "data=text_csv", "data.path=texts.csv"]
    more = ["data.encoding=cp1252", "data.text_column=Text", "trainer.max_epochs=1", "trainer.threads=1", "logger=none"]
    assert main(["train", *own, *more, "strategy=feature_extraction", "hydra.run.dir=run"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", "texts.csv", "--out=out.csv"]) == 0
    assert "texts.csv is no text in UTF-8, and is read as cp1252" in capsys.readouterr().err
    Path("utf8.csv").write_text(table, encoding="utf8")
    assert main(["predict", "run", "utf8.csv", "--out=utf8.out.csv"]) == 0
    scores = [[row["score"] for row in rows(Path(name))] for name in ("out.csv", "utf8.out.csv")]
    assert scores[0] == scores[1]
    Path("utf16.csv").write_bytes(b"Text,label\n\x81\x8d,1\n")  # which cp1252 does not have either
    said = refused(capsys, "run", "utf16.csv")
    assert "is not text in CP1252" in said
    assert "data.encoding" not in said

    lines = "\ufeffthe cat runs\n".encode() + "the dög runs\n".encode("cp1252")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert main(["predict", "run", "-", "--out=typed.jsonl"]) == 1
    first, second = (json.loads(line) for line in Path("typed.jsonl").read_text().splitlines())
    assert first["input"] == "the cat runs"
    assert second["error"] == "no text in UTF-8 (byte 6)"

    one = headstart.load("run")
    assert len(one.predict(("the cat runs", "the dog runs"))) == 2, "the run is not on pairs"
    assert len(one.predict(np.array(["the cat", "the dog", "the cat runs"]))) == 3
    assert [bool(answer.error) for answer in one.predict(["the cat", None, ("the", "cat"), 3.5, float("nan")])] == [
        False, True, True, True, True
    ]  # fmt: skip


def test_columns_of_intervals_never_take_the_name_of_a_number():
    answer = Answer("a.png", all={"x": 1.0, "x_low": 2.0}, region={"x": (0.5, 1.5), "x_low": (1.5, 2.5)})
    layout = Layout("regression", ["x", "x_low"], with_region=True)
    found = dict(zip(layout.columns, layout.row(answer), strict=True))
    assert (found["value_x"], found["value_x_low"], found["low of value_x"]) == (1.0, 2.0, 0.5)
    assert list(Layout("regression", ["x", "y"], with_region=True).columns)[1:4] == [
        "value_x", "value_x_low", "value_x_high"
    ]  # fmt: skip


def test_outputs_that_are_no_numbers_are_no_answer():
    said = [Said("loud.wav", np.array([np.nan, 0.5])), Said("fine.wav", np.array([0.25, 0.75]))]
    bad, good = answers(said, Multiclass(), ["a", "b"])
    assert (bad.labels, "no numbers" in bad.error, good.label) == ((), True, "b")


def test_home_is_understood_and_a_repetition_elsewhere_says_where_to_go(at_home: Path, run: Path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(at_home))
    assert main(["train", *tiny(write_folder(at_home / "own"), "data.root=own"), "hydra.run.dir=here"]) == 0
    assert main(["report", "~/here"]) == 0
    (at_home / "elsewhere").mkdir()
    monkeypatch.chdir(at_home / "elsewhere")
    capsys.readouterr()
    assert main(["rerun", "~/here", "--check"]) == 2
    assert "data.root=own is relative to the folder in which the run was begun" in capsys.readouterr().err
