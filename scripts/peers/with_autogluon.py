"""AutoGluon's MultiModalPredictor, fine-tuning a text model with a lower rate for each layer further down."""

from handed import Task

import pandas as pd  # isort: skip  (after `handed`)
from autogluon.multimodal import MultiModalPredictor


def main() -> None:
    task = Task()
    frames = {}
    for part in ("train", "val", "test"):
        texts, labels = task.texts(part)
        frames[part] = pd.DataFrame({"text": texts, "label": labels})
    predictor = MultiModalPredictor(
        label="label", problem_type="multiclass", eval_metric="accuracy", path=str(task.folder / "autogluon"),
        verbosity=0,
    )  # fmt: skip
    chosen = {
        "model.names": ["hf_text"],
        "model.hf_text.checkpoint_name": task.model,
        "model.hf_text.pooling_mode": "mean",
        "optim.lr": task.lr,
        "optim.weight_decay": task.weight_decay,
        "optim.max_epochs": task.epochs,
        "optim.val_check_interval": 1.0,
        "optim.top_k_average_method": "best",
        "env.num_gpus": 0,
        "env.precision": "32",
        "env.batch_size": task.batch_size,
        "env.per_gpu_batch_size": task.batch_size,
        "env.num_workers": 0,
        "env.num_workers_inference": 0,
        "env.strategy": "auto",
    }
    with task.fit():
        predictor.fit(
            frames["train"], tuning_data=frames["val"], hyperparameters=chosen, column_types={"text": "text"},
            seed=task.seed,
        )  # fmt: skip
    task.answer(predictor.predict(frames["test"].drop(columns="label")).tolist(), frames["test"]["label"].tolist())


if __name__ == "__main__":
    main()
