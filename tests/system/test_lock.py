"""Locks: one holder at a time, on one machine and between machines, and none once the holder is dead."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headstart.system import lock as module
from headstart.system.lock import CLOCK_SECONDS, STALE_SECONDS, Lock, holder, is_held, lease_of
from headstart.system.process import DRAFT, draft_of, host, is_left, started

HOLDER = """
import sys, time
from pathlib import Path
from headstart.system.lock import Lock
with Lock(Path(sys.argv[1]), wait=False) as lock:
    print(lock.held, flush=True)
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
    path = tmp_path / "lock"
    with Lock(path, wait=False) as first, Lock(path, wait=False) as second:
        assert (first.held, second.held) == (True, False)
        assert is_held(path)
    assert not is_held(path)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_want_the_same_get_it_once(tmp_path: Path):
    won, start = [], threading.Barrier(8)

    def work() -> None:
        start.wait()
        with Lock(tmp_path / "lock", wait=False) as lock:
            won.append(lock.held)
            time.sleep(0.3)

    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(won) == [False] * 7 + [True]


def test_a_dead_process_holds_nothing_and_is_known_to_have_been_there(tmp_path: Path):
    path = tmp_path / "lock"
    process = hold_elsewhere(path)
    with Lock(path, wait=False) as lock:
        assert not lock.held
    assert is_held(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_held(path)
    assert holder(path)["pid"] == process.pid
    with Lock(path, wait=False) as lock:
        assert lock.held
        assert holder(path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ahead", [-STALE_SECONDS / 2, -400.0, 0.0, 300.0, 10 * CLOCK_SECONDS])
def test_a_machine_that_shows_signs_of_life_keeps_its_lock_whatever_its_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
):
    monkeypatch.setattr(module, "STALE_SECONDS", 0.2)
    path = tmp_path / "lock"
    for beat in range(4):
        lease_from_another_machine(path, age=-ahead - beat)
        assert is_held(path)
        with Lock(path, wait=False) as lock:
            assert not lock.held
        time.sleep(0.1)
    assert holder(path)["host"] == "elsewhere"


@pytest.mark.parametrize("shift", [-365 * 86_400, 365 * 86_400])
def test_whose_own_clock_is_a_year_off_still_sees_who_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float
):
    path = tmp_path / "claim"
    lease_from_another_machine(path, age=0)
    draft = tmp_path / f".file.01234567-1-0.01234567{DRAFT}"  # as another machine's process would call it
    draft.touch()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    assert is_held(path)
    assert not is_left(draft)


@pytest.mark.parametrize("ahead", [-STALE_SECONDS * 2, 0.0, 10 * CLOCK_SECONDS], ids=["past", "now", "future"])
def test_a_machine_that_fell_silent_loses_its_lock_whatever_its_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
):
    monkeypatch.setattr(module, "STALE_SECONDS", 0.2)
    path = tmp_path / "lock"
    lease_from_another_machine(path, age=-ahead)
    assert is_held(path)
    began = time.monotonic()
    with Lock(path) as lock:
        assert lock.held
    assert 0.2 <= time.monotonic() - began < 2
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_fell_silent_long_ago_is_not_waited_for(tmp_path: Path):
    path = tmp_path / "lock"
    lease_from_another_machine(path, age=CLOCK_SECONDS * 2)
    assert not is_held(path)
    with Lock(path, wait=False) as lock:
        assert lock.held
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_got_the_id_of_a_dead_one_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "fcntl", None)
    path = tmp_path / "lock"
    path.touch()
    lease = {"host": host(), "pid": os.getpid(), "started": (started(os.getpid()) or 1) - 1, "token": "t"}
    lease_of(path).write_text(json.dumps(lease))
    assert not is_held(path)
    with Lock(path, wait=False) as lock:
        assert lock.held


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"host": 1, "pid": "x", "token": 2}', '{"host": "h", "pid": 1e400, "token": "t"}', None],
)
def test_a_lease_that_is_none_holds_nothing(tmp_path: Path, content: str | None):
    path = tmp_path / "lock"
    path.touch()
    lease_of(path).write_text(content) if content is not None else os.mkfifo(lease_of(path))
    assert holder(path) == {}
    with Lock(path, wait=False) as lock:
        assert lock.held
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_asking_is_removed(tmp_path: Path):
    path = tmp_path / "lock"
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    mine = draft_of(lease_of(path))
    left = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    left.touch()
    mine.touch()
    with Lock(path, wait=False) as lock:
        assert lock.held
    assert list(tmp_path.iterdir()) == [mine]


def test_a_holder_shows_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module._Pulse, "running", None)
    path = tmp_path / "lock"
    with Lock(path, wait=False):
        os.utime(lease_of(path), (0, 0))
        time.sleep(0.5)
        assert time.time() - lease_of(path).stat().st_mtime < 5
    assert not lease_of(path).exists()


def test_where_files_cannot_be_locked_the_lease_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "fcntl", None)
    path = tmp_path / "lock"
    with Lock(path, wait=False) as first, Lock(path, wait=False) as second:
        assert (first.held, second.held) == (True, False)
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    lease_of(path).write_text(json.dumps({"host": host(), "pid": process.pid, "token": "t"}))
    with Lock(path, wait=False) as lock:
        assert lock.held
