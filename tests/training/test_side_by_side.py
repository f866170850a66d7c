"""Pieces of work in processes of their own: what they give and tell comes here, and none outlives what asked for it."""

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from functools import partial

import pytest
import torch

from headstart import notes
from headstart.training.heads import MLP
from headstart.training.probe import train_probes
from headstart.training.side_by_side import side_by_side
from headstart.training.vector_optim import SGD, AdamW
from training.test_probe import probe, problem, same_numbers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def squared(number, say):
    say(number, os.getpid())
    return number**2


def test_pieces_come_back_from_other_processes_with_what_they_told():
    told = []
    found = list(side_by_side([partial(squared, number) for number in range(5)], lambda *what: told.append(what)))
    assert sorted(found) == [0, 1, 4, 9, 16]
    assert sorted(number for number, _ in told) == [0, 1, 2, 3, 4]
    processes = {process for _, process in told}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_one_thread_needs_no_other_process():
    torch.set_num_threads(1)
    told = []
    assert list(side_by_side([partial(squared, 3), partial(squared, 4)], lambda *what: told.append(what))) == [9, 16]
    assert {process for _, process in told} == {os.getpid()}


@pytest.mark.parametrize("is_raised", [False, True])
def test_what_pieces_note_is_said_here(is_raised, capfd):
    def noting(say):
        logging.getLogger("headstart.training.products").warning("one by one")
        warnings.warn("a library's", RuntimeWarning, stacklevel=1)
        if is_raised:
            raise ValueError("no more")

    screen = notes.show()
    screen.shown.clear()
    with notes.listening() as heard, notes.of_libraries([], []), suppress(ValueError):
        list(side_by_side([noting, noting], print))
    assert sorted(heard.messages) == ["a library's", "one by one"]
    assert capfd.readouterr().err.count("one by one") == 1


def test_what_a_piece_raises_is_raised_here():
    def bad(say):
        raise FloatingPointError("too large")

    with pytest.raises(FloatingPointError, match="too large"):
        list(side_by_side([partial(squared, 1), bad], print))


def test_a_process_that_is_killed_is_said():
    def gone(say):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="ended before"):
        list(side_by_side([partial(squared, 1), gone], print))


def slow(say):
    for _ in range(600):
        say(os.getpid())
        time.sleep(0.05)


def is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_none_goes_on_where_the_work_is_left():
    told = set()

    def interrupt(process):
        told.add(process)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side([slow, slow], interrupt))
    assert not any(map(is_there, told))


def test_none_outlives_a_process_that_is_killed(tmp_path):
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from training.test_side_by_side import slow\n"
        "from headstart.training.side_by_side import side_by_side\n"
        "list(side_by_side([slow, slow], lambda process: print(process, flush=True)))"
    )
    asked = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    told = set()
    while len(told) < 2:
        told.add(int(asked.stdout.readline()))
    asked.kill()
    asked.wait()
    until = time.monotonic() + 20
    while any(map(is_there, told)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_there, told))


@pytest.mark.parametrize("rules", [[AdamW(1e-2), AdamW(1e-3, 0.1)], [SGD(1e-1, 1e-2, 0.9), SGD(1e-2, 0.0, 0.5)]])
@pytest.mark.parametrize("head", [None, MLP(8, dropout=0.2)])
def test_heads_have_the_bits_of_one_process(rules, head):
    features, labels = problem()
    probes = [probe(head, rule=rules[place % 2], seed=place % 3) for place in range(40)]
    told = []
    together = train_probes(features, labels, probes, 3, report=lambda *what: told.append(what))
    torch.set_num_threads(1)
    alone = train_probes(features, labels, probes, 3)
    for one, other in zip(together, alone, strict=True):
        assert same_numbers(one, other)
    assert sorted(place for place, _ in told) == sorted(list(range(40)) * 3)
