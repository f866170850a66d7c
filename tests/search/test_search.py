"""Searches as a person runs them: what is drawn, what a trial may see, what is chosen, how it goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.plugins import Plugins

from headstart.cli import commands
from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.record.directory import RunDirectory, SweepDirectory
from headstart.record.search import cells_of
from headstart.run import experiment
from headstart.run.prepare import job_config, prepare
from pictures import tiny, write_folder

QUICK = (
    "search.trials=3",
    "search.probes=4",
    "search.seeds=2",
    "search.replicates=2",
    "trainer.max_epochs=1",
    "name=s",
)
TWO = ("strategy=fine_tune,feature_extraction",)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)


@pytest.fixture(autouse=True)
def home(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test runs; without the report at the end."""
    monkeypatch.setattr(commands, "finish_comparison", lambda *_: None)
    return at_home


def search(pictures: Path, *words: str) -> int:
    return main(["train", "-m", *tiny(pictures, *QUICK), "search=tpe", *words])


def drawn(home: Path) -> dict[str, list[Any]]:
    """By strategy, every trial of its search."""
    cells = cells_of(SweepDirectory(home / "outputs" / "s"))
    return {str(record.choices["strategy"]): directory.trials() for record, directory in cells}


def results(home: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in home.glob("outputs/s/*/result.json")}


def test_a_search_ends_with_a_comparison_on_fresh_seeds(home: Path, pictures: Path, capsys: Any):
    assert search(pictures, *TWO) == 0
    trials, found = drawn(home), results(home)
    assert {name: sum(trial.is_draw for trial in known) for name, known in trials.items()} == {
        "fine_tune": 3,
        "feature_extraction": 4,
    }
    ids = {trial.run_id for known in trials.values() for trial in known}
    for known in trials.values():
        assert known[0].params == {}
        again = {(trial.replicate_of, trial.seed) for trial in known if not trial.is_draw}
        assert again == {(number, 1) for number, _ in again}
        assert (0, 1) in again
    for run_id in ids:
        assert found[run_id]["status"] == "completed"
        assert found[run_id]["settings"]["trial"] is True
        assert not [name for name in found[run_id]["metrics"] if name.startswith(("test/", "shift/"))]
        assert not (home / "outputs" / "s" / run_id / "predictions.npz").exists()
        assert not (home / "outputs" / "s" / run_id / "checkpoints").exists()
    verdict = {run_id: done for run_id, done in found.items() if run_id not in ids}
    listed = json.loads((home / "outputs/s/sweep.json").read_text())["runs"]
    assert {entry["run_id"] for entry in listed} == set(verdict)
    assert {done["seed"] for done in verdict.values()} == {1000, 1001}
    assert all("test/accuracy" in done["metrics"] for done in verdict.values())
    assert len({done["data"]["split_sha256"] for done in verdict.values()}) == 2
    contenders = Counter((done["choices"]["strategy"], done["choices"]["search"]) for done in verdict.values())
    assert contenders["fine_tune", "default"] == contenders["feature_extraction", "default"] == 2
    assert "Chosen on val" in capsys.readouterr().out
    before = {
        run_id: path.stat().st_mtime_ns for run_id in found for path in [home / "outputs/s" / run_id / "result.json"]
    }
    assert search(pictures, *TWO) == 0  # nothing is asked twice
    assert drawn(home) == trials
    after = {
        run_id: path.stat().st_mtime_ns for run_id in found for path in [home / "outputs/s" / run_id / "result.json"]
    }
    assert before == after
    assert main(["status", "outputs/s"]) == 0
    assert "fine_tune" in capsys.readouterr().out


def test_one_worker_draws_the_same_trials_and_goes_on_where_it_was_stopped(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    words = [
        "strategy=fine_tune",
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
        "head.init=tag(search,choice(zeros,standard))",
    ]
    words += ["search.trials=4", "search.replicates=1"]
    assert search(pictures, *words) == 0
    whole, values = drawn(home), {run_id: done["metrics"] for run_id, done in results(home).items()}
    shutil.rmtree(home / "outputs")
    real, begun, tidy, ended = experiment.train_model, Counter(), RunDirectory.tidy, Counter()

    def stopping(job: Any, record: Any) -> Any:
        begun[job.run_id] += 1
        if len(begun) == 3 and begun[job.run_id] == 1:
            raise KeyboardInterrupt
        return real(job, record)

    def stopping_at_its_end(self: RunDirectory, keep_checkpoint: bool) -> None:
        ended[self.path.name] += 1
        if len(ended) == 2 and ended[self.path.name] == 1:
            raise KeyboardInterrupt
        tidy(self, keep_checkpoint)

    monkeypatch.setattr(experiment, "train_model", stopping)
    monkeypatch.setattr(RunDirectory, "tidy", stopping_at_its_end)
    assert [search(pictures, *words) for _ in range(3)] == [130, 130, 0]
    assert drawn(home) == whole
    assert not list(home.glob("outputs/s/*/checkpoints/last.ckpt"))
    assert {run_id: done["metrics"] for run_id, done in results(home).items()} == values
    assert sorted(begun.values()) == [1] * (len(begun) - 1) + [2]


@pytest.mark.parametrize("strategy", ["fine_tune", "feature_extraction"])
def test_a_trial_learns_nothing_of_test_labels(home: Path, pictures: Path, strategy: str):
    """Answers of test examples are hidden from it: what would read them finds none."""
    cfg = job_config(compose_config([*tiny(pictures), f"strategy={strategy}"]))
    cfg.trial = True
    job = prepare(cfg)
    known = np.concatenate([job.split.train, job.split.val])
    assert (job.targets.values[job.split.test] == -1).all()
    assert (job.targets.values[known] == job.source.labels[known]).all()
    assert (job.source.labels >= 0).all()
    from headstart.record.directory import RunDirectory

    (done,) = experiment.run([job], [RunDirectory(home / job.run_id)])
    assert done.status == "completed"
    assert not any(name.startswith("test/") for name in done.metrics)
    from headstart.run.scores import record_scores

    with pytest.raises(AssertionError, match="not scored on test"):
        record_scores(job, None, [], {}, None, {}, None)  # type: ignore[arg-type]


def test_a_trial_has_an_id_of_its_own_and_other_runs_keep_theirs(home: Path, pictures: Path):
    plain = prepare(job_config(compose_config([*tiny(pictures), "search.trials=7", "search.seeds=9"])))
    assert plain.run_id == prepare(job_config(compose_config(tiny(pictures)))).run_id
    assert not any(key.startswith(("search", "trial")) or "space" in key for key in plain.identity["settings"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["search.trials=3", "search.hours=1"], "one budget"),
        (["search.trials=null", "search.epochs=1"], "search.epochs must pay"),
        (["search.trials=null", "search.hours=1e-9"], "search.hours must pay"),
        (["search.trials=null", "search.hours=1e-9", "--dry-run"], "search.hours must pay"),
        (["seed=range(0,3)"], "search.seeds"),
        (["optimizer.lr=interval(1,0)"], "lower end first"),
        (["search=tpe,random"], "one search"),
        (["search.trials=1"], "greater than or equal to 2"),
        (["optimizer.lr=tag(log,interval(1e-4,1e-2))", "head.l2=interval(-1,1)"], "head.l2"),
        (["strategy.nonsense=interval(0,1)"], "no such setting"),
        (["search.seeds=0"], "search.seeds"),
    ],
)
def test_bad_searches_are_refused_in_one_message(home: Path, pictures: Path, words: list[str], why: str, capsys: Any):
    assert search(pictures, "strategy=fine_tune", *words) == 2
    assert why in capsys.readouterr().err
    assert not (home / "outputs").exists()


def test_a_search_without_m_and_one_without_a_range_are_refused(home: Path, pictures: Path, capsys: Any):
    assert main(["train", *tiny(pictures), "search=tpe"]) == 2
    assert "add -m" in capsys.readouterr().err
    nothing = ["~strategy.space", "~optimizer.space"]
    assert search(pictures, "strategy=fine_tune", *nothing) == 2
    assert "something to search" in capsys.readouterr().err
    assert main(["train", "-m", *tiny(pictures), "optimizer.lr=interval(0.1,0.2)"]) == 2
    assert not (home / "outputs").exists()


def test_a_plan_shows_the_space(home: Path, pictures: Path, capsys: Any):
    assert main(["plan", *tiny(pictures), "strategy=lp_ft", "search=tpe", "strategy.lr=0.01"]) == 0
    said = capsys.readouterr().out
    assert "unfreeze.rate: 0.01 to 1, on a log scale" in said
    assert "strategy.lr:" not in said


def test_a_trial_can_be_repeated(home: Path, pictures: Path, capsys: Any):
    assert search(pictures, "strategy=fine_tune", "search.trials=2", "search.replicates=1") == 0
    for trial in drawn(home)["fine_tune"]:
        assert main(["rerun", f"outputs/s/{trial.run_id}", "--check"]) == 0
        assert "identical" in capsys.readouterr().out


def test_a_cell_whose_trials_all_fail_comes_to_its_end(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    def broken(*_: Any) -> Any:
        raise RuntimeError("no luck")

    monkeypatch.setattr(experiment, "train_model", broken)
    words = ["strategy=fine_tune", "search.trials=null", "search.epochs=40", "search.replicates=1"]
    assert search(pictures, *words) == 1
    assert len(drawn(home)["fine_tune"]) == 10
    assert "no trial has a score" in capsys.readouterr().out


def test_a_launcher_that_cannot_start_says_why_in_one_message(
    home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    class Broken:
        def launch(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda *_, **__: Broken())
    assert search(pictures, "strategy=fine_tune") == 1
    said = capsys.readouterr().err
    assert (
        "brought no trial to its end, 3 times over (RuntimeError: The current node timed out during startup.)" in said
    )
    assert "Traceback" not in said
    assert not results(home)


def test_a_dry_run_shows_the_space_and_writes_nothing(home: Path, pictures: Path, capsys: Any):
    assert search(pictures, *TWO, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "strategy.backbone_rate: 0.03 to 1" in said
    assert "2 searches by tpe, 3 trials each" in said
    assert "3 trials of 1 epoch, none done" in said
    assert not (home / "outputs").exists()


@pytest.mark.slow
def test_halving_pauses_most_trials_and_finishes_the_best(home: Path, pictures: Path):
    words = ["strategy=fine_tune", "search/stopping=halving", "search.trials=7", "trainer.max_epochs=3"]
    assert search(pictures, *words) == 0
    (trials,), found = drawn(home).values(), results(home)
    draws = [found[trial.run_id] for trial in trials if trial.is_draw]
    assert len(draws) == 7
    assert draws[0]["status"] == "completed"
    assert {done["status"] for done in draws} == {"completed", "stopped"}
    assert {(done["status"], done["cost"]["epochs"]) for done in draws} == {("completed", 3), ("stopped", 1)}
    assert sum(done["status"] == "completed" for done in draws) >= 4
    paused = [done for done in draws if done["status"] == "stopped"]
    assert all((home / "outputs/s" / done["run_id"] / "checkpoints/last.ckpt").exists() for done in paused)
    best = max(done["selection"]["value"] for done in draws)
    assert best in [done["selection"]["value"] for done in draws if done["status"] == "completed"]
    assert search(pictures, *words) == 0
    assert results(home) == found


@pytest.mark.slow
def test_a_trial_whose_checkpoint_was_removed_begins_anew_and_comes_to_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(commands, "finish_comparison", lambda *_: None)
    pictures = write_folder(home / "pictures", per_class=8)
    words = [
        "search=random",
        "search/stopping=halving",
        "strategy=fine_tune",
        "search.trials=7",
        "trainer.max_epochs=3",
    ]
    found: list[dict[str, Any]] = []
    for room in ("20", "1e-9"):
        assert search(pictures, *words, f"search.paused_gb={room}") == 0
        outputs = home / "outputs" / "s"
        kept = {
            (run_id, done["status"]): (done["metrics"], done["selection"], done["cost"].get("epochs"))
            for run_id, done in results(home).items()
        }
        ((_, directory),) = cells_of(SweepDirectory(outputs))
        found.append({"trials": directory.trials(), "results": kept})
        paused = [run_id for run_id, status in kept if status == "stopped"]
        has_room = room == "20"
        assert paused
        assert all((outputs / run_id / "checkpoints" / "last.ckpt").exists() == has_room for run_id in paused)
        outputs.rename(home / f"outputs-{room}")
    assert found[0] == found[1]


PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}

MAIN = """
import sys
from headstart.cli import commands
from headstart.cli.main import main
commands.finish_comparison = lambda *_: None
sys.argv[:1] = ["headstart"]
sys.exit(main(sys.argv[1:]))
"""


def start(home: Path, words: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        cwd=home,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "ray"])
def test_two_workers_that_are_killed_lose_nothing_and_double_nothing(home: Path, pictures: Path, launcher: str):
    """Two commands that share the folder, or one whose launcher starts two processes."""
    if find_spec(PLUGINS.get(launcher, "headstart")) is None:
        pytest.skip(f"{launcher} is not installed")
    words = ["train", "-m", *tiny(pictures, *QUICK), "search=random", "strategy=fine_tune", "search.trials=8"]
    words += ["trainer.max_epochs=3", "search/stopping=halving", f"hydra/launcher={launcher}"]
    words += ["search.workers=2"] if launcher in PLUGINS else []
    count = 1 if launcher in PLUGINS else 2
    for number in range(3):
        workers = [start(home, words) for _ in range(count)]
        deadline = time.monotonic() + 120
        while not list(home.glob("outputs/s/*/history.csv")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1 + number)
        for worker in workers:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.communicate()
    workers = [start(home, words) for _ in range(count)]
    for worker in workers:
        said = worker.communicate(timeout=600)[1]
        assert worker.returncode == 0, said
    (trials,) = drawn(home).values()
    draws = [trial for trial in trials if trial.is_draw]
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert len(draws) == 8
    assert len({trial.run_id for trial in trials}) == len(trials)
    found = results(home)
    assert {found[trial.run_id]["status"] for trial in trials} <= {"completed", "stopped"}
    assert sum(found[trial.run_id]["status"] == "completed" for trial in draws) >= 4
    assert not any(name.startswith("test/") for trial in trials for name in found[trial.run_id]["metrics"])
    done = [home / "outputs/s" / run_id for run_id, run in found.items() if run["status"] == "completed"]
    left = [path for place in done for path in place.rglob("*")]
    assert not [path for path in left if path.name.startswith("claim") or ".part" in path.name]
