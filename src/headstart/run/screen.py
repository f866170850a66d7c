"""What a run shows of itself on the screen: its title, its epochs, and what came of it."""

from headstart import metrics
from headstart.record.result import Failure, Result
from headstart.run.job import Job

TELLING = (
    "backbone=",
    "backbone.model",
    "strategy.",
    "unfreeze",
    "augmentation",
    "optimizer",
    "scheduler",
    "head",
    "split",
    "data.size",
    "trainer.batch_size",
    "trainer.precision",
)
"""Beginnings of the overrides that are shown with a run."""


def title(job: Job, *others: Job) -> str:
    """`fine_tune optimizer.lr=0.001 seed=0 [0123456789ab]`: what most likely tells a run from those beside it."""
    strategy = job.cfg.choices.get("strategy", "run")
    if others:
        return f"{strategy}, {1 + len(others)} heads together [{job.run_id} …]"
    told = {word.partition("=")[0]: word for word in job.cfg.overrides if word.startswith(TELLING)}  # the last counts
    return f"{' '.join([strategy, *told.values()])} seed={job.seed} [{job.run_id}]"


def shown_of_epochs(job: Job) -> list[str]:
    """What is shown of an epoch beside the losses."""
    return [f"val/{job.task.score}", job.cfg.trainer.monitor]


def last_line(done: Result) -> str:
    if done.status == "failed" or done.selection is None:
        return f"failed: {(done.error or Failure()).message}"
    found, monitor = done.metrics, done.selection.metric
    own = f"test/{monitor.removeprefix('val/')}"
    test = [name for name in dict.fromkeys([f"test/{done.score}", own]) if name in found and name != "test/loss"]
    tested = ", ".join(metrics.shown(name, found[name]) for name in test) or (
        "paused" if done.status == "stopped" else "not tested"
    )
    best = (
        f"best {metrics.shown(monitor, found[monitor])} at epoch {found['best_epoch'] + 1}"  # as they are counted above
    )
    return f"{tested} ({best})"
