"""What happens to a run in its epochs, for tests: a script in place of what is measured, an end in the middle."""

import os

import pytorch_lightning as pl
import torch


class Scripted(pl.Callback):
    """Puts a written-down val/loss in the place of the measured one; keeps the weights at each epoch's ends."""

    def __init__(self, losses):
        self.losses, self.start, self.end = losses, {}, {}

    def on_validation_end(self, trainer, pl_module):
        pl_module.metrics["val/loss"] = self.losses[trainer.current_epoch]

    def on_train_epoch_start(self, trainer, pl_module):
        self.start[trainer.current_epoch] = {n: t.clone() for n, t in pl_module.state_dict().items()}

    def on_train_epoch_end(self, trainer, pl_module):
        self.end[trainer.current_epoch] = {n: t.clone() for n, t in pl_module.state_dict().items()}


class Cut(pl.Callback):
    def __init__(self, epoch, batch=1, by=None):
        self.epoch, self.batch, self.by = epoch, batch, by

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            if isinstance(self.by, int):
                os.kill(os.getpid(), self.by)
            raise KeyboardInterrupt if self.by is KeyboardInterrupt else InterruptedError


def same(one, other):
    assert other.history() == one.history()
    assert other.told == other.table.rows
    mine, others = one.state(), other.state()
    assert all(torch.equal(tensor, others[name]) for name, tensor in mine.items())
    assert other.flops.total == one.flops.total
    best = [torch.load(run.folder / "best.ckpt", weights_only=True)["state_dict"] for run in (one, other)]
    assert all(torch.equal(tensor, best[1][key]) for key, tensor in best[0].items())
