"""Processes that begin at once: each is forked from one that has imported everything, and does nothing else."""

import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOADED = ["headstart.run.experiment", "headstart.sweep.sweeper", "headstart.cli.hydra_app", "timm", "peft"]


class Warm:
    """A process that runs `work`, in a session of its own; what it says lies in a file."""

    def __init__(self, home: Path, work: Callable[..., Any], *values: Any, **environment: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["warm"])
        self._said = home.parent / f"{home.name}-{time.monotonic_ns()}.said"
        self._said.touch()
        self._process = context.Process(target=_run, args=(home, self._said, environment, work, values))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        """What it has written to its standard error until now."""
        return self._said.read_text()

    def poll(self) -> int | None:
        """Its exit status; `None` while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Its exit status, negative for a signal."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(self.said)
        return self._process.exitcode

    def kill(self) -> None:
        """kill -9, of its whole session, unless it has ended by itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()


def comparing(words: list[str], log: Path | None = None) -> int:
    """`headstart` without a report at the end; each run that it begins is noted in `log`."""
    from headstart.cli import commands
    from headstart.cli.main import main
    from headstart.run import experiment

    real = experiment.begin_record

    def beginning(job: Any, *rest: Any) -> Any:
        if log is not None:
            with log.open("a") as file:
                file.write(f"{job.run_id}\n")
        return real(job, *rest)

    experiment.begin_record, commands.finish_comparison = beginning, lambda *_: None
    sys.argv = ["headstart", *words]
    return main(words)


def _run(
    home: Path, said: Path, environment: Mapping[str, str], work: Callable[..., Any], values: Sequence[Any]
) -> None:
    os.setsid()
    os.chdir(home)
    os.environ.update(environment)
    with said.open("ab") as file, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.exit(work(*values))


if multiprocessing.current_process().name != "MainProcess" or "forkserver" in " ".join(sys.orig_argv):
    from headstart.compat import declare_torchvision_operators

    declare_torchvision_operators()
    for name in PRELOADED:
        importlib.import_module(name)
