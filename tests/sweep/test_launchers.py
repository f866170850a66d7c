"""The same comparison by every launcher: in one process, in several, on a cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins

from headstart.cli import commands
from headstart.cli.main import main
from headstart.errors import InputError
from headstart.sweep import gpus
from pictures import tiny, write_folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    pictures = write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)
    own = "split.seed=${seed}"
    return ["train", "-m", *tiny(pictures, "name=s", own), "strategy=fine_tune,feature_extraction", "seed=0,1"]


def start(home: Path, words: list[str], **environment: str) -> subprocess.Popen:
    code = (
        "from headstart.cli import commands; from headstart.cli.main import main; "
        "commands.finish_comparison = lambda *_: None; raise SystemExit(main())"
    )
    own = {**os.environ, "OMP_NUM_THREADS": "1", "HEADSTART_CACHE": str(home / "cache"), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=home,
        env={name: value for name, value in own.items() if value},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(home: Path, words: list[str], **environment: str) -> tuple[int, str]:
    process = start(home, words, **environment)
    said = process.communicate(timeout=400)[1]
    return process.returncode, said


def results(home: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(home.glob("outputs/s/*/result.json"))]


def metrics(home: Path) -> dict[str, Any]:
    return {run["run_id"]: run["metrics"] for run in results(home)}


@pytest.fixture(scope="module")
def basic(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("basic")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(commands, "finish_comparison", lambda *_: None)
        assert main(words) == 0
    assert len(metrics(home)) == 4
    assert all(run["settings"]["split.seed"] == run["seed"] for run in results(home))
    return metrics(home)


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


OWN_RESOURCES = {
    "ray": "hydra.sweeper.resources={heads:{ray:{remote:{num_cpus:0.5}}}}",
    "submitit_local": "hydra.sweeper.resources={heads:{timeout_min:9},strategy:{fine_tune:{cpus_per_task:1}}}",
}
"""By launcher, what kinds of runs ask for: these are two launches at the same time."""


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param("joblib", marks=needs("hydra_plugins.hydra_joblib_launcher")),
        pytest.param("submitit_local", marks=[pytest.mark.slow, needs("hydra_plugins.hydra_submitit_launcher")]),
        pytest.param("ray", marks=[pytest.mark.slow, needs("hydra_plugins.hydra_ray_launcher")]),
    ],
)
def test_the_same_results_by(launcher: str, words: list[str], basic: dict[str, Any], tmp_path: Path):
    own = [OWN_RESOURCES[launcher]] if launcher in OWN_RESOURCES else []
    status, said = finish(tmp_path, [*words, f"hydra/launcher={launcher}", *own])
    assert status == 0, said
    assert ("── asked for: " in said) == bool(own)
    assert metrics(tmp_path) == basic


@pytest.mark.slow
@needs("hydra_plugins.hydra_ray_launcher")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes cannot be listed")
@pytest.mark.parametrize("num_runs", [12, 200])
def test_workers_of_ray_that_are_killed_lose_nothing(num_runs: int, words: list[str], tmp_path: Path):
    many = [
        *words[:-2],
        "strategy=fine_tune",
        f"seed=range({num_runs})",
        "trainer.max_epochs=1",
        "hydra/launcher=ray",
        "+hydra.launcher.ray.init.num_cpus=2",
    ]
    process = start(tmp_path, many)
    killed: set[int] = set()
    deadline = time.monotonic() + 1500
    while len(killed) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        if len(results(tmp_path)) > num_runs // 6 * len(killed):
            for worker in set(workers_of_ray(tmp_path)) - killed:
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
                break
    said = process.communicate(timeout=1500)[1]
    assert process.returncode == 0, said
    assert len(killed) == 2
    found = results(tmp_path)
    assert sorted(run["seed"] for run in found) == list(range(num_runs))
    assert {run["status"] for run in found} == {"completed"}


def workers_of_ray(home: Path) -> list[int]:
    """Processes that run jobs of a comparison in that folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (place / "cmdline").read_bytes().startswith(b"ray::_run_job") and (
                place / "cwd"
            ).resolve() == home.resolve():
                found.append(int(place.name))
    return found


@pytest.mark.slow
@needs("hydra_plugins.hydra_joblib_launcher")
def test_a_run_that_kills_its_worker_twice_is_recorded_and_the_others_are_done(words: list[str], tmp_path: Path):
    deadly = ["hydra/launcher=joblib", "head._target_=deadly_parts.Deadly", "~head.solver", "~head.l2", "~head.init"]
    words = [*words[:-2], *deadly, "strategy=fine_tune", "+head.deadly=false,true", "seed=0,1"]
    allowed = {"HEADSTART_ALLOW": "deadly_parts", "PYTHONPATH": str(Path(__file__).parent)}
    status, said = finish(tmp_path, words, **allowed)
    assert status == 1, said
    done = {(run["settings"]["head.deadly"], run["seed"]): run for run in results(tmp_path)}
    assert {point: run["status"] for point, run in done.items()} == {
        (False, 0): "completed",
        (False, 1): "completed",
        (True, 0): "failed",
        (True, 1): "failed",
    }
    assert done[True, 0]["error"]["type"] == "WorkerDied"
    assert "died 2 times" in done[True, 0]["error"]["message"]


@pytest.mark.slow
@needs("hydra_plugins.hydra_joblib_launcher")
def test_processes_share_the_threads_of_the_machine(words: list[str], tmp_path: Path):
    from joblib import cpu_count

    words = [*words[:-2], "hydra/launcher=joblib", "strategy=feature_extraction", "seed=0,1", "trainer.threads=null"]
    status, said = finish(tmp_path, words, OMP_NUM_THREADS="")
    assert status == 0, said
    share_of_two = max(1, cpu_count() // 2)
    assert [run["environment"]["threads"] for run in results(tmp_path)] == [share_of_two] * 2


@pytest.mark.slow
@needs("hydra_plugins.hydra_joblib_launcher")
def test_ctrl_c_stops_all_processes_and_leaves_the_rest_to_be_resumed(
    words: list[str], basic: dict[str, Any], tmp_path: Path
):
    long = [*words, "hydra/launcher=joblib", "trainer.max_epochs=200"]
    process = start(tmp_path, long)
    while not any(tmp_path.rglob("last.ckpt")):
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "To go on:" in said
    assert not [run for run in results(tmp_path) if run["status"] == "failed"]


@pytest.mark.slow
@needs("hydra_plugins.hydra_joblib_launcher")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes cannot be listed")
def test_processes_end_with_the_one_that_started_them_even_if_it_is_killed(words: list[str], tmp_path: Path):
    process = start(tmp_path, [*words, "hydra/launcher=joblib", "trainer.max_epochs=2000", "strategy=fine_tune"])
    while not any(tmp_path.rglob("last.ckpt")):
        time.sleep(0.05)
        assert process.poll() is None
    others = members(process.pid) - {process.pid}
    assert len(others) >= 2
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 30
    while members(process.pid):
        assert time.monotonic() < until, f"{members(process.pid)} of {others} live on"
        time.sleep(0.2)


def members(session: int) -> set[int]:
    """The living processes of a session."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(own) == session and state not in ("Z", "X"):
            found.add(int(path.parent.name))
    return found


def test_processes_spread_over_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpus, "_held", [])
    taken = [gpus.take_gpu(["0", "1"], tmp_path) for _ in range(5)]
    assert sorted(taken[:2]) == ["0", "1"]
    assert sorted(taken[2:4]) == ["0", "1"]
    assert gpus.take_gpu([], tmp_path) is None
    for lock in gpus._held:
        lock.__exit__(None, None, None)


def test_several_gpus_for_a_run_are_refused_where_each_process_has_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headstart.training.ranks.devices_here", lambda _: ("GPUs", 4))
    gpus.check_one_gpu(1, "gpu")
    with pytest.raises(InputError, match=r"trainer\.devices must be 1 with hydra/launcher=joblib"):
        gpus.check_one_gpu(2, "gpu")
    monkeypatch.setattr("headstart.training.ranks.devices_here", lambda _: ("CPU cores", 4))
    gpus.check_one_gpu(2, "cpu")


def test_a_launcher_that_cannot_start_says_why_and_loses_nothing(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Broken:
        def launch(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("The current node timed out during startup.")

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Plugins, "instantiate_launcher", lambda *_, **__: Broken())
        assert main(words) == 1
    said = capsys.readouterr().err
    assert "did not start 1 run, 3 times over (RuntimeError: The current node timed out during startup.)" in said
    assert "Traceback" not in said
    assert not results(tmp_path)
