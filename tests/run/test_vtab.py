"""VTAB-1k on stand-ins: settings are selected on train800 and val200, what is selected trains on all of it."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from headstart.cli.main import main
from pictures import CLASSES, write_folder

datasets = pytest.importorskip("datasets")
TINY = ["backbone=timm", "backbone.model=test_efficientnet", "backbone.weights=none", "data.size=32", "logger=none",
        "trainer.max_epochs=1", "trainer.batch_size=8", "trainer.threads=1", "trainer.num_workers=0"]  # fmt: skip


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("vtab_final")


def write_task(folder: Path, seed: int) -> None:
    """A task with the benchmark's splits, of 24, 9 and 15 pictures."""
    write_folder(folder / "pictures", per_class=16, seed=seed)
    rows = [(path, CLASSES.index(path.parent.name)) for path in sorted((folder / "pictures").rglob("*.png"))]
    order = np.random.default_rng(seed).permutation(len(rows))
    parts = {"train800": order[:24], "val200": order[24:33], "train800val200": order[:33], "test": order[33:]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    made = {
        name: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": rows[place][0].read_bytes(), "path": None} for place in places],
                "label": [rows[place][1] for place in places],
            },
            features,
        )
        for name, places in parts.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(folder))


@pytest.mark.slow
def test_what_val_selects_for_each_task_is_trained_on_all_of_it_and_averaged(at_home: Path, script, capsys):
    for seed, task in enumerate(("one", "two")):
        write_task(at_home / "vtab_1k" / task, seed)
    grid = ["data.dataset=vtab_1k/one,vtab_1k/two", "optimizer.lr=0.0001,0.01", "strategy=feature_extraction,fine_tune"]
    assert main(["train", "-m", "experiment=vtab_1k", *TINY, *grid]) == 0
    tried = [json.loads(path.read_text()) for path in Path("outputs/vtab_1k").glob("*/result.json")]
    assert len(tried) == 8
    assert {(one["data"]["sizes"]["train"], one["data"]["sizes"]["val"]) for one in tried} == {(24, 9)}
    capsys.readouterr()
    assert script.main(Path("outputs/vtab_1k"), "seed=0") == 0
    done = [json.loads(path.read_text()) for path in Path("outputs/vtab_1k_final").glob("*/result.json")]
    assert len(done) == 2 * 2
    assert {(one["data"]["sizes"]["train"], one["data"]["sizes"]["test"]) for one in done} == {(33, 15)}
    for one in done:
        said = script.words(one)
        alike = [run for run in tried if script.words(run)["data.dataset"] == said["data.dataset"]
                 and script.words(run)["strategy"] == said["strategy"]]  # fmt: skip
        best = max(run["selection"]["value"] for run in alike)
        rates = [script.words(run)["optimizer.lr"] for run in alike if run["selection"]["value"] == best]
        assert said["optimizer.lr"] in rates
    told = capsys.readouterr().out
    accuracies = [one["metrics"]["test/accuracy"] for one in done if script.words(one)["strategy"] == "fine_tune"]
    assert f"fine_tune: mean over 2 tasks {100 * np.mean(accuracies):.1f}" in told
