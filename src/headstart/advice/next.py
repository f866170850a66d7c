"""What to run next: the commands, as lines that can be pasted, and what they take."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.advice.choice import Choice, Option
from headstart.advice.rule import PROBE
from headstart.config.overrides import QUOTES
from headstart.config.schema import Config
from headstart.search.halving import epochs_in_all, rungs
from headstart.search.standing import NUM_BEST

SEEDS, TRIALS, REDUCTION = 3, 20, 3
MOST_BACKBONES, MOST_STRATEGIES = 2, 2
"""Backbones that are compared, and strategies beside the probe."""


@dataclass(frozen=True)
class Next:
    """The comparison that is advised, and the search after it."""

    compare: str
    tuned: Sequence[tuple[str, str]]
    """Its backbones and strategies, without the probe, the best first."""
    num_runs: int
    seconds: float | None
    """Of all its runs, one after the other; `None` where a price is missing."""
    search: str = ""
    """Empty where nothing is tuned."""
    ranges: Sequence[str] = ()
    trials: int = TRIALS
    search_seconds: float | None = None


def next_steps(
    choice: Choice, words: Sequence[str], max_epochs: int, ranges: Mapping[tuple[str, str], Sequence[str]]
) -> Next | None:
    """`words` are the user's own, but for backbone and strategy; `ranges` what a search varies, by option."""
    if choice.best is None:
        return None
    backbones = _backbones(choice)
    tuned = [one for one in choice.options if one.backbone == choice.best.backbone and not one.is_probe]
    strategies = [PROBE, *(one.strategy for one in tuned[:MOST_STRATEGIES])]
    runs = [one for one in choice.options if one.backbone in backbones and one.strategy in strategies]
    probe = "strategy=feature_extraction" + ("" if _has(words, "head") else " head.solver=lbfgs")
    lines = [probe if strategy == PROBE else f"strategy={strategy}" for strategy in strategies]
    seeds = [] if _has(words, "seed") else [f"seed={','.join(map(str, range(SEEDS)))}"]
    listed = "hydra.sweeper.runs=[" + ",".join(f'"{line}"' for line in lines) + "]"
    compare = shlex.join(["headstart", "train", "-m", f"backbone={','.join(backbones)}", *words, *seeds, listed])
    number = SEEDS if seeds else 1
    raced = [(one.backbone, one.strategy) for one in runs if not one.is_probe]
    seconds = _total(runs, number)
    if not tuned:
        return Next(compare, raced, number * len(runs), seconds)
    best = tuned[0]
    search = shlex.join(
        [
            *("headstart", "train", "-m", "search=tpe", "search/stopping=halving", f"search.trials={TRIALS}"),
            *(f"backbone={best.backbone}", f"strategy={best.strategy}", *renamed(words)),
        ]
    )
    ends = rungs(max_epochs, REDUCTION)
    epochs = epochs_in_all(TRIALS, ends, REDUCTION, NUM_BEST + 1)
    a_run = best.price.seconds if best.price is not None else float("nan")
    took = a_run * epochs / max_epochs if a_run == a_run else None
    told = ranges.get((best.backbone, best.strategy), ())
    return Next(compare, raced, number * len(runs), seconds, search, tuple(told), TRIALS, took)


def renamed(words: Sequence[str]) -> list[str]:
    """The words with a name of the search's own: in the comparison's folder it would be taken for a part of it."""
    name = next((word.partition("=")[2] for word in reversed(words) if word.startswith("name=")), Config.name)
    return [*(word for word in words if not word.startswith("name=")), f"name={name.strip(QUOTES)}-search"]


def _backbones(choice: Choice) -> list[str]:
    """The best option's, and the first of those that its features are not told from."""
    assert choice.best is not None
    found = [choice.best.backbone, *(name for name in choice.equals if name != choice.best.backbone)]
    return found[:MOST_BACKBONES] if choice.best.backbone in choice.equals else found[:1]


def _total(runs: Sequence[Option], number: int) -> float | None:
    seconds = [one.price.seconds for one in runs if one.price is not None and one.price.seconds == one.price.seconds]
    return number * sum(seconds) if len(seconds) == len(runs) else None


def _has(words: Sequence[str], key: str) -> bool:
    return any(word.partition("=")[0].partition(".")[0] == key for word in words)
