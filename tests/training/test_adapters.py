"""Adapters in training: what moves, what decays, how they go on after a cut, and how they are averaged."""

from copy import deepcopy

import pytest
import torch

from epoch_callbacks import Cut, same
from headstart.strategies.adapters import is_adapter
from headstart.strategies.peft_methods import METHODS

WORDS = {"oft": ["strategy.adapter.block_size=4"], "ia3": []}
QUICK = {("vit", "dora"), ("vit", "pissa"), ("vit", "ia3"), ("vit", "oft"), ("cnn", "loha"), ("cnn", "lokr")}
CASES = [(family, method) for method in METHODS for family in ("vit", "cnn") if (family, method) != ("cnn", "pissa")]


def peft(method):
    own = WORDS.get(method, ["strategy.adapter.r=2", "strategy.adapter.dropout=0.1"])
    return ["peft", f"strategy.adapter.method={method}", *own]


@pytest.mark.parametrize(
    ("family", "method"), [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_an_adapter_and_the_head_alone_move_and_go_on_with_the_same_bits_after_a_cut(rig, family, method):
    run = rig(family, *peft(method), max_epochs=2)
    before = run.state()
    after = run.fit().state()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    adapters = {name for name in before if is_adapter(name)}
    assert moved == adapters | {"head.weight", "head.bias"}
    with pytest.raises(InterruptedError):
        rig(family, *peft(method), max_epochs=2, callbacks=[Cut(1)], folder="cut").fit()
    same(run, rig(family, *peft(method), max_epochs=2, folder="cut").fit())


@pytest.mark.parametrize("method", METHODS)
def test_weight_decay_is_for_adapters_that_stand_for_the_pretrained_weights_at_nothing(rig, method):
    run = rig("vit", *peft(method), max_epochs=1)
    groups = run.module.configure_optimizers().param_groups
    decays = {group["weight_decay"] for group in groups if group["row"][1] == "adapter"}
    assert decays == ({0.1} if method in ("rslora", "loha", "lokr", "oft") else {0.0})


@pytest.mark.parametrize("method", [name for name, known in METHODS.items() if known.refuses_mixture is None])
def test_wise_ft_mixes_the_weights_that_an_adapter_adapts(rig, method):
    from headstart.training.averaging import interpolate

    run = rig("vit", *peft(method), "strategy.average=wise_ft", max_epochs=2)
    plain, tuned = (folded(run, part) for part in (run.state(), run.fit().state()))
    interpolate(run.module.eval(), run.start.weights, run.state(), 0.25, run.batches_of_inputs, "32-true")
    found = folded(run, run.state())
    changed = [name for name in plain if not torch.equal(plain[name], tuned[name]) and "head" not in name]
    assert changed
    for name in changed:
        torch.testing.assert_close(found[name], 0.75 * plain[name] + 0.25 * tuned[name], atol=1e-6, rtol=1e-5)


def folded(run, state):
    model = deepcopy(run.module)
    model.load_state_dict(state)
    run.strategy.adapter.fold(model.backbone)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


DELTA = "+strategy.regularizer={_target_: headstart.strategies.regularizers.Delta, alpha: 1.0, attention: null}"


@pytest.mark.parametrize(
    ("family", "method", "word"),
    [
        ("vit", "dora", DELTA),
        ("cnn", "loha", DELTA),
        ("vit", "pissa", "+strategy.layer_rates=auto_rgn"),
        ("vit", "oft", "strategy.sam=0.05"),
        ("cnn", "ia3", "+strategy.layer_decay=0.5"),
    ],
)
def test_penalties_and_rates_by_depth_go_with_adapters_and_go_on_with_the_same_bits(rig, family, method, word):
    words = [*peft(method), word]
    run = rig(family, *words, max_epochs=2).fit()
    with pytest.raises(InterruptedError):
        rig(family, *words, max_epochs=2, callbacks=[Cut(1)], folder="cut").fit()
    same(run, rig(family, *words, max_epochs=2, folder="cut").fit())
    plain = rig(family, *peft(method), max_epochs=2, folder="plain").fit()
    assert any(not torch.equal(run.state()[name], plain.state()[name]) for name in plain.state())
    rates = run.history()[-1]
    if "layer_decay" in word:
        assert rates["lr/layer4.0"] == pytest.approx(0.5 * rates["lr/head"])
