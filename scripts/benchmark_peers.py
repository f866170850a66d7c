"""headstart against other libraries: the section `peers` of `scripts/benchmark.py`.

Each library does in `scripts/peers/with_NAME.py` what its users do, from the same decoded pictures or texts, split,
pretrained weights, epochs, batch size, optimizer, precision and threads. Both sides are whole processes of their own,
in turn first; their fits (training, with what is evaluated and kept after each epoch) are timed inside. A library may
have an interpreter of its own: `--peer-python fastai=/path/to/python`. What is not installed is left out, and said.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "peers"
EPOCHS, BATCH, WEIGHT_DECAY = 4, 32, 0.01
MINUTES = 20
"""After which a process of either side is given up."""
PICTURES = ("strategy=fine_tune", f"trainer.batch_size={BATCH}")
TEXTS = ("data=openmoji_names", "backbone=minilm", f"trainer.batch_size={BATCH}")


@dataclass(frozen=True)
class Peer:
    """A library, what it does, and what ours is told so that it does the same."""

    name: str
    title: str
    needs: tuple[str, ...]
    """Modules."""
    lr: float
    ours: tuple[str, ...]
    package: str = ""
    """What is installed, if it is called otherwise than the peer."""

    @property
    def of_texts(self) -> bool:
        return "backbone=minilm" in self.ours

    @property
    def program(self) -> Path:
        return PROGRAMS / f"with_{self.name.replace('-', '_')}.py"


PEERS = (
    Peer(
        "fastai", "fastai, fine_tune", ("fastai", "timm"), 2e-3,
        (
            *PICTURES, "unfreeze=phases", "unfreeze.restart=true",
            "unfreeze.phases=[{start: 0, groups: []}, {start: 1, groups: ['*'], rate: 0.5, rates: {stem: 0.01, "
            "blocks.*: 0.01, tail: 0.01}}]",
            "scheduler=one_cycle", "scheduler.start_divisor=5", "scheduler.end_divisor=100000",
        ),
    ),
    Peer(
        "template", "lightning-hydra-template's way, all tuned", ("pytorch_lightning", "hydra", "rich", "timm"), 1e-3,
        (*PICTURES, "scheduler.warmup=0"), "pytorch-lightning hydra-core rich",
    ),
    Peer(
        "finetuning-scheduler", "finetuning-scheduler, gradual thaw", ("finetuning_scheduler", "timm"), 1e-3,
        (
            *PICTURES, "scheduler=constant", "unfreeze=phases", "unfreeze.phases=[{start: 0, groups: []}, "
            "{start: 1, groups: [tail, 'blocks.6.*', 'blocks.5.*']}, {start: 2, groups: ['*']}]",
        ),
    ),
    Peer("peft", "transformers' Trainer with peft, LoRA", ("transformers", "peft", "accelerate"), 2e-3,
         (*TEXTS, "strategy=lora", "scheduler.warmup=0.05"), "transformers peft accelerate"),
    Peer("autogluon", "AutoGluon, rates by layer", ("autogluon.multimodal",), 1e-4,
         (*TEXTS, "strategy=discriminative", "strategy.layer_decay=0.9", "backbone.rate=1",
          "trainer.gradient_clip_val=1", "scheduler.warmup=0.1"), "autogluon.multimodal"),
)  # fmt: skip


@dataclass
class Side:
    """What the rounds gave of one side: seconds of the fit, of the process, and accuracy on test."""

    fit: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def add(self, fit: float, whole: float, accuracy: float) -> None:
        self.fit.append(fit)
        self.whole.append(whole)
        self.accuracy.append(accuracy)

    def told(self) -> str:
        """The latest round."""
        return f"{self.fit[-1]:.1f} s of {self.whole[-1]:.1f} s, test {self.accuracy[-1]:.1%}"


@dataclass
class Compared:
    """A peer and ours, with the floor of our fit."""

    title: str
    ours: Side
    peer: Side
    floor: float
    limit: str
    """What the floor is of: `operations` or `bytes`."""

    def ratio(self, name: str) -> float:
        """Ours over the peer's, the median over pairs."""
        pairs = zip(getattr(self.ours, name), getattr(self.peer, name), strict=True)
        return statistics.median(a / b for a, b in pairs)


def interpreters(given: Sequence[str]) -> dict[str, str]:
    """Of `NAME=PYTHON` each; raises `ValueError` for what is no peer or no program."""
    known, found = {peer.name for peer in PEERS}, {}
    for one in given:
        name, _, python = one.partition("=")
        if name not in known:
            raise ValueError(f"--peer-python {one}: peers are {', '.join(sorted(known))}")
        program = shutil.which(python)
        if program is None:
            raise ValueError(f"--peer-python {one} names no program; give it as {name}=/path/to/python")
        found[name] = os.path.abspath(program)
    return found


def missing(peer: Peer, python: str) -> list[str]:
    """Modules that a peer needs and this interpreter lacks."""
    code = (
        "import sys\nfrom importlib.util import find_spec\n"
        "print(*[one for one in sys.argv[1:] if find_spec(one.split('.')[0]) is None])"
    )
    done = subprocess.run([python, "-c", code, *peer.needs], capture_output=True, text=True, check=True)
    return done.stdout.split()


def left_out(peer: Peer, python: str, lacking: Sequence[str]) -> str:
    """What is said of a peer that cannot run."""
    return (
        f"{peer.name} is left out: {python} has no {', '.join(lacking)}. Install it with "
        f"`pip install {peer.package or peer.name}`, or name an interpreter: --peer-python {peer.name}=PYTHON"
    )


def measure(setting: Any, common: Any, network: Any) -> None:
    """Add the section's rows to `setting`, and print the table of docs/benchmark.md.

    `common` gives our job for some settings, `network` timm's network with its weights.
    """
    named, tables = interpreters(setting.peer_python), []
    peak = None
    for peer in PEERS:
        if setting.peers and peer.name not in setting.peers:
            continue
        python = named.get(peer.name, sys.executable)
        lacking = missing(peer, python)
        if lacking:
            print(f"peers        {left_out(peer, python, lacking)}", flush=True)
            continue
        peak = peak or machine_limits()
        found = compared(peer, python, setting, common, network, peak)
        add_rows(setting, found)
        tables.append(found)
    if tables:
        print(f"\n{table(tables)}\n", flush=True)


def compared(peer: Peer, python: str, setting: Any, common: Any, network: Any, limits: "Limits") -> Compared:
    """Both sides, `setting.rounds` times, each round with its own seed and the other side first."""
    ours, theirs, done = Side(), Side(), {}
    for seed in range(setting.rounds):
        words = [*peer.ours, f"seed={seed}", f"optimizer.lr={peer.lr}", f"trainer.max_epochs={EPOCHS}",
                 f"optimizer.weight_decay={WEIGHT_DECAY}"]  # fmt: skip
        words += [] if peer.of_texts else [f"data.size={setting.size}"]
        folder = hand_over(peer, common(*words), setting.folder / "peers" / f"{peer.name}-{seed}", seed, network)
        for side in ("ours", "peer") if seed % 2 == 0 else ("peer", "ours"):
            if side == "ours":
                done = our_fit(words, folder, ours, setting.clock)
            else:
                their_fit(peer, python, folder, theirs, setting.clock)
        print(f"peers        {peer.name}, seed {seed}: ours {ours.told()}, peer {theirs.told()}", flush=True)
    moved = bytes_moved(peer, common(*words), network)
    return Compared(peer.title, ours, theirs, *limits.floor(done, moved))


def our_fit(words: Sequence[str], folder: Path, side: Side, clock: str) -> dict[str, Any]:
    """One run of ours, a process of its own with a store of features of its own; its result."""
    answer = folder / "ours.json"
    ways = [f"trainer.threads={_threads()}", f"features.root={folder / 'store'}", f"hydra.run.dir={folder / 'run'}"]
    program = PROGRAMS / "with_headstart.py"
    call = [sys.executable, str(program), str(folder), str(answer), *words, *ways, "logger=none"]
    seconds = process_seconds(call)
    done: dict[str, Any] = json.loads((folder / "run" / "result.json").read_text())
    side.add(json.loads(answer.read_text())[clock], seconds[clock], done["metrics"]["test/accuracy"])
    return done


def their_fit(peer: Peer, python: str, folder: Path, side: Side, clock: str) -> None:
    """The same by a peer's program."""
    answer = folder / "answer.json"
    seconds = process_seconds([python, str(peer.program), str(folder), str(answer)])
    found = json.loads(answer.read_text())
    side.add(found[clock], seconds[clock], found["accuracy"])


def process_seconds(call: Sequence[str]) -> dict[str, float]:
    """How long a process takes, by the clock and of the processor; its output is shown if it fails."""
    alone = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(_threads()), "PYTHONWARNINGS": "ignore"}
    began, used = time.perf_counter(), _used()
    done = subprocess.run(
        call, env={**os.environ, **alone}, capture_output=True, text=True, timeout=60 * MINUTES, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(call)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return {"clock": time.perf_counter() - began, "processor": _used() - used}


def _used() -> float:
    """Seconds of the processor that processes started here have used."""
    times = os.times()
    return times.children_user + times.children_system


def _threads() -> int:
    from headstart.system.cores import cores

    return int(os.environ.get("OMP_NUM_THREADS") or cores())


def hand_over(peer: Peer, job: Any, folder: Path, seed: int, network: Any) -> Path:
    """Write what `scripts/peers/handed.py` reads."""
    import numpy as np
    import torch

    folder.mkdir(parents=True)
    parts: Mapping[str, Any] = {part: getattr(job.split, part) for part in ("train", "val", "test")}
    settings = {
        "threads": _threads(), "epochs": EPOCHS, "batch_size": BATCH, "lr": peer.lr, "weight_decay": WEIGHT_DECAY,
        "num_classes": len(job.source.classes), "seed": seed, "model": str(job.cfg.backbone.model),
    }  # fmt: skip
    if peer.of_texts:
        settings["model"] = str(text_folder(job))
        texts, labels = job.source.content.texts, job.source.labels
        kept = {
            part: {"texts": [texts[i] for i in rows], "labels": [int(labels[i]) for i in rows]}
            for part, rows in parts.items()
        }
        (folder / "texts.json").write_text(json.dumps(kept))
    else:
        arrays = {f"{part}_pixels": job.examples.batch(rows)["pixels"].numpy() for part, rows in parts.items()}
        arrays |= {f"{part}_labels": job.source.labels[rows] for part, rows in parts.items()}
        np.savez(folder / "pictures.npz", **arrays)
        torch.save(network(job).state_dict(), folder / "weights.pt")
    (folder / "task.json").write_text(json.dumps(settings))
    return folder


def text_folder(job: Any) -> Path:
    """Where the packaged text model lies, in transformers' layout."""
    from headstart.backbones.huggingface_files import locate

    return Path(str(locate(job.cfg.backbone.model, "backbone.model").folder))


# The floor: what the machine cannot do faster


@dataclass(frozen=True)
class Limits:
    """Operations (of float32) and bytes of memory that this machine does in a second."""

    flops: float
    bytes: float

    def floor(self, done: Mapping[str, Any], moved: float) -> tuple[float, str]:
        """Seconds that a run's training takes at least, and what takes them."""
        cost = done["cost"]
        by = {"operations": (cost["train_flops"] + cost["feature_flops"]) / self.flops, "bytes": moved / self.bytes}
        limit = max(by, key=by.__getitem__)
        return by[limit], limit


def machine_limits(tries: int = 5) -> Limits:
    """The best of some products of matrices and dense convolutions, and of some copies of more than caches hold."""
    import torch

    torch.set_num_threads(_threads())
    side = 1024
    left, right = torch.randn(side, side), torch.randn(side, side)
    pixels, kernel = (
        torch.randn(16, 128, 28, 28).contiguous(memory_format=torch.channels_last),
        torch.randn(128, 128, 3, 3),
    )
    large, there = torch.ones(1 << 26), torch.empty(1 << 26)
    with torch.inference_mode():
        product = min(_seconds(lambda: left @ right) for _ in range(tries))
        convolution = min(_seconds(lambda: torch.conv2d(pixels, kernel, padding=1)) for _ in range(tries))
        copy = min(_seconds(lambda: there.copy_(large)) for _ in range(tries))
    operations = max(2 * side**3 / product, 2 * 16 * 28 * 28 * 128 * 128 * 9 / convolution)
    return Limits(operations, 2 * 4 * large.numel() / copy)


def _seconds(step: Any) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def bytes_moved(peer: Peer, job: Any, network: Any) -> float:
    """Bytes that the epochs in which all trains move at least.

    What a forward pass keeps for the backward pass is written and read; weights are read twice; of those that train the
    gradient and AdamW's two states are written and read.
    """
    import torch

    rows = job.split.train[:BATCH]
    if peer.of_texts:
        model, inputs = _text_model(peer, job), job.examples.batch(rows)
        kept = saved_bytes(model, lambda: model(**inputs).last_hidden_state.sum())
    else:
        model = network(job).train().to(memory_format=torch.channels_last)
        pixels = job.examples.batch(rows)["pixels"].float()
        kept = saved_bytes(model, lambda: model(pixels).sum())
    steps = -(-len(job.split.train) // BATCH) * (EPOCHS - max((phase.start or 0) for phase in job.plan.phases))
    weights = sum(one.numel() for one in model.parameters())
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return float(steps * (2 * kept + 4 * (2 * weights + 8 * trained)))


def _text_model(peer: Peer, job: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = AutoModel.from_pretrained(text_folder(job), add_pooling_layer=False).train()
    if peer.name != "peft":
        return model
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "key", "value"]))


def saved_bytes(model: Any, forward: Any) -> int:
    """Bytes of tensors, other than the model's own, that autograd keeps of a forward pass."""
    import torch

    own = {one.untyped_storage().data_ptr() for one in [*model.parameters(), *model.buffers()]}
    kept: dict[int, tuple[int, Any]] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(size for size, _ in kept.values())


# What is told


def add_rows(setting: Any, found: Compared) -> None:
    """Three lines of the benchmark's own table."""
    for name, what in (("fit", "the fit"), ("whole", "the process")):
        ours, peer, ratio = _median(found.ours, name), _median(found.peer, name), found.ratio(name)
        floor = found.floor if name == "fit" else None
        setting.add("peers", f"{found.title}: {what}", ours, "s", peer, ratio, "≤ 1", ratio <= 1, floor=floor)
    accuracy = (100 * statistics.mean(side.accuracy) for side in (found.ours, found.peer))
    setting.add("peers", f"{found.title}: test accuracy", next(accuracy), "%", next(accuracy))


def _median(side: Side, name: str) -> float:
    return statistics.median(getattr(side, name))


def table(found: Sequence[Compared]) -> str:
    """The table of docs/benchmark.md: seconds of the fit and of the process, accuracy, and the floor of our fit."""
    head = (
        "against",
        "fit: ours",
        "peer",
        "ratio",
        "process: ours",
        "peer",
        "ratio",
        "test: ours",
        "peer",
        "floor",
    )
    lines = [" | ".join(head), "|".join(["---", *["---:"] * (len(head) - 1)])]
    for one in found:
        cells = [one.title]
        for name in ("fit", "whole"):
            cells += [_told(_median(one.ours, name)), _told(_median(one.peer, name)), f"{one.ratio(name):.2f}"]
        cells += [_share(one.ours.accuracy), _share(one.peer.accuracy), f"{_told(one.floor)}, {one.limit}"]
        lines.append(" | ".join(cells))
    return "\n".join([f"| {lines[0]} |", f"|{lines[1]}|", *(f"| {line} |" for line in lines[2:])])


def _told(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _share(values: Sequence[float]) -> str:
    """Mean and standard deviation, in percent."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"
