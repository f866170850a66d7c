"""The commands as a person types them: what they print, write and return."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from headstart.cli.hydra_app import compose_config
from headstart.cli.main import COMMANDS, main
from headstart.config.identity import settings
from headstart.config.recorded import dumped
from headstart.run.prepare import job_config, prepare
from pictures import tiny, write_folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"))


def run(*words: str) -> int:
    return main(["train", *words])


def refused(capsys: pytest.CaptureFixture[str], home: Path, *words: str) -> str:
    """What is said about malformed input, having made sure that it ends with 2 and writes nothing."""
    before = set(home.rglob("*"))
    assert run(*words) == 2
    assert set(home.rglob("*")) == before
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("command", ["", *sorted({*COMMANDS} - {"train"})])
def test_help_imports_neither_torch_nor_hydra(command: str):
    code = (
        f"import sys; from headstart.cli.main import COMMANDS, main; main({[*command.split(), '--help']}); "
        "print(sorted({'torch', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"  headstart {command or 'train'} " in done.stdout
    assert "example" in done.stdout
    assert done.stdout.endswith("[]\n")
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_run_leaves_what_the_contract_says(at_home: Path, pictures: Path):
    assert run(*tiny(pictures, "strategy=fine_tune")) == 0
    (directory,) = (at_home / "outputs" / "runs").iterdir()
    names = {path.name for path in directory.iterdir()}
    assert {"config.yaml", "result.json", "history.csv", "plan.json", "plan.svg", "predictions.npz", "log.txt"} <= names
    assert (directory / "checkpoints" / "best.ckpt").exists()
    assert not (directory / "checkpoints" / "last.ckpt").exists()
    done = json.loads((directory / "result.json").read_text())
    assert done["schema"] == 1
    assert done["status"] == "completed"
    assert done["run_id"] == directory.name
    assert done["choices"]["strategy"] == "fine_tune"
    assert done["settings"]["optimizer.lr"] == 0.001
    assert 0 <= done["metrics"]["test/accuracy"] <= 1
    assert done["cost"]["train_flops"] > 0
    assert done["data"]["sizes"]["train"] + done["data"]["sizes"]["val"] + done["data"]["sizes"]["test"] == 36
    assert done["environment"]["packages"]["torch"]
    header, *rows = (directory / "history.csv").read_text().splitlines()
    assert header.startswith("epoch,step,phase,train/loss,train/accuracy,val/loss,val/accuracy,val/balanced_accuracy,")
    assert header.endswith("lr/head")
    assert len(rows) == 2


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_the_same_command_twice_gives_the_same_numbers(at_home: Path, pictures: Path, strategy: str):
    import torch

    results = []
    for folder in ("a", "b"):
        assert run(*tiny(pictures, f"strategy={strategy}", f"hydra.run.dir={folder}", "augmentation=light")) == 0
        weights = torch.load(at_home / folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        results.append((json.loads((at_home / folder / "result.json").read_text())["metrics"], weights))
    (first, first_weights), (second, second_weights) = results
    assert first == second
    assert all(torch.equal(first_weights[name], second_weights[name]) for name in first_weights)


def test_a_finished_run_is_not_repeated(at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]):
    words = tiny(pictures, "strategy=feature_extraction")
    assert run(*words) == 0
    (path,) = at_home.rglob("result.json")
    before = path.stat().st_mtime_ns
    assert run(*words) == 0
    assert "Already completed" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before


def test_smoke_runs_one_batch_of_everything(at_home: Path, pictures: Path):
    words = tiny(pictures, "strategy=feature_extraction", "trainer=smoke")
    assert run(*[word for word in words if not word.startswith(("trainer.max", "trainer.batch"))]) == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trainer.max_epoch=3"], "Unknown setting 'trainer.max_epoch'. Did you mean trainer.max_epochs"),
        (["+foo=3"], "Unknown setting 'foo'"),
        (["+trainer.foo=3"], "Unknown setting 'trainer.foo'"),
        (["optimizer.lrr=3"], "Did you mean optimizer.lr"),
        (["trainer.max_epochs=many"], "trainer.max_epochs"),
        (["trainer.max_epochs=0"], "trainer.max_epochs must be greater than or equal to 1, but is 0"),
        (["optimizer.lr=-1"], "optimizer"),
        (["scheduler.warmup=2"], "scheduler.warmup must be less than 1, but is 2"),
        (["strategy=fine_tun"], "Did you mean fine_tune?"),
        (["backbone=resnet19"], "Did you mean resnet18"),
        (["backbone=timm", "backbone.model=resnet19"], "Did you mean"),
        (["backbone=timm"], "backbone.model must be given"),
        (["data=image_folder", "data.root=nowhere"], "nowhere"),
        (["data._target_=os.system"], "data._target_ must lie in headstart"),
        (["optimizer._target_=torch.optim.lr_scheduler.StepLR"], "must be a Optimizer"),
        (["hydra.job_logging.handlers.file.class=x", "+hydra.callbacks.x._target_=os.system"], "os.system"),
        (["strategy=feature_extraction", "unfreeze=at_start"], "unfreeze=AtStart would thaw it"),
        (["strategy=fine_tune", "unfreeze=gradual", "unfreeze.every=9"], "must thaw before training ends"),
        (["strategy=fine_tune", "head.solver=lbfgs"], "head.solver=lbfgs"),
        (["strategy=a,b"], "train -m"),
    ],
)
def test_bad_settings_are_refused_with_a_remedy(
    at_home: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
):
    assert expected in refused(capsys, at_home, "data.size=32", *words)


def test_bad_settings_inside_an_experiment_file_are_refused(at_home: Path, capsys: pytest.CaptureFixture[str]):
    folder = at_home / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "typo.yaml").write_text("# @package _global_\ntrainer:\n  max_epoch: 3\n")
    (folder / "range.yaml").write_text("# @package _global_\ntrainer:\n  max_epochs: -3\nscheduler:\n  warmup: 7.0\n")
    said = refused(capsys, at_home, "--config-dir", "mine", "experiment=typo")
    assert "max_epoch" in said
    said = refused(capsys, at_home, "--config-dir", "mine", "experiment=range")
    assert "trainer.max_epochs must be" in said
    assert "scheduler.warmup must be" in said


def test_all_problems_of_the_data_are_named(at_home: Path, capsys: pytest.CaptureFixture[str]):
    root = write_folder(at_home / "pictures")
    (root / "circle" / "broken.png").write_bytes(b"no picture")
    (root / "square" / "cut.png").write_bytes((root / "square" / "0.png").read_bytes()[:60])
    (root / "empty").mkdir()
    said = refused(capsys, at_home, *tiny(root))
    assert "broken.png" in said
    assert "cut.png" in said
    assert "empty" in said


def test_more_examples_than_there_are_is_refused(at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]):
    assert "split.n_per_class=100" in refused(capsys, at_home, *tiny(pictures, "split.n_per_class=100"))


def test_weights_that_do_not_fit_are_refused(at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]):
    import torch

    torch.save({"stem.weight": torch.zeros(3, 3)}, at_home / "wrong.pt")
    said = refused(capsys, at_home, *tiny(pictures, "backbone.weights=wrong.pt"))
    assert "missing" in said.lower()
    assert "stem.weight" in said


def test_a_hub_model_without_network_is_refused_soon(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    said = refused(capsys, at_home, *tiny(pictures, "backbone.model=resnet10t", "backbone.weights=hub"))
    assert time.monotonic() - began < 15
    assert "backbone.weights" in said


def test_a_loss_that_is_not_finite_ends_the_run_as_failed(at_home: Path, pictures: Path):
    words = tiny(pictures, "strategy=fine_tune", "optimizer=sgd", "optimizer.lr=1e30", "seed=0,1")
    assert run("-m", *words) == 1
    results = [json.loads(path.read_text()) for path in at_home.rglob("result.json")]
    assert [done["status"] for done in results] == ["failed", "failed"]
    assert all("epoch 1, step" in done["error"]["message"] for done in results)


def test_a_failed_run_says_why_and_is_tried_again_when_asked(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    words = tiny(pictures, "strategy=feature_extraction", "optimizer=sgd", "optimizer.lr=1e30")
    assert run(*words) == 1
    assert "--retry-failed" in capsys.readouterr().err
    (path,) = at_home.rglob("result.json")
    before = path.stat().st_mtime_ns
    assert run(*words) == 1
    said = capsys.readouterr().err
    assert "This run failed before: DivergedError: " in said
    assert str(path.parent.relative_to(at_home)) in said
    assert "--retry-failed" in said
    assert path.stat().st_mtime_ns == before
    assert run(*words, "--retry-failed") == 1
    assert path.stat().st_mtime_ns > before
    assert (path.parent / "attempts" / "1" / "result.json").exists()


def test_a_comparison_is_not_repeated_and_grows(at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]):
    words = tiny(pictures, "strategy=feature_extraction,fine_tune", "name=few")
    assert run("-m", *words, "seed=0") == 0
    assert "strategy" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in at_home.rglob("result.json")}
    assert run("-m", *words, "seed=0,1") == 0
    after = {path: path.stat().st_mtime_ns for path in at_home.rglob("result.json")}
    assert len(before) == 2
    assert len(after) == 4
    assert before.items() <= after.items()
    sweep = json.loads((at_home / "outputs" / "few" / "sweep.json").read_text())
    assert {entry["run_id"] for entry in sweep["runs"]} == {path.parent.name for path in after}
    assert (at_home / "outputs" / "few" / "report" / "report.html").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 0", "seed: ${oops", "run's config"),
        ("seed: 0", "seed: three", "seed must be"),
        ("max_epochs: ", "max_epoch: ", "max_epochs"),
        ("features:", "features: 5\nothers:", "features must be settings by name"),
        ("seed: 0", "seed: !!set {a}", "run's config"),
    ],
)
def test_a_damaged_config_is_said_to_be_one(at_home: Path, pictures: Path, capsys, old: str, new: str, message: str):
    assert main(["train", *tiny(pictures), "hydra.run.dir=run"]) == 0
    config = at_home / "run" / "config.yaml"
    config.write_text(config.read_text().replace(old, new, 1))
    capsys.readouterr()
    assert main(["rerun", "run"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "config.yaml" in said
    assert "Traceback" not in said


def test_a_setting_that_does_nothing_is_no_part_of_a_run(at_home: Path, pictures: Path):
    ids = [
        prepare(job_config(compose_config([*tiny(pictures), *words]))).run_id
        for words in ([], ["trainer.reuse_views=true"])
    ]
    assert ids[0] != ids[1]
    assert "trainer.reuse_views" not in settings(job_config(compose_config(tiny(pictures))))


def test_a_rerun_is_identical(at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]):
    assert run("-m", *tiny(pictures, "strategy=feature_extraction", "seed=0,1,2", "name=few")) == 0
    first = sorted(path.parent for path in at_home.rglob("result.json"))[0]
    written = json.loads((first / "result.json").read_text())
    del written["metrics"]["test/balanced_accuracy"], written["checksum"]  # as if by a version that had neither
    (first / "result.json").write_text(json.dumps(written))
    capsys.readouterr()
    assert main(["rerun", str(first), "--check"]) == 0
    assert capsys.readouterr().out.strip() == "identical"


def test_completion_offers_commands_choices_and_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def offered(line: str) -> str:
        monkeypatch.setenv("COMP_LINE", line)
        main(["-sc", "query=bash"])
        return capsys.readouterr().out

    assert "train" in offered("headstart tr")
    assert "strategy=lp_ft" in offered("headstart train strategy=")
    assert "trainer.max_epochs=" in offered("headstart train trainer.max_ep")


def test_the_config_is_shown_as_hydra_users_expect(capsys: pytest.CaptureFixture[str]):
    assert run("--cfg", "job", "strategy=lp_ft") == 0
    shown = capsys.readouterr().out
    assert "HeadFirst" in shown
    assert run("--help") == 0
    assert "gradual_unfreeze" in capsys.readouterr().out


def test_configs_are_written_as_omegaconf_writes_them():
    words = ["strategy=lp_ft", "name='1e-3'", "+backbone.arguments={a: yes, b: '007', c: 1e-3, d: [on, null, 2.0]}"]
    cfg = job_config(compose_config(words))
    cfg.name = "café: 1e-3 – 'x'\n#"
    assert dumped(cfg) == OmegaConf.to_yaml(cfg, resolve=True)
    cfg.name = "1e-3"
    assert dumped(cfg) == OmegaConf.to_yaml(cfg, resolve=True)


def test_a_setting_that_the_config_only_lacks_can_be_added(at_home: Path, capsys: pytest.CaptureFixture[str]):
    assert "write +backbone.drop_rate=VALUE to add it" in refused(capsys, at_home, "backbone.drop_rate=0.1")
