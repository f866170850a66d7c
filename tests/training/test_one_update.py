"""Like parameter groups are updated together, to the same bits."""

import copy

import pytest
import torch
from torch import nn

from headstart.training.one_update import _merged, updated_together

OPTIMIZERS = {
    "AdamW": (torch.optim.AdamW, {"lr": 0.01}),
    "AdamW, fused": (torch.optim.AdamW, {"lr": 0.01, "fused": True}),
    "AdamW, foreach": (torch.optim.AdamW, {"lr": 0.01, "foreach": True}),
    "Adam, amsgrad": (torch.optim.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
    "SGD": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "SGD, foreach": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "foreach": True}),
    "NAdam": (torch.optim.NAdam, {"lr": 0.01}),
    "RAdam": (torch.optim.RAdam, {"lr": 0.01}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.01, "lr_decay": 0.1}),
    "Adamax": (torch.optim.Adamax, {"lr": 0.01}),
    "ASGD, which is left alone": (torch.optim.ASGD, {"lr": 0.01}),
}


def trained(kind, options, together):
    """Weights, state and groups after steps with rates that part, meet again and stop."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(9, 9) for _ in range(5)))
    groups = [
        {"params": list(layer.parameters()), "row": (str(place), "weight"), "base_lr": 0.01}
        for place, layer in enumerate(layers)
    ]
    optimizer = kind(groups, **options)
    optimizer = updated_together(optimizer) if together else optimizer
    for step in range(6):
        for place, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.01 / (1 + place) if step in (1, 2) else 0.0 if place == 3 and step > 3 else 0.02
        for parameter in layers[0].parameters():
            parameter.requires_grad_(step > 1)
        loss = layers(torch.randn(4, 9)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return list(layers.parameters()), optimizer.state_dict()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numbers_groups_and_state_are_what_they_were(name):
    kind, options = OPTIMIZERS[name]
    (weights, state), (other, others) = (trained(kind, options, together) for together in (False, True))
    assert all(map(torch.equal, weights, other))
    assert state["param_groups"] == others["param_groups"]
    assert len(others["param_groups"]) == 5
    assert state["state"].keys() == others["state"].keys()
    for key, values in state["state"].items():
        for what, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(others["state"][key][what])), (key, what)


def test_groups_are_one_where_their_options_are_the_same_and_only_there():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(4)]
    decays = [0.0, 0.1, 0.0, 0.1]
    groups = [{"params": [one], "row": one, "weight_decay": d} for one, d in zip(parameters, decays, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    assert [[id(one) for one in group["params"]] for group in _merged(optimizer.param_groups)] == [
        [id(parameters[0]), id(parameters[2])],
        [id(parameters[1]), id(parameters[3])],
    ]


def test_a_step_that_fails_leaves_the_groups_as_they_are():
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(3)]
    optimizer = updated_together(torch.optim.SGD([{"params": [one], "row": one} for one in parameters], lr=0.1))
    before = copy.copy(optimizer.param_groups)

    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(fails)
    assert optimizer.param_groups == before

    def loss():
        assert torch.is_grad_enabled()
        assert len(optimizer.param_groups) == 3
        return 5.0

    with torch.no_grad():
        assert optimizer.step(loss) == 5.0
    assert len(optimizer.param_groups) == 3
