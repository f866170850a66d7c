"""How W&B is to keep a run and where: by the config, else by W&B's own environment variables, else by our defaults."""

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.record.directory import sweep_of

RESCUE_SECONDS = 20.0
"""How long it may take to log a run offline that was not taken online; it takes two or three."""
_EARLIER = "earlier"
_OF = "headstart-run.txt"
"""Holds the directory of the run."""
_LATER = """
import json, sys, wandb
told = json.load(sys.stdin)
run = wandb.init(**told["opening"])
for row, epoch in told["rows"]:
    run.log(row, step=epoch, commit=True)
run.summary.update(told["summary"])
run.finish(exit_code=told["exit_code"])
"""
_log = logging.getLogger(__name__)


def variable(name: str) -> str | None:
    """An environment variable of W&B's, `None` where it is empty."""
    return os.environ.get(f"WANDB_{name}") or None


def mode(offline: bool | None) -> str:
    """`offline` unless the config, or else WANDB_MODE, says otherwise."""
    if offline is not None:
        return "offline" if offline else "online"
    given = (variable("MODE") or "offline").lower()
    return {"run": "online", "dryrun": "offline"}.get(given, given)


def folder(directory: Path) -> Path:
    """Where W&B makes its own folder `wandb`: in WANDB_DIR, or in the run's directory."""
    place = Path(variable("DIR") or directory).expanduser().absolute()  # its own process may run elsewhere
    place.mkdir(parents=True, exist_ok=True)
    return place


def identifier(name: str) -> str:
    """A name as W&B takes it for an id or an artifact."""
    return re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)[:128]


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"optimizer.lr": 1e-3}` as `{"optimizer": {"lr": 1e-3}}`, which W&B can filter, sort and group by."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *path, last = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def mark(run: Any, directory: Path) -> None:
    """Note in what W&B keeps of a run on the disk which directory of ours it is of: others may have the same id."""
    place = Path(run.dir).parent
    if not run.disabled and place.is_dir():
        (place / _OF).write_text(str(directory.absolute()), encoding="utf8")


def _directory_of(kept: Path) -> str | None:
    try:
        return (kept / _OF).read_text(encoding="utf8")
    except OSError:
        return None


def set_earlier_aside(place: Path, run_id: str, directory: Path) -> None:
    """Move what an attempt at the run in `directory` that was cut short logged offline to `wandb/earlier/`.

    The attempt that goes on tells all rows anew. `wandb sync` would otherwise send both, and stops at a file that was
    cut short.
    """
    for old in [*place.glob(f"wandb/offline-run-*-{run_id}"), *place.glob(f".wandb/offline-run-*-{run_id}")]:
        if place != directory.absolute() and _directory_of(old) != str(directory.absolute()):
            continue  # the same settings in another comparison: WANDB_DIR holds them side by side
        target = old.parent / _EARLIER / old.name
        try:
            target.parent.mkdir(exist_ok=True)
            old.rename(target)
        except OSError as error:
            _log.warning("%s is of an attempt that was cut short, but cannot be set aside (%s).", old, error)


def sync_command(directory: Path) -> str:
    """What sends a run that was logged offline, and with it the other runs of its comparison."""
    place = variable("DIR") or sweep_of(directory).path
    runs = "*/" if place != directory and not variable("DIR") else ""
    return f"wandb sync {shlex.quote(str(place))}/{runs}wandb/offline-run-*"


def log_offline(
    opening: Mapping[str, Any],
    rows: Sequence[tuple[Mapping[str, Any], int]],
    summary: Mapping[str, Any],
    exit_code: int,
) -> None:
    """Log a whole run offline, in a process of its own: the one that tries to send it keeps its id to itself.

    `opening` is what `wandb.init` was given. Raises an `OSError` or `SubprocessError` if it cannot be done.
    """
    told = {
        "opening": {**opening, "mode": "offline", "resume": None},
        "rows": [[dict(row), epoch] for row, epoch in rows],
        "summary": dict(summary),
        "exit_code": exit_code,
    }
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    text = json.dumps(told, default=float)
    subprocess.run(
        [sys.executable, "-c", _LATER],
        input=text, text=True, env=environment, capture_output=True, timeout=RESCUE_SECONDS, check=True,
    )  # fmt: skip
