"""How the classes of a pretraining go with those of the task (Co-Tuning: You et al. 2020, sections 3.2 and 3.3)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.tasks.multiclass import Multiclass
from headstart.training.calibration import fitted_temperature

STRENGTHS = tuple(
    sorted(lead * 10.0**power for power in range(-4, 5) for lead in (1.0, 3.0) if lead * 10**power <= 1e4)
)
"""scikit-learn's C of the logistic regressions that are tried, as the authors' code has them."""
OPTIONS = {"maxiter": 2000, "maxfun": 4000, "gtol": 1e-8, "ftol": 0.0, "maxls": 50}


def relationship(
    train_logits: Tensor, train_labels: Tensor, val_logits: Tensor, val_labels: Tensor, num_classes: int
) -> Tensor:
    """`p(source class | target class)` `(C, S)`, from what the pretrained network says of examples, `(N, S)`.

    By the authors' procedure, the reverse one with calibration: `p(target | source)` is a logistic regression without
    biases on the source probabilities of the training examples, its penalty the one of `STRENGTHS` that is best on val
    (the weakest of equals), its logits scaled so that the loss on val is least; Bayes' rule turns it round, with the
    mean of all source probabilities for `p(source)`.
    """
    train, val = (torch.softmax(logits.double(), 1) for logits in (train_logits, val_logits))
    best, weight = -1.0, torch.zeros(0)
    for found in _regressions(train, train_labels, num_classes):
        accuracy = float(((val @ found.T).argmax(1) == val_labels).double().mean())
        if accuracy >= best:
            best, weight = accuracy, found
    scale = 1 / fitted_temperature(Multiclass(), val @ weight.T, val_labels.numpy())
    given_source = torch.softmax(weight.T * scale, 1)
    joint = (given_source * torch.cat([train, val]).mean(0)[:, None]).T
    return (joint / joint.sum(1, keepdim=True)).float()


def _regressions(inputs: Tensor, labels: Tensor, num_classes: int) -> Any:
    """Weights `(C, S)` for each of `STRENGTHS`, the strongest penalty first; each begins from the one before."""
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    size = num_classes * (inputs.shape[1] + 1)
    start = np.zeros(size)
    free = np.ones((num_classes, inputs.shape[1] + 1))
    free[:, -1] = 0  # no biases: they begin at 0 and stay there
    for strength in STRENGTHS:
        of_all = Multiclass().objective(inputs, labels, num_classes, 1 / strength)

        def objective(flat: np.ndarray, of_all: Any = of_all) -> tuple[float, np.ndarray]:
            loss, gradient = of_all(flat)
            return loss, gradient * free.ravel()

        with threadpool_limits(1, "blas"):
            start = minimize(objective, start, jac=True, method="L-BFGS-B", options=OPTIONS).x
        yield torch.from_numpy(start).view(num_classes, -1)[:, :-1].clone()
