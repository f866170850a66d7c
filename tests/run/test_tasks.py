"""Whole runs of several labels and of numbers, on tables of tiny pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk

from headstart.cli.main import main
from pictures import tiny

LABELS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose channels are bright or dark: a label each, and how bright they are in all."""
    root, rng = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    rows = []
    for number in range(72):
        bright = rng.random(3) < 0.5
        light = np.where(bright, 190, 60) + rng.integers(-20, 21, 3)
        picture = (light[::-1] + rng.integers(-20, 21, (24, 24, 3))).clip(0, 255)
        Image.fromarray(picture.astype(np.uint8)).save(root / f"{number}.png")
        names = [name for name, yes in zip(LABELS, bright, strict=True) if yes]
        flags = dict(zip(LABELS, bright.astype(int).tolist(), strict=True))
        light = [float(f"{value:.2f}") for value in (light.mean() * 10, light[0] / 100)]
        numbers = {"light": light[0], "hue": light[1]}
        rows.append(
            {
                "image": f"{number}.png",
                "tags": ";".join(names) or "[]",
                "list": names,
                "who": "abc"[number % 3],
                **flags,
                **numbers,
            }
        )
    (root / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "t.jsonl"


def words(table: Path, *more: str) -> list[str]:
    kept = [word for word in tiny(table.parent) if not word.startswith(("data=", "data.root="))]
    return [*kept, "data=image_csv", f"data.path={table}", *more]


def run(home: Path, *more: str, into: str = "run") -> dict:
    assert main(["train", *more, f"hydra.run.dir={into}"]) == 0
    return json.loads((home / into / "result.json").read_text())


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_several_labels_are_trained_scored_and_recorded(at_home: Path, table: Path, strategy: str):
    more = ["task=multilabel", "data.label_column=list", f"strategy={strategy}", "trainer.max_epochs=4"]
    done = run(at_home, *words(table, *more, "optimizer.lr=0.01"))
    with np.load(at_home / "run" / "predictions.npz") as kept:
        label, predicted, probability = (kept[f"test/{name}"] for name in ("label", "predicted", "probability"))
    found = done["metrics"]
    assert done["task"] == "multilabel"
    assert done["data"]["classes"] == list(LABELS)
    assert done["selection"]["metric"] == "val/mean_average_precision"
    assert found["test/exact_match"] == pytest.approx(sk.accuracy_score(label, predicted))
    assert found["test/micro_f1"] == pytest.approx(sk.f1_score(label, predicted, average="micro"))
    expected = sk.average_precision_score(label, probability.astype(float))
    assert found["test/mean_average_precision"] == pytest.approx(expected, abs=0.03)  # halves tie
    assert set(done["details"]["by_output"]) == set(LABELS)


@pytest.mark.parametrize("column", ["tags", "[red,green,blue]"])
def test_labels_in_cells_and_in_columns_are_the_labels_in_lists(at_home: Path, table: Path, column: str):
    more = ["task=multilabel", "task.separator=';'", "strategy=feature_extraction"]
    one = run(at_home, *words(table, *more, f"data.label_column={column}"), into="one")
    other = run(at_home, *words(table, *more, "data.label_column=list"), into="other")
    assert one["data"]["classes"] == other["data"]["classes"]
    assert one["metrics"] == other["metrics"]


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune", "lora", "l2_sp"])
def test_numbers_are_said_in_the_units_of_the_data(at_home: Path, table: Path, strategy: str):
    more = ["task=regression", "data.label_column=[light,hue]", f"strategy={strategy}", "trainer.max_epochs=3"]
    done = run(at_home, *words(table, *more, "optimizer.lr=0.01"))
    with np.load(at_home / "run" / "predictions.npz") as kept:
        label, predicted = kept["test/label"], kept["test/predicted"]
    found = done["metrics"]
    assert done["data"]["targets"] == ["light", "hue"]
    assert label[:, 0].mean() > 500
    assert abs(predicted[:, 0].mean() - label[:, 0].mean()) < 600
    assert found["test/rmse"] == pytest.approx(sk.root_mean_squared_error(label, predicted), rel=1e-4)
    assert found["test/mae"] == pytest.approx(sk.mean_absolute_error(label, predicted), rel=1e-4)
    assert found["test/r2"] == pytest.approx(sk.r2_score(label, predicted), rel=1e-3, abs=1e-5)
    assert done["selection"]["mode"] == "min"
    column = np.genfromtxt(at_home / "run" / "history.csv", delimiter=",", names=True)["valrmse"]
    assert found["best_epoch"] == int(np.argmin(column))


@pytest.mark.parametrize(("task", "column"), [("multilabel", "list"), ("regression", "light"), ("multiclass", "who")])
def test_the_strength_that_was_chosen_for_an_exact_head_is_in_the_record(at_home: Path, table: Path, task, column):
    more = [f"task={task}", f"data.label_column={column}", "strategy=feature_extraction", "head.solver=lbfgs"]
    chosen = run(at_home, *words(table, *more), into="auto")
    given = run(at_home, *words(table, *more, f"head.l2={chosen['details']['l2']!r}"), into="given")
    assert chosen["settings"]["head.l2"] == "auto"
    found = (done["metrics"] for done in (chosen, given))
    assert next(found) == pytest.approx(next(found), rel=1e-3, abs=1e-3)


def test_the_strength_names_no_run_that_does_not_use_it(at_home: Path, table: Path):
    more = ["data.label_column=who", "strategy=feature_extraction", "trainer.max_epochs=1"]
    first = run(at_home, *words(table, *more), into="first")
    other = run(at_home, *words(table, *more, "head.l2=1.0"), into="other")
    assert first["run_id"] == other["run_id"]
    assert first["settings"]["head.l2"] == 1.0


def test_pictures_are_mixed_with_their_targets(at_home: Path, table: Path):
    for task, column in (("multilabel", "list"), ("regression", "light")):
        more = [f"task={task}", f"data.label_column={column}", "strategy=fine_tune", "augmentation=mixup_cutmix"]
        found = run(at_home, *words(table, *more), into=task)["metrics"]
        assert np.isfinite(found["train/loss"])


def test_the_report_of_numbers_puts_the_smaller_error_first(at_home: Path, table: Path):
    more = ["task=regression", "data.label_column=light", "strategy=feature_extraction", "seed=0,1"]
    more += ["head.solver=lbfgs", "head.l2=0.001,1000000"]
    assert main(["train", "-m", *words(table, *more), "hydra.sweep.dir=sweep"]) == 0
    rows = (at_home / "sweep/report/tables/comparison.csv").read_text().splitlines()
    summary = json.loads((at_home / "sweep/report/summary.json").read_text())
    assert "RMSE" in (at_home / "sweep/report/report.html").read_text()
    assert "0.001" in rows[1], "the leader has the smaller error"
    assert "baseline_rmse" in json.dumps(summary)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.label_column=light"], "use task=regression"),
        (["data.label_column=list"], "task=multilabel"),
        (["task=regression", "data.label_column=tags"], "must be finite numbers"),
        (["task=multilabel", "data.label_column=[light,hue]"], "must hold 0 or 1"),
        (["task=regression", "data.label_column=light", "trainer.monitor=val/accuracy"], "val/rmse"),
        (["task=regression", "data.label_column=light", "trainer.label_smoothing=0.1"], "task.label_smoothing"),
        (
            ["task=regression", "data.label_column=light", "task.objective=l1", "strategy=feature_extraction",
             "head.solver=lbfgs"],
            "needs a smooth loss",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_task_is_said_before_anything_is_written(
    at_home: Path, table: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
):
    assert main(["train", *words(table, *more), "hydra.run.dir=run"]) == 2
    assert said in capsys.readouterr().err
    assert not (at_home / "run").exists()


def test_class_folders_hold_one_class_a_file(at_home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    from pictures import write_folder

    assert main(["train", *tiny(write_folder(tmp_path / "folders"), "task=multilabel")]) == 2
    assert "class folders hold one class a file" in capsys.readouterr().err
