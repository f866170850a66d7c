"""Records of earlier versions: where what they name lies now."""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "headstart.tracking.": "headstart.record.trackers.",
    "headstart.mlflow_tracking.": "headstart.record.mlflow.",
}
"""Modules that parts have moved from, and to."""


def up_to_date(node: Any) -> Any:
    """A recorded config whose `_target_`s name modules of earlier versions, with their present names."""
    if isinstance(node, list):
        return [up_to_date(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    return {key: _present(value) if key == "_target_" else up_to_date(value) for key, value in node.items()}


def _present(target: Any) -> Any:
    for old, new in MOVED.items():
        if isinstance(target, str) and target.startswith(old):
            return new + target.removeprefix(old)
    return target
