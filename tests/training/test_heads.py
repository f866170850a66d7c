"""Heads as configured."""

import pytest
import torch
from torch import nn

from headstart.training.head_tensors import layers_of
from headstart.training.heads import MLP, HeadFactory, Linear


@pytest.mark.parametrize("factory", [Linear(), Linear(init="zeros"), MLP(6), MLP(6, num_hidden_layers=3)])
def test_heads_turn_features_into_scores_and_can_be_stacked(factory):
    assert isinstance(factory, HeadFactory)
    head = factory.build(5, 3)
    assert head(torch.zeros(2, 5)).shape == (2, 3)
    layers = layers_of(head)
    assert [(layer.num_inputs, layer.num_outputs) for layer in layers][-1][1] == 3
    assert {f"{layer.prefix}{kind}" for layer in layers for kind in ("weight", "bias")} == set(head.state_dict())


def test_the_seed_of_torch_decides_the_first_weights():
    torch.manual_seed(3)
    first = MLP(6).build(5, 3)
    torch.manual_seed(3)
    second = MLP(6).build(5, 3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_zeros_start_at_zero():
    assert not any(parameter.any() for parameter in Linear(init="zeros").build(5, 3).parameters())


def test_dropout_is_read_from_the_head():
    assert [layer.dropout for layer in layers_of(MLP(6, 2, 0.3).build(5, 3))] == [0.3, 0.3, None]
    without = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    assert [layer.dropout for layer in layers_of(without)] == [0.0, None]


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(5, 3, bias=False),
        nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3)),
        nn.Sequential(nn.Dropout(), nn.Linear(5, 3)),
        nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)),
        nn.Sequential(nn.Linear(5, 4), nn.ReLU()),
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Dropout()),
        nn.Sequential(),
        nn.Identity(),
    ],
    ids=str,
)
def test_other_heads_are_not_taken_for_stackable(head):
    assert layers_of(head) is None
