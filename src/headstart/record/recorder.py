"""Keeps a run's directory as it goes: config, plan, history and, last, its result; trackers are told the same."""

import logging
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.record.directory import RunDirectory
from headstart.record.mirror import Mirror
from headstart.record.result import Failure, Result, failure, now, write
from headstart.record.tables import History, write_predictions
from headstart.record.trackers import RunCard, Tracker
from headstart.record.writing import Shared, write_json
from headstart.system.checksums import crc32_of_file

log = logging.getLogger(__name__)


class Recorder:
    """One run's record. Everything it writes lies in `directory`; `result.json` comes last, whole.

    `share`: of the time that passes, what is this run's.
    """

    def __init__(
        self,
        directory: RunDirectory,
        base: Mapping[str, Any],
        group: str,
        tracker: Tracker,
        notes: Sequence[Sequence[str]] = (),
        share: float = 1.0,
    ) -> None:
        self.directory, self.base, self.notes, self.share = directory, dict(base), notes, share
        self.started, self.began = now(), time.perf_counter()
        self.earlier = 0.0
        """Seconds of what a run found done when it went on."""
        self.history = History(directory.history)
        self.mirror = Mirror(tracker)
        config = {**self.base["settings"], "choices": self.base["choices"]}
        job_type = str(self.base["choices"].get("strategy", "run"))
        self.mirror.start(RunCard(self.base["run_id"], directory.path, group, job_type, config))

    @property
    def seconds(self) -> float:
        """Time since the run began, and of what it found done; its share, where several are done together."""
        return self.earlier + self.share * (time.perf_counter() - self.began)

    @property
    def _time(self) -> dict[str, float]:
        """The time of the run, and among how many it was shared out: older results have the whole of a fused run."""
        return {"total_seconds": self.seconds} | ({"shared_by": round(1 / self.share)} if self.share < 1 else {})

    def row(self, row: Mapping[str, Any]) -> None:
        """Take note of one epoch."""
        self.rows([row])

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take note of several epochs at once."""
        self.history.extend(rows)
        for row in rows:
            self.mirror.log(row, int(row["epoch"]))

    def hardest(self, examples: Sequence[tuple[Mapping[str, Any], Shared | str | None]]) -> None:
        """Keep examples to look at: facts of each with a PNG or a text, in `hardest/`."""
        self.directory.hardest.mkdir(exist_ok=True)
        entries = []
        for number, (facts, preview) in enumerate(examples):
            picture = self.directory.hardest_picture(number)
            if isinstance(preview, Shared):
                preview.write(picture)
            image = picture.name if isinstance(preview, Shared) else None
            entries.append({**facts, "image": image, "text": preview if isinstance(preview, str) else None})
        write_json(self.directory.hardest_list, entries)

    def complete(
        self,
        metrics: Mapping[str, Any],
        cost: Mapping[str, Any],
        predictions: Mapping[str, Mapping[str, np.ndarray]],
        **more: Any,
    ) -> Result:
        """Write predictions and the result of a run that came to its end."""
        size = write_predictions(self.directory.predictions, predictions)
        cost = {**self._time, **cost}
        more = {**more, "predictions_bytes": size, "crc32": self._sums()}
        return self._write("completed", None, metrics, cost, more, exit_code=0)

    def untested(self, status: str, metrics: Mapping[str, Any], cost: Mapping[str, Any], **more: Any) -> Result:
        """Write the result of a search's trial, `completed` or `stopped`: it has no predictions and no test scores."""
        cost = {**self._time, **cost}
        return self._write(status, None, metrics, cost, {**more, "crc32": self._sums()}, exit_code=0)

    def fail(self, error: BaseException, cost: Mapping[str, Any] | None = None, **more: Any) -> Result:
        """Write the result of a run that did not."""
        log.error("The run failed.", exc_info=error)
        cost = {**self._time, **(cost or {})}
        return self._write("failed", failure(error), {}, cost, more, exit_code=1)

    def _sums(self) -> dict[str, str]:
        """Checksums of the files that have none of their own which covers all of them."""
        own = self.directory
        listed = (own.history, own.plan, own.predictions, own.hardest_list)
        below = (path for folder in (own.adapter, own.model_files) for path in sorted(folder.rglob("*")))
        files = [path for path in (*listed, *below) if path.is_file()]
        return {path.relative_to(own.path).as_posix(): f"{crc32_of_file(path):08x}" for path in files}

    def _write(
        self,
        status: str,
        error: Failure | None,
        metrics: Mapping[str, Any],
        cost: Mapping[str, Any],
        more: Mapping[str, Any],
        exit_code: int,
    ) -> Result:
        self.mirror.finish({**metrics, **{f"cost/{name}": value for name, value in cost.items()}}, exit_code)
        done = Result(
            **self.base,
            status=status,
            error=error,
            metrics=dict(metrics),
            cost=dict(cost),
            **more,
            notes=list(dict.fromkeys(chain.from_iterable(self.notes))),
            started=self.started,
            finished=now(),
        )
        write(self.directory, done)
        return done


class PeakMemory:
    """Most memory in use since this was made, in bytes: on the GPU if there is one, else of this process."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.init()  # a rank that follows has not touched its GPU yet
            torch.cuda.reset_peak_memory_stats(device)
        else:
            try:
                Path("/proc/self/clear_refs").write_text("5")
            except OSError:
                log.debug("The peak of memory cannot be reset here; it is that of the whole process.")

    def read(self) -> int | None:
        """Bytes; `None` where the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        try:
            lines = Path("/proc/self/status").read_text(encoding="utf8").splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            return None
