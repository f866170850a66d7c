"""fastai's `fine_tune`: the head for an epoch, then all, the body at a hundredth of the head's rate, in one-cycles."""

from functools import partial

import torch
from handed import Task

from fastai.callback.schedule import Learner  # isort: skip  (with `fine_tune`)
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from torch.utils.data import TensorDataset


def body_and_head(model):
    head = {id(one) for one in model.get_classifier().parameters()}
    return [[one for one in model.parameters() if id(one) not in head], list(model.get_classifier().parameters())]


def main() -> None:
    task = Task()
    train, val = (TensorDataset(*task.pictures(part)) for part in ("train", "val"))
    loaders = DataLoaders(
        DataLoader(train, bs=task.batch_size, shuffle=True, num_workers=0),
        DataLoader(val, bs=task.batch_size, num_workers=0),
    )
    learner = Learner(
        loaders,
        task.network(),
        loss_func=torch.nn.CrossEntropyLoss(),
        opt_func=partial(OptimWrapper, opt=torch.optim.AdamW),
        splitter=body_and_head,
        metrics=accuracy,
        wd=task.weight_decay,
    )
    with learner.no_bar(), learner.no_logging(), task.fit():
        learner.fine_tune(task.epochs - 1, task.lr, freeze_epochs=1)
    pixels, labels = task.pictures("test")
    learner.model.eval()
    with torch.inference_mode():
        task.answer(torch.cat([learner.model(some).argmax(1) for some in pixels.split(32)]).tolist(), labels.tolist())


if __name__ == "__main__":
    main()
