"""The record of a run: what it was, what came out, and all that is needed to repeat it. Trackers mirror this."""

import csv
import io
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.process import DRAFT, draft_of, is_left

SCHEMA = 1
FILE, PREDICTIONS = "result.json", "predictions.npz"
RUN_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
"""What may name a run, and with it a directory."""
STATUSES = ("completed", "failed")
MUST = {"run_id": str, "choices": Mapping, "settings": Mapping, "overrides": list, "metrics": Mapping, "cost": Mapping}
"""What every record holds, whatever became of its run."""
PACKAGES = ("headstart", "torch", "torchvision", "timm", "transformers", "peft", "pytorch-lightning", "torchmetrics")
MORE_PACKAGES = ("hydra-core", "omegaconf", "numpy", "pillow", "wandb")


KINDS = ((str, dict, list), (dict, list))
"""What has a line of its own in a short list, and in a long one."""
LONG_LIST = 24
"""Texts of a list that each have a line of their own; more stand in one."""


def write_json(path: Path, value: Any, durable: bool = False) -> None:
    """Write `value` whole or not at all: to a file beside `path`, flushed to the disk if `durable`, then renamed."""
    write_bytes(path, (_rendered(_finite(value)) + "\n").encode(), durable)


def write_bytes(path: Path, content: bytes, durable: bool = False) -> None:
    """Write `content` to `path` whole or not at all; if `durable`, so that it outlasts a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = draft_of(path)
    try:
        with part.open("xb") as file:  # never what someone else laid there
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class OtherRunError(DamagedError):
    """A result that is whole, but another run's."""


def checked(directory: Path, run_id: str | None = None) -> dict[str, Any] | None:
    """The run's `result.json`; `None` if there is none.

    It costs some tenths of a millisecond: predictions are looked at, and their checksums verified when they are read.

    Raises:
        DamagedError: if it is not one that this program wrote whole for this run, or its predictions are not there.
    """
    try:
        value = bounded.json_object(directory / FILE)
    except FileNotFoundError:
        return None
    check(value, run_id)
    if value["status"] == "completed":
        _check_predictions(directory / PREDICTIONS, value.get("predictions_bytes"))
    return value


def check(value: Mapping[str, Any], run_id: str | None = None) -> None:
    """Raise `DamagedError` unless `value` is a record as this program writes it: of the run `run_id`, if given."""
    if value.get("schema") != SCHEMA:
        raise DamagedError(f"schema {SCHEMA} is what can be read, but it says {value.get('schema')!r}"[:200])
    if value.get("status") not in STATUSES:
        raise DamagedError(f"status must be one of {', '.join(STATUSES)}, but it says {value.get('status')!r}"[:200])
    must = {**MUST, "data": Mapping} if value["status"] == "completed" else MUST
    bad = [name for name, kind in must.items() if not isinstance(value.get(name), kind)]
    if bad:
        raise DamagedError(f"it lacks what every {value['status']} run has: {', '.join(bad)}")
    numbers = [*value["metrics"].values(), *value["cost"].values()]
    if not all(number is None or type(number) in (int, float) for number in numbers):
        raise DamagedError("it has metrics or costs that are no numbers")
    if value["status"] == "completed" and not any(name.startswith("test/") for name in value["metrics"]):
        raise DamagedError("it has no metric of a test set, though it says completed")
    if value["status"] == "failed" and not isinstance(value.get("error"), Mapping):
        raise DamagedError("it does not say why the run failed")
    if run_id is not None and value["run_id"] != run_id:
        raise OtherRunError(f"it is the result of another run, {value['run_id']}"[:200])


def _check_predictions(path: Path, size: object) -> None:
    """Raise `DamagedError` unless predictions are there, in their length; older records do not know it."""
    try:
        with bounded.opened(path, bounded.MOST_UNPACKED) as file:
            found = os.fstat(file.fileno()).st_size
            if size is not None and found != size:
                raise DamagedError(f"its {path.name} has {found} bytes and should have {size}")
            if size is None and not zipfile.is_zipfile(file):
                raise DamagedError(f"its {path.name} is not whole")
    except FileNotFoundError:
        raise DamagedError(f"its {path.name} is missing") from None


def read(directory: Path, run_id: str | None = None) -> dict[str, Any] | None:
    """As `checked`, but `None` also for a record that cannot be used."""
    try:
        return checked(directory, run_id)
    except DamagedError:
        return None


def damage(directory: Path, run_id: str | None = None) -> str | None:
    """Why the record that lies in `directory` cannot be used; `None` if it can, or there is none."""
    try:
        checked(directory, run_id)
    except DamagedError as error:
        return str(error)
    return None


def repeat_command(directory: Path) -> str:
    """The command that repeats the run in `directory`, for a shell."""
    return shlex.join(["headstart", "rerun", str(directory)])


def as_command(text: str) -> str:
    """A run's `rerun` as a shell takes it; older results have the directory without quotes."""
    start = "headstart rerun "
    place = text.removeprefix(start)
    try:
        words = shlex.split(place)
    except ValueError:
        words = []
    is_quoted = len(words) == 1 and shlex.quote(words[0]) == place
    return text if is_quoted or place == text else start + shlex.quote(place)


def completed(directory: Path, run_id: str | None = None) -> bool:
    """Whether the run in `directory` is finished and need not be done again."""
    result = read(directory, run_id)
    return result is not None and result["status"] == "completed"


def set_aside(directory: Path, keep: Sequence[str] = ()) -> str:
    """Move an attempt's files, failed or damaged, to `attempts/<n>/`, which is returned; the run can be done again."""
    target = next(place for number in count(1) if not (place := directory / "attempts" / str(number)).exists())
    target.mkdir(parents=True)
    kept = ("attempts", "config.yaml", "plan.json", "plan.svg", ".hydra", *keep)
    # the result goes last: until then the attempt still counts as failed, and is set aside again after a crash
    for child in sorted(directory.iterdir(), key=lambda child: child.name == FILE):
        if child.name not in kept and not child.name.startswith(("claim", ".claim")):
            child.rename(target / child.name)
    return f"attempts/{target.name}"


class History:
    """One row an epoch, in `history.csv`; rows are on the disk as soon as they are added."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = [dict(row) for row in rows]
        if rows:
            self._rewrite()

    def add(self, row: Mapping[str, Any]) -> None:
        self.extend([row])

    def extend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += [dict(row) for row in rows]
        self._rewrite()

    def _rewrite(self) -> None:
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(self.rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_bytes(self.path, file.getvalue().encode())


def write_predictions(path: Path, predictions: Mapping[str, Mapping[str, np.ndarray]]) -> int:
    """`predictions.npz`: by test set (`test`, `shift/<name>`) the arrays id, label and probability (N, C) float16.

    Returns:
        The size of the file in bytes.
    """
    arrays = {f"{name}/{key}": array for name, part in predictions.items() for key, array in part.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = draft_of(path)
    try:
        with part.open("xb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            size = file.tell()
        part.replace(path)
        return size
    finally:
        part.unlink(missing_ok=True)


def remove_drafts(directory: Path) -> None:
    """Remove what a process that was killed left half-written."""
    for draft in (*directory.glob(f".*{DRAFT}"), *directory.glob("checkpoints/.*")):
        if not draft.name.startswith(".claim") or is_left(draft):  # others may be asking for the claim just now
            draft.unlink(missing_ok=True)


def tidy(directory: Path, keep_checkpoint: bool) -> None:
    """Remove what a completed run needed only while it went on."""
    folder = directory / "checkpoints"
    if not keep_checkpoint:
        shutil.rmtree(folder, ignore_errors=True)
        return
    folded = folder / "folded.ckpt"
    if folded.is_file():  # only now: a run that is resumed needs its best weights as they were trained
        folded.replace(folder / "best.ckpt")
    (folder / "last.ckpt").unlink(missing_ok=True)


def failure(error: BaseException) -> dict[str, str]:
    """The `error` entry of a failed run's result."""
    text = "".join(traceback.format_exception(error))
    return {"type": type(error).__name__, "message": str(error) or type(error).__name__, "traceback": text}


def now() -> str:
    """The time, in UTC, ISO 8601, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@cache
def environment() -> dict[str, Any]:
    """Versions and hardware that this process runs on."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in (*PACKAGES, *MORE_PACKAGES)},
        "cpu": _cpu(),
        "cpu_cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "argv": sys.argv,
    }


@cache
def git(folder: str) -> dict[str, Any]:
    """Commit of the checkout around `folder` and whether it has changes; both `None` outside of one.

    The checkout may be a stranger's, and git would run what its own config names: hooks, a monitor of files, filters,
    programs that fetch. None of that is run; with filters, whether there are changes stays unknown.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    quiet = {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
    }
    command = ["git", "-C", folder, "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=10, env={**own, **quiet})
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, settings = ask("rev-parse", "HEAD"), ask("config", "--list", "--show-scope", "--name-only")
    lines = None if settings is None else settings.lower().splitlines()
    if commit is None or lines is None or any(re.match(r"(local|worktree)\tfilter\.", line) for line in lines):
        return {"commit": commit, "dirty": None}
    status = ask("status", "--porcelain", "--ignore-submodules=all")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _rendered(value: Any, margin: str = "") -> str:
    """As `json.dumps(value, indent=1)`, but numbers that are one after the other, and long lists, take one line."""
    inner = margin + " "
    if isinstance(value, Mapping) and value:
        items = (f"{json.dumps(key)}: {_rendered(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(item, KINDS[len(value) > LONG_LIST]) for item in value):
        return "[\n" + ",\n".join(inner + _rendered(item, inner) for item in value) + f"\n{margin}]"
    return json.dumps(value, default=_plain)


def _finite(value: Any) -> Any:
    # JSON knows no NaN; a reader of another language would choke on it
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return str(value)
