"""Claims: one holder at a time, on one machine and between machines, and none once the holder is dead."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headstart import claim as module
from headstart.claim import STALE_SECONDS, Claim, holder, is_held, lease_of

HOLDER = """
import sys, time
from pathlib import Path
from headstart.claim import Claim
with Claim(Path(sys.argv[1]), wait=False) as claim:
    print(claim.held, flush=True)
    time.sleep(60)
"""


def hold_elsewhere(path: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def lease_from_another_machine(path: Path, age: float) -> None:
    path.touch()
    lease_of(path).write_text(json.dumps({"host": "elsewhere", "pid": os.getpid(), "token": "t"}))
    past = time.time() - age
    os.utime(lease_of(path), (past, past))


def test_only_one_holds_it_and_nothing_is_left_behind(tmp_path: Path):
    path = tmp_path / "claim"
    with Claim(path, wait=False) as first, Claim(path, wait=False) as second:
        assert (first.held, second.held) == (True, False)
        assert is_held(path)
    assert not is_held(path)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_want_the_same_get_it_once(tmp_path: Path):
    won, start = [], threading.Barrier(8)

    def work() -> None:
        start.wait()
        with Claim(tmp_path / "claim", wait=False) as claim:
            won.append(claim.held)
            time.sleep(0.3)

    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(won) == [False] * 7 + [True]


def test_a_dead_process_holds_nothing_and_is_known_to_have_been_there(tmp_path: Path):
    path = tmp_path / "claim"
    process = hold_elsewhere(path)
    with Claim(path, wait=False) as claim:
        assert not claim.held
    assert is_held(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_held(path)
    assert holder(path)["pid"] == process.pid
    with Claim(path, wait=False) as claim:
        assert claim.held
        assert holder(path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_shows_signs_of_life_keeps_its_claim(tmp_path: Path):
    path = tmp_path / "claim"
    lease_from_another_machine(path, age=STALE_SECONDS / 2)
    assert is_held(path)
    with Claim(path, wait=False) as claim:
        assert not claim.held
    assert holder(path)["host"] == "elsewhere"


def test_a_machine_that_fell_silent_loses_its_claim(tmp_path: Path):
    path = tmp_path / "claim"
    lease_from_another_machine(path, age=STALE_SECONDS * 2)
    assert not is_held(path)
    with Claim(path, wait=False) as claim:
        assert claim.held
    assert list(tmp_path.iterdir()) == []


def test_a_holder_shows_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module._Pulse, "running", None)
    path = tmp_path / "claim"
    with Claim(path, wait=False):
        os.utime(lease_of(path), (0, 0))
        time.sleep(0.5)
        assert time.time() - lease_of(path).stat().st_mtime < 5
    assert not lease_of(path).exists()


def test_where_files_cannot_be_locked_the_lease_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "fcntl", None)
    path = tmp_path / "claim"
    with Claim(path, wait=False) as first, Claim(path, wait=False) as second:
        assert (first.held, second.held) == (True, False)
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    lease_of(path).write_text(json.dumps({"host": module._host(), "pid": process.pid, "token": "t"}))
    with Claim(path, wait=False) as claim:
        assert claim.held
