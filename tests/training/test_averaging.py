"""Averaged weights against their definitions: torch's own averaging and norm statistics, and plain sums."""

from copy import deepcopy

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.swa_utils import AveragedModel, update_bn

from epoch_callbacks import Cut, Scripted, same
from headstart.errors import InputError
from headstart.training.averaging import interpolate
from headstart.training.checkpoints import read_checkpoint

EMA = ("strategy.average=ema", "strategy.average_decay=0.6")


def measured_by_torch(run, model):
    """A copy of the model with norm statistics as torch takes them: the plain mean over batches."""
    found = deepcopy(model)
    for module in found.modules():  # which torch leaves on
        if type(module).__name__ == "DropPath":
            module.drop_prob = 0.0
    update_bn(run.batches(), found)
    return found


class Steps(pl.Callback):
    """torch's own average over the steps, with our decay."""

    def on_train_start(self, trainer, pl_module):
        self.average = AveragedModel(pl_module, avg_fn=self.of)
        self.average.update_parameters(pl_module)

    @staticmethod
    def of(mean, weights, number):
        decay = min(0.6, (1 + number) / (10 + number))
        return decay * mean + (1 - decay) * weights

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.average.update_parameters(pl_module)


@pytest.mark.parametrize(
    ("family", "strategy", "settings"),
    [("cnn", "fine_tune", {"accumulate_grad_batches": 3}), ("vit", "lora", {})],
)
def test_a_moving_average_is_torchs(rig, family, strategy, settings):
    steps = Steps()
    run = rig(family, strategy, *EMA, callbacks=[steps], max_epochs=3, **settings).fit()
    found = run.ema.mean
    wanted = dict(steps.average.module.named_parameters())
    assert len(found) == sum(p.requires_grad for p in run.module.parameters()) > 2
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name].detach(), atol=1e-6, rtol=1e-5)


def test_epochs_are_measured_by_the_average_with_statistics_of_its_own(rig):
    """Against torch's `update_bn` over the same batches, and a pass over val."""
    run = rig("cnn", "fine_tune", *EMA, max_epochs=2, monitor="val/loss").fit()
    best = read_checkpoint(run.folder / "best.ckpt")["state_dict"]
    model = deepcopy(run.module)
    model.load_state_dict(best)
    again = measured_by_torch(run, model)
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], atol=1e-6, rtol=1e-5)
    epoch = min(run.history(), key=lambda row: row["val/loss"])
    assert run.val_loss(model.eval()) == pytest.approx(epoch["val/loss"], rel=1e-5)
    assert run.ema.before != pytest.approx(epoch["val/loss"], rel=1e-5)
    own = run.state()  # what trains goes on from its own weights, not from the average
    assert not torch.equal(own["head.weight"], best["head.weight"])


@pytest.mark.parametrize("words", [("strategy.thawed_norm=eval",), ("strategy=partial", "strategy.last_k=1")])
def test_norms_that_keep_their_statistics_keep_them(rig, words):
    run = rig("cnn", "fine_tune", *EMA, *words, max_epochs=1)
    before = run.state()
    run.fit()
    best = read_checkpoint(run.folder / "best.ckpt")["state_dict"]
    first = "backbone.model.bn1.running_mean"
    torch.testing.assert_close(best[first], before[first], atol=0, rtol=0)


@pytest.mark.parametrize("strategy", ["fine_tune", pytest.param("gradual_unfreeze", marks=pytest.mark.slow)])
def test_an_averaged_run_cut_off_at_any_epoch_ends_with_the_same_bits(rig, strategy):
    whole = rig("cnn", strategy, *EMA).fit()
    for epoch in (1, 3):
        with pytest.raises(InterruptedError):
            rig("cnn", strategy, *EMA, callbacks=[Cut(epoch, batch=1)], folder=f"cut{epoch}").fit()
        again = rig("cnn", strategy, *EMA, folder=f"cut{epoch}").fit()
        same(whole, again)
        assert whole.ema.before == again.ema.before
        for name, tensor in whole.ema.mean.items():
            assert torch.equal(tensor, again.ema.mean[name])


def test_a_plateau_puts_the_averaged_weights_back(rig):
    class Started(Scripted):
        def on_train_epoch_start(self, trainer, pl_module):
            super().on_train_epoch_start(trainer, pl_module)
            self.mean[trainer.current_epoch] = (run.ema.mean or {}).get("head.weight", torch.zeros(1)).clone()

    script = Started([3.0, 2.0, 2.5, 1.9, 1.8, 1.7, 1.6])
    script.mean = {}
    words = ("unfreeze=on_plateau", "unfreeze.num_groups=2", "unfreeze.restore_best=true", "unfreeze.patience=1")
    run = rig("cnn", "gradual_unfreeze", *words, *EMA, callbacks=[script], max_epochs=7)
    run.fit()
    assert [row["phase"] for row in run.history()] == [0, 0, 0, 1, 1, 1, 1]
    assert torch.equal(script.start[3]["head.weight"], script.mean[2])  # of the end of the second epoch, the best
    assert not torch.equal(script.start[3]["head.weight"], script.end[1]["head.weight"])


def mixed(run, share):
    """The model between where `run` began and where it is, and the norms that were measured."""
    tuned = run.state()
    model = run.module.eval()
    number = interpolate(model, run.start.weights, tuned, share, run.batches_of_inputs, "32-true")
    return model, tuned, number


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wise_ft_mixes_tuned_and_starting_weights(rig, share):
    run = rig("cnn", "fine_tune", "strategy.average=wise_ft", max_epochs=2)
    began = run.state()
    model, tuned, number = mixed(run.fit(), share)
    state = model.state_dict()
    for name, parameter in model.named_parameters():
        if name.startswith("head."):  # which began with the backbone, from nothing
            assert torch.equal(parameter, tuned[name])
        else:
            wanted = (1 - share) * began[name].double() + share * tuned[name].double()
            torch.testing.assert_close(parameter.double(), wanted, atol=1e-7, rtol=1e-6)
    norms = [name for name in state if name.endswith("running_mean")]
    assert number == (len(norms) if share == 0.3 else 0)
    if share != 0.3:  # at either end they are known
        assert all(torch.equal(state[name], (began if share == 0 else tuned)[name]) for name in norms)
        return
    for name, tensor in measured_by_torch(run, model).state_dict().items():
        torch.testing.assert_close(state[name], tensor, atol=1e-6, rtol=1e-5)


def test_wise_ft_mixes_a_head_that_had_been_trained_before(rig):
    run = rig("vit", "lp_ft", "strategy.average=wise_ft", callbacks=[script := Scripted([4.0, 3.0, 2.0, 1.0])])
    model, tuned, _ = mixed(run.fit(), 0.5)
    probe = script.end[1]["head.weight"]  # the last of the epochs in which the head trained alone
    torch.testing.assert_close(model.head.weight, (probe + tuned["head.weight"]) / 2, atol=1e-7, rtol=1e-6)


def test_wise_ft_of_an_adapter_mixes_the_weights_that_it_adapts(rig):
    run = rig("vit", "lora", "strategy.average=wise_ft", max_epochs=2)
    plain, tuned = (folded(run, part) for part in (run.state(), run.fit().state()))
    mixed(run, 0.25)
    found = folded(run, run.state())
    changed = [name for name in plain if not torch.equal(plain[name], tuned[name]) and "head" not in name]
    assert len(changed) == 3
    for name in changed:
        torch.testing.assert_close(found[name], 0.75 * plain[name] + 0.25 * tuned[name], atol=1e-6, rtol=1e-5)


def folded(run, state):
    model = deepcopy(run.module)
    model.load_state_dict(state)
    run.strategy.adapter.fold(model.backbone)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_wise_ft_begins_where_it_began_after_a_resume(rig):
    whole = rig("cnn", "lp_ft", "strategy.average=wise_ft").fit()
    for epoch in (1, 2):
        with pytest.raises(InterruptedError):
            rig("cnn", "lp_ft", "strategy.average=wise_ft", callbacks=[Cut(epoch)], folder=f"cut{epoch}").fit()
        again = rig("cnn", "lp_ft", "strategy.average=wise_ft", folder=f"cut{epoch}").fit()
        same(whole, again)
        assert whole.start.weights.keys() == again.start.weights.keys()
        for name, tensor in whole.start.weights.items():
            assert torch.equal(tensor, again.start.weights[name]), name


SHRINK = "+strategy.regularizer={_target_: headstart.strategies.regularizers.BatchSpectralShrinkage}"


@pytest.mark.parametrize(
    "word", ["strategy.average=ema", "strategy.average=wise_ft", SHRINK, "+strategy.layer_rates=auto_rgn"]
)
def test_nothing_tuned_is_nothing_to_average_or_to_hold_back(rig, word):
    with pytest.raises(InputError, match=r"needs something that is tuned in the backbone"):
        rig("cnn", "feature_extraction", word)


def test_a_penalty_goes_with_an_average(rig):
    run = rig("cnn", "bss", "strategy.average=ema", max_epochs=1).fit()
    assert run.ema.before is not None


def test_random_weights_are_nothing_to_go_back_to(rig):
    with pytest.raises(InputError, match=r"but with strategy.pretrained=false they begin from random ones"):
        rig("cnn", "from_scratch", "strategy.average=wise_ft")
    rig("cnn", "from_scratch", "strategy.average=ema")


def test_a_decay_without_a_moving_average_is_refused(rig):
    with pytest.raises(InputError, match=r"strategy.average_decay=0.9 is of a moving average"):
        rig("cnn", "fine_tune", "strategy.average_decay=0.9")
