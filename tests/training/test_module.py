"""The module in training: steps by hand, decay where it belongs, accumulation, mixed precision, divergence."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from headstart.backbones.timm import Timm
from headstart.tasks.multiclass import Multiclass
from headstart.training.module import DivergedError

PLAIN_VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "init_values": 0.1}


class Step(pl.Callback):
    """Parameters before and after each optimizer step, with the gradients it used."""

    def __init__(self):
        self.before, self.gradients, self.after = [], [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append({n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None})
        self.before.append(self.copy(pl_module))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if len(self.after) < len(self.before):
            self.after.append(self.copy(pl_module))

    def copy(self, module):
        return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def is_decayed(name, tensor):
    """The field's rule: matrices and kernels decay; biases, norms and every other vector do not."""
    return tensor.ndim > 1 and not name.endswith("bias")


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_one_sgd_step_with_decay_by_hand(rig, family):
    step = Step()
    rig(family, "discriminative", "scheduler=constant", max_epochs=1, limit_train_batches=2, optimizer="sgd",
        callbacks=[step]).fit()  # fmt: skip
    for name, before in step.before[0].items():
        lr = 0.1 * (1.0 if name.startswith("head") else 0.85 ** distance(name))
        momentum = torch.zeros_like(before)
        for taken in range(2):
            before, after = step.before[taken][name], step.after[taken][name]
            gradient = step.gradients[taken][name] + (0.01 * before if is_decayed(name, before) else 0)
            momentum = 0.9 * momentum + gradient
            torch.testing.assert_close(after, before - lr * (gradient + 0.9 * momentum), msg=name)


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_one_adamw_step_with_decay_by_hand(rig, family):
    step = Step()
    rig(family, "discriminative", "scheduler=constant", max_epochs=1, limit_train_batches=2, callbacks=[step]).fit()
    for name in step.before[0]:
        lr = 0.01 * (1.0 if name.startswith("head") else 0.85 ** distance(name))
        m = v = torch.zeros_like(step.before[0][name])
        for t in (1, 2):
            before, after, g = (by_step[t - 1][name] for by_step in (step.before, step.after, step.gradients))
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            decayed = before * (1 - lr * 0.1) if is_decayed(name, before) else before
            update = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            torch.testing.assert_close(after, decayed - lr * update, rtol=1e-4, atol=1e-6, msg=name)


def distance(name):
    for place in range(1, 5):
        if f"layer{place}." in name or f"blocks.{place - 1}." in name:
            return 5 - place
    return 1 if ".model.norm." in name else 5


def test_every_parameter_is_in_the_optimizer_once(rig):
    for family in ("cnn", "vit"):
        module = rig(family, "feature_extraction").module
        optimizer = module.configure_optimizers()
        placed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        assert sorted(placed) == sorted(id(parameter) for parameter in module.parameters())


def test_l2_sp_pulls_to_the_start_in_place_of_weight_decay(rig):
    """The gradient of the penalty is alpha (w - w0) for the backbone's weights, beta w for the head's, else nothing."""
    run = rig("cnn", "l2_sp", "strategy.regularizer.alpha=0.7", "strategy.regularizer.beta=0.3")
    run.module.trainer = run.trainer  # whose precision it takes
    run.module.setup("fit")
    assert all(group["weight_decay"] == 0 for group in run.module.configure_optimizers().param_groups)
    start = {name: parameter.detach().clone() for name, parameter in run.module.named_parameters()}
    with torch.no_grad():
        for parameter in run.module.parameters():
            parameter += torch.randn_like(parameter)
    run.module.regularizer.penalty(torch.zeros(2, 3)).backward()
    for name, parameter in run.module.named_parameters():
        if "bn" in name or "downsample.1" in name or name.endswith("bias"):
            assert parameter.grad is None
        elif name.startswith("head"):
            torch.testing.assert_close(parameter.grad, 0.3 * parameter.detach())
        else:
            torch.testing.assert_close(parameter.grad, 0.7 * (parameter.detach() - start[name]))


def without_dropout(family):
    if family == "vit":
        return Timm("vit_tiny_patch16_224", weights="none", size=32, arguments=PLAIN_VIT).build(False)
    return None


def test_accumulated_batches_take_the_same_steps_as_whole_ones(rig):
    whole, parts = Step(), Step()
    one = rig(
        "vit", "gradual_unfreeze", max_epochs=3, optimizer="sgd", backbone=without_dropout("vit"), callbacks=[whole]
    )
    other = rig("vit", "gradual_unfreeze", max_epochs=3, optimizer="sgd", backbone=without_dropout("vit"),
                batch_size=4, accumulate_grad_batches=2, callbacks=[parts], folder="accumulated")  # fmt: skip
    other.module.load_state_dict(one.module.state_dict())
    one.fit(), other.fit()
    assert len(whole.after) == len(parts.after) == 9
    assert [row["step"] for row in other.history()] == [3, 6, 9]
    for row, same in zip(one.history(), other.history(), strict=True):
        assert {k: v for k, v in row.items() if "lr/" in k} == pytest.approx(
            {k: v for k, v in same.items() if "lr/" in k}
        )
    for name, tensor in whole.after[-1].items():
        torch.testing.assert_close(parts.after[-1][name], tensor, rtol=1e-3, atol=1e-5)


def test_an_incomplete_accumulation_counts_as_a_step_of_the_epoch(rig):
    run = rig("cnn", "gradual_unfreeze", "unfreeze.warmup_epochs=1", max_epochs=4, batch_size=6,
              accumulate_grad_batches=3, optimizer="sgd", callbacks=[step := Step()]).fit()  # fmt: skip
    assert len(step.after) == 8  # four batches make two steps
    history = run.history()
    assert history[1]["lr/layer4"] == pytest.approx(history[1]["lr/head"])  # warmed up at the epoch's last step


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_mixed_precision_trains_float32_weights_and_freezes_as_ever(rig, family):
    run = rig(family, "partial", max_epochs=2, precision="bf16-mixed")
    dtypes, before = set(), run.state()
    run.module.head.register_forward_hook(lambda module, args, out: dtypes.add(out.dtype))
    run.fit()
    assert dtypes == {torch.bfloat16}
    after = run.state()
    assert {tensor.dtype for tensor in after.values()} <= {torch.float32, torch.int64}
    frozen = [name for name in before if ".layer1." in name or ".blocks.0." in name]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert run.history()[-1]["train/loss"] < 2


def test_losses_of_a_model_in_double_precision_are_as_exact_as_it(rig):
    run = rig("vit", "fine_tune")
    module = run.module.double().eval()
    batch = next(iter(run.data.val_dataloader()))
    loss = module.training_step(batch, 0)
    exact = torch.nn.functional.cross_entropy(module(batch["inputs"]), batch["labels"])
    assert exact.dtype == torch.float64
    assert torch.equal(loss, exact)
    shares = module.task.shares(batch["labels"], 3)
    torch.testing.assert_close(module.task.loss(module(batch["inputs"]), shares), exact, rtol=1e-14, atol=0)


def test_val_loss_is_neither_weighted_nor_smoothed(rig):
    run = rig("cnn", "feature_extraction", max_epochs=1)
    run.module.task = Multiclass(label_smoothing=0.5)
    run.module.task.weights = (10.0, 1.0, 0.1)
    run.fit()
    run.module.eval()
    logits, labels = [], []
    for batch in run.data.val_dataloader():
        with torch.no_grad():
            logits.append(run.module(batch["inputs"]))
        labels.append(batch["labels"])
    expected = F.cross_entropy(torch.cat(logits), torch.cat(labels))
    assert run.history()[0]["val/loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_at_its_epoch_and_step(rig):
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 4:
                nn.init.constant_(pl_module.head.weight, float("nan"))

    with pytest.raises(DivergedError, match="epoch 2, step 5"):
        rig("cnn", "fine_tune", max_epochs=3, callbacks=[Poison()]).fit()
