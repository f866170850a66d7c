"""Every shipped strategy by the command line, from config to result, on a tiny network and a small folder."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
import torch

from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.cli.plan import forecast
from headstart.config.composer import conf_dir
from headstart.errors import InputError
from headstart.features.store import FeatureStore
from headstart.run.prepare import draft, job_config
from pictures import tiny, write_folder, write_weights

STRATEGIES = sorted(path.stem for path in (conf_dir() / "strategy").glob("*.yaml"))
WORDS = {
    "gradual_unfreeze": ["unfreeze.num_groups=7"],
    "lp_ft": ["unfreeze.epochs=1"],
    "lora": ["strategy.adapter.r=2"],
    "partial": ["strategy.last_k=1"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = write_folder(tmp_path_factory.mktemp("pictures") / "root")
    WORDS["cotuning"] = [f"backbone.weights={write_weights(root.parent / 'weights' / 'w.pth')}"]
    return root


def in_a_process(words):
    """The exit status of the command in a process of its own.

    Torch keeps what it has worked out about tensors that are shared out; tests that fork would inherit it.
    """
    return subprocess.run([sys.executable, "-m", "headstart", *words]).returncode


def trained(pictures, *words, command=main):
    """The directory of the run that the command makes, with its result and its history."""
    before = set(Path("outputs").glob("runs/*"))
    assert command(["train", *tiny(pictures, *words)]) == 0
    (directory,) = set(Path("outputs").glob("runs/*")) - before
    with (directory / "history.csv").open() as file:
        return directory, json.loads((directory / "result.json").read_text()), list(csv.DictReader(file))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_shipped_strategy_completes_and_leaves_its_plan(at_home, pictures, strategy):
    directory, result, history = trained(pictures, f"strategy={strategy}", *WORDS.get(strategy, []))
    assert result["status"] == "completed"
    plan = json.loads((directory / "plan.json").read_text())
    assert [float(row["epoch"]) for row in history] == [0, 1]
    for row in history:
        rates = plan["phases"][int(row["phase"])]["rates"]
        for group in plan["groups"]:
            assert (float(row[f"lr/{group}"]) > 0) == any(rates[group].values())
    assert (directory / "plan.svg").read_text().startswith("<svg")
    assert result["cost"]["trainable_parameters"] <= result["cost"]["total_parameters"]


@pytest.mark.parametrize("unfreeze", ["gradual", "on_plateau", "phases", "head_first"])
def test_every_schedule_goes_with_fine_tuning(at_home, pictures, unfreeze):
    words = {"gradual": ["unfreeze.num_groups=7"], "head_first": ["unfreeze.epochs=1"],
             "on_plateau": ["unfreeze.num_groups=7", "trainer.max_epochs=3", "unfreeze.restore_best=true"]}  # fmt: skip
    _, result, history = trained(pictures, "strategy=fine_tune", f"unfreeze={unfreeze}", *words.get(unfreeze, []))
    assert result["status"] == "completed"
    assert history[0]["phase"] == "0"


@pytest.mark.parametrize(("merge", "precision"), [(False, "bf16-mixed"), (True, "bf16-mixed"), (True, "32-true")])
def test_an_adapter_is_left_beside_the_run_and_folded_in_if_asked(at_home, pictures, merge, precision):
    words = ["strategy=lora", "strategy.adapter.r=2", f"strategy.adapter.merge={str(merge).lower()}"]
    directory, result, _ = trained(pictures, *words, f"trainer.precision={precision}")
    said = any("is kept folded into them" in note for note in result["notes"])
    assert said == (merge and precision == "bf16-mixed")
    assert json.loads((directory / "adapter" / "adapter_config.json").read_text())["r"] == 2
    files = {path.relative_to(directory).as_posix(): path for path in (directory / "adapter").iterdir()}
    assert "adapter/adapter_model.safetensors" in files
    for name, path in files.items():
        assert result["crc32"][name] == f"{zlib.crc32(path.read_bytes()):08x}"
    state = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert any("lora_" in name for name in state) is not merge


def test_steps_that_end_before_the_last_thaw_are_refused(at_home, pictures, capsys):
    words = tiny(pictures, "strategy=lp_ft", "unfreeze.epochs=1", "trainer.max_epochs=4")
    split = 36 - 9 - 5  # of 36 pictures, a quarter for test and 15% for val
    steps = -(-split // 8)
    assert main(["train", *words, f"trainer.max_steps={steps}"]) == 2
    assert f"begins after {steps} steps (1 epoch) at the earliest, but is {steps}" in capsys.readouterr().err
    assert not Path("outputs").exists()
    assert main(["train", *words, f"trainer.max_steps={steps + 1}"]) == 0


def test_steps_that_end_before_the_last_plateau_could_are_refused(at_home, pictures, capsys):
    words = tiny(pictures, "strategy=gradual_unfreeze", "unfreeze=on_plateau", "unfreeze.num_groups=4")
    words += ["trainer.max_epochs=9", "unfreeze.patience=2"]  # two plateaus of three epochs at least
    steps = 6 * -(-(36 - 9 - 5) // 8)
    assert main(["train", *words, f"trainer.max_steps={steps}"]) == 2
    assert f"begins after {steps} steps (6 epochs) at the earliest" in capsys.readouterr().err
    assert main(["train", *words, f"trainer.max_steps={steps + 1}"]) == 0


def test_the_record_says_which_phases_began_and_which_one_is_scored(at_home, pictures):
    """A rate that changes nothing: the first epoch stays the best, and in it the head alone had trained."""
    words = ["strategy=lp_ft", "unfreeze.epochs=2", "trainer.max_epochs=9", "trainer.patience=2", "optimizer.lr=1e-12"]
    _, result, history = trained(pictures, *words)
    assert [row["phase"] for row in history] == ["0", "0", "1", "1", "1"]
    names = {"names": ["head", "all"], "head_only": [True, False]}
    assert result["phases"] == {**names, "planned": 2, "reached": 2, "best": 0}
    assert result["cost"]["trainable_parameters"] == result["cost"]["total_parameters"]
    (note,) = result["notes"]
    assert note.startswith("The best epoch lies in phase 0 (head)")


def test_what_a_plateau_never_let_train_is_said_and_not_counted(at_home, pictures):
    words = ["strategy=gradual_unfreeze", "unfreeze=on_plateau", "unfreeze.num_groups=4", "unfreeze.monitor=val/loss"]
    words += ["trainer.max_epochs=5", "optimizer.lr=1e-5"]
    _, result, history = trained(pictures, *words)
    reached = 1 + max(int(row["phase"]) for row in history)
    assert result["phases"]["reached"] == reached < result["phases"]["planned"]
    (expected,) = {p["trainable_parameters"] for p in forecast_of(pictures, *words)[reached - 1 : reached]}
    assert result["cost"]["trainable_parameters"] == expected < result["cost"]["total_parameters"]
    assert any("before" in note and "phases began; never trained: stem" in note for note in result["notes"])


def forecast_of(pictures, *words):
    return forecast(draft(job_config(compose_config(tiny(pictures, *words)))))["phases"]


def test_steps_are_counted_as_they_are_made(at_home, pictures):
    """Few batches an epoch, or a last one that joins the one before it, bring the thaw earlier."""
    words = tiny(pictures, "strategy=lp_ft", "unfreeze.epochs=1", "trainer.max_epochs=4")
    assert main(["train", *words, "trainer.limit_batches=1", "trainer.max_steps=2"]) == 0
    assert main(["train", *words, "split.n_per_class=3", "trainer.max_steps=2"]) == 0  # 9 examples: one batch of 9


def test_a_store_that_cannot_be_written_leaves_training_as_it_is(at_home, pictures, monkeypatch):
    def full(*args, **options):
        raise InputError("No space.")

    words = ["strategy=partial", "strategy.last_k=1", "trainer.max_epochs=6", "features.root=nothing-in-it"]
    monkeypatch.setattr(FeatureStore, "fill", full)
    directory, result, _ = trained(pictures, *words)
    assert result["status"] == "completed"
    assert result["reading"]["kept"] == {}
    assert "is not stored" in (directory / "log.txt").read_text()


@pytest.mark.parametrize("strategy", ["lp_ft", "feature_extraction", "partial"])
def test_double_precision_goes_with_every_way_of_freezing(at_home, pictures, strategy):
    words = [f"strategy={strategy}", "trainer.precision=64-true", *WORDS.get(strategy, [])]
    directory, result, _ = trained(pictures, *words)
    assert result["status"] == "completed"
    state = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert {tensor.dtype for name, tensor in state.items() if name.startswith("head.")} == {torch.float64}


VIEWS = ["augmentation=light", "augmentation.views=2", "trainer.reuse_views=true"]
PHASES = "unfreeze.phases=[{start: 0, groups: [blocks.4.0, tail]}, {start: 3, groups: [blocks.3.0, blocks.4.0, tail]}]"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["strategy=partial", "strategy.last_k=1"], {"0": "blocks.3.0"}),
        pytest.param(
            ["strategy=partial", "strategy.last_k=1", "strategy.granularity=stages"],
            {"0": "blocks.3.0"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["strategy=fine_tune", "unfreeze=phases", PHASES],
            {"0": "blocks.3.0", "1": "blocks.2.0"},
            marks=pytest.mark.slow,
        ),
        (["strategy=lp_ft", "unfreeze.epochs=3"], {"0": "tail"}),
        (["strategy=partial", "strategy.last_k=1", *VIEWS], {"0": "blocks.3.0"}),
    ],
)
def test_what_stays_frozen_is_computed_once_and_gives_the_same_training(at_home, pictures, words, kept):
    """Against the same run with a budget that has no room for activations below the head."""
    words = [*words, "trainer.max_epochs=6"]
    _, result, history = trained(pictures, *words)
    assert result["reading"]["kept"] == kept
    assert result["cost"]["feature_flops"] > 0
    foretold = forecast(draft(job_config(compose_config(tiny(pictures, *words)))))
    assert {str(i): p["starts_after"] for i, p in enumerate(foretold["phases"]) if p["starts_after"]} == kept
    assert foretold["flops"] == pytest.approx(result["cost"]["train_flops"], rel=0.02)
    Path("outputs").rename("kept")
    _, live, same = trained(pictures, *words, "features.budget_gb=3e-5")
    assert live["reading"]["kept"].keys() <= {phase for phase, group in kept.items() if group == "tail"}
    for row, other in zip(history, same, strict=True):
        assert float(row["train/loss"]) == pytest.approx(float(other["train/loss"]), rel=1e-3)
        assert float(row["val/loss"]) == pytest.approx(float(other["val/loss"]), rel=1e-3)


@pytest.mark.parametrize(
    "word",
    [
        "augmentation=light",
        "strategy.frozen_norm=batch_stats",
        "strategy.frozen_norm=train",
        "trainer.max_epochs=1",
        "trainer.batch_size=4",
    ],
)
def test_activations_are_not_kept_where_they_would_change_or_not_pay(at_home, pictures, word):
    _, result, _ = trained(pictures, "strategy=partial", "strategy.last_k=1", "trainer.max_epochs=6", word)
    assert bool(result["reading"]["kept"]) == (word == "trainer.batch_size=4")


def test_the_head_first_phase_reads_features_that_a_probe_left(at_home, pictures):
    words = ["strategy=lp_ft", "unfreeze.epochs=1"]
    _, probe, _ = trained(pictures, "strategy=feature_extraction")
    _, result, _ = trained(pictures, *words)
    assert result["cost"]["feature_flops"] == probe["cost"]["feature_flops"] > 0
    assert result["cost"]["feature_seconds"] == probe["cost"]["feature_seconds"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy=feature_extraction", "unfreeze=gradual"], "keeps the whole backbone (stem, "),
        (["strategy=lora", "strategy.adapter.r=999"], "strategy.adapter.r must not exceed"),
        (["strategy=partial", "strategy.last_k=99"], "strategy.last_k must be at most the number of blocks"),
        (["strategy=gradual_unfreeze", "unfreeze.every=9"], "Every group must thaw before training ends"),
        (
            ["strategy=partial", "strategy.last_k=null", "strategy.groups=[layer9]"],
            "['layer9'] match none. Groups: stem",
        ),
        (
            ["augmentation=light", "augmentation.views=1", "trainer.reuse_views=true"],
            "augmentation.views must be at least 2",
        ),
        (
            ["strategy=discriminative", "strategy.layer_decay=0"],
            "strategy.layer_decay must be greater than or equal to 0.01",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_told_before_anything_is_written(at_home, pictures, capsys, words, message):
    assert main(["train", *tiny(pictures, *words)]) == 2
    assert message in capsys.readouterr().err
    assert not Path("outputs").exists()


def start(pictures, *words):
    command = [sys.executable, "-m", "headstart", "train", *tiny(pictures, *words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        ["gradual_unfreeze", "unfreeze.num_groups=2"],
        ["delta"],
        ["stochnorm"],
        ["surgical_auto"],
        ["sam"],
        ["cotuning"],
        ["lp_ft", "unfreeze.epochs=20", "trainer.compile=true", "trainer.devices=2", "trainer.accelerator=cpu"],
    ],
    ids=lambda words: "-".join(word for word in words if "=" not in word or word == "trainer.compile=true"),
)
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(at_home, pictures, tmp_path_factory, strategy):
    own = [*strategy[1:], *(WORDS["cotuning"] if strategy == ["cotuning"] else [])]
    words = [f"strategy={strategy[0]}", *own, "trainer.max_epochs=40", "scheduler=one_cycle"]
    run = start(pictures, *words)
    deadline = time.monotonic() + 400
    while not (begun := list(Path("outputs").glob("runs/*/checkpoints/last.ckpt"))):
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    directory = begun[0].parents[1]
    assert not (directory / "result.json").exists()
    assert main(["train", *tiny(pictures, *words)]) == 0
    resumed = json.loads((directory / "result.json").read_text())
    history = (directory / "history.csv").read_text()
    os.chdir(tmp_path_factory.mktemp("whole"))
    _, whole, rows = trained(pictures, *words)
    assert resumed["metrics"] == whole["metrics"]
    strip = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    assert [{n: v for n, v in row.items() if n != "seconds"} for row in csv.DictReader(history.splitlines())] == strip


@pytest.mark.slow
def test_two_devices_make_one_record(at_home, pictures):
    words = ["strategy=gradual_unfreeze", "unfreeze.num_groups=7", "trainer.accelerator=cpu"]
    directory, result, history = trained(pictures, *words, "trainer.devices=2")
    assert result["status"] == "completed"
    assert len(history) == 2
    _, alone, single = trained(pictures, *words)
    assert float(history[0]["train/loss"]) == pytest.approx(float(single[0]["train/loss"]), rel=1e-5)
    assert result["cost"]["train_flops"] == pytest.approx(alone["cost"]["train_flops"], rel=1e-6)
    assert (directory / "predictions.npz").stat().st_size > 0


@pytest.mark.slow
def test_two_devices_that_share_a_model_give_what_two_with_copies_give(at_home, pictures):
    words = ["strategy=partial", "strategy.last_k=1", "trainer.accelerator=cpu", "trainer.devices=2"]
    found = [trained(pictures, *words, f"trainer.strategy={how}", command=in_a_process) for how in ("fsdp2", "auto")]
    for mine, other in zip(*(history for _, _, history in found), strict=True):
        assert all(float(mine[key]) == pytest.approx(float(other[key]), rel=1e-4) for key in mine if key != "seconds")
    shared, copied = (torch.load(path / "checkpoints" / "best.ckpt", weights_only=True) for path, _, _ in found)
    assert shared.keys() == copied.keys()
    assert shared["state_dict"].keys() == copied["state_dict"].keys()  # whole, though the plan trains the last layers
    mine, other = (result["metrics"] for _, result, _ in found)
    assert mine == pytest.approx(other, rel=1e-3, abs=1e-4)  # an error of calibration is near zero
