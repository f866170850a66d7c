"""A run is one run in W&B whatever happens to it, kept where W&B's own settings say; a silent server costs little."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headstart import notes
from headstart.record.mirror import Mirror
from headstart.record.trackers import RunCard
from headstart.record.wandb import WandB
from wandb_files import answering, offline_records, rows_of, silent, summary_of

KEY = "0123456789" * 4
CUT_SHORT = """
import os, sys, time
from pathlib import Path
from headstart.record.trackers import RunCard
from headstart.record.wandb import WandB
tracker = WandB()
tracker.start(RunCard("0123456789ab", Path(sys.argv[1]), "pets", "fine_tune", {}))
tracker.log({"x": 0.0}, 0)
tracker.log({"x": 1.0}, 1)
time.sleep(0.5)
os._exit(9)
"""


@pytest.fixture(autouse=True)
def own_variables(monkeypatch: pytest.MonkeyPatch):
    """None of W&B's variables but those of a test; proxies are not asked for this machine's own servers."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def card(directory: Path, run_id: str = "0123456789ab", **config) -> RunCard:
    directory.mkdir(parents=True, exist_ok=True)
    return RunCard(run_id, directory, "pets", "fine_tune", config)


def track(tracker: WandB, told: RunCard, rows: int = 3) -> Mirror:
    mirror = Mirror(tracker)
    mirror.start(told)
    for epoch in range(rows):
        mirror.log({"x": float(epoch)}, epoch)
    mirror.finish({"test/accuracy": 0.5}, 0)
    return mirror


def cut_short(directory: Path, **variables: str) -> None:
    """An attempt at the run that is killed after two epochs."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, str(directory)], env={**environment, **variables}, timeout=60, check=False
    )
    assert done.returncode == 9


def sync(command: str, url: str, cwd: Path) -> None:
    """Run what a user is told to run."""
    environment = {**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
    environment.pop("WANDB_SERVICE", None)
    python = shlex.quote(str(Path(sys.executable).parent))
    subprocess.run(f"PATH={python}:$PATH {command}", shell=True, cwd=cwd, env=environment, timeout=60, check=True)


@pytest.mark.slow
def test_a_run_that_was_killed_and_goes_on_is_one_run_offline_and_after_it_is_sent(tmp_path: Path):
    cut_short(tmp_path / "run")
    track(WandB(), card(tmp_path / "run"))
    records = offline_records(tmp_path / "run")
    assert records["run"][0].run_id == "0123456789ab"
    assert [row["x"] for row in rows_of(records)] == [0.0, 1.0, 2.0]
    assert len(list(tmp_path.glob("run/wandb/earlier/offline-run-*"))) == 1
    with answering() as server:
        sync("wandb sync run/wandb/offline-run-*", f"http://127.0.0.1:{server.server_port}", tmp_path)
    assert list(server.streams) == ["0123456789ab"]
    assert [row["x"] for row in server.history("0123456789ab")] == [0.0, 1.0, 2.0]
    assert server.streams["0123456789ab"][-1]["exitcode"] == 0


def test_a_run_that_was_killed_goes_on_as_the_same_run_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with answering() as server:
        address = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": KEY}
        for name, value in address.items():
            monkeypatch.setenv(name, value)
        cut_short(tmp_path / "run", WANDB_MODE="online")
        in_own_process(tmp_path, "WandB(offline=False)")
    opened = [variables["name"] for name, variables in server.calls if name == "UpsertBucket"]
    assert set(opened) == {"0123456789ab"}
    assert "RunResumeStatus" in [name for name, _ in server.calls]
    assert [row["x"] for row in server.history("0123456789ab")] == [0.0, 1.0, 2.0]


def test_the_summary_is_that_of_the_record_not_the_last_row(tmp_path: Path):
    tracker, told = WandB(), card(tmp_path / "run")
    mirror = Mirror(tracker)
    mirror.start(told)
    for epoch, loss in enumerate([0.3, 0.1, 0.9]):
        mirror.log({"val/loss": loss}, epoch)
    mirror.finish({"val/loss": 0.1, "test/accuracy": 0.5}, 0)
    records = offline_records(tmp_path / "run")
    assert [row["val/loss"] for row in rows_of(records)] == [0.3, 0.1, 0.9]
    assert summary_of({"summary": records["summary"]})["val/loss"] == 0.1


def test_runs_of_one_id_from_two_comparisons_stay_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "all"))
    for name in ("anna", "berta"):
        track(WandB(), card(tmp_path / name))
        time.sleep(1.1)  # W&B calls their folders by the second
    assert len(list((tmp_path / "all" / "wandb").glob("offline-run-*"))) == 2
    assert not (tmp_path / "all" / "wandb" / "earlier").exists()
    cut_short(tmp_path / "cut", WANDB_DIR=str(tmp_path / "all"))
    track(WandB(), card(tmp_path / "cut"))
    assert len(list((tmp_path / "all" / "wandb" / "earlier").glob("offline-run-*"))) == 1


def in_own_process(folder: Path, tracker: str, **variables: str) -> str:
    """What is said while a run is tracked where W&B is first used with these settings, as its core keeps them."""
    program = f"""
import logging, sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parents[place]) for place in (0, 1)]!r}
from headstart.record.wandb import WandB
from headstart import notes
from test_wandb import card, track
notes.show()
tracker = {tracker}
track(tracker, card(Path({str(folder / "run")!r}), **{{"optimizer.lr": 0.1, "optimizer.name": "adam", "seed": 0}}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **variables},
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_what_the_config_leaves_open_is_as_the_variables_of_wandb_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    variables = {
        "WANDB_PROJECT": "theirs",
        "WANDB_ENTITY": "team",
        "WANDB_RUN_GROUP": "group",
        "WANDB_TAGS": "one,two",
        "WANDB_JOB_TYPE": "kind",
        "WANDB_DIR": str(tmp_path / "elsewhere"),
        "WANDB_RUN_ID": "not-for-us",
    }
    in_own_process(tmp_path, "WandB()", **variables)
    (run,) = offline_records(tmp_path / "elsewhere")["run"]
    assert (run.project, run.entity, run.run_group) == ("theirs", "team", "group")
    assert (sorted(run.tags), run.job_type, run.run_id) == (["one", "two"], "kind", "0123456789ab")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["optimizer"] == {"lr": 0.1, "name": "adam"}
    given = 'WandB(project="ours", entity="us", group="own", tags=["three"])'
    variables.pop("WANDB_DIR")
    in_own_process(tmp_path, given, **variables)
    (run,) = offline_records(tmp_path / "run")["run"]
    assert (run.project, run.entity, run.run_group, list(run.tags)) == ("ours", "us", "own", ["three"])
    assert in_own_process(tmp_path / "run", "WandB()", WANDB_MODE="disabled") == ""
    assert not list(tmp_path.glob("run/run/wandb/*run-*"))


def test_without_variables_the_defaults_are_ours(tmp_path: Path):
    track(WandB(), card(tmp_path / "run"))
    (run,) = offline_records(tmp_path / "run")["run"]
    assert (run.project, run.run_group, run.job_type) == ("headstart", "pets", "fine_tune")


@pytest.mark.slow
def test_a_silent_server_costs_one_wait_for_all_runs_of_a_comparison_and_nothing_is_lost(tmp_path: Path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    program = f"""
import sys, time
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parents[place]) for place in (0, 1)]!r}
from headstart.record.wandb import WandB
from headstart import notes
from test_wandb import card, track
notes.show()
WandB.answer_seconds = 2.0
for run_id in ("a", "b", "c"):
    began = time.monotonic()
    mirror = track(WandB(offline=False), card(Path("sweep") / run_id, run_id))
    print(mirror.broken, time.monotonic() - began)
"""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    with silent() as (url, held):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**environment, "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY},
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        asked = [words for _, words in held if words.startswith(b"GET / ")]
    assert done.returncode == 0, done.stderr
    broken, seconds = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert set(broken) == {"False"}
    assert float(seconds[0]) >= 2
    assert max(map(float, seconds[1:])) < 2
    assert len(asked) == 1
    (command,) = re.findall(r"logged offline. Send them by: (wandb sync .*)", done.stderr)
    with answering() as server:
        sync(command, f"http://127.0.0.1:{server.server_port}", tmp_path)
    assert sorted(server.streams) == ["a", "b", "c"]
    assert [row["x"] for row in server.history("b")] == [0.0, 1.0, 2.0]


@pytest.mark.slow
def test_a_server_that_goes_silent_while_a_run_is_sent_leaves_the_command_that_sends_the_rest(tmp_path: Path):
    program = f"""
import sys, threading
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parents[place]) for place in (0, 1)]!r}
import wandb_files
from headstart.record.mirror import Mirror
from headstart.record.wandb import WandB
from headstart import notes
from test_wandb import card
notes.show()
with wandb_files.answering() as server:
    import os
    os.environ["WANDB_BASE_URL"] = f"http://127.0.0.1:{{server.server_port}}"
    tracker = WandB(offline=False)
    tracker.patience = 3.0
    mirror, opened = Mirror(tracker), threading.Event()
    mirror.start(card(Path("run")))
    mirror.calls.put(opened.set)
    assert opened.wait(30)
    wandb_files._Answers.do_POST = lambda self: threading.Event().wait()
    mirror.log({{"x": 1.0}}, 0)
    mirror.finish({{"x": 2.0}}, 0)
    sys.stderr.flush()
    os._exit(0)
"""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "WANDB_API_KEY": KEY},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "did not finish within 3 s" in done.stderr
    (command,) = re.findall(r"The run is kept for WandB. Send it by: (.*)", done.stderr)
    with answering() as server:
        sync(command, f"http://127.0.0.1:{server.server_port}", tmp_path)
    assert [row["x"] for row in server.history("0123456789ab")] == [1.0]


def test_who_is_not_logged_in_is_told_how_to_send_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with notes.listening() as heard:
        track(WandB(offline=False), card(tmp_path / "a run"))
    (said,) = heard.messages
    assert "wandb login" in said
    assert said.endswith(f"wandb sync '{tmp_path / 'a run'}'/wandb/offline-run-*")
    assert summary_of(offline_records(tmp_path / "a run"))["test/accuracy"] == 0.5
