"""What there is to say of the data themselves: how many, of what, how even, copies, and what is read of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headstart.advice.sample import pool_totals
from headstart.config.sides import height_width
from headstart.run.job import Job
from headstart.splits.duplicates import find_duplicates
from headstart.splits.splitter import Split
from headstart.tasks.task import Targets

NUM_SIZED = 200
"""Pictures whose sizes are looked at."""
RARE = 10
"""Examples of a class in train below which it is rare."""


@dataclass(frozen=True)
class Facts:
    """Of train and val; of test, no more than how many there are and which are copies of theirs."""

    name: str
    modality: str
    task: str
    sizes: Mapping[str, int]
    num_outputs: int
    outputs: str
    """What a head gives, one word: classes, targets."""
    strata: str
    """What the counts below are of: classes, labels, ranges of a number."""
    largest: tuple[str, int]
    smallest: tuple[str, int]
    """The stratum with most, and with fewest examples in train."""
    num_rare: int
    """Strata with fewer than `RARE` examples in train."""
    per_class: int | None
    """To how many of each class train is cut, which val and test are not."""
    copies: Mapping[str, int] | None
    """Exact copies: in all, of two labels, val in train, test in train or val; `None` where there can be none."""
    baseline: Mapping[str, float]
    """What one and the same answer scores on train and val, as features do, by the name of the measure."""
    chance: float | None
    """What guessing by lot scores, of one class each."""


def facts_of(job: Job) -> Facts:
    """All of it from labels and hashes of contents; no answer of a test example is looked at."""
    task, values = job.task, job.targets.values
    train = Targets(values[job.split.train], job.targets.names)
    strata, names = task.strata(train)
    totals = pool_totals(strata)
    totals = np.pad(totals, (0, max(0, len(names) - len(totals))))
    most, least = int(totals.argmax()), int(totals.argmin())
    known = torch.from_numpy(np.concatenate([train.values, values[job.split.val]]))
    return Facts(
        name=job.source.name,
        modality=job.source.modality,
        task=task.name,
        sizes=job.split.sizes,
        num_outputs=job.num_outputs,
        outputs=task.outputs,
        strata=task.strata_are,
        largest=(names[most], int(totals[most])),
        smallest=(names[least], int(totals[least])),
        num_rare=int((totals < RARE).sum()),
        per_class=job.splitter.n_per_class,
        copies=_copies(job),
        baseline=task.baseline(train.values, known),
        chance=1 / job.num_outputs if task.strata_are_classes else None,
    )


def _copies(job: Job) -> Mapping[str, int] | None:
    contents, split = job.source.contents, job.split
    if contents is None:
        return None
    hidden = [None] * len(contents)
    found = find_duplicates(contents, hidden, split, {})
    known = np.sort(np.concatenate([split.train, split.val])).tolist()
    none = np.zeros(0, dtype=np.int64)
    within = Split(np.arange(len(known)), none, none)
    torn = find_duplicates([contents[i] for i in known], [job.source.cells[i] for i in known], within, {})
    return {
        "copies": found.copies,
        "two_labels": torn.num_two_labels,
        "val_in_train": found.val_in_train,
        "test_in_train_or_val": found.test_in_train_or_val,
    }


def reading_of(job: Job, places: np.ndarray) -> Mapping[str, Any]:
    """What a backbone reads of the examples: how large or long they are, and how much of that is lost."""
    found: dict[str, Any] = dict(job.examples.statistics())
    size = job.reading.arguments.get("size")
    if size is not None and "truncation_rate" not in found:
        found["size"] = size if isinstance(size, int) else list(size)
        extents = job.source.extents(_evenly(places, NUM_SIZED))
        if extents:
            shorter = np.array([min(one) for one in extents])
            found["shorter_side"] = {"median": float(np.median(shorter)), "min": int(shorter.min())}
            found["share_smaller"] = float((shorter < min(height_width(size))).mean())
            found["num_looked_at"] = len(extents)
    return found


def _evenly(places: np.ndarray, most: int) -> Sequence[int]:
    chosen = np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)
    return places[np.unique(chosen)].tolist()
