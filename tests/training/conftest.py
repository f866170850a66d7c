"""A run in miniature: shipped strategies on tiny models and random pictures, put together as `train_model` does."""

from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from headstart.backbones.timm import Timm
from headstart.config import binding
from headstart.config.composer import conf_dir, search_path
from headstart.data.module import DataModule
from headstart.data.source import Examples
from headstart.progress import Progress
from headstart.run.prepare import job_config
from headstart.splits.splitter import Split
from headstart.strategies.schedule import Schedule
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import Unfreeze
from headstart.tasks.multiclass import Multiclass
from headstart.training.averaging import Ema, Start, tuned_names
from headstart.training.epochs import EarlyStopping, EpochRows, FlopMeter, PlateauThaw, keepers
from headstart.training.module import TransferModule
from headstart.training.relative_rates import RelativeRates
from headstart.training.rows import rows
from headstart.training.sharpness import SharpnessAware
from headstart.training.stochastic_norm import make_stochastic
from headstart.training.thaw import Thaw
from headstart.training.trainer import LastStep

SIZE, NUM_CLASSES = 32, 3
CNN = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "zero_init_last": False}
VIT = {"embed_dim": 16, "depth": 3, "num_heads": 2, "patch_size": 8, "init_values": 0.1, "proj_drop_rate": 0.1}
FAMILIES = {
    "cnn": Timm("resnet18", weights="none", size=SIZE, drop_path_rate=0.1, arguments=CNN),
    "vit": Timm("vit_tiny_patch16_224", weights="none", size=SIZE, drop_path_rate=0.1, arguments=VIT),
}
WORDS = {
    "gradual_unfreeze": ["unfreeze.every=1", "unfreeze.num_groups=2", "strategy.granularity=stages"],
    "lp_ft": ["unfreeze.epochs=2"],
    "partial": ["strategy.last_k=2"],
    "lora": ["strategy.adapter.r=2"],
}
"""What brings the shipped strategies to the size of these models and runs."""
OPTIMIZERS = {
    "adamw": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1, fused=True),
    "sgd": partial(torch.optim.SGD, lr=1e-1, momentum=0.9, nesterov=True, weight_decay=0.01),
}


class Pictures(Examples):
    """Random pictures whose brightness tells the class."""

    def __init__(self, labels):
        noise = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 120, (len(labels), 3, SIZE, SIZE), generator=noise, dtype=torch.uint8)
        self.pixels += torch.from_numpy(60 * labels).to(torch.uint8)[:, None, None, None]

    def __len__(self):
        return len(self.pixels)

    def batch(self, indices):
        return {"pixels": self.pixels[torch.as_tensor(indices)]}


@cache
def shipped(words):
    """The strategy, unfreeze and scheduler that a command line with these words would choose."""
    search_path()  # which makes known all that our configs build on
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = job_config(compose("train", list(words)))
    kinds = {"strategy": Strategy, "unfreeze": Unfreeze, "scheduler": Schedule}
    nodes = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in kinds}
    return tuple(binding.construct(nodes[name], name, kind) for name, kind in kinds.items())


@dataclass
class Rig:
    """A run that is set up and not begun."""

    folder: Path
    module: TransferModule
    data: DataModule
    thaw: Thaw
    trainer: Any
    flops: FlopMeter
    table: EpochRows
    told: list = field(default_factory=list)
    strategy: Any = None
    ema: Any = None
    start: Any = None

    def batches_of_inputs(self):
        """The training examples in batches, in order."""
        for part in np.split(self.data.parts.train, 3):
            yield {"inputs": self.data.examples.batch(part)}

    def labelled_batches(self):
        """The same with their labels."""
        for part in np.array_split(self.data.parts.train, 3):
            yield {"inputs": self.data.examples.batch(part), "labels": torch.from_numpy(self.data.labels[part])}

    def batches(self):
        """The same as torch's own tools take them."""
        return [batch["inputs"] for batch in self.batches_of_inputs()]

    def val_loss(self, model):
        """The plain loss on val of a model as it is."""
        places = self.data.parts.val
        with torch.inference_mode():
            outputs = model(self.data.examples.batch(places))
        return float(nn.functional.cross_entropy(outputs, torch.from_numpy(self.data.labels[places])))

    def fit(self):
        last = self.folder / "last.ckpt"
        self.trainer.fit(self.module, self.data, ckpt_path=last if last.is_file() else None, weights_only=True)
        return self

    def state(self):
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def history(self):
        return [{name: value for name, value in row.items() if name != "seconds"} for row in self.table.rows]


def build(
    folder,
    family,
    words,
    *,
    max_epochs=4,
    optimizer="adamw",
    seed=0,
    num_train=24,
    batch_size=8,
    callbacks=(),
    backbone=None,
    strategy_name="auto",
    monitor="val/accuracy",
    patience=None,
    max_steps=None,
    **trainer,
):
    import pytorch_lightning as pl  # after the package has mended torchvision

    strategy, unfreeze, schedule = shipped(tuple(words))
    torch.manual_seed(seed)
    backbone = backbone or FAMILIES[family].build(False)
    if strategy.adapter is not None:
        strategy.adapter.inject(backbone)
        strategy.adapter.start(backbone)
    if strategy.stochastic_norm is not None:
        make_stochastic(backbone, strategy.stochastic_norm)
    head = nn.Linear(backbone.num_features, NUM_CLASSES)
    groups = backbone.groups(strategy.granularity)
    present = rows(groups, backbone)
    kinds = {group.name: tuple(kind for name, kind in present if name == group.name) for group in groups}
    plan = strategy.plan(kinds, unfreeze, max_epochs)
    labels = np.arange(num_train + 18) % NUM_CLASSES
    parts = Split(
        *(np.arange(*span) for span in ((num_train,), (num_train, num_train + 12), (num_train + 12, num_train + 18)))
    )
    data = DataModule(Pictures(labels), labels, parts, batch_size=batch_size, seed=seed)
    opt = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    task = Multiclass()
    module = TransferModule(
        backbone, head, groups, task, NUM_CLASSES, opt, seed, task.of_epoch, regularizer=strategy.regularizer,
        decays_adapter=strategy.adapter is None or strategy.adapter.starts_at_nothing,
        sharpness=None if strategy.sam is None else SharpnessAware(strategy.sam),
    )  # fmt: skip
    thaw, told = Thaw(plan, schedule, groups, max_steps), []
    table, flops = EpochRows(thaw, told.append, Progress("test", max_epochs, live=False)), FlopMeter(thaw)
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "strategy": strategy_name,
        "max_epochs": max_epochs,
        "logger": False,
        **trainer,
    }
    stopping = [] if patience is None else [EarlyStopping(thaw, patience, 0.0, monitor)]
    stopping += [] if max_steps is None else [LastStep(max_steps)]
    plateau = PlateauThaw(thaw, lambda phase: folder / f"plateau-{phase}.ckpt")
    run = Rig(folder, module, data, thaw, None, flops, table, told, strategy)
    if strategy.average == "ema":
        names, decay = tuned_names(module, plan), strategy.average_decay
        run.ema = plateau.judged = Ema(decay, names, table, monitor, run.batches_of_inputs, run.val_loss)
    elif strategy.average == "wise_ft":
        run.start = Start(module, thaw)
    relative = [RelativeRates(thaw, run.labelled_batches, flops)] if strategy.layer_rates else []
    averages = [one for one in (run.ema, run.start) if one is not None]
    kept = keepers(folder / "best.ckpt", folder / "last.ckpt", table, monitor, run.ema)
    run.trainer = pl.Trainer(
        callbacks=[thaw, plateau, table, flops, *relative, *averages, *kept, *stopping, *callbacks],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
        default_root_dir=folder, **settings,
    )  # fmt: skip
    return run


@pytest.fixture
def families():
    """The tiny models' factories, by family."""
    return FAMILIES


@pytest.fixture
def rig(tmp_path):
    """Sets a run up: `rig(family, strategy, *words, **settings)`; runs of one `folder` go on from each other."""

    def set_up(family="cnn", strategy="fine_tune", *words, folder="run", **settings):
        own = WORDS.get(strategy, [])
        if any(word.startswith("unfreeze=") for word in words):
            own = [word for word in own if not word.startswith("unfreeze.every")]
        return build(tmp_path / folder, family, (f"strategy={strategy}", *own, *words), **settings)

    return set_up


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
