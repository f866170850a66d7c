"""The device that a run computes on, and the precision in which: what it cannot do is refused, never replaced."""

import logging
import os

import torch

from headstart.errors import InputError
from headstart.system.cores import cores
from headstart.training import attention
from headstart.training.ranks import check_devices

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What matrix products are computed in, by `trainer.precision`."""

AT_START = torch.get_num_threads()
"""What torch takes by itself, which knows the environment and affinity, but no container's share of time."""


def default_threads() -> int:
    """Threads of a process where a run does not say: as the environment (a launcher's, say) has it, else one for each
    core that the process may use."""
    told = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return AT_START if told else min(AT_START, cores())


def device_of(accelerator: str) -> torch.device:
    """The device that `trainer.accelerator` asks for.

    Raises:
        InputError: if it is not here; on another one it would be another run.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    check_devices(1, accelerator)
    return torch.device("cpu")


def check_precision(precision: str, accelerator: str, here: bool = True) -> None:
    """Raise `InputError` for a precision that the device does not compute in.

    `here`: whether the run is one of this machine, so that `auto` and `gpu` can be looked up.
    """
    kind = accelerator if accelerator in ("cpu", "mps") else device_of(accelerator).type if here else None
    if precision == "16-mixed" and kind == "cpu":
        raise _refused(precision, "a CPU", "does not train in float16", "32-true or bf16-mixed")
    if precision == "64-true" and kind == "mps":
        raise _refused(precision, "Apple's GPU", "has no float64", "32-true, or trainer.accelerator=cpu")
    if precision == "bf16-mixed" and kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name()
        raise _refused(precision, f"this GPU ({name})", "has no bfloat16", "16-mixed or 32-true")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which forward passes are computed, in training and in scoring alike."""
    mixed = MIXED.get(precision)
    return torch.autocast(device.type, mixed or torch.bfloat16, enabled=mixed is not None)


def at_least_single(values: torch.Tensor) -> torch.Tensor:
    """Numbers in half precision as single ones, which losses and scores need; doubles stay doubles."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def set_process_up(threads: int | None, deterministic: bool) -> None:
    """Bring process-wide switches in line with a run."""
    torch.set_num_threads(threads or default_threads())
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # what no operation reads need not be filled first: that is for debugging, and costs time in every step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        attention.follow_rule(deterministic)
    # what cuBLAS needs to be deterministic. torch looks once, at a process's first product, of whichever run: if it was
    # not set by then, each product of a deterministic run is warned of, which takes longer than the product
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


def _refused(precision: str, device: str, reason: str, instead: str) -> InputError:
    return InputError(
        f"trainer.precision must be one that the device computes in, but is {precision}, and {device} {reason}. Use "
        f"trainer.precision={instead}."
    )
