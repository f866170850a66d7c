"""As with lightning-hydra-template: module, data module and callbacks, made by Hydra from a file."""

import sys

import hydra
import torch
from handed import Task

import pytorch_lightning as pl  # isort: skip  (after `handed`)
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import MulticlassAccuracy

TASK = Task() if __name__ != "__main__" else None


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str | None = None) -> None:
        self.parts = {part: TensorDataset(*TASK.pictures(part)) for part in ("train", "val", "test")}

    def train_dataloader(self):
        return DataLoader(self.parts["train"], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts["val"], batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.parts["test"], batch_size=self.batch_size)


class Classifier(pl.LightningModule):
    def __init__(self, optimizer) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.net = TASK.network()
        self.criterion = torch.nn.CrossEntropyLoss()
        for part in ("train", "val", "test"):
            setattr(self, f"{part}_acc", MulticlassAccuracy(TASK.num_classes, average="micro"))
            setattr(self, f"{part}_loss", MeanMetric())
        self.val_acc_best = MaxMetric()
        self.predicted = []

    def on_train_start(self) -> None:
        self.val_loss.reset()
        self.val_acc.reset()
        self.val_acc_best.reset()

    def step(self, batch, part):
        pixels, labels = batch
        scores = self.net(pixels)
        loss = self.criterion(scores, labels)
        kept, right = getattr(self, f"{part}_loss"), getattr(self, f"{part}_acc")
        kept(loss)
        right(scores.argmax(1), labels)
        self.log(f"{part}/loss", kept, on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{part}/acc", right, on_step=False, on_epoch=True, prog_bar=True)
        return loss, scores.argmax(1)

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")[0]

    def validation_step(self, batch, batch_idx) -> None:
        self.step(batch, "val")

    def on_validation_epoch_end(self) -> None:
        self.val_acc_best(self.val_acc.compute())
        self.log("val/acc_best", self.val_acc_best.compute(), sync_dist=True, prog_bar=True)

    def test_step(self, batch, batch_idx) -> None:
        self.predicted += self.step(batch, "test")[1].tolist()

    def configure_optimizers(self):
        optimizer = self.optimizer(params=self.trainer.model.parameters())
        steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": steps, "interval": "step"}}


@hydra.main(version_base="1.3", config_path=".", config_name="template.yaml")
def main(cfg) -> None:
    data, model = hydra.utils.instantiate(cfg.data), hydra.utils.instantiate(cfg.model)
    callbacks = [hydra.utils.instantiate(one) for one in cfg.callbacks.values()]
    trainer = hydra.utils.instantiate(cfg.trainer, callbacks=callbacks)
    import with_template

    task = with_template.TASK
    with task.fit():
        trainer.fit(model=model, datamodule=data)
    trainer.test(model=model, datamodule=data, ckpt_path=trainer.checkpoint_callback.best_model_path, weights_only=True)
    task.answer(model.predicted, task.pictures("test")[1].tolist())


if __name__ == "__main__":
    import with_template  # reads what was handed over, before Hydra reads the command line

    task = with_template.TASK
    sys.argv[1:] = [
        f"folder={sys.argv[1]}", f"answer={sys.argv[2]}", f"trainer.max_epochs={task.epochs}",
        f"data.batch_size={task.batch_size}", f"model.optimizer.lr={task.lr}",
        f"model.optimizer.weight_decay={task.weight_decay}",
    ]  # fmt: skip
    main()
