"""Which runs may share one process: heads on the same frozen features are trained together."""

import json
from collections.abc import Mapping

from headstart.preparation import Job

Unit = tuple[str, ...]
"""Ids of runs that are launched as one job."""
LARGEST_UNIT = 512
"""Runs of a unit; more would only make a lost unit dearer."""


def units(jobs: Mapping[str, Job]) -> list[Unit]:
    """The runs, in order, those that share their features in one unit, at the place of the first of them."""
    groups: dict[str, list[str]] = {}
    for run_id, job in jobs.items():
        groups.setdefault(_features_key(job) if job.is_probe else run_id, []).append(run_id)
    return [
        tuple(members[start : start + LARGEST_UNIT])
        for members in groups.values()
        for start in range(0, len(members), LARGEST_UNIT)
    ]


def _features_key(job: Job) -> str:
    settings = job.cfg.trainer
    shared = [job.features_identity, job.identity["data"], job.identity["shifts"], job.reading.description]
    own = [job.augmentation_name, job.parts["augmentation"].views, settings.precision, settings.accelerator]
    return json.dumps([*shared, *own, settings.threads, settings.deterministic], sort_keys=True, default=str)
