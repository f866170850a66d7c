"""Once an epoch: rates as formulas give them, plateaus that thaw, and runs cut off at any epoch that go on."""

import math
import os
import signal

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import OneCycleLR

from epoch_callbacks import Cut, Scripted, same
from headstart.training.work import counter

STEPS = 3
"""Optimizer steps of an epoch."""


def cosine(step, total):
    warm = round(0.05 * total)
    return (step + 1) / (warm + 1) if step < warm else (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


def one_cycle(step, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = OneCycleLR(optimizer, 1.0, total_steps=total, cycle_momentum=False)
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return optimizer.param_groups[0]["lr"]


def slanted(step, total):
    cut = math.floor(total * 0.1)
    share = step / cut if step < cut else 1 - (step - cut) / (total - cut)
    return (1 + share * 31) / 32


SCHEDULES = {
    "constant": lambda step, total: 1.0,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "slanted_triangular": slanted,
}
GROUPS = {
    "cnn": ["stem", "layer1.0", "layer2.0", "layer3.0", "layer4.0"],
    "vit": ["stem", "blocks.0", "blocks.1", "blocks.2", "tail"],
}


def multiplier(strategy, family, place, epoch):
    """Of the group at `place` from the input, 5 being the head."""
    if place == 5:
        return 0.1 if strategy == "lp_ft" and epoch >= 2 else 1.0
    return {
        "discriminative": lambda: 0.85 ** (5 - place),
        "feature_extraction": lambda: 0.0,
        "gradual_unfreeze": lambda: float(place >= 5 - 2 * epoch),
        "lp_ft": lambda: 0.1 * (epoch >= 2),
        "partial": lambda: float(place >= {"cnn": 3, "vit": 2}[family]),
        "lora": lambda: float(family == "cnn" or place in (1, 2, 3)),
    }.get(strategy, lambda: 1.0)()


@pytest.mark.parametrize(
    ("strategy", "family", "scheduler", "optimizer"),
    [
        ("discriminative", "cnn", "cosine", "sgd"),
        ("discriminative", "vit", "one_cycle", "adamw"),
        ("feature_extraction", "vit", "constant", "sgd"),
        ("gradual_unfreeze", "cnn", "slanted_triangular", "adamw"),
        ("gradual_unfreeze", "vit", "cosine", "adamw"),
        ("lp_ft", "cnn", "cosine", "sgd"),
        ("lp_ft", "vit", "one_cycle", "sgd"),
        ("partial", "vit", "slanted_triangular", "sgd"),
        ("lora", "vit", "constant", "adamw"),
        ("l2_sp", "cnn", "one_cycle", "sgd"),
    ],
)
def test_history_holds_the_rate_of_every_group_at_every_epochs_last_step(rig, strategy, family, scheduler, optimizer):
    run = rig(family, strategy, f"scheduler={scheduler}", optimizer=optimizer).fit()
    base = {"adamw": 1e-2, "sgd": 1e-1}[optimizer]
    stages = strategy == "gradual_unfreeze" and family == "cnn"
    assert [row["epoch"] for row in run.history()] == [0, 1, 2, 3]
    for row in run.history():
        epoch, step = row["epoch"], STEPS * (row["epoch"] + 1) - 1
        restarts = strategy == "lp_ft"  # both of its phases take two epochs
        factor = SCHEDULES[scheduler](step % (2 * STEPS) if restarts else step, 2 * STEPS if restarts else 4 * STEPS)
        names = [name.removesuffix(".0") if stages else name for name in GROUPS[family]]
        expected = {
            f"lr/{name}": base * factor * multiplier(strategy, family, place, epoch)
            for place, name in enumerate([*names, "head"])
        }
        assert {name: rate for name, rate in row.items() if name.startswith("lr/")} == pytest.approx(expected, rel=1e-9)
        assert row["step"] == step + 1


def test_newly_thawed_groups_climb_to_their_rate(rig):
    class Rates(pl.Callback):
        def __init__(self):
            self.seen = {}

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            rates = {group["row"][0]: group["lr"] for group in trainer.optimizers[0].param_groups}
            self.seen[trainer.global_step - 1] = rates

    rates = Rates()
    rig("vit", "gradual_unfreeze", "unfreeze.warmup_epochs=1.5", "scheduler=constant", callbacks=[rates]).fit()
    for step, seen in rates.seen.items():
        for place, name in enumerate(GROUPS["vit"]):
            thawed = STEPS * math.ceil((5 - place) / 2)
            climb = min(1.0, (step + 1 - thawed) / (1.5 * STEPS)) if step >= thawed else 0.0
            assert seen[name] == pytest.approx(0.01 * climb)
        assert seen["head"] == 0.01


def test_max_steps_end_the_schedule(rig):
    run = rig("vit", "fine_tune", "scheduler=cosine", max_steps=5).fit()
    history = run.history()
    assert [row["step"] for row in history] == [3, 5]
    assert history[-1]["lr/stem"] == pytest.approx(0.01 * cosine(4, 5))


LOSSES = [3.0, 2.0, 2.5, 1.9, 9.0, 8.0, 7.0, 7.5, 1.0, 1.0]
PLATEAU = ["unfreeze=on_plateau", "unfreeze.num_groups=2"]


@pytest.mark.parametrize(
    ("words", "phases"),
    [
        # best so far is per phase: 2.0 in the first; 1.9 in the second; 8, then 7 in the third
        ((), [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]),
        (("unfreeze.patience=2",), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]),
        (("unfreeze.min_delta=1.0",), [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]),
    ],
)
def test_the_next_groups_thaw_when_val_stops_improving(rig, words, phases):
    run = rig("vit", "gradual_unfreeze", *PLATEAU, *words, max_epochs=10, callbacks=[Scripted(LOSSES)]).fit()
    assert [row["phase"] for row in run.history()] == phases
    for row in run.history():
        assert [row[f"lr/{name}"] > 0 for name in GROUPS["vit"]] == [
            place >= 5 - 2 * row["phase"] for place in range(5)
        ]
    assert not [*run.folder.glob("plateau*")]


def test_plateaus_of_accuracy_are_those_of_the_measured_one(rig):
    run = rig("cnn", "gradual_unfreeze", *PLATEAU, "unfreeze.monitor=val/accuracy", max_epochs=10).fit()
    history = run.history()
    best, expected, phase = -1.0, [], 0
    for row in history:
        expected.append(phase)
        improved = row["val/accuracy"] > best
        best = max(best, row["val/accuracy"])
        if not improved and phase < 3:
            phase, best = phase + 1, -1.0
    assert [row["phase"] for row in history] == expected


def test_the_phases_best_weights_come_back_before_the_next_thaw(rig):
    script = Scripted(LOSSES)
    rig("vit", "gradual_unfreeze", *PLATEAU, "unfreeze.restore_best=true", max_epochs=10, callbacks=[script]).fit()
    best_before = {3: 1, 5: 3, 8: 6}
    for epoch in range(1, 10):
        source = script.end[best_before.get(epoch, epoch - 1)]
        assert all(torch.equal(tensor, source[name]) for name, tensor in script.start[epoch].items()), epoch


PHASES = "unfreeze.phases=[{start: 0, groups: []}, {start: 1, groups: [tail]}, {start: 3, groups: ['*']}]"


@pytest.mark.parametrize(
    ("strategy", "words", "begins"),
    [
        ("fine_tune", (), 0),
        ("lp_ft", (), 2),
        ("gradual_unfreeze", (), 3),
        ("fine_tune", ("unfreeze=phases", PHASES), 3),
        ("gradual_unfreeze", (*PLATEAU, "unfreeze.patience=2"), 9),
    ],
)
def test_patience_counts_from_the_plans_last_phase_on(rig, strategy, words, begins):
    """With a val/loss that never gets better, a plan is carried out to its last phase, which gets its own patience."""
    rising = Scripted([1.0 + epoch for epoch in range(20)])
    run = rig("vit", strategy, *words, max_epochs=20, monitor="val/loss", patience=2, callbacks=[rising]).fit()
    phases = [row["phase"] for row in run.history()]
    assert len(phases) == begins + 3
    assert phases.index(max(phases)) == begins
    assert phases[-1] == len(run.thaw.plan.phases) - 1


def test_a_better_epoch_in_the_last_phase_begins_patience_anew(rig):
    losses = [1.0, 0.1, 5.0, 6.0, 4.0, 4.5, 4.0, 0.0]  # the last phase begins with the third
    run = rig("vit", "lp_ft", max_epochs=8, monitor="val/loss", patience=2, callbacks=[Scripted(losses)]).fit()
    assert [row["val/loss"] for row in run.history()] == losses[:7]


@pytest.mark.parametrize("monitor", ["val/accuracy", "val/loss", "val/balanced_accuracy", "val/macro_f1"])
def test_the_weights_that_are_kept_are_those_of_the_best_epoch_by_the_monitor(rig, monitor):
    script = Scripted([3.0, 1.0, 2.0, 1.0, 4.0, 5.0])
    run = rig("cnn", "fine_tune", max_epochs=6, monitor=monitor, callbacks=[script]).fit()
    values = [row[monitor] for row in run.history()]
    best = values.index(min(values) if monitor == "val/loss" else max(values))
    kept = torch.load(run.folder / "best.ckpt", weights_only=True)
    assert kept["epoch"] == best
    assert all(torch.equal(tensor, script.end[best][name]) for name, tensor in kept["state_dict"].items())


GRADUAL = ("gradual_unfreeze", ["scheduler=one_cycle", "unfreeze.warmup_epochs=1.5"], 4)
ON_PLATEAU = ("gradual_unfreeze", [*PLATEAU, "unfreeze.restore_best=true", "unfreeze.min_delta=0.2"], 7)


@pytest.mark.parametrize(
    ("family", "strategy", "words", "max_epochs"),
    [
        ("cnn", *GRADUAL),
        pytest.param("vit", *GRADUAL, marks=pytest.mark.slow),
        pytest.param("cnn", *ON_PLATEAU, marks=pytest.mark.slow),
        pytest.param("vit", *ON_PLATEAU, marks=pytest.mark.slow),
    ],
)
def test_a_run_cut_off_at_any_epoch_ends_with_the_same_bits(rig, family, strategy, words, max_epochs):
    whole = rig(family, strategy, *words, max_epochs=max_epochs).fit()
    assert len({row["phase"] for row in whole.history()}) > 2
    for epoch in range(max_epochs):
        settings = {"max_epochs": max_epochs, "folder": f"cut{epoch}"}
        with pytest.raises(InterruptedError):
            rig(family, strategy, *words, callbacks=[Cut(epoch, batch=epoch % STEPS)], **settings).fit()
        same(whole, rig(family, strategy, *words, **settings).fit())


class CutBeforeItIsKept(pl.Callback):
    """Cuts a run off behind an epoch, when its best weights are kept and its last checkpoint is not."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise InterruptedError


def test_a_run_cut_off_between_its_files_ends_with_the_same_bits(rig):
    strategy, words, max_epochs = ON_PLATEAU
    whole = rig("cnn", strategy, *words, max_epochs=max_epochs).fit()
    settings = {"max_epochs": max_epochs, "folder": "cut"}
    for epoch in range(max_epochs):
        with pytest.raises(InterruptedError):
            rig("cnn", strategy, *words, callbacks=[CutBeforeItIsKept(epoch)], **settings).fit()
    same(whole, rig("cnn", strategy, *words, **settings).fit())


class CutAtTheEnd(pl.Callback):
    """Cuts a run off behind its last epoch, before anything is recorded of it."""

    def on_train_end(self, trainer, pl_module):
        raise InterruptedError


@pytest.mark.parametrize("strategy", ["fine_tune", "lp_ft"])
def test_a_run_that_stops_early_ends_with_the_same_bits_wherever_it_was_cut_off(rig, strategy):
    def settings(folder, *cuts):
        # better in the fourth epoch than before, then never again
        script = Scripted([3.0, 4.0, 5.0, 2.0, *range(6, 20)])
        names = {"max_epochs": 12, "monitor": "val/loss", "patience": 2, "folder": folder}
        return {**names, "callbacks": [script, *cuts]}

    whole = rig("cnn", strategy, **settings("whole")).fit()
    assert [row["epoch"] for row in whole.history()] == list(range(6 if strategy == "lp_ft" else 3))
    for cut in (*(Cut(epoch) for epoch in range(len(whole.history()))), CutAtTheEnd()):
        with pytest.raises(InterruptedError):
            rig("cnn", strategy, **settings("cut", cut)).fit()
    same(whole, rig("cnn", strategy, **settings("cut")).fit())


def test_a_run_that_ends_within_an_epoch_ends_with_the_same_bits_wherever_it_was_cut_off(rig):
    settings = {"max_steps": 2 * STEPS + 1, "max_epochs": 9}
    whole = rig("cnn", "fine_tune", folder="whole", **settings).fit()
    assert [row["step"] for row in whole.history()] == [STEPS, 2 * STEPS, 2 * STEPS + 1]
    for cut in (Cut(1), Cut(2, batch=0), CutAtTheEnd()):
        with pytest.raises(InterruptedError):
            rig("cnn", "fine_tune", folder="cut", callbacks=[cut], **settings).fit()
    same(whole, rig("cnn", "fine_tune", folder="cut", **settings).fit())


def test_a_run_cut_off_in_every_epoch_ends_with_the_same_bits(rig):
    strategy, words, max_epochs = ON_PLATEAU
    whole = rig("cnn", strategy, *words, max_epochs=max_epochs).fit()
    settings = {"max_epochs": max_epochs, "folder": "cut"}
    for epoch in range(max_epochs):
        with pytest.raises(InterruptedError):
            rig("cnn", strategy, *words, callbacks=[Cut(epoch)], **settings).fit()
    same(whole, rig("cnn", strategy, *words, **settings).fit())


def test_a_killed_run_goes_on_with_the_same_bits(rig):
    whole = rig("cnn", "gradual_unfreeze").fit()
    for epoch in (1, 3):
        child = os.fork()
        if child == 0:
            rig("cnn", "gradual_unfreeze", callbacks=[Cut(epoch, by=signal.SIGKILL)], folder="killed").fit()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    same(whole, rig("cnn", "gradual_unfreeze", folder="killed").fit())


def test_the_work_of_all_steps_is_that_of_each_phases_first(rig):
    """Against a counter around every single step."""

    class Every(pl.Callback):
        total = 0

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.counter = counter()
            self.counter.__enter__()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.counter.__exit__(None, None, None)
            self.total += self.counter.get_total_flops()

    every = Every()
    rig("vit", "gradual_unfreeze", num_train=21, folder="all", callbacks=[every]).fit()
    run = rig("vit", "gradual_unfreeze", num_train=21).fit()
    assert run.flops.total == pytest.approx(every.total, rel=1e-6)
    work = {phase: flops for (phase, *_), flops in run.flops.known.per_unit.items()}
    assert [work[phase] for phase in range(4)] == sorted(run.flops.known.per_unit.values())
