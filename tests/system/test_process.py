"""Processes that end with another one."""

import subprocess
import sys
import time

from headstart.system.process import is_alive, started

FIRST = """
import os, subprocess, sys, time
from headstart.system.process import started
own = f"{os.getpid()}, {started(os.getpid())}"
code = f"import time; from headstart.system.process import end_with; end_with({own}, 0.05); time.sleep(60)"
print(subprocess.Popen([sys.executable, "-c", code]).pid, flush=True)
time.sleep(60)
"""


def test_a_process_ends_with_the_one_that_it_is_to_end_with_even_if_that_is_killed():
    first = subprocess.Popen([sys.executable, "-c", FIRST], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    second = int(first.stdout.readline())
    began = started(second)
    time.sleep(1)
    assert is_alive(second, began)
    first.kill()
    first.wait()
    until = time.monotonic() + 20
    while is_alive(second, began):
        assert time.monotonic() < until
        time.sleep(0.05)
