"""Strategies whose settings make them another one: a comparison must not show one thing under two names."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from headstart.config import schema
from headstart.config.composer import conf_dir
from headstart.errors import InputError
from headstart.strategies.plan import Kind, Plan
from headstart.strategies.strategy import Strategy

log = logging.getLogger(__name__)

SHARED = ("lr", "average", "average_decay")
"""Settings that make no strategy another one."""


def check_strategy_name(cfg: DictConfig, strategy: Strategy, plan: Plan, kinds: Mapping[str, tuple[Kind, ...]]) -> None:
    """Say that a strategy of ours has become another by its settings; your own may be called what you like.

    `kinds` are those of the parameters in each depth group of the backbone.

    Raises:
        InputError: if what makes it that strategy was taken out. A number at which it does nothing is noted only: it
            may be the end of a range that is compared.
    """
    name = str(cfg.choices.get("strategy"))
    shipped, other = _shipped().get(name), _really(strategy, plan, kinds)
    if shipped is None or other in (None, name):
        return
    node = OmegaConf.to_container(cfg.strategy, resolve=True)
    assert isinstance(node, dict)
    changed = {key: node.get(key) for key, value in shipped.items() if node.get(key) != value and key not in SHARED}
    given = ", ".join(f"strategy.{key}={_written(value)}" for key, value in changed.items())
    cause = given or f"unfreeze={cfg.choices.get('unfreeze')}"
    if changed and all(type(value) in (int, float) for value in changed.values()):
        log.warning("strategy=%s with %s does what strategy=%s does.", name, cause, other)
        return
    raise InputError(
        f"strategy={name} must do what its name says, but with {cause} it is {other}. Use strategy={other}, or "
        "leave out what changed it."
    )


def _really(strategy: Strategy, plan: Plan, kinds: Mapping[str, tuple[Kind, ...]]) -> str | None:
    """The plainest strategy that does the same; `None` if there is none."""
    if plan.head_only():
        return "feature_extraction"
    rates = [phase.rates[group][kind] for phase in plan.phases for group in kinds for kind in kinds[group]]
    if (
        len(plan.phases) > 1
        or strategy.adapter
        or strategy.regularizer
        or strategy.layer_rates
        or strategy.stochastic_norm
        or strategy.sam
        or len(set(rates)) > 1
        or 0 in rates
    ):
        return None
    return "fine_tune" if strategy.pretrained else "from_scratch"


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    """The settings that our own strategies come with."""
    files = sorted((conf_dir() / "strategy").glob("*.yaml"))
    nodes = {file.stem: OmegaConf.to_container(OmegaConf.load(file)) for file in files}
    return {
        name: {str(key): value for key, value in node.items() if key not in ("defaults", schema.SPACE)}
        for name, node in nodes.items()
        if isinstance(node, dict)
    }


def _written(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
