"""The processor cores that this process may use: not all that the machine has, where it is held to some of them."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux mounts control groups."""
OWN_GROUPS = Path("/proc/self/cgroup")
"""The groups that this process is in, a line each: number, controllers, path."""


def cores() -> int:
    """Cores that this process may use: by its affinity (taskset, SLURM) and the share of time that its control groups
    grant (containers), rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)
    here = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([here, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each group around this process grants, where it is limited."""
    for folder in _folders():
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="utf8").split()
        except (OSError, ValueError):
            quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        try:
            if int(quota) > 0 and int(period) > 0:
                yield int(quota) / int(period)
        except ValueError:  # `max`, or nothing there
            continue


def _folders() -> Iterator[Path]:
    """Of this process's groups and all around them; inside a container its own may be mounted as the outermost."""
    for line in _text(OWN_GROUPS).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = next((top for top in (GROUPS / controllers, GROUPS / "cpu") if top.is_dir()), GROUPS)
        group = Path(os.path.normpath(top / path.lstrip("/")))
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))
    yield from (GROUPS, GROUPS / "cpu")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError):
        return ""
