"""Datasets of the library `datasets` under cross-validation, groups and all tasks, by the command."""

import json
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from headstart.cli.main import main

FEATURES = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: author
    dtype: string
  - name: topics
    list:
      class_label:
        names:
          '0': animals
          '1': houses
          '2': motion
  - name: stars
    dtype: float32
---
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """36 texts of nine authors in the hub's layout, with topics as a list of classes and a number; as overrides."""
    pytest.importorskip("datasets")
    root, rng = tmp_path_factory.mktemp("hub"), np.random.default_rng(0)
    model = tiny_models.save_text(root / "bert", "bert")
    words = tiny_models.WORDS.split()
    rows = [
        {
            "text": " ".join(rng.choice(words, 6)),
            "author": f"a{n % 9}",
            "topics": np.flatnonzero(rng.random(3) < 0.5).tolist(),
            "stars": float(n % 10) / 2,
        }
        for n in range(36)
    ]
    (root / "letters").mkdir()
    (root / "letters" / "README.md").write_text(FEATURES)
    (root / "letters" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *("backbone=huggingface_text", f"backbone.model={model}", "data=text_hub", f"data.dataset={root / 'letters'}"),
        *("strategy=feature_extraction", "trainer.max_epochs=1", "trainer.threads=1", "logger=none"),
    ]


@pytest.mark.parametrize(
    ("task", "column", "kind"),
    [("multilabel", "topics", "classes"), ("regression", "stars", "targets"), ("multiclass", "author", "classes")],
)
def test_folds_of_a_dataset_test_every_text_once_and_keep_groups_whole(at_home: Path, dataset, task, column, kind):
    words = [*dataset, f"task={task}", f"data.label_column={column}", "split=kfold", "split.folds=3"]
    if task != "multiclass":
        words += ["split.group_column=author"]
    assert main(["train", "-m", *words, "split.fold=range(3)", "hydra.sweep.dir=sweep"]) == 0
    done = [json.loads(path.read_text()) for path in sorted((at_home / "sweep").glob("*/result.json"))]
    assert len(done) == 3
    tested = [
        name for one in done for name in np.load(at_home / "sweep" / one["run_id"] / "predictions.npz")["test/id"]
    ]
    assert sorted(tested) == sorted(f"train/{row}" for row in range(36))
    assert {tuple(one["data"][kind]) for one in done} == {
        {"multilabel": ("animals", "houses", "motion"), "regression": ("value",)}.get(
            task, tuple(f"a{n}" for n in range(9))
        )
    }
    for one in done if task != "multiclass" else ():
        groups = one["data"]["groups"]
        assert groups.pop("column") == "author"
        assert sum(groups.values()) == 9
    summary = json.loads((at_home / "sweep" / "report" / "summary.json").read_text())
    (row,) = summary["conditions"][0]["contenders"]
    assert len(row["scores"]) == 3


def test_a_dataset_with_a_test_set_of_its_own_is_not_cross_validated(at_home: Path, dataset, tmp_path: Path, capsys):
    own = tmp_path / "own"
    own.mkdir()
    place = Path(next(word for word in dataset if word.startswith("data.dataset=")).partition("=")[2])
    for name in ("train", "test"):
        (own / f"{name}.jsonl").write_text((place / "train.jsonl").read_text())
    words = [*dataset, f"data.dataset={own}", "data.label_column=author", "split=kfold"]
    assert main(["train", *words]) == 2
    assert "The data bring a test set of their own, so they are not cross-validated" in capsys.readouterr().err
    assert not (at_home / "outputs").exists()
