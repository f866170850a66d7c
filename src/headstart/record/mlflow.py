"""Mirrors of a run's record in MLflow."""

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headstart.record import silence
from headstart.record.directory import CHECKPOINTS, REPORT, RunDirectory
from headstart.record.trackers import Comparison, RunCard, Tracker
from headstart.system.cache import cache_dir
from headstart.system.lock import Lock


class MLflow(Tracker):
    """MLflow: experiment = the comparison; a run has its run id as a tag, by which one that is resumed is found again.

    By default it is a SQLite file under `outputs/`, with the artifacts beside it.
    """

    package = "mlflow"

    patience = 60.0  # the first to use a database makes its tables

    def __init__(self, tracking_uri: str | None = None, log_checkpoints: bool = False) -> None:
        self.tracking_uri, self.log_checkpoints = tracking_uri, log_checkpoints
        self._server: tuple[Path, str] | None = None
        """The run's directory and the server that it is told to, if it is told to one."""

    def start(self, card: RunCard) -> None:
        from mlflow.entities import Param

        self.card = card
        self._open(
            card.directory, card.group, card.run_id, f"{card.job_type}-{card.run_id}", {"job_type": card.job_type}
        )
        params = [Param(_key(name), str(value)[:6000]) for name, value in card.config.items()]
        params = [param for param in params if param.key not in self.params]
        for first in range(0, len(params), 100):  # the most it takes at once
            self.client.log_batch(self.run_id, params=params[first : first + 100])

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self._log({name: value for name, value in row.items() if not self._has(_key(name), epoch)}, epoch)

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        self._log({f"final/{name}": value for name, value in summary.items()}, 0)
        best = RunDirectory(self.card.directory).weights
        if self.log_checkpoints and exit_code == 0 and best is not None:
            self.client.log_artifact(self.run_id, str(best), CHECKPOINTS)
        self.client.set_terminated(self.run_id, "FINISHED" if exit_code == 0 else "FAILED")

    def compare(self, comparison: Comparison) -> None:
        """One run of job type `comparison` in the experiment, with the whole report as artifacts."""
        tags = {"job_type": "comparison", "mlflow.note.content": "\n".join(comparison.answer)}
        self._open(comparison.directory, comparison.group, "comparison", f"comparison-{comparison.group}", tags)
        self._log({f"runs/{status}": number for status, number in comparison.counts.items()}, 0)
        self.client.log_artifacts(self.run_id, str(comparison.report), REPORT)
        self.client.set_terminated(self.run_id, "FINISHED")

    def rescue(
        self, rows: Sequence[tuple[Mapping[str, float], int]], summary: Mapping[str, Any], exit_code: int
    ) -> str:
        """Nothing can be sent later; but the other runs of the comparison do not wait for this server."""
        if self._server is not None:
            silence.remember(*self._server, f"a run was not taken within {self.patience:g} s")
        return ""

    def _open(self, directory: Path, group: str, run_id: str, name: str, tags: Mapping[str, str]) -> None:
        """Open the run with this id in the group's experiment; one that is there, of an attempt before, is gone on."""
        # the client would otherwise tell its makers how it is used
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///outputs/mlflow.db"
        file = Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None
        if uri.startswith("http"):
            self._check_server(directory, uri)
        lock = cache_dir("claims", hashlib.sha256(uri.encode()).hexdigest()[:24])
        if file is not None:
            uri, lock = f"sqlite:///{file}", file.with_name(f".{file.name}.claim")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with Lock(lock):  # of several that make a new database, an experiment or a run at once, all but one fail
            with _whole_database(file):
                self.client = MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(group)
            experiment = found.experiment_id if found else self.client.create_experiment(group, _artifacts(file))
            runs = self.client.search_runs([experiment], f"tags.run_id = '{run_id}'", max_results=1)
            tags = {"group": group, "run_id": run_id, **tags}
            run = runs[0] if runs else self.client.create_run(experiment, tags=tags, run_name=name)
        self.run_id, self.params = run.info.run_id, set(run.data.params)
        self.steps: dict[str, set[int]] | None = {} if runs else None
        if runs:
            self.client.update_run(self.run_id, status="RUNNING")
            for key, value in tags.items():
                self.client.set_tag(self.run_id, key, value)

    def _check_server(self, directory: Path, uri: str) -> None:
        """Raise `TimeoutError` if the server says nothing, or did so to another run of the comparison."""
        self._server = directory, uri
        what = silence.found(directory, uri)
        if what is None and not silence.answers(uri, self.answer_seconds):
            what = f"no answer from {uri} within {self.answer_seconds:g} s"
            silence.remember(directory, uri, what)
        if what is not None:
            raise TimeoutError(what)

    def _has(self, key: str, epoch: int) -> bool:
        """Whether an attempt before has logged this number: all are told again, and would stand there twice."""
        if self.steps is None:
            return False
        if key not in self.steps:
            self.steps[key] = {point.step for point in self.client.get_metric_history(self.run_id, key)}
        return epoch in self.steps[key]

    def _log(self, row: Mapping[str, Any], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_key(name), float(value), now, epoch) for name, value in row.items() if _is_number(value)]
        for first in range(0, len(metrics), 1000):  # the most it takes at once
            self.client.log_batch(self.run_id, metrics=metrics[first : first + 1000])


@contextmanager
def _whole_database(file: Path | None) -> Iterator[None]:
    """Within the block a database is opened or made; one whose making was cut short, which cannot be mended, anew."""
    if file is None:
        yield
        return
    unfinished = file.with_name(f".{file.name}.unfinished")
    if unfinished.exists():
        for part in (file, *file.parent.glob(f"{file.name}-*")):
            part.unlink(missing_ok=True)
    elif not file.exists():
        unfinished.touch()
    yield
    unfinished.unlink(missing_ok=True)


def _artifacts(file: Path | None) -> str | None:
    """Where artifacts go, if that is ours to say: beside the database."""
    return None if file is None else (file.parent / "mlflow-artifacts").as_uri()


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w./: -]", "_", name, flags=re.ASCII)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
