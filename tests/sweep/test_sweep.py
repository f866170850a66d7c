"""Comparisons as a person runs them: what is drawn up, what is done, skipped, recorded and said."""

import csv
import json
import shlex
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.cli import commands, hydra_app
from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.config.overrides import in_shell
from headstart.features.store import FeatureStore
from headstart.run import experiment, launched
from headstart.run.prepare import job_config, prepare
from headstart.sweep import sweeper
from headstart.sweep.ledger import Ledger
from pictures import tiny, write_folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)


@pytest.fixture(autouse=True)
def home(at_home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Where the test runs; without the report at the end of a comparison, which takes longer than the rest."""
    if "report" not in request.keywords:
        monkeypatch.setattr(commands, "finish_comparison", lambda *_: None)
    return at_home


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each run was begun."""
    counts: Counter = Counter()
    real = experiment.begin_record

    def counting(job: Any, *more: Any) -> Any:
        counts[job.run_id] += 1
        return real(job, *more)

    monkeypatch.setattr(experiment, "begin_record", counting)
    return counts


def sweep(pictures: Path, *words: str) -> int:
    return main(["train", "-m", *tiny(pictures, "trainer.max_epochs=1", "name=s"), *words])


def results(home: Path, name: str = "s") -> dict[str, dict[str, Any]]:
    found = {path.parent.name: json.loads(path.read_text()) for path in home.glob(f"outputs/{name}/*/result.json")}
    listed = {run["run_id"] for run in Ledger(home / "outputs" / name).read()["runs"]}
    assert set(found) <= listed
    return found


def points(home: Path, *keys: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(run["settings"][key] for key in keys) for run in results(home).values())


def test_a_grid_is_every_combination(home: Path, pictures: Path):
    assert sweep(pictures, "strategy=feature_extraction", "seed=0,1", "optimizer.lr=1e-2,1e-3") == 0
    assert points(home, "seed", "optimizer.lr") == [(0, 1e-3), (0, 1e-2), (1, 1e-3), (1, 1e-2)]


def test_an_experiment_brings_a_grid_that_the_command_line_can_change(home: Path, pictures: Path):
    words = ["strategy=feature_extraction", "hydra.sweeper.params={seed:'0,1',optimizer.lr:'1e-2,1e-3'}"]
    assert sweep(pictures, *words, "optimizer.lr=0.5") == 0
    assert points(home, "seed", "optimizer.lr") == [(0, 0.5), (1, 0.5)]


def test_zipped_values_vary_together(home: Path, pictures: Path):
    words = ["strategy=feature_extraction", "hydra.sweeper.zip={split.n_per_class:'2,4',optimizer.lr:'1e-2,1e-3'}"]
    assert sweep(pictures, *words, "seed=0,1") == 0
    expected = [(2, 1e-2, 0), (2, 1e-2, 1), (4, 1e-3, 0), (4, 1e-3, 1)]
    assert points(home, "split.n_per_class", "optimizer.lr", "seed") == expected


def test_zipped_values_of_other_numbers_are_refused(home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]):
    assert sweep(pictures, "hydra.sweeper.zip={seed:'0,1',optimizer.lr:'1e-2,1e-3,1e-4'}") == 2
    assert "seed has 2, optimizer.lr has 3" in capsys.readouterr().err
    assert not (home / "outputs").exists()


def test_runs_can_be_listed_one_by_one(home: Path, pictures: Path):
    words = "hydra.sweeper.runs=['strategy=feature_extraction optimizer.lr=0.5','strategy=partial seed=3']"
    assert sweep(pictures, words) == 0
    done = sorted((run["choices"]["strategy"], run["seed"]) for run in results(home).values())
    assert done == [("feature_extraction", 0), ("partial", 3)]


def test_a_run_that_is_named_twice_is_done_once(home: Path, pictures: Path, begun: Counter):
    assert sweep(pictures, "strategy=feature_extraction", "seed=0,0,1", "optimizer.lr=0.001,1e-3") == 0
    assert list(begun.values()) == [1, 1]
    assert len(results(home)) == 2


def test_all_that_is_wrong_is_said_at_once_and_nothing_written(
    home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["strategy=fine_tune,nonsense", "seed=0,-1", "split.n_per_class=2,1000", "trainer.batch_size=8,0"]
    assert sweep(pictures, *words) == 2
    said = capsys.readouterr().err
    for problem in ("nonsense", "seed", "1000", "trainer.batch_size", "Choices: bias_only", "runs, such as: "):
        assert problem in said
    assert not (home / "outputs").exists()


def test_a_dry_run_shows_what_is_done_and_writes_nothing(
    home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    assert sweep(pictures, "strategy=feature_extraction", "seed=0") == 0
    before = sorted(home.rglob("*"))
    capsys.readouterr()
    assert sweep(pictures, "strategy=feature_extraction", "seed=0,1", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "2 runs, 1 done, 1 to do" in said
    assert sorted(home.rglob("*")) == before


def test_what_is_done_is_skipped_and_the_comparison_grows(home: Path, pictures: Path, begun: Counter):
    assert sweep(pictures, "strategy=feature_extraction", "seed=0,1") == 0
    first = results(home)
    assert sweep(pictures, "strategy=feature_extraction", "seed=0,1,2") == 0
    assert set(begun.values()) == {1}
    assert len(results(home)) == 3
    assert {run_id: results(home)[run_id] for run_id in first} == first


class Accident:
    """Makes runs of some seeds fail, each in its own way, as long as it is in force."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, errors: dict[int, BaseException]) -> None:
        self.errors, self.real = errors, experiment.train_model
        monkeypatch.setattr(experiment, "train_model", self)

    def __call__(self, job: Any, record: Any) -> Any:
        if job.seed in self.errors:
            raise self.errors[job.seed]
        return self.real(job, record)


@pytest.mark.report
def test_runs_that_fail_are_recorded_while_the_others_go_on(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    accident = Accident(
        monkeypatch,
        {
            1: RuntimeError("no <luck>"),
            2: SystemExit(3),
            3: torch.OutOfMemoryError("CUDA out of memory"),
        },
    )
    assert sweep(pictures, "strategy=fine_tune", "seed=range(5)") == 1
    done = {run["seed"]: run for run in results(home).values()}
    assert [done[seed]["status"] for seed in range(5)] == ["completed", *["failed"] * 3, "completed"]
    types = [done[seed]["error"]["type"] for seed in (1, 2, 3)]
    assert types == ["RuntimeError", "SystemExit", "OutOfMemoryError"]
    assert "Traceback" in done[1]["error"]["traceback"]
    said = capsys.readouterr().out
    for seed in (1, 2, 3):
        assert f"headstart rerun {home}/outputs/s/{done[seed]['run_id']}" in said
        assert done[seed]["error"]["message"] in said
    assert "--retry-failed" in said

    accident.errors.clear()
    assert sweep(pictures, "strategy=fine_tune", "seed=range(5)") == 1  # failed runs are not tried again by themselves
    assert Counter(run["status"] for run in results(home).values()) == {"completed": 2, "failed": 3}
    assert sweep(pictures, "strategy=fine_tune", "seed=range(5)", "--retry-failed") == 0
    assert Counter(run["status"] for run in results(home).values()) == {"completed": 5}
    attempts = list(home.glob("outputs/s/*/attempts/1/result.json"))
    assert len(attempts) == 3
    assert {json.loads(path.read_text())["status"] for path in attempts} == {"failed"}


@pytest.mark.parametrize("strategy", ["fine_tune", "feature_extraction"])
def test_a_loss_that_is_not_finite_fails_its_run_alone(home: Path, pictures: Path, strategy: str):
    assert sweep(pictures, f"strategy={strategy}", "optimizer.lr=1e30,1e-3") == 1
    status = {run["settings"]["optimizer.lr"]: run for run in results(home).values()}
    assert status[1e30]["error"]["type"] == "DivergedError"
    assert status[1e-3]["status"] == "completed"


def test_heads_that_cannot_be_trained_together_are_trained_alone(
    home: Path, pictures: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
):
    real = experiment.fitted_heads

    def scarce(jobs: Any, *more: Any) -> Any:
        if len(jobs) > 1 or jobs[0].seed == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(jobs, *more)

    monkeypatch.setattr(experiment, "fitted_heads", scarce)
    assert sweep(pictures, f"backbone.weights={weights}", "strategy=feature_extraction", "seed=0,1,2") == 1
    assert {run["seed"]: run["status"] for run in results(home).values()} == {
        0: "completed",
        1: "failed",
        2: "completed",
    }


def test_config_files_edited_meanwhile_do_not_change_a_comparison(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    own = home / "own"
    for folder in ("experiment", "optimizer"):
        (own / folder).mkdir(parents=True)
    experiment_file = own / "experiment" / "mine.yaml"
    experiment_file.write_text("# @package _global_\noptimizer:\n  lr: 0.01\n")
    real = experiment.train_model

    def editing(job: Any, record: Any) -> Any:
        experiment_file.write_text("# @package _global_\noptimizer:\n  lr: 0.5\n  nonsense: 1\n")
        return real(job, record)

    monkeypatch.setattr(experiment, "train_model", editing)
    assert sweep(pictures, "--config-dir", str(own), "experiment=mine", "strategy=fine_tune", "seed=0,1") == 0
    assert {run["settings"]["optimizer.lr"] for run in results(home).values()} == {0.01}


def test_a_pending_runs_config_that_was_edited_is_not_what_runs(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    real = experiment.train_model

    def editing(job: Any, record: Any) -> Any:
        for path in home.glob("outputs/s/*/config.yaml"):
            if path.parent != record.directory:
                path.write_text(path.read_text().replace("lr: 0.002", "lr: 0.004"))
        return real(job, record)

    monkeypatch.setattr(experiment, "train_model", editing)
    assert sweep(pictures, "strategy=fine_tune", "optimizer.lr=0.002", "seed=0,1") == 0
    done = results(home)
    assert {run["settings"]["optimizer.lr"] for run in done.values()} == {0.002}
    assert all(run["run_id"] == name for name, run in done.items())


def test_data_that_changed_during_a_comparison_fail_the_runs_that_they_make_others(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    own = Path(shutil.copytree(pictures, home / "own"))
    real = experiment.train_model

    def changing(job: Any, record: Any) -> Any:
        first = next(path for path in sorted(own.rglob("*.png")))
        shutil.copy(first, first.with_name("another.png"))
        hydra_app.findings.cache_clear()  # as in another process
        return real(job, record)

    monkeypatch.setattr(experiment, "train_model", changing)
    assert sweep(own, "strategy=fine_tune", "seed=0,1") == 1
    by_seed = {run["seed"]: run for run in results(home).values()}
    assert by_seed[0]["status"] == by_seed[1]["status"] == "failed"
    assert "has changed since it was checked: its data have changed" in by_seed[0]["error"]["message"]
    assert "its config, data or weights now make run" in by_seed[1]["error"]["message"]


def test_a_full_disk_is_said_and_leaves_a_comparison_to_resume(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], begun: Counter
):
    import errno

    from headstart.record import tables

    real, room = tables.write_bytes, [True]

    def writer(path: Path, content: bytes, *more: Any, **options: Any) -> None:
        if path.name == "history.csv" and len(begun) == 2 and room[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content, *more, **options)

    monkeypatch.setattr(tables, "write_bytes", writer)
    words = ["strategy=fine_tune", "seed=0,1,2"]
    assert sweep(pictures, *words) == 1
    said = capsys.readouterr().err
    assert "The disk is full" in said
    assert "Traceback" not in said
    assert Counter(run["status"] for run in results(home).values()) == {"completed": 1}
    room[0] = False
    assert sweep(pictures, *words) == 0
    assert Counter(run["status"] for run in results(home).values()) == {"completed": 3}
    assert sorted(begun.values()) == [1, 1, 2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights for the tiny network, so that runs of all seeds share its features."""
    from headstart.compat import declare_torchvision_operators

    declare_torchvision_operators()
    import timm

    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    return path


def test_heads_on_the_same_features_are_trained_together_and_come_out_as_if_alone(
    home: Path, pictures: Path, weights: Path
):
    words = [f"backbone.weights={weights}", "strategy=feature_extraction", "optimizer.lr=1e-2,1e-3"]
    assert sweep(pictures, *words, "seed=0,1") == 0
    together = results(home)
    assert [run["cost"]["fused_with"] for run in together.values()] == [3] * 4
    for run in together.values():
        point = [f"optimizer.lr={run['settings']['optimizer.lr']}", f"seed={run['seed']}", "name=alone"]
        assert sweep(pictures, *words[:2], *point) == 0
    alone = results(home, "alone")
    assert {run["cost"]["fused_with"] for run in alone.values()} == {0}
    assert {run_id: run["metrics"] for run_id, run in together.items()} == {
        run_id: run["metrics"] for run_id, run in alone.items()
    }


def test_a_store_that_is_pruned_all_the_time_changes_nothing(
    home: Path, pictures: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
):
    words = [f"backbone.weights={weights}", "strategy=feature_extraction,lp_ft", "trainer.max_epochs=2", "seed=0,1"]
    assert sweep(pictures, *words) == 0
    expected = {run_id: run["metrics"] for run_id, run in results(home).items()}
    shutil.rmtree(home / "outputs")
    get, fill = FeatureStore.get, FeatureStore.fill

    def pruned(do: Any) -> Any:
        def call(self: FeatureStore, *arguments: Any) -> Any:
            FeatureStore(self.root, 0).prune()
            found = do(self, *arguments)
            FeatureStore(self.root, 0).prune()
            return found

        return call

    monkeypatch.setattr(FeatureStore, "get", pruned(get))
    monkeypatch.setattr(FeatureStore, "fill", pruned(fill))
    assert sweep(pictures, *words) == 0
    assert {run_id: run["metrics"] for run_id, run in results(home).items()} == expected


def test_it_does_not_matter_how_a_group_of_heads_is_cut(home: Path, pictures: Path, weights: Path):
    words = [f"backbone.weights={weights}", "strategy=feature_extraction", "optimizer.lr=1e-2,1e-3", "seed=0,1"]
    assert sweep(pictures, *words) == 0
    whole, configs = results(home), {path: path.read_bytes() for path in home.glob("outputs/s/*/config.yaml")}
    for places in ([1, 3], [0, 2, 3]):
        for place in places:
            shutil.rmtree(home / "outputs" / "s" / list(whole)[place])
        assert sweep(pictures, *words) == 0
        again = results(home)
        for run_id, run in whole.items():
            assert again[run_id]["metrics"] == run["metrics"]
            assert again[run_id]["cost"]["fused_with"] == 3
    assert {path: path.read_bytes() for path in configs} == configs


@pytest.mark.parametrize(
    "words",
    [
        ["seed=3,4", "split.seed=${seed}"],
        ["hydra.sweeper.params={seed:'3,4',split.seed:'${seed}'}"],
        pytest.param(["hydra.sweeper.zip={seed:'3,4',split.seed:'${seed},${seed}'}"], marks=pytest.mark.slow),
        ["hydra.sweeper.runs=['seed=3 split.seed=${seed}','seed=4 split.seed=${seed}']"],
        pytest.param(["hydra.sweeper.runs=['split.seed=${seed} seed=3,4']"], marks=pytest.mark.slow),
        ["--config-dir=own", "experiment=mine"],
    ],
)
def test_each_run_works_out_for_itself_what_its_settings_refer_to(
    home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], words: list[str]
):
    (home / "own" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra: {sweeper: {params: {seed: '3,4', split.seed: '${seed}'}}}\n"
    (home / "own" / "experiment" / "mine.yaml").write_text(text)
    same = ["trainer.max_epochs=1", "name=s", "strategy=fine_tune"]
    expected = {
        prepare(job_config(compose_config([*tiny(pictures, *same), f"seed={seed}", f"split.seed={seed}"]))).run_id
        for seed in (3, 4)
    }
    assert sweep(pictures, "strategy=fine_tune", *words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "2 runs" in said
    assert all(run_id in said for run_id in expected)


def test_what_the_comparison_itself_lacks_may_be_referred_to_in_its_runs(home: Path, pictures: Path):
    own = {"optimizer.lr": "'0.1,0.2'", "split.seed": "'${seed}'", "optimizer.weight_decay": "'${optimizer.lr}'"}
    params = ",".join(f"{key}:{value}" for key, value in own.items())
    assert sweep(pictures, "strategy=feature_extraction", f"hydra.sweeper.params={{{params}}}", "seed=0,1") == 0
    keys = ("seed", "split.seed", "optimizer.lr", "optimizer.weight_decay")
    assert points(home, *keys) == [(0, 0, 0.1, 0.1), (0, 0, 0.2, 0.2), (1, 1, 0.1, 0.1), (1, 1, 0.2, 0.2)]
    run = next(iter(results(home).values()))
    assert "split.seed=${seed}" in run["overrides"]
    path = next(home.glob("outputs/s/*/config.yaml")).parent
    assert commands.rerun([str(path), "--check"]) == 0


@pytest.mark.report
def test_every_command_that_is_printed_can_be_copied(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    odd = "my photos, [2024] :b: it's é"
    root = write_folder(home / odd, per_class=8)
    words = [word for word in tiny(root, "strategy=fine_tune") if not word.startswith("data.root")]
    lines = [f"data.root='{odd}' seed=0,1".replace("it's", "it\\'s")]
    (home / "own" / "experiment").mkdir(parents=True)
    (home / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n" + json.dumps({"hydra": {"sweeper": {"runs": lines}}})
    )
    place = parsed_for_shell("hydra.sweep.dir", f"{home}/runs {odd}")
    words = ["train", "-m", "--config-dir=own", *words, "experiment=mine", *place]
    Accident(monkeypatch, {0: RuntimeError("no luck"), 1: MemoryError()})

    def typed(words: list[str]) -> tuple[int, list[list[str]]]:
        monkeypatch.setattr("sys.argv", ["headstart", *words])
        status = main(words)
        said = capsys.readouterr()
        found = [line.strip() for line in (said.out + said.err).splitlines() if line.strip().startswith("headstart ")]
        return status, [shlex.split(line)[1:] for line in found]

    status, printed = typed(words)
    assert status == 1
    assert [command[0] for command in printed] == ["rerun", "rerun", "train"]
    for command in printed:
        assert typed(command)[0] == 1, "they fail again"
    directory = next(home.glob("runs*"))
    status, printed = typed(["status", str(directory)])
    assert (status, printed[-1]) == (0, [*words, "--retry-failed"])
    for run in directory.glob("*/result.json"):
        done = json.loads(run.read_text())
        assert shlex.split(done["rerun"]) == ["headstart", "rerun", str(run.parent)]
    for path in directory.glob("*/result.json"):
        shutil.rmtree(path.parent)
    status, printed = typed(["status", str(directory)])
    assert printed == [words]
    commands.report([str(directory)])
    with (directory / "report" / "tables" / "runs.csv").open() as file:
        assert [shlex.split(row["rerun"])[1:] for row in csv.DictReader(file)] == [words, words]


def parsed_for_shell(key: str, text: str) -> list[str]:
    return shlex.split(in_shell(key, text))


def test_a_comparison_that_grew_by_another_command_goes_on_with_the_one_that_asked(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for seeds in ("seed=0,1", "seed=2"):
        monkeypatch.setattr("sys.argv", ["headstart", "train", "-m", seeds])
        assert sweep(pictures, "strategy=feature_extraction", seeds) == 0
    for path in home.glob("outputs/s/*/result.json"):
        if json.loads(path.read_text())["seed"] == 1:
            shutil.rmtree(path.parent)
    capsys.readouterr()
    assert commands.status([str(home / "outputs" / "s")]) == 0
    assert "headstart train -m seed=0,1\n" in capsys.readouterr().out


@pytest.mark.parametrize("most", [1024, 1])
def test_runs_are_prepared_once_and_anew_where_their_config_is_not_what_was_drawn_up(
    pictures: Path, home: Path, monkeypatch: pytest.MonkeyPatch, most: int
):
    grid = ["strategy=feature_extraction,fine_tune", "optimizer.lr=0.01,0.1"]
    assert sweep(pictures, *grid, "name=apart", "features.root=apart", "hydra/launcher=joblib") == 0
    prepared: list[str] = []

    def counting(*given: Any, **named: Any) -> Any:
        job = prepare(*given, **named)
        prepared.append(job.run_id)
        return job

    monkeypatch.setattr(launched, "prepare", counting)
    monkeypatch.setattr(sweeper, "MOST_PREPARED", most)
    assert sweep(pictures, *grid) == 0
    assert len(prepared) == (0 if most > 1 else 3)
    here, apart = results(home), results(home, "apart")
    assert here.keys() == apart.keys()
    for run_id, done in here.items():
        assert done["metrics"] == apart[run_id]["metrics"]
        config, other = (home / "outputs" / name / run_id / "config.yaml" for name in ("s", "apart"))
        said = other.read_text().replace("- name=apart\n- features.root=apart\n", "")
        said = said.replace("name: apart", "name: s").replace("root: apart", "root: null")
        assert config.read_text() == said


def test_a_config_that_was_edited_after_it_was_drawn_up_is_read_again(
    pictures: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = sweeper._launched

    def edited(launcher: Any, batch: Any) -> Any:
        for path in home.glob("outputs/s/*/config.yaml"):
            path.write_text(path.read_text().replace("lr: 0.01", "lr: 0.02"))
        return real(launcher, batch)

    monkeypatch.setattr(sweeper, "_launched", edited)
    assert sweep(pictures, "strategy=fine_tune", "optimizer.lr=0.01") != 0
    assert "they were changed after the comparison was drawn up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["strategy=lora,peft", "strategy.adapter.r=2"], ["lora", "peft"]),
        (["unfreeze=gradual,on_plateau", "unfreeze.num_groups=2"], ["gradual", "on_plateau"]),
    ],
)
def test_a_setting_that_all_listed_choices_take_need_not_go_with_the_usual_one(pictures, home, words, ids, capsys):
    assert sweep(pictures, "trainer.max_epochs=12", *words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "2 runs, 0 done, 2 to do" in said
    assert all(one in said for one in ids)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["strategy=partial,delta", "strategy.last_k=1"], "strategy=delta strategy.last_k=1"),
        (["strategy=fine_tune,partial", "strategy.last_k=1"], "strategy=fine_tune strategy.last_k=1"),
        (["strategy=lora,fine_tune", "strategy.adapter.r=2"], "strategy=fine_tune strategy.adapter.r=2"),
        (["strategy=lp_ft,fine_tune", "unfreeze.epochs=1"], "strategy=fine_tune unfreeze.epochs=1"),
        (["optimizer=sgd,adamw", "optimizer.momentum=0.5"], "optimizer=adamw optimizer.momentum=0.5"),
    ],
)
def test_a_setting_that_some_listed_choices_lack_is_told_with_the_run_that_lacks_it(
    pictures, home, words, told, capsys
):
    assert sweep(pictures, *words) == 2
    said = capsys.readouterr().err
    assert "in 1 of 2 runs" in said
    assert told in said
    assert "hydra.sweeper.runs lists runs with settings of their own" in said
    assert not (home / "outputs").exists()


@pytest.mark.parametrize("words", [["seed=0,1", "seed=0"], ["name=one,two"]])
def test_what_makes_no_difference_between_listed_runs_is_named(pictures, home, words, capsys):
    assert sweep(pictures, *words, "--dry-run") == 0
    said = " ".join(capsys.readouterr().err.split())
    key = words[0].partition("=")[0]
    assert "1 of 2 runs is named more than once, and done once: they differ by" in said
    assert f"by what is said of {key} alone, which comes to the same" in said


def test_no_processes_are_refused_before_anything_is_written(pictures, home, capsys):
    assert sweep(pictures, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0") == 2
    assert "hydra.launcher.n_jobs, the number of processes, must not be 0" in capsys.readouterr().err
    for setting, told in (
        ("batch_size=x", "batch_size must be 'auto' or a positive integer"),
        ("pre_dispatch=2*", "not a valid or supported arithmetic"),
        ("backend=threading", "hydra.launcher.backend=threading would not be used"),
        ("prefer=threads", "hydra.launcher.prefer=threads would not be used"),
        ("require=sharedmem", "hydra.launcher.require=sharedmem would not be used"),
    ):
        assert sweep(pictures, "seed=0,1", "hydra/launcher=joblib", f"hydra.launcher.{setting}") == 2
        assert told in capsys.readouterr().err
    assert not (home / "outputs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.batch_size=0,8"],
        ["strategy.lr=-1,0.01"],
        ["backbone=resnet18,vgg16", "seed=0,1", "backbone.pooling=avg"],
    ],
)
def test_what_is_wrong_in_itself_is_not_said_to_belong_to_some_runs(pictures, home, words, capsys):
    assert sweep(pictures, *words, "--dry-run") == 2
    said = capsys.readouterr().err
    assert " of " in said.partition("(in ")[2]
    assert "settings of their own" not in said


def test_a_word_that_no_run_takes_is_told_before_all_are_looked_at(pictures, home, capsys):
    assert sweep(pictures, "seed=range(0,300)", "strategy.typo=1", "--dry-run") == 2
    said = capsys.readouterr().err
    assert "Unknown setting 'strategy.typo'" in said
    assert f"in {sweeper.MOST_REFUSED} of the first {sweeper.MOST_REFUSED} runs" in said


def test_what_goes_with_all_runs_holds_for_the_comparison_too(pictures, home):
    """Only the words that do not go with the usual choices are left to the runs."""
    words = ["strategy=lora,peft", "strategy.adapter.r=2", "name=n_${data.size}"]
    assert main(["train", "-m", *tiny(pictures, "trainer.max_epochs=1"), *words]) == 0
    assert [path.name for path in (home / "outputs").iterdir()] == ["n_32"]
    listed = Ledger(home / "outputs" / "n_32").read()["runs"]
    assert all("strategy.adapter.r=2" in run["overrides"] for run in listed)
    assert [run["choices"]["strategy"] for run in listed] == ["lora", "peft"]
