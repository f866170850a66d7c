"""StochNorm against the two batch norms that it chooses between, and where it is neither."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

from epoch_callbacks import Cut, same
from headstart.training.stochastic_norm import make_stochastic

KINDS = {
    "1d": lambda width: (nn.BatchNorm1d(width), (6, width)),
    "1d in time": lambda width: (nn.BatchNorm1d(width), (6, width, 5)),
    "2d": lambda width: (nn.BatchNorm2d(width, momentum=0.3, eps=1e-3), (6, width, 4, 3)),
    "with activation": lambda width: (BatchNormAct2d(width), (6, width, 4, 3)),
}


def prepared(kind, width=64, p=0.5):
    """A norm that has seen something, a stochastic one that is the same, and an input."""
    torch.manual_seed(0)
    plain, shape = KINDS[kind](width)
    with torch.no_grad():
        for tensor in (plain.weight, plain.bias, plain.running_mean):
            tensor.normal_()
        plain.running_var.uniform_(0.5, 2)
    stochastic = nn.Sequential(deepcopy(plain))
    make_stochastic(stochastic, p)
    return plain, stochastic[0], torch.randn(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_every_channel_is_normalised_in_one_of_two_ways(kind):
    """Values and gradients against torch's function, called by hand with either statistics."""
    plain, stochastic, x = prepared(kind)
    after = F.relu if kind == "with activation" else lambda y: y
    mean, var = plain.running_mean.clone(), plain.running_var.clone()
    given, taken = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = stochastic(taken)
    ways = [
        after(F.batch_norm(given, mean.clone(), var.clone(), plain.weight, plain.bias, training, 0.1, plain.eps))
        for training in (True, False)
    ]
    over = [axis for axis in range(x.ndim) if axis != 1]
    is_way = [((found - way).abs().amax(over) < 1e-5).numpy() for way in ways]
    assert (is_way[0] | is_way[1]).all()
    assert 16 < (is_way[0] & ~is_way[1]).sum() < 48  # of 64
    slope = torch.randn(x.shape)
    (found * slope).sum().backward()
    chosen = torch.from_numpy(is_way[0]).view(1, -1, *[1] * (x.ndim - 2))
    (torch.where(chosen, *ways) * slope).sum().backward()
    torch.testing.assert_close(taken.grad, given.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(stochastic.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)
    plain(x)
    torch.testing.assert_close(stochastic.running_mean, plain.running_mean)
    torch.testing.assert_close(stochastic.running_var, plain.running_var)
    assert stochastic.num_batches_tracked == 1


@pytest.mark.parametrize("p", [0.2, 0.8])
def test_the_batchs_statistics_are_taken_as_often_as_asked(p):
    plain, stochastic, x = prepared("2d", width=4000, p=p)
    by_batch = (stochastic(x) - plain(x)).abs().amax((0, 2, 3)) < 1e-6
    assert by_batch.float().mean().item() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 4000))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_plain_batch_norm_in_scoring_and_measuring(kind):
    plain, stochastic, x = prepared(kind)
    assert stochastic.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(stochastic.eval()(x), plain.eval()(x))
    with torch.no_grad():  # as statistics of averaged weights are measured
        assert torch.equal(stochastic.train()(x), plain.train()(x))
    stochastic.track_running_stats = plain.track_running_stats = False  # strategy.frozen_norm=batch_stats
    assert torch.equal(stochastic(x), plain(x))


def test_one_seed_gives_the_same_choices_and_another_seed_others():
    _, stochastic, x = prepared("2d")
    states = deepcopy(stochastic.state_dict())
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        stochastic.load_state_dict(states)
        found.append(stochastic(x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("words", [(), ("strategy.average=ema",), ("unfreeze=gradual", "unfreeze.num_groups=3")])
def test_a_run_cut_off_makes_the_same_choices(rig, words):
    whole = rig("cnn", "stochnorm", *words, max_epochs=3).fit()
    with pytest.raises(InterruptedError):
        rig("cnn", "stochnorm", *words, max_epochs=3, callbacks=[Cut(1)], folder="cut").fit()
    same(whole, rig("cnn", "stochnorm", *words, max_epochs=3, folder="cut").fit())
    plain = rig("cnn", "fine_tune", *words, max_epochs=3, folder="plain").fit()
    assert plain.state().keys() == whole.state().keys()
    assert not torch.equal(plain.state()["head.weight"], whole.state()["head.weight"])
