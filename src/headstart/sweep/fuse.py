"""Which runs may share one process: heads on the same frozen features are trained together."""

import json
from collections.abc import Mapping

from headstart.run.job import Job

Unit = tuple[str, ...]
"""Ids of runs that are launched as one job."""
LARGEST_UNIT = 512
"""Runs of a unit; more would only make a lost unit dearer."""


def units(features: Mapping[str, str | None]) -> list[Unit]:
    """The runs, in order, those that share their features in one unit, at the place of the first of them.

    `features` names for each run the features that it trains a head on; `None`: it trains more than a head.
    """
    groups: dict[str, list[str]] = {}
    for run_id, name in features.items():
        groups.setdefault(run_id if name is None else name, []).append(run_id)
    return [
        tuple(members[start : start + LARGEST_UNIT])
        for members in groups.values()
        for start in range(0, len(members), LARGEST_UNIT)
    ]


def features_of(job: Job) -> str | None:
    """A name for the features that a job trains a head on, and for the settings that all heads of a unit share."""
    if not job.is_probe:
        return None
    settings = job.cfg.trainer
    shared = [job.features_identity, job.identity["data"], job.identity["shifts"], job.reading.description]
    shared += [job.targets.sha256]
    own = [job.augmentation_name, job.parts.augmentation.views, settings.precision, settings.accelerator]
    return json.dumps([*shared, *own, settings.threads, settings.deterministic], sort_keys=True, default=str)
