"""Whole runs of several labels and of numbers, on tables of tiny pictures."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sk

import headstart
from headstart.cli.main import main
from pictures import tiny, write_weights

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


@pytest.mark.parametrize(
    "strategy", ["feature_extraction", "fine_tune", "lora", "l2_sp", "delta", "surgical_auto", "sam"]
)
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


TASKS = {
    "multilabel": ["task=multilabel", "data.label_column=list"],
    "regression": ["task=regression", "data.label_column=[light,hue]"],
}


def history(folder: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((folder / "history.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("how", ["activations", "views"])
def test_training_on_what_is_kept_is_the_training_that_is_live(at_home: Path, table: Path, task: str, how: str):
    more = [*TASKS[task], "strategy=partial", "strategy.last_k=1", "optimizer.lr=0.01"]
    if how == "views":
        more += ["augmentation=light", "augmentation.views=2", "trainer.reuse_views=true", "trainer.max_epochs=6"]
    else:
        more += ["trainer.max_epochs=3"]
    kept = run(at_home, *words(table, *more), into="kept")
    live = run(at_home, *words(table, *more, "features.budget_gb=1e-6"), into="live")
    assert kept["reading"]["kept"]
    assert not live["reading"]["kept"]
    for row, other in zip(history(at_home / "kept"), history(at_home / "live"), strict=True):
        assert float(row["train/loss"]) == pytest.approx(float(other["train/loss"]), rel=5e-3)
        assert float(row["val/loss"]) == pytest.approx(float(other["val/loss"]), rel=5e-3)


@pytest.mark.parametrize("task", [*TASKS, "multiclass"])
def test_heads_trained_together_have_the_bits_of_heads_trained_alone(at_home: Path, table: Path, task: str):
    own = {"multilabel": "task.positive_weights=none,balanced", "regression": "task.objective=mse,huber,l1"}
    more = [*TASKS.get(task, ["data.label_column=who"]), "strategy=feature_extraction", "augmentation.views=1"]
    varied = own.get(task, "task.label_smoothing=0.0,0.1")
    assert main(["train", "-m", *words(table, *more), varied, "optimizer.lr=0.01,0.03", "hydra.sweep.dir=sweep"]) == 0
    key, _, values = varied.partition("=")
    together = sorted((at_home / "sweep").glob("*/result.json"))
    assert len(together) == 2 * len(values.split(","))
    for path in together:
        done = json.loads(path.read_text())
        assert done["cost"]["fused_with"] == len(together) - 1
        chosen = [word for word in done["overrides"] if word.startswith((f"{key}=", "optimizer.lr="))]
        run(at_home, *words(table, *more), *chosen, into=done["run_id"])
        assert history(at_home / done["run_id"]) == history(path.parent)
        states = [
            torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
            for folder in (path.parent, at_home / done["run_id"])
        ]
        assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize(("task", "monitor"), [("multilabel", "val/micro_f1"), ("regression", "val/mae")])
@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_training_ends_and_thaws_by_the_metric_that_is_named(at_home: Path, table: Path, task, monitor, strategy):
    more = [*TASKS[task], f"strategy={strategy}", f"trainer.monitor={monitor}", "trainer.patience=2"]
    done = run(at_home, *words(table, *more, "trainer.max_epochs=12", "optimizer.lr=0.05"))
    seen = [float(row[monitor]) for row in history(at_home / "run")]
    pick = np.argmin if task == "regression" else np.argmax
    assert done["metrics"]["best_epoch"] == int(pick(seen))
    assert len(seen) == min(12, int(pick(seen)) + 3)
    if strategy == "fine_tune":
        thaw = [*TASKS[task], "strategy=fine_tune", "unfreeze=on_plateau", f"unfreeze.monitor={monitor}"]
        thaw += ["unfreeze.num_groups=4", "trainer.max_epochs=6", "optimizer.lr=0.05"]
        run(at_home, *words(table, *thaw), into="thawed")
        rows, best, waited, phase = history(at_home / "thawed"), -np.inf, 0, 0
        for row in rows:
            assert int(row["phase"]) == phase
            score = float(row[monitor]) * (-1 if task == "regression" else 1)
            waited, best = (0, score) if score > best else (waited + 1, best)
            if waited >= 1:
                phase, waited, best = phase + 1, 0, -np.inf


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


def test_co_tuning_needs_one_class_of_every_example(at_home: Path, table: Path, capsys: pytest.CaptureFixture[str]):
    weights = write_weights(at_home / "w" / "w.pth")
    for task, column in (("multilabel", "list"), ("regression", "light")):
        more = ["strategy=cotuning", f"backbone.weights={weights}", f"task={task}", f"data.label_column={column}"]
        assert main(["train", *words(table, *more)]) == 2
        assert "so that every example must have one, but task=" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("task", "column"), [("multilabel", "list"), ("regression", "[light,hue]")])
def test_neighbours_answer_for_all_tasks_from_the_directory_alone(at_home: Path, table: Path, task: str, column: str):
    more = [f"task={task}", f"data.label_column={column}", "strategy=feature_extraction", "head=knn", "head.k=4"]
    assert run(at_home, *words(table, *more))["metrics"]["best_epoch"] == 0
    with np.load("run/predictions.npz") as kept:
        name = "predicted" if task == "regression" else "probability"
        ids, wanted = kept["test/id"].tolist(), kept[f"test/{name}"].astype(np.float64)
    model = headstart.load("run")
    answers = model.predict([table.parent / one for one in ids])
    found = [[one.all[output] for output in model.classes] for one in answers]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
