"""Comparisons that are killed at any moment and started again end as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from pictures import tiny, write_folder
from warm import Warm, comparing

FLEETING = (
    "seconds",
    "started",
    "finished",
    "cost",
    "environment",
    "git",
    "rerun",
    "overrides",
    "fused_with",
    "notes",
    "crc32",
    "checksum",
)


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the runs have in common: a tiny network with weights, a few pictures, four epochs."""
    from headstart.compat import declare_torchvision_operators

    declare_torchvision_operators()
    import timm

    folder = tmp_path_factory.mktemp("comparison")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), folder / "tiny.pt")
    pictures = write_folder(folder / "pictures", per_class=10)
    return tiny(pictures, f"backbone.weights={folder / 'tiny.pt'}", "trainer.max_epochs=4", "name=s")


@pytest.fixture(scope="module")
def words(point: list[str]) -> list[str]:
    """A comparison of six runs: two heads on the same features, four that train everything."""
    return ["train", "-m", *point, "strategy=feature_extraction,fine_tune,lp_ft", "optimizer.lr=1e-2,1e-3"]


def start(home: Path, words: list[str]) -> Warm:
    return Warm(home, comparing, words, home / "begun.txt", HEADSTART_CACHE=str(home / "cache"))


def finish(home: Path, words: list[str]) -> float:
    """Run to the end; how long it took."""
    began = time.monotonic()
    process = start(home, words)
    assert process.wait(600) == 0, process.said
    return time.monotonic() - began


def outcomes(home: Path) -> dict[str, Any]:
    """What the comparison's runs ended with, but for what no two runs have in common."""
    found = {}
    for path in sorted((home / "outputs" / "s").glob("*/result.json")):
        done = json.loads(path.read_text())
        assert done["status"] == "completed", done["error"]
        weights = torch.load(path.parent / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        header, *rows = (path.parent / "history.csv").read_text().splitlines()
        column = header.split(",").index("seconds")
        found[path.parent.name] = {
            **{key: value for key, value in done.items() if key not in FLEETING},
            "flops": done["cost"]["train_flops"],
            "weights": {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
            "history": [[cell for i, cell in enumerate(row.split(",")) if i != column] for row in rows],
        }
    return found


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether two comparisons came to the same; says what differs if not."""
    assert found.keys() == expected.keys()
    for run_id, run in expected.items():
        differing = {
            key: (found[run_id].get(key), value) for key, value in run.items() if found[run_id].get(key) != value
        }
        assert not differing, f"{run_id} {run['choices']['strategy']}: {str(differing)[:2000]}"
    return True


def leftovers(home: Path) -> list[str]:
    """Files of workers that are gone."""
    signs = ("claim", ".claim", "last.ckpt")
    return [
        str(path)
        for path in home.rglob("*")
        if path.name.startswith(signs) or ".part" in path.name or ".draft" in path.name
    ]


@pytest.fixture(scope="module")
def undisturbed(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    home = tmp_path_factory.mktemp("undisturbed")
    seconds = finish(home, words)
    found = outcomes(home)
    assert len(found) == 6
    assert Counter((home / "begun.txt").read_text().split()) == dict.fromkeys(found, 1)
    assert leftovers(home) == []
    return found, seconds


def kill_again_and_again(home: Path, words: list[str], num_kills: int, longest: float) -> dict[str, Any]:
    """Start the comparison, kill it at a random moment, `num_kills` times; let it finish. Returns what was seen.

    Moments are counted from the first sign of work, so that kills hit runs and not only imports.
    """
    rng, seen = random.Random(0), Counter()
    for _ in range(num_kills):
        process = start(home, words)
        while "──" not in process.said and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, longest))
        seen["while a run was under way" if any(home.rglob("claim")) else "between runs"] += 1
        process.kill()
        seen["resumable checkpoints left"] += len(list(home.rglob("last.ckpt")))
        seen["half-written files left"] += len([p for p in home.rglob("*") if ".part" in p.name or ".draft" in p.name])
        for path in home.glob("outputs/s/*/result.json"):
            assert json.loads(path.read_text())["status"] == "completed"
        if len(list(home.glob("outputs/s/*/result.json"))) == 6:
            seen["kills after the end"] += 1
    seen["done before the last start"] = len(list(home.glob("outputs/s/*/result.json")))
    finish(home, words)
    return dict(seen)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_results(
    words: list[str], undisturbed: tuple[dict[str, Any], float], tmp_path: Path
):
    expected, seconds = undisturbed
    seen = kill_again_and_again(tmp_path, words, num_kills=20, longest=1.0)
    assert same(outcomes(tmp_path), expected)
    begun = Counter((tmp_path / "begun.txt").read_text().split())
    print(f"\n20 kills: {seen}; runs begun {sum(begun.values())} times; undisturbed {seconds:.1f} s")
    assert leftovers(tmp_path) == []


def test_killed_interrupted_and_taken_over_it_ends_with_the_same_results(
    point: list[str], tmp_path_factory: pytest.TempPathFactory
):
    """All that the slow tests do one by one, once over, with four runs."""
    words = ["train", "-m", *point, "strategy=feature_extraction,lp_ft", "optimizer.lr=1e-2,1e-3"]
    words.append("trainer.max_epochs=16")  # time enough to be interrupted in
    whole, home = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("disturbed")
    killed = start(home, words)
    while "──" not in killed.said:
        time.sleep(0.01)
        assert killed.poll() is None
    time.sleep(random.Random(0).uniform(0, 0.5))
    killed.kill()
    interrupt(home, words, signal.SIGINT, 4)
    first, second = start(home, words), start(home, words)
    while first.poll() is None and ("──" not in first.said or not any(home.rglob("claim"))):
        time.sleep(0.01)
    assert first.poll() in (None, 0), first.said  # 0: the other was quick enough to leave it nothing
    first.kill()
    assert second.wait(300) == 0, second.said
    finish(whole, words)
    assert same(outcomes(home), outcomes(whole))
    assert leftovers(home) == []


@pytest.mark.slow
def test_two_processes_share_a_comparison_and_do_no_run_twice(
    words: list[str], undisturbed: tuple[dict[str, Any], float], tmp_path: Path
):
    processes = [start(tmp_path, words) for _ in range(2)]
    for process in processes:
        assert process.wait(300) == 0, process.said
    begun = Counter((tmp_path / "begun.txt").read_text().split())
    assert begun == dict.fromkeys(undisturbed[0], 1)
    assert same(outcomes(tmp_path), undisturbed[0])
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_one_takes_over_what_another_left_when_it_was_killed(
    words: list[str], undisturbed: tuple[dict[str, Any], float], tmp_path: Path
):
    first, second = start(tmp_path, words), start(tmp_path, words)
    while not any(tmp_path.rglob("last.ckpt")):
        time.sleep(0.05)
        assert first.poll() is None
    first.kill()
    assert second.wait(300) == 0, second.said
    assert same(outcomes(tmp_path), undisturbed[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_at_once_and_says_how_to_go_on(
    words: list[str], undisturbed: tuple[dict[str, Any], float], tmp_path: Path, number: signal.Signals
):
    interrupt(tmp_path, words, number, 6)
    finish(tmp_path, words)
    assert same(outcomes(tmp_path), undisturbed[0])


def interrupt(home: Path, words: list[str], number: signal.Signals, num_runs: int) -> None:
    """Start the comparison, and stop it while a run is at its epochs."""
    process = start(home, words)
    while "──" not in process.said or not any(home.rglob("last.ckpt")):
        time.sleep(0.01)
        assert process.poll() is None
    os.kill(process.pid, number)
    status = process.wait(120)
    if status == -signal.SIGTERM:
        pytest.skip("it came between two runs, where nothing catches it")
    if status == 0 and len(outcomes(home)) == num_runs:
        pytest.skip("it came after the last run")
    assert status == 130
    assert "Traceback" not in process.said
    assert f"of {num_runs} runs are done and stay so" in process.said
    assert "To go on:\n  headstart train -m" in process.said
    assert not any(home.rglob("claim"))


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_is_left_out(
    words: list[str], undisturbed: tuple[dict[str, Any], float], tmp_path: Path
):
    process = start(tmp_path, words)
    while not (found := list(tmp_path.rglob("last.ckpt"))):
        time.sleep(0.05)
        assert process.poll() is None
    process.kill()
    os.truncate(found[0], found[0].stat().st_size // 2) if found[0].exists() else None
    finish(tmp_path, words)
    assert same(outcomes(tmp_path), undisturbed[0])


@pytest.mark.slow
def test_a_full_disk_gives_a_clear_error_and_a_comparison_to_resume(
    words: list[str], undisturbed: tuple[dict[str, Any], float], tmp_path: Path
):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a file system of limited size cannot be mounted here")
    try:
        process = start(tmp_path, [*words, f"hydra.sweep.dir={disk}/s"])
        assert process.wait(300) == 1, process.said
        assert "The disk is full" in process.said
        assert "Traceback" not in process.said
        assert all(json.loads(path.read_text())["status"] == "completed" for path in disk.glob("s/*/result.json"))
        (tmp_path / "outputs").mkdir()
        shutil.copytree(disk / "s", tmp_path / "outputs" / "s")
    finally:
        subprocess.run(["umount", disk], check=True)
    finish(tmp_path, words)
    assert same(outcomes(tmp_path), undisturbed[0])
