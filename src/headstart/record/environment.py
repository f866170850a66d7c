"""What a run is carried out by and on: versions, hardware, and the checkout around it."""

import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from headstart.system.cores import cores

PACKAGES = ("headstart", "torch", "torchvision", "timm", "transformers", "peft", "pytorch-lightning", "torchmetrics")
MORE_PACKAGES = ("hydra-core", "omegaconf", "numpy", "pillow", "wandb")


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
        "usable_cores": cores(),
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
