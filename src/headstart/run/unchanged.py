"""A run's data and weights held against what it is named after: they may change while it waits, and while it runs."""

from typing import Any

from headstart import notes
from headstart.errors import InputError
from headstart.run.chosen import parts_of
from headstart.run.job import Job
from headstart.run.pools import columns_identity


def check_unchanged(job: Job) -> None:
    """Raise `InputError` if the data or weights on the disk are no longer those that the run is named after.

    Files that kept their stamps (inode, size, times of change) are not read again; a table is.
    """
    changed = [*_changed_data(job), *_changed_weights(job)]
    if changed:
        raise InputError(
            f"What run {job.run_id} is named after has changed since it was checked: {'; '.join(changed)}. A result "
            "would stand under a wrong name. Start the command again."
        )


def check_weights(job: Job) -> None:
    """Raise `InputError` if a backbone was built from other weights than those that the run is named after."""
    changed = _changed_weights(job)
    if changed:
        raise InputError(f"{changed[0]} since they were checked. Start the command again.")


def _changed_data(job: Job) -> list[str]:
    with notes.quiet():
        try:
            source = parts_of(job.cfg).data
            source.check()
            found: dict[str, Any] = {name: shift.fingerprint for name, shift in source.shifts.items()}
            same = source.fingerprint == job.identity["data"]
            same &= columns_identity(source) == job.identity.get("columns", {})
        except InputError as error:
            return [f"its data cannot be used any more ({error})"]
    known = job.identity["shifts"]
    changed = [f"the data of shift {name} have changed" for name in known if found.get(name) != known[name]]
    return [*([] if same else ["its data have changed"]), *changed]


def _changed_weights(job: Job) -> list[str]:
    try:
        same = job.factory.identity(job.strategy.pretrained) == job.identity["weights"]
    except (InputError, OSError) as error:
        return [f"its weights cannot be read any more ({error})"]
    return [] if same else ["its weights have changed"]
