"""What a launcher starts: the runs of one composed config, each worked on by one process at a time."""

from contextlib import ExitStack
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from headstart import notes
from headstart.config import recorded
from headstart.errors import InputError
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.run.experiment import run
from headstart.run.findings import PREPARED, Findings
from headstart.run.job import Job
from headstart.run.prepare import job_config, prepare
from headstart.run.unchanged import check_unchanged
from headstart.system.lock import Lock


def run_launched(cfg: DictConfig, findings: Findings, prepared: Job | None = None) -> bool:
    """Carry out the runs of one composed config and its companions; true if all their runs are completed.

    `findings` are of the runs that this process did before; `prepared` is the job of a config that was checked just
    now, so that it need not be again.

    Each run is worked on by one process at a time; those that are done, or that another is at, are left alone.
    """
    notes.show()
    hydra = HydraConfig.get()
    first = Path(hydra.runtime.output_dir)
    others = [first.parent / name for name in cfg.companions]
    # a comparison's runs lie in directories of their names, which is what they must come to
    names = {path: path.name if hydra.mode == RunMode.MULTIRUN else None for path in [first, *others]}

    def job_of(path: Path) -> Job:
        kept, file = findings.look_up(PREPARED, path.name) if names[path] else None, RunDirectory(path).config
        if kept is not None and file.is_file() and kept[0].encode() == file.read_bytes():
            return kept[1]
        return prepare(job_config(cfg if path == first else recorded.load(file), hydra), findings=findings)

    with ExitStack() as locks:
        free = [path for path in names if locks.enter_context(Lock(RunDirectory(path).lock, wait=False)).held]
        mine = [path for path in free if result.read(RunDirectory(path), names[path]) is None]
        for path in mine:
            RunDirectory(path).remove_drafts()
        if mine:
            with notes.quiet():  # what there is to say was shown when the runs were drawn up
                if prepared is None:
                    jobs = {path: job_of(path) for path in mine}
                else:
                    jobs = dict.fromkeys(mine, prepared)
                    notes.say_again(prepared.notes)  # for the log, which has been opened since
            changed = [path for path, job in jobs.items() if names[path] not in (None, job.run_id)]
            if hydra.mode == RunMode.MULTIRUN and len(changed) < len(mine):  # the comparison may have waited long
                check_unchanged(next(job for path, job in jobs.items() if path not in changed))
            same = [path for path in mine if path not in changed]
            if same:
                run([jobs[path] for path in same], [RunDirectory(path) for path in same])
            if changed:
                raise InputError(*(_changed(path, jobs[path]) for path in changed))
    return all(result.completed(RunDirectory(path), names[path]) for path in names)


def _changed(directory: Path, job: Job) -> str:
    return (
        f"{directory} is the place of run {directory.name}, but its config, data or weights now make run {job.run_id}: "
        "they were changed after the comparison was drawn up. Start the comparison again."
    )
