"""Which optimizers of torch can train a model here, and which of their settings make sense."""

import pytest
import torch

from headstart.config.optimizer_trial import check_optimizer
from headstart.errors import InputError

UNFIT = {"SparseAdam", "LBFGS", "Muon", "Rprop", "Optimizer"}


@pytest.mark.parametrize("name", [name for name in torch.optim.__all__ if name[0].isupper()])
def test_optimizers_of_torch_are_told_apart(name: str):
    kind = getattr(torch.optim, name)
    if name in UNFIT:
        with pytest.raises(InputError, match=f"optimizer must lower a loss at the rate it is given, but .* {name} "):
            check_optimizer(kind, {"lr": 0.001})
    else:
        check_optimizer(kind, {"lr": 0.001})


@pytest.mark.parametrize("lr", [1e-8, 1e-3, 10.0, 1e30])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 100.0])
def test_settings_that_train_are_taken(lr: float, weight_decay: float):
    """`InputError` is raised for those that are not; see the tests below and above."""
    check_optimizer(torch.optim.SGD, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.99, "nesterov": True})
    if lr < 1e30:
        check_optimizer(
            torch.optim.AdamW, {"lr": lr, "weight_decay": weight_decay, "betas": [0.9, 0.99], "fused": True}
        )
