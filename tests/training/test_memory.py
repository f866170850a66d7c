"""What a step is said to need at least is held against what it does take."""

import resource
import subprocess
import sys

import pytest
import torch

from headstart.backbones.timm import Timm
from headstart.training.memory import least_bytes, may_be_too_much, memory_here

SIZE, BATCH = 256, 32
PROGRAM = f"""
import torch
from pathlib import Path
from headstart.backbones.timm import Timm

def memory(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))

def step(count, trains):
    pixels = torch.zeros(count, 3, {SIZE}, {SIZE}, dtype=torch.uint8)
    with torch.set_grad_enabled(trains):
        features = backbone({{"pixels": pixels}})
        if trains:
            features.sum().backward()

torch.set_num_threads(1)
backbone = Timm("test_efficientnet", weights="none", size={SIZE}).build(False).train()
for trains in (False, True):
    step(2, trains)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    step({BATCH}, trains)
    print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told there")
def test_a_step_takes_what_is_said_and_not_several_times_that():
    factory = Timm("test_efficientnet", weights="none", size=SIZE)
    with torch.device("meta"):
        backbone = factory.build(False)
    inputs = factory.shapes(BATCH, size=SIZE)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    every = {name for name, _ in backbone.named_parameters()}
    for trained, measured in zip((set(), every), map(int, done.stdout.split()), strict=True):
        again = 1 + 2 / BATCH  # the step on two left memory that this one takes up
        assert 0 < least_bytes(backbone, inputs, trained, "32-true") <= measured * again
        assert measured <= 4 * least_bytes(backbone, inputs, trained, "32-true")


def test_what_is_frozen_needs_less():
    factory = Timm("test_efficientnet", weights="none", size=SIZE)
    with torch.device("meta"):
        backbone = factory.build(False)
    inputs = factory.shapes(BATCH, size=SIZE)
    every = {name for name, _ in backbone.named_parameters()}
    last = {name for name in every if name.startswith("model.blocks.4")} or {sorted(every)[-1]}
    whole, part, none = (least_bytes(backbone, inputs, names, "32-true") for names in (every, last, set()))
    assert none < whole
    assert part < whole
    assert least_bytes(backbone, inputs, every, "bf16-mixed") == whole // 2
    assert least_bytes(backbone, inputs, every, "64-true") == pytest.approx(2 * whole, rel=0.01)


def test_only_large_inputs_are_looked_at():
    small = {"pixels": torch.empty(32, 3, 96, 96, dtype=torch.uint8, device="meta")}
    large = {"pixels": torch.empty(32, 3, 4096, 4096, dtype=torch.uint8, device="meta")}
    assert not may_be_too_much(small, 0, 8 << 30)
    assert may_be_too_much(large, 0, 8 << 30)
    assert may_be_too_much(small, 32 * 4096**2, 8 << 30)
    here = memory_here("cpu")
    assert here is None or here > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
