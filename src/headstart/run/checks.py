"""What can be wrong with a run's parts, each by itself and with one another: `InputError` says what, and the remedy."""

import math
from functools import partial
from importlib.util import find_spec

from omegaconf import DictConfig

from headstart.backbones.backbone import Reading
from headstart.data.augmentation import Augmentation
from headstart.data.source import Source
from headstart.errors import InputError, collect
from headstart.record.directory import HISTORY, RESULT
from headstart.record.trackers import Tracker
from headstart.run.chosen import Parts
from headstart.strategies.plan import Plan
from headstart.strategies.regularizers import Delta
from headstart.strategies.strategy import Strategy
from headstart.tasks.task import Task


def check_solver(solver: str, task: Task, plan: Plan, num_weighed: int) -> None:
    """Raise `InputError` where a head that takes no steps of training cannot do without them."""
    if solver == "gradient":
        return
    if solver == "lbfgs":
        task.check_exact()
    does, other = _WITHOUT_STEPS[solver]
    if not plan.head_only():
        raise InputError(
            f"{does} on frozen features, but the strategy trains the backbone too. "
            f"Use {other}, or strategy=feature_extraction."
        )
    if num_weighed > 1:
        raise InputError(
            f"{does}, but backbone.layers=weighted has weights of layers that train. Use {other}, or "
            "backbone.layers=concat or last."
        )


_WITHOUT_STEPS = {
    "lbfgs": ("head.solver=lbfgs solves for a head", "head.solver=gradient"),
    "neighbours": ("head=knn looks up the training examples", "head=linear"),
}
"""By solver: what such a head does, and what to use in its place."""


def check_features(solver: str, cfg: DictConfig, plan: Plan, is_probe: bool, mixes: bool) -> None:
    """Raise `InputError` where a head that takes no steps would not be given features that never change."""
    if solver == "gradient" or is_probe:
        return
    does, other = _WITHOUT_STEPS[solver]
    causes = {
        "the augmentation mixes examples (use another)": mixes,
        f"trainer.limit_batches={cfg.trainer.limit_batches} leaves some out (use null)": cfg.trainer.limit_batches,
        "trainer.precision=64-true trains step by step (use 32-true)": cfg.trainer.precision == "64-true",
        f"strategy.frozen_norm={plan.frozen_norm} changes features with every batch (use eval)": True,
    }
    raise InputError(
        f"{does} on features that are computed once, but {next(cause for cause, holds in causes.items() if holds)}. "
        f"Or use {other}."
    )


def check_sharpness(strategy: Strategy, accumulated: int) -> None:
    if strategy.sam is not None and accumulated > 1:
        raise InputError(
            f"strategy.sam={strategy.sam:g} goes through each step's examples twice, but "
            f"trainer.accumulate_grad_batches={accumulated} makes a step of several batches, the first of which are "
            "gone by then. Use trainer.accumulate_grad_batches=1."
        )


def check_attention(strategy: Strategy, task: Task) -> None:
    """Raise `InputError` where channels are to be weighed by a head that cannot be solved for."""
    penalty = strategy.regularizer
    if isinstance(penalty, Delta) and penalty.attention is not None:
        try:
            task.check_exact()
        except InputError as error:
            raise InputError(
                "strategy.regularizer.attention weighs channels by a head that is solved for on frozen features, which "
                "the loss of this task does not allow. Use strategy.regularizer.attention=null, or another loss."
            ) from error


def check_tracker(tracker: Tracker) -> None:
    if tracker.package is not None and find_spec(tracker.package) is None:
        raise InputError(
            f"logger needs the package {tracker.package!r}, which is not installed. Install it (pip install "
            f"'headstart[{tracker.package}]'), or use logger=none: {HISTORY} and {RESULT} are always kept."
        )


def check_modalities(parts: Parts) -> None:
    data, backbone, augmentation = (part.modality for part in (parts.data, parts.backbone, parts.augmentation))
    if data != backbone:
        raise InputError(
            f"The backbone must read what the data holds, but data is {data} and backbone is for {backbone}. "
            f"Choose a backbone for {data}, or other data."
        )
    if augmentation not in (data, "any"):
        raise InputError(
            f"augmentation must be for {data}, but the one chosen is for {augmentation}. Use augmentation=none."
        )
    channels = parts.pictures[2]
    if parts.augmentation.of_colours and channels not in (1, 3):
        raise InputError(
            "The augmentation changes colours, which pictures of 1 and 3 channels have, but data.channels="
            f"{channels}. Use augmentation=light, standard, random_erasing, mixup_cutmix or none (with "
            "augmentation.policy=null and augmentation.jitter=0)."
        )
    unread = parts.augmentation.adds - parts.backbone.optional_inputs
    if unread:
        raise InputError(
            f"The backbone must read what the augmentation adds, but {parts.backbone.name} does not read "
            f"{', '.join(sorted(unread))}. Use augmentation=none, or another backbone."
        )


def check_views(augmentation: Augmentation, reuse: bool) -> None:
    if reuse and augmentation.changes_examples and augmentation.views < 2:
        raise InputError(
            "With trainer.reuse_views, augmentation.views must be at least 2, as the first is the example as it is, "
            f"but is {augmentation.views}. Raise it, or set trainer.reuse_views=false."
        )


def monitors(cfg: DictConfig, plan: Plan) -> list[str]:
    """Metrics that something follows: the choice of an epoch, the end of training, plateaus."""
    return [cfg.trainer.monitor, *(phase.until.monitor for phase in plan.phases if phase.until is not None)]


def check_plateaus(task: Task, plan: Plan) -> None:
    """Raise `InputError` where the end of a phase follows a metric that the task does not have."""
    followed = [phase.until.monitor for phase in plan.phases if phase.until is not None]
    collect(partial(task.check_monitor, monitor, "unfreeze.monitor") for monitor in followed)


def check_overrides(source: Source, reading: Reading) -> None:
    _check_words_are_read(source, reading)
    too_much = [
        f"data.{name} must be at most {_most(reading.limits[name])} for this backbone, but is {value}."
        for name, value in source.overrides.items()
        if name in reading.limits and value > reading.limits[name]
    ]
    if too_much:
        raise InputError(*too_much)


def _check_words_are_read(source: Source, reading: Reading) -> None:
    """Raise `InputError` where the tokens that a text is cut to are all the tokenizer's own."""
    tokenizer = reading.arguments.get("tokenizer")
    if tokenizer is None:
        return
    asked = {**reading.arguments, **source.overrides}["max_length"]
    least = tokenizer.least_length(getattr(source, "has_pairs", False))
    if asked < least:
        group = "data" if "max_length" in source.overrides else "backbone"
        raise InputError(
            f"{group}.max_length must leave room for words: with the tokens that this backbone's tokenizer puts around "
            f"every text it must be at least {least}, but is {asked}."
        )


def _most(limit: float) -> float:
    """A limit as it is said: never more than it is."""
    return limit if isinstance(limit, int) else math.floor(limit * 1000) / 1000
