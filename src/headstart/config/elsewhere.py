"""Settings that are not where they were looked for: another choice brings them, or they have another name here."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import OmegaConf

from headstart.config import schema
from headstart.config.overrides import as_written
from headstart.errors import InputError
from headstart.names import listed_or

SETTINGS = {
    "learning_rate": "optimizer.lr", "lr": "optimizer.lr", "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs", "bs": "trainer.batch_size", "gpus": "trainer.devices",
    "device": "trainer.accelerator", "workers": "trainer.num_workers", "metric": "trainer.monitor",
    "model": "backbone", "network": "backbone", "dataset": "data", "datasets": "data", "augment": "augmentation",
    "transform": "augmentation", "optimiser": "optimizer", "seeds": "seed", "random_state": "seed",
    "n_splits": "split.folds", "k": "split.folds", "cv": "split.folds", "test_size": "split.test_fraction",
    "val_size": "split.val_fraction", "group": "split.group_column", "groups": "split.group_column",
    "label": "data.label_column", "target": "data.label_column", "dropout": "head.dropout", "freeze": "strategy",
    "class_weight": "task.class_weights", "pos_weight": "task.positive_weights", "criterion": "task.objective",
    "loss": "task.objective",
}  # fmt: skip
"""What settings are called elsewhere (their last word), and here."""
CHOICES = {
    "strategy": {
        "full": "fine_tune", "all": "fine_tune", "linear_probe": "feature_extraction", "linear": "feature_extraction",
        "probe": "feature_extraction", "freeze": "feature_extraction", "frozen": "feature_extraction",
        "transfer": "feature_extraction", "bitfit": "bias_only", "ulmfit": "gradual_unfreeze", "dora": "peft",
        "rslora": "peft", "pissa": "peft", "ia3": "peft", "loha": "peft", "lokr": "peft", "oft": "peft",
    },
    "task": {
        "binary": "multiclass", "classification": "multiclass", "single_label": "multiclass",
        "multi_label": "multilabel", "continuous": "regression", "ordinal": "regression",
    },
    "split": {
        "random": "holdout", "stratified": "holdout", "group": "holdout", "shuffle": "holdout", "cv": "kfold",
        "cross_validation": "kfold", "predefined": "column",
    },
    "logger": {"tb": "tensorboard", "csv": "none", "null": "none"},
    "augmentation": {"mixup": "mixup_cutmix", "cutmix": "mixup_cutmix", "specaugment": "spec_augment"},
    "trainer": {"cpu": "default"},
    "head": {"fc": "linear", "logistic": "linear"},
}  # fmt: skip
"""By group, what its choices are called elsewhere, and here."""
FROM_DATA = frozenset({"num_classes", "n_classes", "num_labels", "num_outputs", "classes"})
"""What other programs have to be told, and this one reads from the data."""


def found_elsewhere(key: str, names: list[str], chosen: Mapping[str, str], loader: ConfigLoader) -> InputError | None:
    """What to say of an unknown setting that is known somewhere else; `None` where it is not.

    `names` are those beside it, `chosen` the choices of all groups.
    """
    parent, _, leaf = key.rpartition(".")
    if leaf in FROM_DATA:
        return InputError(f"{key} is no setting: how many classes there are follows from the data. Leave it out.")
    other = SETTINGS.get(leaf)
    is_beside = other is not None and other.rpartition(".")[0] == parent and other.rpartition(".")[2] in names
    is_in_group = parent.partition(".")[0] in schema.GROUPS
    if is_in_group and not is_beside and (error := _of_another_choice(key, chosen, loader)):
        return error
    wanted = [other] if other is not None else _named(leaf, loader) if not parent else _below(parent, leaf, loader)
    said = [_with_choice(name, chosen, loader) for name in wanted if name != key]
    return InputError(f"Unknown setting {key!r}. Here it is called {listed_or(said)}.") if said else None


def _of_another_choice(key: str, chosen: Mapping[str, str], loader: ConfigLoader) -> InputError | None:
    """Of a setting that other choices of its group have."""
    group = key.partition(".")[0]
    with_it = [f"{group}={choice}" for choice in _choices_with(key, loader)]
    if not with_it:
        return None
    add = f"add {with_it[0]}" if len(with_it) == 1 else "add one of them"
    now = f", but {group}={chosen[group]} is chosen" if group in chosen else ""
    return InputError(f"{key} comes with {listed_or(with_it)}{now}: {add}, or leave {key} out.")


def _with_choice(key: str, chosen: Mapping[str, str], loader: ConfigLoader) -> str:
    """A setting, with the choice that brings it if that has to be made."""
    group = key.partition(".")[0]
    if group not in schema.GROUPS or "." not in key:
        return key
    choices = _choices_with(key, loader)
    if chosen.get(group) in choices or not choices:
        return key
    return f"{key} (with {listed_or([f'{group}={choice}' for choice in choices])})"


def _named(leaf: str, loader: ConfigLoader) -> list[str]:
    """Settings whose last word is this one, of all sections and groups."""
    spine = [key for key in schema.SPINE if key.endswith(f".{leaf}")]
    beside = [f"{group}.{leaf}" for group in schema.GROUPS if _choices_with(f"{group}.{leaf}", loader)]
    return sorted(spine) + (beside or [key for group in schema.GROUPS for key in _below(group, leaf, loader)])


def _below(group: str, leaf: str, loader: ConfigLoader) -> list[str]:
    """Settings of a group whose last word is this one, one level further down: `strategy.adapter.r`."""
    if group not in schema.GROUPS:
        return []
    nodes = [_config(group, choice, loader) for choice in loader.get_group_options(group)]
    inner = [(name, value) for node in nodes if isinstance(node, Mapping) for name, value in node.items()]
    found = [name for name, value in inner if isinstance(value, Mapping) and leaf in value and name != schema.SPACE]
    return [f"{group}.{name}.{leaf}" for name in dict.fromkeys(found)]


def _choices_with(key: str, loader: ConfigLoader) -> list[str]:
    """The choices of a setting's group whose config names it."""
    group, _, path = key.partition(".")
    return [choice for choice in loader.get_group_options(group) if _has(_config(group, choice, loader), path)]


def _config(group: str, choice: str, loader: ConfigLoader) -> Any:
    with suppress(InputError, Exception):  # a config of the user's own that cannot be read is said where it is chosen
        found = loader.repository.load_config(f"{group}/{choice}")  # type: ignore[attr-defined]
        return as_written(found.config) if found is not None and OmegaConf.is_dict(found.config) else None
    return None


def _has(node: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True
