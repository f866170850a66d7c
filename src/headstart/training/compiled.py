"""Training through torch's compiler (`trainer.compile`)."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import torch

from headstart.errors import InputError

Function = TypeVar("Function", bound=Callable[..., object])
MOST = 256
"""Versions of one piece of code: a run has one for each phase of its plan, for training and for val, for kinds of
shapes."""


def check_compiler(kind: str) -> None:
    """Raise `InputError` if the compiler lacks what it needs for devices of `kind`."""
    if kind == "cuda" and find_spec("triton") is None:
        lacks = "triton"
    elif kind == "cpu" and not any(map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))):
        lacks = "a C++ compiler (g++ or clang++)"
    else:
        return
    raise InputError(
        f"trainer.compile=true needs {lacks} to train on a {kind} device. Install it, or use trainer.compile=false."
    )


def compiled(function: Function) -> Function:
    """`function`, compiled when it is first called, and anew for what differs too much from all before."""
    import torch._dynamo

    config = torch._dynamo.config
    # beyond its limits the compiler would go on uncompiled, and say nothing
    config.recompile_limit, config.accumulated_recompile_limit = MOST, MOST * MOST
    config.fail_on_recompile_limit_hit = True
    return cast(Function, torch.compile(function))


def eager() -> AbstractContextManager[Any]:
    """The context in which compiled functions run as they are written.

    A mode that watches operations needs it: called under one, a function would never be compiled afterwards.
    """
    return torch.compiler.set_stance("force_eager")
