"""Records of earlier versions: where what they name lies now, and what settings are called now."""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "headstart.tracking.WandB": "headstart.record.wandb.WandB",
    "headstart.tracking.TensorBoard": "headstart.record.tensorboard.TensorBoard",
    "headstart.record.trackers.WandB": "headstart.record.wandb.WandB",
    "headstart.record.trackers.TensorBoard": "headstart.record.tensorboard.TensorBoard",
    "headstart.tracking.": "headstart.record.trackers.",
    "headstart.mlflow_tracking.": "headstart.record.mlflow.",
}
"""Where parts have moved from, and to; the first that fits."""
RENAMED = {
    "data.val_fraction": "split.val_fraction",
    "data.test_fraction": "split.test_fraction",
    "data.n_per_class": "split.n_per_class",
    "data.split_seed": "split.seed",
    "data.split_column": "split.column",
    "data.fold_column": "split.column",
    "data.test_fold": "split.fold",
    "data.val_fold": "split.val_fold",
}
"""Settings by their old names, and what they are called now."""
OF_THE_TASK = {"trainer.label_smoothing": "task.label_smoothing", "trainer.class_weights": "task.class_weights"}
"""More of them."""
_CHOSEN_BY = {
    "split.column": "split=column",
    "data.fold_column": "split=kfold",
    "split.fold": "split=kfold",
    "split.val_fold": "split=kfold",
}
"""The choice that brings a setting, where it does not come with every one of its group."""
_SPLITS = {
    "holdout": ("headstart.splits.holdout.Holdout", ("val_fraction", "test_fraction", "n_per_class", "seed")),
    "column": ("headstart.splits.holdout.Column", ("column", "val_fraction", "test_fraction", "n_per_class", "seed")),
    "kfold": ("headstart.splits.kfold.KFold", ("column", "fold", "val_fold", "val_fraction", "n_per_class", "seed")),
}
"""By choice of the group `split`, its class and what a setting of earlier versions became in it."""


FIRST_MONITOR = "val/accuracy"
"""What the epoch was selected by before a run could say."""


def renamed(key: str) -> str | None:
    """What to say of a setting by its old name; `None` for others."""
    new = (RENAMED | OF_THE_TASK).get(key)
    if new is None:
        return None
    choice = _CHOSEN_BY.get(key) or _CHOSEN_BY.get(new)
    return f"{key} is called {new} now" + (f", and comes with {choice}." if choice else ".")


def present_name(key: str) -> str:
    """What a setting of a record is called now."""
    return (RENAMED | OF_THE_TASK).get(key, key)


def up_to_date(node: Any) -> Any:
    """A recorded config as it would be written now: `_target_`s and settings by their present names."""
    moved = _with_task(_moved(node))
    data = moved.get("data") if isinstance(moved, Mapping) else None
    if not isinstance(data, Mapping) or "split" in moved:
        return moved
    choice, split = _split_of({f"data.{name}": value for name, value in data.items()})
    target, names = _SPLITS[choice]
    kept = {name: value for name, value in data.items() if f"data.{name}" not in RENAMED}
    # copies were never kept together
    made = {"_target_": target, **{name: split[name] for name in names if name in split}, "duplicates": "keep"}
    choices = moved.get("choices")
    more = {"choices": {**choices, "split": choice}} if isinstance(choices, Mapping) else {}
    return {**moved, **more, "data": kept, "split": made}


def settings_up_to_date(settings: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Flat settings of a record by their present names, and the choice of the group `split` that they come to, where
    the record is of before there was one."""
    off = ("0.0", "0", "none")  # at which they are not written down today
    settings = {
        OF_THE_TASK.get(key, key): value
        for key, value in settings.items()
        if key not in OF_THE_TASK or str(value) not in off
    }
    if not settings.keys() & RENAMED.keys():
        return settings, None
    choice, split = _split_of(settings)
    kept = {key: value for key, value in settings.items() if key not in RENAMED}
    is_embedded = str(settings.get("data._target_")).rpartition(".")[2] in (
        "OpenMoji",
        "OpenMojiNames",
        "SyntheticAudio",
    )
    usual = {"val_fraction": 0.15, "test_fraction": 0.25 if is_embedded else 0.15}  # which today are not written down
    split = {name: value for name, value in split.items() if value != usual.get(name)}
    return {**kept, **{f"split.{name}": split[name] for name in _SPLITS[choice][1] if name in split}}, choice


def _with_task(config: Any) -> Any:
    """With the task that every run had before there were others, where none is named."""
    if not isinstance(config, Mapping) or "task" in config or not isinstance(config.get("trainer"), Mapping):
        return config
    trainer, first = dict(config["trainer"]), FIRST_MONITOR
    own = {new.partition(".")[2]: trainer.pop(old.partition(".")[2], None) for old, new in OF_THE_TASK.items()}
    given = {name: value for name, value in own.items() if value is not None}
    task = {"_target_": "headstart.tasks.multiclass.Multiclass", **given, "monitor": first}
    return {**config, "trainer": {"monitor": first, **trainer}, "task": task}


def _split_of(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The choice of the group `split` and its settings that stand for those of `data` in earlier versions."""
    values = {key: value for key, value in settings.items() if key in RENAMED and value is not None}
    choice = "holdout"
    if "data.split_column" in values:
        choice = "column"
    if {"data.fold_column", "data.test_fold"} & values.keys():
        choice = "kfold"
    return choice, {RENAMED[key].partition(".")[2]: value for key, value in values.items()}


def _moved(node: Any) -> Any:
    """With the present names of modules."""
    if isinstance(node, list):
        return [_moved(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    return {key: _present(value) if key == "_target_" else _moved(value) for key, value in node.items()}


def _present(target: Any) -> Any:
    for old, new in MOVED.items():
        if isinstance(target, str) and target.startswith(old):
            return new + target.removeprefix(old)
    return target
