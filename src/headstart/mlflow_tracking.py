"""Mirrors of a run's record in MLflow."""

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.tracking import Comparison, RunCard, Tracker, best_checkpoint

log = logging.getLogger(__name__)


class MLflow(Tracker):
    """MLflow: experiment = the comparison. By default a SQLite file under `outputs/`, with the artifacts beside it."""

    package = "mlflow"

    patience = 60.0  # the first to use a database makes its tables

    def __init__(self, tracking_uri: str | None = None, log_checkpoints: bool = False) -> None:
        self.tracking_uri, self.log_checkpoints = tracking_uri, log_checkpoints

    def start(self, card: RunCard) -> None:
        from mlflow.entities import Param

        self.card = card
        self._open(card.group, f"{card.job_type}-{card.run_id}", {"group": card.group, "job_type": card.job_type})
        params = [Param(_key(name), str(value)[:6000]) for name, value in card.config.items()]
        for first in range(0, len(params), 100):  # the most it takes at once
            self.client.log_batch(self.run_id, params=params[first : first + 100])

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_key(name), float(value), now, epoch) for name, value in row.items() if _is_number(value)]
        for first in range(0, len(metrics), 1000):  # the most it takes at once
            self.client.log_batch(self.run_id, metrics=metrics[first : first + 1000])

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        self.log({f"final/{name}": value for name, value in summary.items()}, 0)
        best = best_checkpoint(self.card.directory)
        if self.log_checkpoints and exit_code == 0 and best is not None:
            self.client.log_artifact(self.run_id, str(best), "checkpoints")
        self.client.set_terminated(self.run_id, "FINISHED" if exit_code == 0 else "FAILED")

    def compare(self, comparison: Comparison) -> None:
        """One run of job type `comparison` in the experiment, with the whole report as artifacts."""
        tags = {
            "group": comparison.group,
            "job_type": "comparison",
            "mlflow.note.content": "\n".join(comparison.answer),
        }
        self._open(comparison.group, f"comparison-{comparison.group}", tags)
        self.log({f"runs/{status}": number for status, number in comparison.counts.items()}, 0)
        self.client.log_artifacts(self.run_id, str(comparison.report), "report")
        self.client.set_terminated(self.run_id, "FINISHED")

    def _open(self, experiment: str, name: str, tags: Mapping[str, str]) -> None:
        # the client would otherwise tell its makers how it is used
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///outputs/mlflow.db"
        artifacts = None
        if uri.startswith("sqlite:///"):
            path = Path(uri.removeprefix("sqlite:///")).absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{path}", (path.parent / "mlflow-artifacts").as_uri()
        self.client = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            try:
                self.client.create_experiment(experiment, artifact_location=artifacts)
            except MlflowException:  # another run was faster
                log.debug("The experiment was made meanwhile.", exc_info=True)
            found = self.client.get_experiment_by_name(experiment)
        assert found is not None
        self.run_id = self.client.create_run(found.experiment_id, run_name=name, tags=dict(tags)).info.run_id


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w./: -]", "_", name, flags=re.ASCII)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
