"""Probes: equal bits in any company, and equal numbers to a plain loop over torch's own parts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from headstart import notes
from headstart.data.batches import Batches
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression
from headstart.training import products, vector_optim
from headstart.training.epoch_graph import EpochGraph
from headstart.training.heads import MLP, Linear
from headstart.training.probe import fusion_key, train_probes
from headstart.training.probe_loop import total_steps
from headstart.training.probe_spec import Patience, Probe
from headstart.training.stacked_heads import StackedHeads
from headstart.training.vector_optim import SGD, AdamW, Torch, rule, torch_optimizer


def cosine(step, total_steps):
    return 0.5 * (1 + math.cos(math.pi * step / total_steps))


def problem(num_examples=150, num_features=37, num_classes=3):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (num_examples,), generator=generator)
    centres = torch.randn(num_classes, num_features, generator=generator)
    return centres[labels] + 2 * torch.randn(num_examples, num_features, generator=generator), labels


def multiclass(label_smoothing=0.0, class_weights=None):
    task = Multiclass(label_smoothing)
    task.weights = None if class_weights is None else tuple(class_weights)
    return task


def probe(head_factory=None, num_features=37, num_classes=3, seed=0, num_train=91, **changes):
    torch.manual_seed(seed)
    order = np.random.default_rng(seed).permutation(150)
    settings = {
        "head": (head_factory or Linear()).build(num_features, num_classes),
        "task": multiclass(),
        "rule": AdamW(1e-2),
        "train": order[:num_train],
        "val": order[110:],
        "seed": seed,
        "batch_size": 32,
        "max_epochs": 3,
        "schedule": cosine,
    }
    return Probe(**(settings | changes))


def same_numbers(one, other):
    def numbers(outcome):
        return [{name: value for name, value in row.items() if name != "seconds"} for row in outcome.history]

    same_states = one.best_state.keys() == other.best_state.keys() and all(
        torch.equal(tensor, other.best_state[name]) for name, tensor in one.best_state.items()
    )
    return same_states and numbers(one) == numbers(other) and one.best_epoch == other.best_epoch


ADAMW = [AdamW(1e-2), AdamW(1e-1, 0.0), AdamW(1e-3, 0.3, (0.8, 0.95), 1e-6)]
SGDS = [SGD(1e-1, 1e-2, 0.9), SGD(1e-2, 0.0, 0.5, 0.1), SGD(1.0, 0.1, 0.95)]


@pytest.fixture(params=[1, 2], ids="threads={}".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("rules", [ADAMW, SGDS], ids=["adamw", "sgd"])
@pytest.mark.parametrize("head", [Linear(), MLP(hidden=19, num_hidden_layers=2, dropout=0.3)], ids=["linear", "mlp"])
@pytest.mark.parametrize(("num_features", "num_classes"), [(37, 3), (64, 2), (129, 10), (515, 37)])
def test_a_probe_has_the_same_bits_in_any_company(threads, rules, head, num_features, num_classes):
    features, labels = problem(num_features=num_features, num_classes=num_classes)
    probes = [
        probe(head, num_features, num_classes, seed, rule=rules[number % 3], max_epochs=2 + number % 2)
        for seed in range(2)
        for number in range(4)
    ]
    probes = [replace(each, task=multiclass(0.1 * (number % 2))) for number, each in enumerate(probes)]
    alone = [train_probes(features, labels, [each], num_classes)[0] for each in probes]
    for chosen in ([0, 1], [6, 1, 4, 3, 2], list(range(7)), list(range(8))):
        together = train_probes(features, labels, [probes[number] for number in chosen], num_classes)
        assert all(same_numbers(alone[number], other) for number, other in zip(chosen, together, strict=True))


def test_the_bits_also_hold_with_class_weights_clipping_accumulation_and_early_stopping(threads):
    features, labels = problem()
    probes = [
        probe(
            MLP(24, dropout=0.1 * number),
            seed=number // 2,
            rule=ADAMW[number % 3],
            task=multiclass(class_weights=[1.0, 0.5 + number, 2.0]),
            gradient_clip_val=0.3 + 0.1 * number,
            accumulate_grad_batches=2,
            max_epochs=8,
            early_stopping=Patience(1 + number),
        )
        for number in range(1, 5)
    ]
    together = train_probes(features, labels, probes, 3)
    assert len({len(outcome.history) for outcome in together}) > 1, "some should stop before others"
    for each, outcome in zip(probes, together, strict=True):
        assert same_numbers(train_probes(features, labels, [each], 3)[0], outcome)


@pytest.mark.parametrize("num_outputs", [1, 2, 13])
@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_the_bits_also_hold_for_other_tasks_each_with_its_own_settings(threads, kind, num_outputs):
    features, _ = problem(num_classes=max(2, num_outputs))
    rng = torch.Generator().manual_seed(2)
    if kind == "multilabel":
        targets = (torch.rand(150, num_outputs, generator=rng) < 0.4).float()
        tasks = [Multilabel(), Multilabel(positive_weights="balanced"), Multilabel(threshold=0.3)]
    else:
        targets = features[:, :num_outputs] * 3 + 50 + torch.randn(150, num_outputs, generator=rng)
        tasks = [Regression(objective=name, delta=0.5) for name in ("mse", "huber", "l1")]
    probes = []
    for number, each in enumerate((0, 1, 2, 0, 1)):
        one = probe(num_classes=num_outputs, seed=number // 3, rule=ADAMW[number % 3], max_epochs=2 + number % 2)
        probes.append(replace(one, task=tasks[each].fitted(targets[one.train].numpy(), num_outputs)))
    together = train_probes(features, targets, probes, num_outputs)
    assert {outcome.num_together for outcome in together} == {5}
    for each, outcome in zip(probes, together, strict=True):
        assert same_numbers(train_probes(features, targets, [each], num_outputs)[0], outcome)
    best = together[0].history[together[0].best_epoch]
    probes[0].head.load_state_dict(together[0].best_state)
    with torch.no_grad():
        found = probes[0].task.scores(probes[0].head(features[probes[0].val]), targets[probes[0].val])
    for name in probes[0].task.of_epoch:
        assert best[f"val/{name}"] == pytest.approx(found[name], rel=1e-5)


def test_the_bits_also_hold_where_products_are_large_enough_for_all_threads(threads):
    features, labels = problem(1500, 512, 100)
    order = np.arange(1500)
    probes = [
        probe(num_features=512, num_classes=100, rule=each, train=order[:1400], val=order[1400:], batch_size=700)
        for each in ADAMW
    ]
    together = train_probes(features, labels, probes, 100)
    for each, outcome in zip(probes, together, strict=True):
        assert same_numbers(train_probes(features, labels, [each], 100)[0], outcome)


def test_where_a_shared_product_rounds_otherwise_each_head_has_its_own_and_it_is_said(threads, monkeypatch):
    features, labels = problem(num_features=515, num_classes=10)
    probes = [probe(num_features=515, num_classes=10, rule=each) for each in ADAMW]
    shared = train_probes(features, labels, probes, 10)
    real = products.shared_product

    def rounded(left, right, out, rows):
        real(left, right, out, rows)
        if rows.stop - rows.start > 16:
            out[rows.stop - 1] += 1e-3

    products._is_exact.cache_clear()
    monkeypatch.setattr(products, "shared_product", rounded)
    try:
        with notes.listening() as heard:
            together = train_probes(features, labels, probes, 10)
            alone = [train_probes(features, labels, [each], 10)[0] for each in probes]
    finally:
        products._is_exact.cache_clear()
    assert all(map(same_numbers, alone, together))
    assert [row["val/loss"] for row in together[0].history] == pytest.approx(
        [row["val/loss"] for row in shared[0].history], rel=1e-4
    )
    (said,) = heard.messages
    assert "one by one" in said
    assert "515 features, 10 outputs, batches of 27, 32, 40" in said


def test_nothing_is_said_where_products_can_be_shared_or_heads_are_too_wide_for_it():
    features, labels = problem()
    with notes.listening() as heard:
        train_probes(features, labels, [probe(), probe(seed=1)], 3)
        train_probes(features, labels, [probe(MLP(200))], 3)
    assert heard.messages == []


@pytest.mark.parametrize("num_outputs", [2, 3, 5, 8, 10, 100])
@pytest.mark.parametrize("num_features", [384, 515, 1280])
@pytest.mark.parametrize("num_examples", [1, 2, 5, 27, 32, 64, 210])
def test_products_are_found_exact_or_not_for_every_shape_without_touching_the_dice(
    num_examples, num_features, num_outputs
):
    before = torch.random.get_rng_state()
    assert products.shared_heads(num_examples, num_features, num_outputs) in (1, products.WIDEST // num_outputs)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_small_heads_do_not_depend_on_the_number_of_threads():
    features, labels = problem()
    before, outcomes = torch.get_num_threads(), []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        outcomes += train_probes(features, labels, [probe()], 3)
        assert torch.get_num_threads() == num_threads
    torch.set_num_threads(before)
    assert same_numbers(*outcomes)


def train_plainly(features, labels, each):
    """The oracle: autograd, `torch.optim`, `cross_entropy`; gives the last state and the loss of each batch."""
    torch.manual_seed(each.seed)
    head = each.head
    weights = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in head.parameters() if parameter.ndim <= 1]
    decay = each.rule.weight_decay
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch_optimizer(each.rule, groups)
    class_weights = None if each.task.weights is None else torch.tensor(each.task.weights)
    step, losses, sampler = 0, [], Batches(each.train, each.batch_size, each.seed)
    for epoch in range(each.max_epochs):
        sampler.set_epoch(epoch)
        window = [draw.indices for draw in sampler]
        for number, indices in enumerate(window, start=1):
            loss = functional.cross_entropy(
                head(features[indices]), labels[indices], class_weights, label_smoothing=each.task.label_smoothing
            )
            losses.append((epoch, len(indices), loss.item()))
            (loss / each.accumulate_grad_batches).backward()
            if number % each.accumulate_grad_batches and number < len(window):
                continue
            if each.gradient_clip_val is not None:
                nn.utils.clip_grad_norm_(head.parameters(), each.gradient_clip_val)
            for group in optimizer.param_groups:
                group["lr"] = each.rule.lr * each.schedule(step, total_steps(each))
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return head.state_dict(), losses


@pytest.mark.parametrize("head", [Linear(), MLP(16, 2, dropout=0.0)], ids=["linear", "mlp"])
@pytest.mark.parametrize("each_rule", [*ADAMW[::2], *SGDS[:2], SGD(0.1), SGD(0.1, 1e-3, 0.9, nesterov=True)], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"task": multiclass(0.2, [0.2, 1.0, 3.0])},
        {"gradient_clip_val": 0.1, "accumulate_grad_batches": 2, "task": multiclass(0.0, [0.2, 1.0, 3.0])},
    ],
    ids=["plain", "smoothed and weighted", "clipped and accumulated"],
)
@pytest.mark.parametrize("few", [1, 10_000], ids=["kernels", "operations"])
def test_training_agrees_with_a_plain_loop_over_torch_optim(monkeypatch, head, each_rule, settings, few):
    monkeypatch.setattr(vector_optim, "FEW", few)
    features, labels = problem()
    each = probe(head, rule=each_rule, max_epochs=10, **settings)
    # With every example in val and a monitor that falls, the best epoch need not be the last: compare the last state.
    outcome = train_probes(features, labels, [replace(each, max_epochs=10)], 3)[0]
    history = outcome.history
    best = train_plainly(features, labels, replace(each, max_epochs=outcome.best_epoch + 1, schedule=at_ten(each)))
    for name, tensor in best[0].items():
        torch.testing.assert_close(outcome.best_state[name], tensor, rtol=1e-3, atol=2e-5)
    for epoch in range(outcome.best_epoch + 1):
        of_epoch = [(size, loss) for number, size, loss in best[1] if number == epoch]
        mean = sum(size * loss for size, loss in of_epoch) / sum(size for size, _ in of_epoch)
        assert history[epoch]["train/loss"] == pytest.approx(mean, rel=1e-4)


def at_ten(each):
    """The schedule as it is in the whole run, for a shorter one."""
    return lambda step, _: each.schedule(step, total_steps(each))


def test_metrics_and_the_best_state_are_those_of_the_best_epoch_on_val():
    features, labels = problem()
    each = probe(max_epochs=6)
    untouched = {name: tensor.clone() for name, tensor in each.head.state_dict().items()}
    outcome = train_probes(features, labels, [each], 3)[0]
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in each.head.state_dict().items())
    accuracies = [row["val/accuracy"] for row in outcome.history]
    assert outcome.best_epoch == accuracies.index(max(accuracies))
    each.head.load_state_dict(outcome.best_state)
    with torch.no_grad():
        scores, target = each.head(features[each.val]), labels[each.val]
    row = outcome.history[outcome.best_epoch]
    assert row["val/accuracy"] == pytest.approx((scores.argmax(1) == target).double().mean().item())
    assert row["val/loss"] == pytest.approx(functional.cross_entropy(scores, target).item(), rel=1e-5)
    assert [row["epoch"] for row in outcome.history] == list(range(6))
    assert [row["step"] for row in outcome.history] == [3 * (epoch + 1) for epoch in range(6)]


def test_a_diverged_probe_is_marked_with_its_epoch_and_step_and_disturbs_no_other():
    features, labels = problem()
    bad = probe(rule=AdamW(1e30), schedule=lambda step, total: 1e30 if step >= 4 else 1e-30)
    good = probe(rule=AdamW(1e-2))
    first, second = train_probes(features, labels, [bad, good], 3)
    assert (first.divergence.epoch, first.divergence.step) == (1, 5)
    assert len(first.history) == 2
    assert first.best_epoch == 0
    assert second.divergence is None
    assert same_numbers(train_probes(features, labels, [good], 3)[0], second)


def test_a_divergence_is_told_in_steps_however_many_batches_make_one():
    features, labels = problem()
    bad = probe(rule=AdamW(1e30), schedule=lambda step, total: 1e30 if step >= 2 else 1e-30, accumulate_grad_batches=2)
    outcome = train_probes(features, labels, [bad], 3)[0]
    assert [row["step"] for row in outcome.history] == [2, 4]  # three batches make two steps
    assert (outcome.divergence.epoch, outcome.divergence.step) == (1, 3)


def test_max_steps_ends_training_within_an_epoch():
    features, labels = problem()
    outcome = train_probes(features, labels, [probe(max_steps=4, max_epochs=50)], 3)[0]
    assert outcome.num_steps == 4
    assert [row["step"] for row in outcome.history] == [3, 4]
    assert outcome.history[-1]["lr/head"] == pytest.approx(1e-2 * cosine(3, 4))


def test_early_stopping_waits_for_patience_epochs_without_improvement():
    features, labels = problem()
    stopping = Patience(2, min_delta=10.0)
    outcome = train_probes(features, labels, [probe(max_epochs=20, monitor="val/loss", early_stopping=stopping)], 3)[0]
    assert len(outcome.history) == 3


def test_views_are_trained_on_in_turn_and_evaluation_reads_the_features_themselves():
    features, labels = problem()
    views = [features + 0.1, features * 0.5]
    each = probe(max_epochs=1)
    plain = train_probes(views[0], labels, [each], 3)[0]
    viewed = train_probes(features, labels, [each], 3, views=views)[0]
    assert torch.equal(plain.best_state["weight"], viewed.best_state["weight"])
    assert plain.history[0]["val/loss"] != viewed.history[0]["val/loss"]
    two = train_probes(features, labels, [replace(each, max_epochs=2)], 3, views=views)[0]
    other = train_probes(features, labels, [replace(each, max_epochs=2)], 3, views=[views[0], features])[0]
    assert two.history[0]["train/loss"] == other.history[0]["train/loss"]
    assert two.history[1]["train/loss"] != other.history[1]["train/loss"]


def test_any_other_optimizer_or_head_trains_alone_by_autograd():
    features, labels = problem()
    adagrad = rule(torch.optim.Adagrad, 1e-2, 1e-3, initial_accumulator_value=0.1)
    assert isinstance(adagrad, Torch)
    each = probe(rule=adagrad, max_epochs=2, schedule=lambda step, total: 1.0)
    normed = probe(max_epochs=2)
    normed = replace(normed, head=nn.Sequential(nn.LayerNorm(37), nn.Dropout(0.2), nn.Linear(37, 3)))
    assert fusion_key(each) is None
    assert fusion_key(normed) is None
    together = train_probes(features, labels, [each, probe(), normed], 3)
    for position, one in ((0, each), (2, normed)):
        assert same_numbers(train_probes(features, labels, [one], 3)[0], together[position])
    one_epoch = replace(each, max_epochs=1)
    outcome = train_probes(features, labels, [one_epoch], 3)[0]
    state, _ = train_plainly(features, labels, one_epoch)
    torch.testing.assert_close(outcome.best_state["weight"], state["weight"])


def test_stacked_and_autograd_heads_agree():
    features, labels = problem()
    each = probe(MLP(16, dropout=0.0))
    as_module = nn.Sequential(nn.Identity(), *each.head)
    stacked = train_probes(features, labels, [each], 3)[0]
    by_autograd = train_probes(features, labels, [replace(each, head=as_module)], 3)[0]
    for one, other in zip(stacked.history, by_autograd.history, strict=True):
        assert one["val/loss"] == pytest.approx(other["val/loss"], rel=1e-4)


def test_dropout_drops_its_share_and_keeps_the_mean():
    head = MLP(hidden=4000, dropout=0.25).build(5, 2)
    stack = StackedHeads([head], [AdamW(1.0)], [None], torch.device("cpu"))
    stack.start_epoch(0, [(slice(0, 1), 0)])
    with torch.no_grad():
        stack.forward([(slice(0, 1), torch.randn(20, 5))])
    (mask,) = stack.masks
    assert (mask == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert mask.mean().item() == pytest.approx(1, abs=0.01)


def test_what_may_differ_within_a_stack_and_what_may_not():
    first = probe()
    for change in (
        {"rule": AdamW(3.0, 0.5)},
        {"seed": 5},
        {"train": first.train[::-1].copy()},
        {"max_epochs": 9},
        {"task": multiclass(0.3)},
        {"early_stopping": Patience(3)},
    ):
        assert fusion_key(replace(first, **change)) == fusion_key(first)
    for change in ({"rule": SGD(1e-2)}, {"batch_size": 16}, {"train": first.train[:50]}, {"head": nn.Linear(37, 4)}):
        assert fusion_key(replace(first, **change)) != fusion_key(first)


def test_every_epoch_is_reported_and_shares_of_time_add_up():
    features, labels = problem()
    seen = []
    outcomes = train_probes(
        features,
        labels,
        [probe(), probe(max_epochs=2), probe(Linear(init="zeros"), rule=SGD(0.1))],
        3,
        report=lambda position, row: seen.append((position, row["epoch"])),
    )
    assert sorted(seen) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert all(outcome.seconds > 0 and outcome.num_together == 3 for outcome in outcomes)


def test_probes_on_batches_of_like_lengths_follow_the_sampler():
    features, labels = problem()
    lengths = np.random.default_rng(0).integers(1, 40, 91)
    probes = [probe(rule=each, lengths=lengths, seed=seed) for each in ADAMW for seed in (0, 1)]
    assert len({fusion_key(each) for each in probes}) == 2
    together = train_probes(features, labels, probes, 3)
    for each, outcome in zip(probes, together, strict=True):
        assert same_numbers(train_probes(features, labels, [each], 3)[0], outcome)
    assert not same_numbers(together[0], train_probes(features, labels, [replace(probes[0], lengths=None)], 3)[0])


def test_on_a_gpu_products_are_batched_which_gives_the_same_numbers(monkeypatch):
    features, labels = problem()
    each = probe(MLP(16))
    one_by_one = train_probes(features, labels, [each], 3)[0]
    monkeypatch.setattr(products, "shared_heads", lambda *_: 1)
    monkeypatch.setattr(products, "each_product", products.batched_product)
    batched = train_probes(features, labels, [each], 3)[0]
    for one, other in zip(one_by_one.history, batched.history, strict=True):
        assert one["val/loss"] == pytest.approx(other["val/loss"], rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_numbers_of_the_cpu():
    features, labels = problem()
    probes = [probe(rule=each, gradient_clip_val=1.0, task=multiclass(class_weights=[1.0, 2.0, 0.5])) for each in ADAMW]
    for one, other in zip(
        train_probes(features, labels, probes, 3), train_probes(features, labels, probes, 3, "cuda"), strict=True
    ):
        for row, same in zip(one.history, other.history, strict=True):
            assert row["val/loss"] == pytest.approx(same["val/loss"], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rules", [(AdamW(1e-2), AdamW(3e-3)), (SGD(0.1, momentum=0.9), SGD(0.01, momentum=0.5))])
@pytest.mark.parametrize("num_views", [1, 2])
def test_epochs_that_a_gpu_plays_again_give_what_operations_one_by_one_give(rules, num_views, monkeypatch):
    features, labels = problem()
    views = [features, features + 0.1][:num_views]
    probes = [
        probe(rule=rule, max_epochs=6, seed=seed, early_stopping=Patience(2) if seed else None)
        for seed, rule in enumerate(rules)
    ]
    real, recorded = EpochGraph._record, []
    monkeypatch.setattr(EpochGraph, "_record", lambda self, *given: recorded.append(real(self, *given)) or recorded[-1])
    played = train_probes(features, labels, probes, 3, "cuda", views=views)
    assert recorded
    assert all(recorded), "nothing was recorded"
    monkeypatch.setattr(EpochGraph, "_record", lambda self, *given: False)
    for one, other in zip(played, train_probes(features, labels, probes, 3, "cuda", views=views), strict=True):
        assert same_numbers(one, other)
