"""finetuning-scheduler: an explicit schedule, the head, then the last blocks too, then all, at the same rate."""

import torch
from handed import Task

import lightning.pytorch as pl  # isort: skip  (after `handed`)
from finetuning_scheduler import FinetuningScheduler, FTSCheckpoint
from torch.utils.data import DataLoader, TensorDataset


class Classifier(pl.LightningModule):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.net = task, task.network()

    def step(self, batch, part):
        pixels, labels = batch
        scores = self.net(pixels)
        loss = torch.nn.functional.cross_entropy(scores, labels)
        self.log(f"{part}_loss", loss, on_step=False, on_epoch=True)
        self.log(f"{part}_acc", scores.argmax(1).eq(labels).float().mean(), on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx) -> None:
        self.step(batch, "val")

    def configure_optimizers(self):
        trained = [one for one in self.parameters() if one.requires_grad]
        return torch.optim.AdamW(trained, lr=self.task.lr, weight_decay=self.task.weight_decay)


def schedule(model: Classifier, rate: float, epochs: int) -> dict:
    """Phases by names of parameters; each lasts until the epoch that it names is over."""
    names = [name for name, _ in model.named_parameters()]
    head = [name for name in names if name.startswith("net.classifier.")]
    upper = [name for name in names if name.startswith(("net.blocks.5.", "net.blocks.6.", "net.conv_head", "net.bn2"))]
    lower = [name for name in names if name not in {*head, *upper}]
    return {
        0: {"params": head, "max_transition_epoch": 1, "lr": rate},
        1: {"params": upper, "max_transition_epoch": 2, "lr": rate},
        2: {"params": lower, "max_transition_epoch": epochs, "lr": rate},
    }


def main() -> None:
    task = Task()
    train, val = (TensorDataset(*task.pictures(part)) for part in ("train", "val"))
    model = Classifier(task)
    best = FTSCheckpoint(str(task.folder / "scheduler"), monitor="val_acc", mode="max")
    thaw = FinetuningScheduler(
        ft_schedule=schedule(model, task.lr, task.epochs), epoch_transitions_only=True, restore_best=False,
        log_dir=str(task.folder / "scheduler"),
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=task.epochs, logger=False, callbacks=[thaw, best], enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=str(task.folder / "scheduler"),
    )  # fmt: skip
    with task.fit():
        trainer.fit(
            model,
            DataLoader(train, batch_size=task.batch_size, shuffle=True),
            DataLoader(val, batch_size=task.batch_size),
        )
    model.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    pixels, labels = task.pictures("test")
    model.eval()
    with torch.inference_mode():
        task.answer(torch.cat([model.net(some).argmax(1) for some in pixels.split(32)]).tolist(), labels.tolist())


if __name__ == "__main__":
    main()
