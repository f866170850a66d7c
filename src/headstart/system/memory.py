"""The memory of this machine."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files that say how much of the machine's memory this container may take."""


def all_bytes() -> int | None:
    """All bytes of memory, swap included, that this process could have; `None` if nobody can tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf8").splitlines()
        facts = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        here = facts["MemTotal"] + facts.get("SwapTotal", 0)
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return min([here, *(limit for limit in map(_limit, LIMITS) if limit)])


def free_bytes() -> int:
    """Bytes of memory that can be had without swapping; 4 GiB where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 4 << 30


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is looked for in the meantime that could be collected: where a million rows become lists, looking
    through them all again and again takes half of the time.

    Who makes many things in turn and keeps little of each calls `collect_new` between them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def collect_new() -> None:
    """Collect among what was made since the last look, and look through nothing else."""
    gc.collect(0)


def _limit(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
