"""How fast headstart is, against small honest programs that do the same, side by side in one run.

    python scripts/benchmark.py                          everything that this machine can do
    python scripts/benchmark.py --only probes,help       some sections
    python scripts/benchmark.py --rounds 5 --json benchmark.json

Each row compares ours with a peer's; what is told is the median over rounds of the ratio within a round, since both
sides of a round meet the same weather. Peers are written below: a plain PyTorch loop, a plain Lightning module as one
takes it from a template, and transformers' Trainer for text. Other libraries are run by the section `peers`. Data come
decoded from memory on all sides. Set OMP_NUM_THREADS to fix the threads.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SECTIONS = (
    "probes",
    "fine_tune",
    "partial",
    "text",
    "overhead",
    "help",
    "bookkeeping",
    "predict",
    "scale",
    "decoding",
    "gpu",
    "peers",
)


@dataclass
class Row:
    """One line of the table: `ours` against `peer`, in `unit`; `goal` is what `ratio` (or `ours`) is held against."""

    section: str
    what: str
    ours: float
    unit: str
    peer: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    floor: float | None = None
    """Of `ours`: what the machine's limits allow."""


@dataclass
class Setting:
    """What the sections share."""

    rounds: int
    size: int
    epochs: int
    probes: int
    runs: list[int]
    pictures: int
    folder: Path
    examples: int = 100_000
    peers: list[str] = field(default_factory=list)
    peer_python: list[str] = field(default_factory=list)
    photographs: Path | None = None
    clock: str = "clock"
    rows: list[Row] = field(default_factory=list)

    def add(self, *values: Any, **named: Any) -> None:
        self.rows.append(Row(*values, **named))
        print(_line(self.rows[-1]), flush=True)


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements of each kind")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of a probe")
    parser.add_argument("--probes", type=int, default=96, help="8 rates × 4 decays × 3 seeds; less for a quick look")
    parser.add_argument("--runs", type=int, nargs="*", default=[100, 1000, 10000], help="sizes of finished sweeps")
    parser.add_argument("--pictures", type=int, default=5000, help="how many are predicted on, or decoded")
    parser.add_argument("--examples", type=int, default=100_000, help="of the section scale; 4 KB of disk each")
    parser.add_argument("--photographs", type=_absolute, metavar="FOLDER",
                        help="where the section decoding makes its pictures and leaves them")  # fmt: skip
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME", help="of the section peers; else all")
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON",
                        help="the interpreter of a peer that has one of its own; may be given again")  # fmt: skip
    parser.add_argument("--processor", dest="clock", action="store_const", const="processor", default="clock",
                        help="peers by seconds of the processor (one thread, other work goes on)")  # fmt: skip
    parser.add_argument("--json", type=_absolute, help="also write the rows and the machine to this file")
    options = parser.parse_args()
    chosen = options.only.split(",")
    unknown = sorted(set(chosen) - set(SECTIONS))
    if unknown:
        parser.error(f"unknown sections {unknown}; there are {', '.join(SECTIONS)}")
    check_peers(parser, options)
    from headstart.compat import declare_torchvision_operators

    declare_torchvision_operators()  # before Lightning looks for it
    with tempfile.TemporaryDirectory(prefix="headstart-benchmark-") as folder:
        os.environ["HEADSTART_CACHE"] = str(Path(folder) / "cache")
        counts = options.rounds, options.size, options.epochs, options.probes, options.runs, options.pictures
        setting = Setting(
            *counts,
            Path(folder),
            options.examples,
            options.peers,
            options.peer_python,
            options.photographs,
            options.clock,
        )
        os.chdir(folder)
        for section in chosen:
            globals()[f"measure_{section}"](setting)
    print_table(setting.rows)
    if options.json:
        options.json.write_text(
            json.dumps({"rows": [asdict(row) for row in setting.rows], "machine": machine()}, indent=1)
        )


def _absolute(path: str) -> Path:
    """A path as it is meant where the program was started, which then works elsewhere."""
    return Path(path).absolute()


def check_peers(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program where `--peers` or `--peer-python` cannot be carried out."""
    import benchmark_peers

    known = [peer.name for peer in benchmark_peers.PEERS]
    unknown = sorted(set(options.peers) - set(known))
    if unknown:
        parser.error(f"unknown peers {unknown}; there are {', '.join(known)}")
    try:
        benchmark_peers.interpreters(options.peer_python)
    except ValueError as error:
        parser.error(str(error))


def machine() -> dict[str, Any]:
    """Where this was measured."""
    import torch

    from headstart.record.environment import environment

    return {**environment(), "threads": torch.get_num_threads()}


def print_table(rows: Sequence[Row]) -> None:
    """All rows, once more, together."""
    print(f"\n{'section':12} {'what':58} {'ours':>12} {'peer':>12} {'ratio':>8}  goal")
    for row in rows:
        print(_line(row))


def _line(row: Row) -> str:
    peer = "" if row.peer is None else f"{row.peer:.4g} {row.unit}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    verdict = "" if row.met is None else ("  met" if row.met else "  MISSED")
    floor = "" if row.floor is None else f"  (floor {row.floor:.3g} {row.unit})"
    ours = f"{row.ours:.4g} {row.unit}"
    return f"{row.section:12} {row.what:58} {ours:>12} {peer:>12} {ratio:>8}  {row.goal}{verdict}{floor}"


# What both sides have in common


@contextlib.contextmanager
def quietly() -> Iterator[io.StringIO]:
    """Nothing on the screen meanwhile."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


def headstart(*words: str) -> float:
    """Run `headstart train` in this process, without the report at the end; the seconds it took."""
    from headstart.cli import commands
    from headstart.cli.main import main as command_line

    commands.finish_comparison = lambda *_: None
    began = time.perf_counter()
    with quietly() as said:
        status = command_line(["train", *words, "logger=none"])
    assert status == 0, said.getvalue()
    return time.perf_counter() - began


def results(name: str) -> list[dict[str, Any]]:
    """Results of the comparison `name`."""
    return [json.loads(path.read_text()) for path in Path("outputs", name).glob("*/result.json")]


def common(*words: str) -> Any:
    """The job that our side runs, for the peers to take its model, data and split from."""
    from headstart.cli.hydra_app import compose_config
    from headstart.run.prepare import job_config, prepare

    return prepare(job_config(compose_config([*words, "logger=none"])))


def tensors(job: Any, indices: Any) -> tuple[Any, Any]:
    """Decoded pictures `(N, 3, H, W)` uint8 and labels `(N,)`."""
    import torch

    return job.examples.batch(indices)["pixels"], torch.from_numpy(job.source.labels[indices])


def peer_model(job: Any) -> Any:
    """The same pretrained network, as timm gives it, with a new classifier."""
    import timm
    import torch

    backbone = job.factory.build(True)
    model = timm.create_model(job.cfg.backbone.model, num_classes=len(job.source.classes))
    state = {name.removeprefix("model."): value for name, value in backbone.state_dict().items()}
    own = model.state_dict()
    model.load_state_dict({name: state.get(name, value) for name, value in own.items()})
    assert sum(name in state for name in own) > 0.9 * len(own), "the peer must start from the same weights"
    return model.to(torch.float32)


def peer_loaders(job: Any) -> tuple[Any, Any]:
    """Loaders over decoded pictures in memory."""
    from torch.utils.data import DataLoader, TensorDataset

    train = TensorDataset(*tensors(job, job.split.train))
    val = TensorDataset(*tensors(job, job.split.val))
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=32)


def scaled(pixels: Any) -> Any:
    """uint8 pictures as the network wants them (mean and deviation one half)."""
    return pixels.float().div_(127.5).sub_(1.0)


def hand_written(job: Any, epochs: int, channels_last: bool) -> list[float]:
    """A plain PyTorch loop of full fine-tuning; seconds of each epoch's training, data loading included.

    `channels_last`: with the memory layout that ours has by default, which alone makes convolutions faster on a CPU.
    """
    import torch
    from torch.nn import functional as F

    torch.use_deterministic_algorithms(False)  # our runs leave it on, and it would slow this one down
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = peer_model(job).to(memory_format=layout)
    train, val = peer_loaders(job)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
    seconds = []
    for _ in range(epochs):
        model.train()
        began = time.perf_counter()
        for pixels, labels in train:
            loss = F.cross_entropy(model(scaled(pixels).contiguous(memory_format=layout)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - began)
        model.eval()
        with torch.inference_mode():
            for pixels, labels in val:
                model(scaled(pixels).contiguous(memory_format=layout)).argmax(1).eq(labels).sum()
    return seconds


def plain_lightning(job: Any, epochs: int, frozen: bool = False) -> list[float]:
    """A plain Lightning module, as from a template; seconds of each epoch's training.

    `frozen`: the backbone is in eval mode without gradients, and runs in every epoch anew.
    """
    import pytorch_lightning as pl
    import torch
    from torch.nn import functional as F

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = peer_model(job)
            if frozen:
                self.model.requires_grad_(False)
                self.model.get_classifier().requires_grad_(True)

        def step(self, batch: Any, stage: str) -> Any:
            if frozen:
                self.model.eval()
            pixels, labels = batch
            scores = self.model(scaled(pixels))
            loss = F.cross_entropy(scores, labels)
            self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True)
            self.log(f"{stage}/accuracy", scores.argmax(1).eq(labels).float().mean(), on_step=False, on_epoch=True)
            return loss

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.step(batch, "train")

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return self.step(batch, "val")

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-3)
            steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": steps, "interval": "step"}}

    clock = Clock()
    torch.use_deterministic_algorithms(False)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, enable_checkpointing=False, callbacks=[clock.callback()],
    )  # fmt: skip
    with quietly():
        trainer.fit(Plain(), *peer_loaders(job))
    return clock.seconds


class Clock:
    """Seconds of each epoch's training under Lightning, from its first batch's loading to the start of validation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def callback(self) -> Any:
        """As a callback; to be given anew to each trainer."""
        import pytorch_lightning as pl

        clock = self

        class Watch(pl.Callback):
            def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
                self.began = time.perf_counter()

            def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
                clock.seconds.append(time.perf_counter() - self.began)

        return Watch()


def our_epochs(setting: Setting, name: str, epochs: int, *words: str) -> tuple[list[float], dict[str, Any]]:
    """Run ours; seconds of each epoch's training, and the result."""
    import pytorch_lightning as pl

    clock, real = Clock(), pl.Trainer.__init__

    def watched(self: Any, *args: Any, callbacks: Any = (), **options: Any) -> None:
        real(self, *args, callbacks=[*callbacks, clock.callback()], **options)

    pl.Trainer.__init__ = watched  # type: ignore[method-assign]
    try:
        size = [] if any(word.startswith("data=") for word in words) else [f"data.size={setting.size}"]
        headstart("-m", f"name={name}", *size, f"trainer.max_epochs={epochs}", *words)
    finally:
        pl.Trainer.__init__ = real  # type: ignore[method-assign]
    (done,) = results(name)
    return clock.seconds, done


def steady(seconds: Sequence[float]) -> float:
    """Seconds of an epoch once it runs: the median of all but the first."""
    return statistics.median(seconds[1:] or seconds)


# The sections


def measure_probes(setting: Setting) -> None:
    """Heads trained together on features computed once, against a loop that runs the frozen backbone every epoch."""
    rates, decays, seeds = _probe_grid(setting.probes)
    count = len(rates) * len(decays) * 3
    grid = [
        "strategy=feature_extraction", f"trainer.max_epochs={setting.epochs}", f"data.size={setting.size}",
        f"optimizer.lr={','.join(map(str, rates))}", f"optimizer.weight_decay={','.join(map(str, decays))}", seeds,
    ]  # fmt: skip
    warm = ["strategy=feature_extraction", "trainer.max_epochs=1", f"data.size={setting.size}", "split.n_per_class=4"]
    headstart("-m", "name=warm", *warm, f"features.root={setting.folder / 'other'}")
    total = headstart("-m", "name=probes", *grid)
    done = results("probes")
    forward = done[0]["cost"]["feature_seconds"]
    training = sum(run["cost"]["train_seconds"] for run in done)
    setting.add("probes", f"one forward pass over the data, {setting.size} px", forward, "s")
    setting.add("probes", f"training {count} heads for {setting.epochs} epochs", training, "s", goal="≤ 12 s for 96",
                met=training <= 12 * count / 96)  # fmt: skip
    few = [*grid[:3], f"optimizer.lr={rates[0]}", f"optimizer.weight_decay={decays[0]}", "seed=0,1,2"]
    once = headstart("-m", "name=few", *few) - sum(run["cost"]["train_seconds"] for run in results("few"))
    each = (total - forward - training - once) / (count - 3)
    setting.add("probes", "bookkeeping of a run beyond the third", each, "s", goal="≤ 0.03 s", met=each <= 0.03)
    job = common("strategy=feature_extraction", f"data.size={setting.size}")
    epoch = steady(plain_lightning(job, 3, frozen=True))
    peer = epoch * setting.epochs * count
    ratio = peer / (forward + training)
    setting.add("probes", f"{count} probes, computation; peer: plain Lightning × {count}", forward + training, "s",
                peer, ratio, "≥ 500 ×", ratio >= 500)  # fmt: skip
    again = _second_sweep(grid)
    setting.add("probes", "forward passes of a second sweep with the store filled", again, "", goal="0", met=again == 0)


def _probe_grid(count: int) -> tuple[list[float], list[float], str]:
    num_rates = max(1, min(8, count // 12))
    rates = [round(1e-4 * 2.7**place, 6) for place in range(num_rates)]
    return rates, [0.0, 1e-3, 1e-2, 1e-1], "seed=0,1,2"


def _second_sweep(grid: Sequence[str]) -> int:
    """How many batches the backbone sees in a second comparison on the same features."""
    from headstart.training.activations import FrozenFeatures

    passes, real = [0], FrozenFeatures._computed

    def counted(self: Any, *args: Any) -> Any:
        for batch in real(self, *args):
            passes[0] += 1
            yield batch

    FrozenFeatures._computed = counted  # type: ignore[method-assign]
    try:
        headstart("-m", "name=again", *grid, "task.label_smoothing=0.1")
    finally:
        FrozenFeatures._computed = real  # type: ignore[method-assign]
    return passes[0]


def measure_fine_tune(setting: Setting) -> None:
    """Full fine-tuning per step, against both loops, on pictures in memory."""
    job, epochs = common("strategy=fine_tune", f"data.size={setting.size}"), 3
    steps = -(-len(job.split.train) // 32)
    sides: dict[str, list[float]] = {name: [] for name in ("ours", "same", "hand", "plain")}
    for number in range(setting.rounds):
        seconds, _ = our_epochs(setting, f"fine{number}", epochs, "strategy=fine_tune")
        sides["ours"].append(steady(seconds) / steps)
        sides["same"].append(steady(hand_written(job, epochs, channels_last=True)) / steps)
        sides["hand"].append(steady(hand_written(job, epochs, channels_last=False)) / steps)
        sides["plain"].append(steady(plain_lightning(job, epochs)) / steps)
    peers = (("same", "a hand-written loop in our memory layout", 1.05), ("hand", "a hand-written loop", None),
             ("plain", "a plain Lightning loop", 1.0))  # fmt: skip
    for key, name, most in peers:
        ratio = statistics.median(a / b for a, b in zip(sides["ours"], sides[key], strict=True))
        goal, met = (f"≤ {most}", ratio <= most) if most else ("", None)
        setting.add("fine_tune", f"a step of fine-tuning; peer: {name}", statistics.median(sides["ours"]) * 1e3, "ms",
                    statistics.median(sides[key]) * 1e3, ratio, goal, met)  # fmt: skip


def measure_partial(setting: Setting) -> None:
    """Time that freezing saves, against the operations that it saves."""
    cases = {
        "partial last_k=3": ["strategy=partial"],
        "partial last_k=1": ["strategy=partial", "strategy.last_k=1"],
        "gradual_unfreeze": ["strategy=gradual_unfreeze"],
        "norm_only": ["strategy=norm_only"],
    }
    epochs = 10
    quotients: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(setting.rounds):
        full, done = our_epochs(setting, f"full{number}", epochs, "strategy=fine_tune")
        work = done["cost"]["train_flops"]
        for place, (name, words) in enumerate(cases.items()):
            own, done = our_epochs(setting, f"part{place}-{number}", epochs, *words)
            quotients[name].append((sum(own) / sum(full), done["cost"]["train_flops"] / work))
    for name, pairs in quotients.items():
        share, flops = (statistics.median(column) for column in zip(*pairs, strict=True))
        setting.add("partial", f"{name}: time over full; peer: operations over full", share, "", flops, share / flops,
                    "≤ 1.15", share / flops <= 1.15)  # fmt: skip


def measure_text(setting: Setting) -> None:
    """Fine-tuning a small BERT on short texts, against a loop over the same batches and transformers' Trainer."""
    words = ["strategy=fine_tune", "backbone=minilm", "data=openmoji_names"]
    job, epochs = common(*words), 3
    sides: dict[str, list[float]] = {name: [] for name in ("ours", "hand", "trainer")}
    for number in range(setting.rounds):
        seconds, _ = our_epochs(setting, f"text{number}", epochs, *words)
        sides["ours"].append(steady(seconds))
        sides["hand"].append(steady(hand_written_text(job, epochs)))
        sides["trainer"].append(steady(transformers_trainer(job, epochs, setting.folder)))
    for key, name, most in (
        ("hand", "a hand-written loop, same batches", 1.05),
        ("trainer", "transformers' Trainer", 1),
    ):
        ratio = statistics.median(a / b for a, b in zip(sides["ours"], sides[key], strict=True))
        setting.add("text", f"an epoch of minilm; peer: {name}", statistics.median(sides["ours"]), "s",
                    statistics.median(sides[key]), ratio, f"≤ {most}", ratio <= most)  # fmt: skip


def _folder_of(job: Any) -> Path:
    """Where the packaged model lies, in transformers' layout."""
    from headstart.backbones.huggingface_files import locate

    return Path(str(locate(job.cfg.backbone.model, "backbone.model").folder))


def hand_written_text(job: Any, epochs: int) -> list[float]:
    """A plain PyTorch loop over our batches, with mean pooling and a linear classifier; seconds of each epoch."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from transformers import AutoModel

    from headstart.data.batches import Batches

    torch.use_deterministic_algorithms(False)
    encoder = AutoModel.from_pretrained(_folder_of(job), add_pooling_layer=False).train()
    head = nn.Linear(encoder.config.hidden_size, len(job.source.classes))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    train, labels = job.split.train, torch.from_numpy(job.source.labels)
    batches = Batches(train, 32, 0, job.examples.lengths[train])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    seconds = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        began = time.perf_counter()
        for draw in batches:
            inputs, indices = job.examples.batch(draw.indices), torch.from_numpy(draw.indices)
            mask = inputs["attention_mask"]
            hidden = encoder(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            loss = F.cross_entropy(head(pooled), labels[indices])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - began)
    return seconds


def transformers_trainer(job: Any, epochs: int, folder: Path) -> list[float]:
    """transformers' Trainer with its defaults but our batch size, on the same texts; seconds of each epoch."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    torch.use_deterministic_algorithms(False)
    place, seconds = _folder_of(job), []
    tokenizer = AutoTokenizer.from_pretrained(place)
    texts, labels = job.source.content.texts, job.source.labels
    rows = [{**tokenizer(texts[i], truncation=True), "labels": int(labels[i])} for i in job.split.train]

    class Watch(TrainerCallback):
        def on_epoch_begin(self, *args: Any, **options: Any) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, *args: Any, **options: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

    arguments = TrainingArguments(
        str(folder / "trainer"), num_train_epochs=epochs, per_device_train_batch_size=32, report_to="none",
        save_strategy="no", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    with quietly():
        model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=len(job.source.classes))
        Trainer(
            model, arguments, DataCollatorWithPadding(tokenizer), rows, callbacks=[Watch()],  # type: ignore[arg-type]
        ).train()  # fmt: skip
    return seconds


def measure_overhead(setting: Setting) -> None:
    """What a run of a comparison costs beside its training epochs."""
    words = ["strategy=fine_tune", "trainer.max_epochs=1", f"data.size={setting.size}", "trainer.limit_batches=2"]
    headstart("-m", "name=warm-up", *words)
    count = 5
    total = headstart("-m", "name=overhead", *words, f"seed=range(1,{count + 1})")
    trained = 0.0
    for path in Path("outputs/overhead").glob("*/history.csv"):
        header, *rows = path.read_text().splitlines()
        trained += sum(float(row.split(",")[header.split(",").index("seconds")]) for row in rows)
    each = (total - trained) / count
    setting.add("overhead", "a run beyond its training epochs", each, "s", goal="≤ 1.5 s", met=each <= 1.5)


def measure_help(setting: Setting) -> None:
    """`headstart --help`, a whole process; the peer is the interpreter alone."""
    call = [sys.executable, "-m", "headstart", "--help"]
    ours = statistics.median(_seconds(call) for _ in range(max(5, setting.rounds)))
    floor = statistics.median(_seconds([sys.executable, "-c", "pass"]) for _ in range(max(5, setting.rounds)))
    setting.add(
        "help", "headstart --help; peer: python -c pass", ours, "s", floor, ours / floor, "≤ 0.5 s", ours <= 0.5
    )


def _seconds(call: Sequence[str], **options: Any) -> float:
    began = time.perf_counter()
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL, **options)
    return time.perf_counter() - began


def measure_bookkeeping(setting: Setting) -> None:
    """How long it takes to see that a comparison is finished, by its size and with long histories."""
    for count in setting.runs:
        plain = finished_sweep(setting.folder / f"ledger-{count}", count, num_epochs=10)
        seconds, peak = _recognised(plain, count)
        most = {1_000: 10, 10_000: 60}.get(count)
        goal, met = ("", None) if most is None else (f"≤ {most} s", seconds <= most)
        setting.add("bookkeeping", f"{count} finished runs are recognised", seconds, "s", goal=goal, met=met)
        setting.add("bookkeeping", f"{count} finished runs: peak memory", peak / 2**20, "MiB")
    count = min(setting.runs)
    long = finished_sweep(setting.folder / "ledger-long", count, num_epochs=10_000)
    seconds, peak = _recognised(long, count)
    setting.add("bookkeeping", f"{count} runs with histories of 10,000 epochs", seconds, "s")
    setting.add("bookkeeping", f"{count} runs with such histories: peak memory", peak / 2**20, "MiB")


def grid_of(count: int) -> list[str]:
    """Overrides of a grid of `count` runs: strategies × rates × seeds."""
    strategies = ["feature_extraction", "fine_tune", "partial", "norm_only", "lp_ft"]
    seeds = max(1, count // (len(strategies) * 4))
    return [
        f"strategy={','.join(strategies)}", "optimizer.lr=1e-4,3e-4,1e-3,3e-3", f"seed=range({seeds})",
        "trainer.max_epochs=10", "trainer.threads=1", "logger=none",
    ]  # fmt: skip


def finished_sweep(directory: Path, count: int, num_epochs: int) -> Path:
    """A directory as `headstart train -m` would have left it for `grid_of(count)`, its runs under their real names."""
    import numpy as np

    drawn = _drawn(directory, count)
    history = "epoch,step,phase,train/loss,train/accuracy,val/loss,val/accuracy,seconds,lr/head\n" + "".join(
        f"{epoch},{epoch * 26},0,0.5123,0.8123,0.6123,0.7123,1.2345,0.001\n" for epoch in range(num_epochs)
    )
    confusion = [[7] * 8 for _ in range(8)]
    answers = io.BytesIO()
    np.savez_compressed(answers, **{"test/predicted": np.arange(272) % 8})
    for plan in drawn:
        path = directory / plan.run_id
        path.mkdir(parents=True)
        (path / "history.csv").write_text(history)
        (path / "predictions.npz").write_bytes(answers.getvalue())
        done = {
            "schema": 1, **plan.to_dict(), "status": "completed", "error": None,
            "metrics": {"val/accuracy": 0.5, "val/loss": 1.0, "test/accuracy": 0.5, "test/loss": 1.0,
                        "test/macro_f1": 0.5, "best_epoch": 3},
            "cost": {"total_seconds": 10.0, "train_seconds": 9.0, "feature_seconds": 0.0, "train_flops": 1e12,
                     "peak_memory_bytes": 1e9, "trainable_parameters": 1000, "total_parameters": 3000, "fused_with": 0},
            "data": {"name": "openmoji", "fingerprint": "f" * 64, "split_sha256": hashlib.sha256(
                str(plan.seed).encode()).hexdigest(), "sizes": {"train": 900, "val": 200, "test": 272},
                "classes": list("abcdefgh")},
            "weights": {"source": "x", "sha256": "0" * 64}, "environment": machine(), "git": {"commit": None},
            "details": {"confusion": confusion}, "predictions_bytes": answers.tell(),
            "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:00:10+00:00",
        }  # fmt: skip
        (path / "result.json").write_text(json.dumps(done, indent=1))
    from headstart.sweep.ledger import Ledger

    Ledger(directory).add("comparison", "headstart train -m …", drawn)
    return directory


def _drawn(directory: Path, count: int) -> list[Any]:
    """The runs of the grid, as a comparison draws them up."""
    from hydra.core.global_hydra import GlobalHydra

    from headstart.sweep.sweeper import Sweep

    drawn: list[Any] = []
    real = Sweep.carry_out
    Sweep.carry_out = lambda self, plans: drawn.extend(plans.values())  # type: ignore[method-assign]
    scratch = directory.with_name(f"{directory.name}-drawn")
    try:
        from headstart.cli.main import main as command_line

        with quietly():
            command_line(["train", "-m", *grid_of(count), f"hydra.sweep.dir={scratch}"])
    finally:
        Sweep.carry_out = real  # type: ignore[method-assign]
        GlobalHydra.instance().clear()
    return drawn


def _recognised(directory: Path, count: int) -> tuple[float, int]:
    """Seconds of a whole process that finds the comparison finished, without its report, and its peak memory."""
    code = (
        "import sys; from headstart.cli import commands, main as cli; commands.finish_comparison = lambda *_: None; "
        "raise SystemExit(cli.main())"
    )
    call = [sys.executable, "-c", code, "train", "-m", *grid_of(count), f"hydra.sweep.dir={directory}"]
    began = time.perf_counter()
    peak, said = _peak_bytes(call)
    seconds = time.perf_counter() - began
    assert "── run" not in said, "the comparison was not taken for finished"
    return seconds, peak


def _peak_bytes(call: list[str]) -> tuple[int, str]:
    """A command's peak memory and what it said.

    Linux lets a process begin with the peak of the one that started it: so a small one starts it, not this one.
    """
    starter = (
        "import os, subprocess, sys\n_, status, used = os.wait4(subprocess.Popen(sys.argv[1:], stdout=2).pid, 0)\n"
        "assert status == 0\nprint(used.ru_maxrss)"
    )
    found = subprocess.run([sys.executable, "-c", starter, *call], check=True, capture_output=True, text=True)
    return int(found.stdout) * (1 if sys.platform == "darwin" else 1024), found.stderr


def measure_predict(setting: Setting) -> None:
    """Pictures in files, from the command to a table, against a loop as one writes it over timm's own transform."""
    from headstart.cli.main import main as command_line

    folder = _pictures(setting.folder / "to-predict", 5, max(8, setting.pictures // 5))
    few = _pictures(setting.folder / "to-train", 5, 12)
    headstart("strategy=fine_tune", "trainer.max_epochs=1", "data=image_folder", f"data.root={few}",
              f"data.size={setting.size}", "hydra.run.dir=predicted")  # fmt: skip
    sides: dict[str, list[float]] = {"ours": [], "hand": []}
    for _ in range(setting.rounds):
        began = time.perf_counter()
        with quietly() as said:
            status = command_line(["predict", "predicted", str(folder), "--out=answers.csv", "--force"])
        assert status == 0, said.getvalue()
        sides["ours"].append(time.perf_counter() - began)
        sides["hand"].append(hand_written_predictions(folder))
    ratio = statistics.median(a / b for a, b in zip(sides["ours"], sides["hand"], strict=True))
    what = f"predicting {5 * max(8, setting.pictures // 5):,} pictures; peer: a hand-written timm loop"
    setting.add("predict", what, statistics.median(sides["ours"]), "s", statistics.median(sides["hand"]), ratio,
                "≤ 1.05", ratio <= 1.05)  # fmt: skip
    one = str(next(folder.rglob("*.jpg")))
    call = [sys.executable, "-m", "headstart", "predict", "predicted", one]
    ours = statistics.median(_seconds(call, stderr=subprocess.DEVNULL) for _ in range(setting.rounds))
    floor = statistics.median(_seconds([sys.executable, "-c", "import torch"]) for _ in range(setting.rounds))
    setting.add("predict", "start to first label; peer: import torch", ours, "s", floor, ours / floor,
                "≤ 1.5 s beyond", ours - floor <= 1.5)  # fmt: skip
    few, many = (_peak_megabytes(setting, count) for count in (1000, 4 * setting.pictures))
    what = f"peak memory on {4 * setting.pictures:,} small pictures; peer: on 1,000"
    setting.add("predict", what, many, "MB", few, many / few, "≤ 1.1", many / few <= 1.1)


def _peak_megabytes(setting: Setting, count: int) -> float:
    """Of `headstart predict` on so many pictures of 64 px."""
    import numpy as np
    from PIL import Image

    folder, rng = setting.folder / f"small-{count}", np.random.default_rng(0)
    folder.mkdir()
    kinds = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(50)]
    for number in range(count):
        kinds[number % len(kinds)].save(folder / f"{number}.jpg")
    call = [sys.executable, "-m", "headstart", "predict", "predicted", str(folder), "--out=small.csv", "--force"]
    return _peak_bytes(call)[0] / 2**20


def hand_written_predictions(folder: Path) -> float:
    """Seconds of a plain loop over the same files with the same model: timm's transform, workers, a table."""
    import csv

    import timm
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from headstart.run.load import load

    run = load(Path("predicted"))
    state, found = run.model.state_dict(), run.preprocessing
    names = sorted(folder.rglob("*.jpg"))
    transform = timm.data.create_transform(
        (3, found.size, found.size), interpolation=found.interpolation, mean=found.mean, std=found.std,
        crop_pct=found.crop_pct,
    )  # fmt: skip

    class Files(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(names)

        def __getitem__(self, place: int) -> torch.Tensor:
            return transform(Image.open(names[place]).convert("RGB"))

    began = time.perf_counter()
    model = timm.create_model(run.cfg.backbone.model, num_classes=len(run.classes))
    own = {name.removeprefix("backbone.model."): value for name, value in state.items() if name.startswith("backbone")}
    model.load_state_dict(own, strict=False)
    model.get_classifier().load_state_dict({name: state[f"head.{name}"] for name in ("weight", "bias")})
    model.eval().to(memory_format=torch.channels_last)
    loader = DataLoader(Files(), batch_size=32, num_workers=os.cpu_count() or 1)
    with torch.inference_mode(), open("hand.csv", "w", newline="") as file:
        rows, place = csv.writer(file), 0
        for pixels in loader:
            probability = model(pixels.to(memory_format=torch.channels_last)).softmax(1)
            for row in probability.tolist():
                rows.writerow([names[place], run.classes[max(range(len(row)), key=row.__getitem__)], *row])
                place += 1
    return time.perf_counter() - began


def measure_scale(setting: Setting) -> None:
    """Preparing a job (labels, ids, checks, split, copies) on many examples, beyond a job on 1,000 of the same kind."""
    from headstart.system.cache import cache_dir

    count = setting.examples
    texts = ["backbone=minilm", "strategy=feature_extraction", "data=text_csv"]
    pictures = ["backbone.weights=none", "strategy=from_scratch", "data=image_folder"]
    floor = _prepared([*texts, f"data.path={_many_texts(setting.folder / 'few.csv', 1000)}"])
    found = _prepared([*texts, f"data.path={_many_texts(setting.folder / 'many.csv', count)}"])
    _add_prepared(setting, f"a job on {count:,} texts of a table", found, floor, 20)
    few, many = _many_pictures(setting.folder / "few", 1000), _many_pictures(setting.folder / "many", count)
    time.sleep(3)  # what was only just written is looked at again
    floor, found = (_prepared([*pictures, f"data.root={folder}"]) for folder in (few, many))
    _add_prepared(setting, f"a job on {count:,} pictures of one pixel, once", found, floor)
    floor, found = (_prepared([*pictures, f"data.root={folder}"]) for folder in (few, many))
    _add_prepared(setting, f"a job on {count:,} pictures that were checked before", found, floor, 20)
    kept = sum(path.stat().st_size for path in cache_dir("checks").iterdir())
    setting.add("scale", "what is kept of that check", kept / 2**20, "MiB")


def _add_prepared(
    setting: Setting, what: str, found: tuple[float, float], floor: tuple[float, float], most: float | None = None
) -> None:
    seconds, megabytes = (max(0.0, own - few) for own, few in zip(found, floor, strict=True))
    share = setting.examples / 1e6
    goal, met = ("", None) if most is None else (f"≤ {most:g} s a million", seconds <= most * share)
    setting.add("scale", what, seconds, "s", goal=goal, met=met)
    setting.add("scale", f"{what}: peak memory", megabytes, "MiB", goal="≤ 1 GiB a million",
                met=megabytes <= 1024 * share)  # fmt: skip


def _prepared(words: Sequence[str]) -> tuple[float, float]:
    """Processor seconds of preparing a job in a process of its own, and the peak of its memory in MiB."""
    code = (
        "import sys, time\nfrom headstart.cli.hydra_app import compose_config\n"
        "from headstart.run.prepare import job_config, prepare\ncfg = job_config(compose_config(sys.argv[1:]))\n"
        "began = time.process_time()\nprepare(cfg)\nprint('TOOK', time.process_time() - began, file=sys.stderr)"
    )
    peak, said = _peak_bytes([sys.executable, "-c", code, *words, "logger=none"])
    return float(said.rpartition("TOOK")[2]), peak / 2**20


def _many_texts(path: Path, count: int) -> Path:
    """A table of so many texts of eleven words in 100 classes."""
    import random

    rng = random.Random(0)
    words = ["the", "red", "blue", "cat", "dog", "runs", "sleeps", "sees", "in", "house", "tree", "very", "small"]
    with path.open("w") as file:
        file.write("text,label\n")
        file.writelines(f"{' '.join(rng.choices(words, k=10))} {row},class{row % 100:03}\n" for row in range(count))
    return path


def _many_pictures(root: Path, count: int) -> Path:
    """Class folders of so many different pictures of one pixel."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    for label in range(100):
        (root / f"class{label:03}").mkdir(parents=True)
    for number in range(count):
        pixel = chunk(b"IDAT", zlib.compress(b"\0" + number.to_bytes(3, "little"))) + chunk(b"IEND", b"")
        (root / f"class{number % 100:03}" / f"picture-{number:07}.png").write_bytes(head + pixel)
    return root


def measure_decoding(setting: Setting) -> None:
    """Photographs that nothing can hold decoded, read when they are asked for (`benchmark_decoding`)."""
    import benchmark_decoding

    benchmark_decoding.measure(setting, setting.photographs or setting.folder / "photographs")


def measure_gpu(setting: Setting) -> None:
    """How near a GPU's limit training, features and heads come (`benchmark_gpu`)."""
    import benchmark_gpu
    import torch

    if not torch.cuda.is_available():
        print("gpu          no GPU here: left out")
        return
    benchmark_gpu.measure(setting, headstart, our_epochs)


def measure_peers(setting: Setting) -> None:
    """Whole fits and whole processes, against other libraries (`benchmark_peers`)."""
    import benchmark_peers

    benchmark_peers.measure(setting, common, peer_model)


def _pictures(root: Path, num_classes: int, per_class: int) -> Path:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in range(num_classes):
        (root / f"class{label}").mkdir(parents=True)
        for number in range(per_class):
            small = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(small).resize((256, 256)).save(root / f"class{label}" / f"{number}.jpg")
    return root


if __name__ == "__main__":
    main()
