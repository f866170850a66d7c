"""Two processes of one run under gloo, forked from the test's own, and models that are the same in each."""

import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from headstart.backbones.timm import Timm

VIT = {"embed_dim": 16, "depth": 3, "num_heads": 2, "patch_size": 8, "init_values": 0.1}
PLAIN = {
    "cnn": Timm("resnet18", weights="none", size=32, arguments={"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}),
    "vit": Timm("vit_tiny_patch16_224", weights="none", size=32, arguments=VIT),
}
"""Without dropout, whose rng differ by rank."""


def in_two_ranks(folder: Path, done: Callable[[], Any]) -> list[Any]:
    """What `done` returns in either of two forks of this process, each one rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            try:
                os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                               "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}  # fmt: skip
                torch.save(done(), folder / f"rank{rank}.pt")
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
