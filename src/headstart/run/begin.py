"""The beginning of a run's record: what is known of it before anything is trained."""

import logging
from pathlib import Path

import torch

from headstart import notes
from headstart.config import recorded
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.environment import environment, git
from headstart.record.recorder import Recorder
from headstart.record.result import DataRecord
from headstart.record.writing import Shared, write_bytes, write_json
from headstart.run.findings import PREPARED, key_of
from headstart.run.job import Job
from headstart.run.pools import record_of
from headstart.strategies import drawing

log = logging.getLogger(__name__)


def begin_record(job: Job, directory: RunDirectory, heard: notes.Notes, share: float = 1.0) -> Recorder:
    """Begin a run's record: its config and plan are on the disk before anything is trained.

    `share`: of the time that passes, what is this run's, where several are done together.
    """
    directory.path.mkdir(parents=True, exist_ok=True)
    why = result.damage(directory, job.run_id)
    if why is not None:
        aside = directory.set_aside(keep=[directory.log])  # which is being written to
        log.warning("The record that was here cannot be used: %s. It lies in %s now.", why, aside)
    if not directory.log.exists():
        note = "Trained together with other runs; the log is in the first one's directory.\n"
        write_bytes(directory.log, note.encode())
    drawn_up = job.findings.look_up(PREPARED, job.run_id)
    is_there = drawn_up is not None and drawn_up[1] is job and directory.config.is_file()
    if not is_there:
        write_bytes(directory.config, recorded.dumped(job.cfg).encode())
    plan, schedule, rate = job.plan.to_dict(), job.parts.scheduler, job.parts.rate
    write_json(directory.plan, plan)
    same = key_of(plan, type(schedule), vars(schedule), rate)  # of the many runs of a comparison
    picture = job.findings.get("drawing", same, lambda: Shared(drawing.svg(job.plan, schedule, rate).encode()))
    picture.write(directory.drawing)
    source = job.source
    base = {
        "run_id": job.run_id,
        "choices": dict(job.cfg.choices),
        "settings": dict(job.identity["settings"]),
        "overrides": list(job.cfg.overrides),
        "seed": job.seed,
        "task": job.task.name,
        "data": DataRecord(
            name=source.name,
            fingerprint=source.fingerprint,
            split_sha256=job.split.sha256,
            sizes=job.split.sizes,
            **{job.task.outputs: list(job.targets.names)},
            more={**source.facts, **record_of(source, job.splitter, job.split)},
            duplicates=None if job.duplicates is None else job.duplicates.record,
        ),
        "environment": {**environment(), "threads": torch.get_num_threads()},
        "git": git(str(Path.cwd())),
        "rerun": result.repeat_command(directory.path),
    }
    return Recorder(directory, base, job.cfg.name, job.parts.logger, [job.notes, heard.messages], share)
