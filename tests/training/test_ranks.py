"""Two processes under gloo: equal weights after every thaw, and the numbers of one process at the same batch."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from headstart.errors import InputError
from headstart.training.ranks import check_devices, devices_here, other_ranks
from two_ranks import PLAIN, in_two_ranks


class Keep(pl.Callback):
    """Keeps every epoch's weights; sees to it that nothing frozen ever has a gradient."""

    def __init__(self):
        self.states = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        assert all(p.requires_grad or p.grad is None for p in pl_module.parameters())

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})


def run(rig, family, strategy, words, **settings):
    keep = Keep()
    torch.manual_seed(5)
    backbone = PLAIN[family].build(False)
    fit = rig(
        family, strategy, *words, backbone=backbone, optimizer="sgd", num_train=29, callbacks=[keep], **settings
    ).fit()
    return {"states": keep.states, "history": fit.history(), "flops": fit.flops.total}


def as_ranks(rig, tmp_path, *what):
    shared = {"folder": "shared", "devices": 2, "strategy_name": "ddp_find_unused_parameters_true"}
    return in_two_ranks(tmp_path, lambda: run(rig, *what, **shared))


@pytest.mark.parametrize(
    ("family", "strategy", "words"),
    [
        ("vit", "gradual_unfreeze", []),
        pytest.param("vit", "l2_sp", [], marks=pytest.mark.slow),
        pytest.param("vit", "delta", [], marks=pytest.mark.slow),
        pytest.param("vit", "surgical_auto", [], marks=pytest.mark.slow),
        pytest.param("vit", "sam", [], marks=pytest.mark.slow),
        ("cnn", "gradual_unfreeze", ["++strategy.thawed_norm=eval"]),
        pytest.param("vit", "gradual_unfreeze", ["unfreeze=on_plateau", "unfreeze.num_groups=5",
                                                 "unfreeze.restore_best=true", "unfreeze.min_delta=0.5"],
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_two_processes_hold_equal_weights_and_give_the_numbers_of_one(rig, tmp_path, family, strategy, words):
    first, second = as_ranks(rig, tmp_path, family, strategy, words)
    alone = run(rig, family, strategy, words, folder="alone")
    assert first["history"] == second["history"]
    for mine, others, single in zip(first["states"], second["states"], alone["states"], strict=True):
        for name, tensor in mine.items():
            assert torch.equal(tensor, others[name]), name
            torch.testing.assert_close(tensor, single[name], rtol=1e-3, atol=1e-5, msg=name)
    for row, single in zip(first["history"], alone["history"], strict=True):
        assert row == pytest.approx(single, rel=1e-4)
    assert first["flops"] == second["flops"] == pytest.approx(alone["flops"], rel=1e-9)


def test_batch_norm_of_two_processes_stays_equal_though_it_sees_shares(rig, tmp_path):
    first, second = as_ranks(rig, tmp_path, "cnn", "gradual_unfreeze", [])
    parameters = [name for name in first["states"][0] if "running" not in name]
    for mine, others in zip(first["states"], second["states"], strict=True):
        assert all(torch.equal(mine[name], others[name]) for name in parameters)


def test_one_device_needs_no_other_process(tmp_path):
    with other_ranks(tmp_path, 1, "run"):
        assert "LOCAL_RANK" not in os.environ


FIRST = """
import sys, time
from pathlib import Path
from headstart.training.ranks import other_ranks
with other_ranks(Path(sys.argv[1]), 3, "run"):
    print("begun", flush=True)
    time.sleep(60)
"""


def descendants(pid):
    found = {int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()}
    return found | {other for child in found for other in descendants(child)}


def test_ranks_end_with_the_first_one_even_if_it_is_killed(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", FIRST, str(tmp_path)], stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"begun\n"
    others = descendants(first.pid)
    assert len(others) == 2
    first.kill()
    first.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in others):
        time.sleep(0.05)
    left = [pid for pid in others if Path(f"/proc/{pid}").exists()]
    assert [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in left] in (
        [],
        ["Z"],
        ["Z"] * 2,
    )


def test_more_devices_than_there_are_are_refused():
    kind, number = devices_here("cpu")
    assert (kind, number) == ("CPU cores", len(os.sched_getaffinity(0)))
    check_devices(number, "cpu")
    with pytest.raises(InputError, match=rf"at most the number of devices here, {number} \(CPU cores\), but is 64"):
        check_devices(64, "cpu")


@pytest.mark.slow
def test_a_rank_that_fails_says_why(tmp_path):
    message = r"Rank 1 ended with status 1:(?s:.*)config.yaml cannot be read"
    with pytest.raises(RuntimeError, match=message), other_ranks(tmp_path, 2, "run"):
        assert os.environ["LOCAL_RANK"] == "0"
    assert "LOCAL_RANK" not in os.environ
