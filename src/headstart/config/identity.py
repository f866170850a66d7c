"""What a run is: the settings that can change its numbers, and the name that they give it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from headstart.config.schema import flatten
from headstart.config.sides import sides_of

IDENTITY_SCHEMA = 1

INCIDENTAL = frozenset(
    {
        "name",
        "choices",
        "overrides",
        "companions",
        "fused_with",
        "logger",
        "features",
        "search",
        "trainer.num_workers",
        "task.monitor",
    }
)

INCIDENTAL_DATA = frozenset(
    {"root", "path", "name", "shifts", "splits", "cache_bytes", "missing_values", "encoding", "labels"}
)
"""Keys that cannot change a run's numbers, given the fingerprint of its data."""

INCIDENTAL_WEIGHTS = frozenset({"backbone.weights", "backbone.weights_key"})
"""Keys that say where weights are; what they are is the backbone's to tell."""

_DROPPED = INCIDENTAL | {f"data.{name}" for name in INCIDENTAL_DATA} | INCIDENTAL_WEIGHTS
_BELOW = tuple(f"{name}." for name in sorted(_DROPPED))

OFF = {
    "trial": False, "strategy.average": None, "strategy.sam": None, "strategy.average_decay": 0.999,
    "trainer.threads": None, "trainer.reuse_views": False, "trainer.compile": False, "data.value_range": None,
    "trainer.strategy": "auto",
    "data.part": "middle", "data.cache_side": None, "data.fit": None, "data.channels": 3,
    "data.depth": None, "augmentation.place": "workers",
    "split._target_": "headstart.splits.holdout.Holdout", "split.val_fraction": None,
    "split.test_fraction": None, "split.n_per_class": None, "split.seed": None,
    "data.label": "group",
    "task._target_": "headstart.tasks.multiclass.Multiclass", "task.label_smoothing": 0.0, "task.class_weights": "none",
    "split.group_column": None, "split.column": None, "split.val_fold": None, "split.duplicates": "group",
}  # fmt: skip
"""Settings that do nothing at these values, and are no part of a run then."""


def settings(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """What a config comes to, flat (`{"optimizer.lr": 1e-3, …}`), without what cannot change a run's numbers."""
    container = OmegaConf.to_container(cfg, resolve=True) if isinstance(cfg, DictConfig) else cfg
    flat = dict(flatten(container, ""))
    keep = {key: value for key, value in flat.items() if key not in _DROPPED and not key.startswith(_BELOW)}
    for key, value in OFF.items():
        if keep.get(key) == value:
            keep.pop(key, None)
    if keep.get("head.l2") == "auto" and keep.get("head.solver") == "gradient":
        keep["head.l2"] = 1.0  # nothing reads it; it was the default when such runs were first named
    if isinstance(keep.get("data.size"), list):
        keep["data.size"] = sides_of(keep["data.size"])
    kind = str(keep.get("backbone._target_")).rpartition(".")[2]
    if kind == "HuggingFaceAudio":
        keep.pop("backbone.window", None)  # which the backbone's own identity tells where it is cut
    if keep.get("backbone.layers") == "last" and kind == "HuggingFaceText":
        del keep["backbone.layers"]  # which models of text had not when such runs were first named
    return keep


def run_id(identity: Mapping[str, Any]) -> str:
    """The name of a run: 12 hexadecimal digits of the sha256 over everything that can change its numbers."""
    text = json.dumps({"schema": IDENTITY_SCHEMA, **identity}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
