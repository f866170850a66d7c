"""Bit by bit: what each shipped strategy moves in which epoch, in a CNN with batch norm and in a ViT.

What should move is written down here by the models' own names, not taken from the plan.
"""

import re
from itertools import pairwise

import pytest
import pytorch_lightning as pl
import torch
from timm.layers import DropPath
from torch import nn

from headstart.training.activations import FEATURES, Kept

MAX_EPOCHS = 4
DEPTH = {"cnn": 5, "vit": 5}  # groups below the head: stem, four layers; stem, three blocks, the final norm
STRATEGIES = ["bias_only", "discriminative", "feature_extraction", "fine_tune", "from_scratch", "gradual_unfreeze"]
STRATEGIES += ["bss", "delta", "l2_sp", "lora", "lp_ft", "norm_only", "partial", "sam", "stochnorm", "surgical_auto"]
FAMILIES = ["cnn", "vit"]


def depth(family, name):
    """Groups from the input that a tensor of timm's ResNet or ViT lies at, from 0."""
    if found := re.match(r"model\.(?:layer|blocks\.)(\d)", name):
        return int(found[1]) + (family == "vit")
    return 4 if re.match(r"model\.(norm|head_drop)\.", name) else 0


def is_norm(family, name):
    part = r"\.(bn\d|downsample\.1)\." if family == "cnn" else r"\.(norm\d?)\."
    return bool(re.search(part, f".{name}"))


def is_buffer(name):
    return "running_" in name or "num_batches" in name


def moves(strategy, family, name, epoch):
    """Whether a tensor of the backbone should move in an epoch."""
    if strategy == "feature_extraction":
        return False
    if strategy == "lora":
        targets = r"attn\.qkv\.lora_" if family == "vit" else r"(conv\d|downsample\.0)\.lora_"
        return bool(re.search(targets, name))
    if strategy == "bias_only":
        return name.endswith("bias")
    if strategy == "norm_only":
        return is_norm(family, name)
    if strategy == "partial":  # the last two blocks, with what comes after them
        return depth(family, name) >= {"cnn": 3, "vit": 2}[family]
    if strategy == "gradual_unfreeze":  # two groups more every epoch
        return depth(family, name) >= DEPTH[family] - 2 * epoch
    if strategy == "lp_ft":  # two epochs of the head; then all, but norm layers keep their statistics
        return epoch >= 2 and not is_buffer(name)
    return True


class Watch(pl.Callback):
    """Keeps every tensor's bits at the beginning of each epoch and at the end; looks at every step."""

    def __init__(self):
        self.states, self.steps = [], 0

    def on_train_epoch_start(self, trainer, pl_module):
        self.keep(pl_module)

    def on_train_end(self, trainer, pl_module):
        self.keep(pl_module)

    def keep(self, module):
        tensors = {**dict(module.backbone.named_parameters()), **dict(module.backbone.named_buffers())}
        self.states.append({name: tensor.detach().clone() for name, tensor in tensors.items()})

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.steps += 1
        for parameter in pl_module.parameters():
            assert parameter.requires_grad or parameter.grad is None
        assert all(parameter.grad is not None for parameter in pl_module.head.parameters())


def different(before, after):
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def check_epochs(strategy, family, states, first=0):
    for epoch, (before, after) in enumerate(pairwise(states), start=first):
        expected = {name for name in before if moves(strategy, family, name, epoch)}
        assert different(before, after) == expected, f"epoch {epoch}"


@pytest.mark.parametrize(
    ("family", "strategy"),
    [
        pytest.param(family, strategy, marks=[pytest.mark.slow] if family == "vit" and place % 2 else [])
        for family in FAMILIES
        for place, strategy in enumerate(STRATEGIES)
    ],
)
def test_exactly_what_should_move_moves_in_every_epoch_and_after_a_resume(rig, strategy, family):
    watch = Watch()
    whole = rig(family, strategy, max_epochs=MAX_EPOCHS, callbacks=[watch]).fit()
    check_epochs(strategy, family, watch.states)
    assert watch.steps == 3 * MAX_EPOCHS

    class Crash(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.current_epoch == 2 and batch_idx == 1:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        rig(family, strategy, max_epochs=MAX_EPOCHS, callbacks=[Crash()], folder="cut").fit()
    rest = Watch()
    resumed = rig(family, strategy, max_epochs=MAX_EPOCHS, callbacks=[rest], folder="cut").fit()
    assert len(rest.states) == 3  # epochs 2 and 3
    check_epochs(strategy, family, rest.states, first=2)
    assert not different(whole.state(), resumed.state())
    assert resumed.history() == whole.history()
    assert resumed.told == resumed.table.rows
    assert resumed.flops.total == whole.flops.total


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("scheduler", ["constant", "cosine", "one_cycle", "slanted_triangular"])
@pytest.mark.parametrize("family", ["cnn", pytest.param("vit", marks=pytest.mark.slow)])
def test_frozen_parts_stay_under_every_optimizer_and_scheduler(rig, family, scheduler, optimizer):
    watch = Watch()
    rig(family, "gradual_unfreeze", f"scheduler={scheduler}", max_epochs=MAX_EPOCHS, optimizer=optimizer,
        callbacks=[watch]).fit()  # fmt: skip
    check_epochs("gradual_unfreeze", family, watch.states)


@pytest.mark.parametrize("how", ["eval", "batch_stats", "train"])
def test_frozen_norm_says_what_normalises_and_what_moves(rig, how):
    """With the whole backbone frozen: against `nn.BatchNorm2d` in the mode that is meant, by its definition."""
    run = rig("cnn", "feature_extraction", f"+strategy.frozen_norm={how}", max_epochs=1)
    norm = run.module.backbone.model.bn1
    norm.running_mean.uniform_(-1, 1)
    before, seen = run.state(), []
    handle = norm.register_forward_hook(
        lambda module, args, out: seen.append((args[0].clone(), out.clone())) if run.trainer.training else None
    )
    run.fit()
    handle.remove()
    moved = {name for name in different(before, run.state()) if name.startswith("backbone")}
    assert bool(moved) == (how == "train")
    assert all(is_buffer(name) for name in moved)
    x, out = next((x, out) for x, out in seen)
    mean, var = before["backbone.model.bn1.running_mean"], before["backbone.model.bn1.running_var"]
    if how != "eval":
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    expected = (x - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
    torch.testing.assert_close(out, expected * norm.weight[:, None, None] + norm.bias[:, None, None])


@pytest.mark.parametrize("how", ["batch_stats", "train"])
@pytest.mark.parametrize("strategy", ["gradual_unfreeze", "bias_only", "partial"])
def test_other_frozen_norms_never_touch_frozen_parameters(rig, strategy, how):
    watch = Watch()
    rig("cnn", strategy, f"++strategy.frozen_norm={how}", max_epochs=MAX_EPOCHS, callbacks=[watch]).fit()
    for epoch, (before, after) in enumerate(pairwise(watch.states)):
        expected = {name for name in before if moves(strategy, "cnn", name, epoch)}
        expected |= {name for name in before if is_buffer(name) and how == "train"}
        assert different(before, after) == expected


def test_norms_thawed_after_batch_stats_track_again(rig):
    run = rig("cnn", "gradual_unfreeze", "strategy.frozen_norm=batch_stats", max_epochs=MAX_EPOCHS).fit()
    norms = [module for module in run.module.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.track_running_stats for norm in norms)
    assert all(norm.num_batches_tracked > 0 for norm in norms)


class Modes(pl.Callback):
    """By epoch, the depth of every dropout that is on, and of every output with a graph behind it."""

    def __init__(self, family):
        self.family, self.on, self.graphs = family, {}, {}

    def on_train_start(self, trainer, pl_module):
        for name, module in pl_module.backbone.named_modules():
            module.register_forward_hook(self.look(trainer, name))

    def look(self, trainer, name):
        def hook(module, args, output):
            if not trainer.training:
                return
            place = depth(self.family, f"{name}.")
            if isinstance(module, (nn.Dropout, DropPath)) and module.training:
                self.on.setdefault(trainer.current_epoch, set()).add(place)
            if re.search(r"layer\d\.0$|blocks\.\d$", name) and output.grad_fn is not None:
                self.graphs.setdefault(trainer.current_epoch, set()).add(place)

        return hook


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_and_no_graph_is_built_below_the_lowest_thawed_group(rig, family):
    modes = Modes(family)
    rig(family, "gradual_unfreeze", max_epochs=MAX_EPOCHS, callbacks=[modes]).fit()
    blocks = {"cnn": {1, 2, 3, 4}, "vit": {1, 2, 3}}[family]
    for epoch in range(MAX_EPOCHS):
        thawed = {place for place in range(DEPTH[family]) if place >= DEPTH[family] - 2 * epoch}
        assert modes.graphs.get(epoch, set()) == thawed & blocks
        assert thawed & {3} <= modes.on.get(epoch, set()) <= thawed


def test_frozen_parts_keep_nothing_for_the_backward_pass(rig):
    """The bytes kept for the backward pass while the head alone trains are the head's input and the loss's."""

    class Saved(pl.Callback):
        def __init__(self):
            self.bytes = {}

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            def pack(tensor):
                epoch = trainer.current_epoch
                self.bytes[epoch] = self.bytes.get(epoch, 0) + tensor.numel() * tensor.element_size()
                return tensor

            self.hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
            self.hooks.__enter__()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.hooks.__exit__(None, None, None)

    saved = Saved()
    rig("vit", "gradual_unfreeze", max_epochs=MAX_EPOCHS, callbacks=[saved]).fit()
    assert saved.bytes[0] < 0.02 * saved.bytes[3]
    assert saved.bytes[0] < saved.bytes[1] < saved.bytes[2] < saved.bytes[3]


def test_a_dropout_that_reaches_over_frozen_groups_is_off(rig):
    """timm's models apply a dropout of their own after pooling, in the outermost module's forward."""
    run = rig("cnn", "gradual_unfreeze", max_epochs=MAX_EPOCHS)
    seen = {}

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen[trainer.current_epoch] = pl_module.backbone.model.training

    run.trainer.callbacks.append(Look())
    run.fit()
    assert seen == {0: False, 1: False, 2: False, 3: True}


@pytest.mark.parametrize("strategy", ["bias_only", "lora"])
def test_a_group_that_trains_in_part_has_its_dropout_on(rig, strategy):
    modes = Modes("vit")
    rig("vit", strategy, max_epochs=1, callbacks=[modes]).fit()
    assert {1, 2, 3} <= modes.on[0]


def test_modes_survive_train_and_eval_by_others(rig):
    run = rig("cnn", "feature_extraction", max_epochs=1).fit()
    run.module.eval().train()
    assert not any(module.training for module in run.module.backbone.modules())
    assert run.module.head.training


def test_a_stale_gradient_of_what_freezes_again_is_dropped(rig):
    phases = "unfreeze.phases=[{start: 0, groups: ['*']}, {start: 1, groups: [layer4.0]}]"
    watch = Watch()
    rig("cnn", "fine_tune", "unfreeze=phases", phases, max_epochs=2, optimizer="sgd", callbacks=[watch]).fit()
    assert different(watch.states[0], watch.states[1]) == set(watch.states[0])
    moved = different(watch.states[1], watch.states[2])
    assert moved == {name for name in watch.states[0] if name.startswith("model.layer4")}


def test_norms_in_eval_while_they_train_move_their_scales_alone(rig):
    watch = Watch()
    rig("cnn", "fine_tune", "strategy.thawed_norm=eval", max_epochs=1, callbacks=[watch]).fit()
    moved = different(*watch.states)
    assert moved == {name for name in watch.states[0] if not is_buffer(name)}


def test_the_last_rate_of_phase_one_and_the_head_are_where_phase_two_starts(rig):
    """LP-FT: the first step of phase two sees the very features and head that phase one ended with."""

    class Logits(pl.Callback):
        def __init__(self):
            self.at_end = self.at_start = None

        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                pl_module.eval()
                with torch.no_grad():
                    self.at_end = pl_module(pictures)
                pl_module.train()

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                self.at_start = pl_module.train()(pictures).detach()

    logits = Logits()
    run = rig("cnn", "lp_ft", max_epochs=3, callbacks=[logits])
    for module in run.module.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    pictures = run.data.examples.batch(range(8))
    run.fit()
    assert torch.equal(logits.at_end, logits.at_start)


def test_the_first_phase_on_kept_features_is_the_same_training_for_the_heads_work_alone(rig):
    """What the backbone would give is given instead: the same rates, order, losses and thaw, to rounding."""
    for family in FAMILIES:
        live = rig(family, "lp_ft", max_epochs=4, folder=f"live {family}")
        kept = rig(family, "lp_ft", max_epochs=4, folder=f"kept {family}")
        with torch.no_grad():
            features = kept.module.backbone.eval()(kept.data.examples.batch(range(42)))
        kept.module.keep({0: Kept(kept.thaw.groups[-1].name, [{FEATURES: features}])})
        live.fit(), kept.fit()
        for row, same in zip(live.history(), kept.history(), strict=True):
            assert row == pytest.approx(same, rel=1e-3)
        work, whole = (
            [known[key] for key in sorted(known)] for known in (kept.flops.known.per_unit, live.flops.known.per_unit)
        )
        assert work[0] == 2 * 2 * features.shape[1] * 3
        assert work[1] == whole[1]


def test_each_epoch_on_kept_features_has_its_view(rig):
    run = rig("cnn", "lp_ft", "unfreeze.epochs=3", max_epochs=4)
    views = [torch.full((42, 16), float(view)) for view in range(2)]
    seen = []
    run.module.head.register_forward_pre_hook(
        lambda module, args: seen.append((run.trainer.current_epoch, module.training, float(args[0].unique()[0])))
        if run.trainer.current_epoch < 3 else None
    )  # fmt: skip
    run.module.keep({0: Kept(run.thaw.groups[-1].name, [{FEATURES: view} for view in views])})
    run.fit()
    assert {(epoch, value) for epoch, training, value in seen if training} == {(0, 0.0), (1, 1.0), (2, 0.0)}
    assert {value for _, training, value in seen if not training} == {0.0}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depth", [1, 2])
def test_training_from_kept_activations_is_the_same_training_for_less_work(rig, family, depth):
    """What the frozen lowest groups would give is given instead: the same losses and rates, and the same bits stay."""
    words = [f"strategy.last_k={depth}"]
    live = rig(family, "partial", *words, max_epochs=3, folder="live")
    kept = rig(family, "partial", *words, max_epochs=3, folder="kept")
    backbone = kept.module.backbone
    boundary = [name for name in live.thaw.plan.untouched(0) if name in backbone.boundaries][-1]
    with torch.no_grad():
        activations = backbone.eval().prefix(kept.data.examples.batch(range(42)), boundary)
    before = kept.state()
    kept.module.keep({0: Kept(boundary, [activations])})
    live.fit(), kept.fit()
    for row, same in zip(live.history(), kept.history(), strict=True):
        assert row == pytest.approx(same, rel=1e-3)
    assert kept.flops.total < live.flops.total
    moved = {name for name, tensor in kept.state().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, tensor in live.state().items() if not torch.equal(tensor, before[name])}
