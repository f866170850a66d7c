"""What to run next: the commands, as lines that can be pasted, and what they take."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headstart.advice.choice import Choice
from headstart.advice.price import Price
from headstart.advice.rule import PROBE
from headstart.config.overrides import key_of
from headstart.search.halving import epochs_in_all, rungs
from headstart.search.standing import NUM_BEST

SEEDS, TRIALS, REDUCTION = 3, 20, 3
MOST_COMPARED = 3
"""Options that are compared, beside the probes of their backbones."""
Key = tuple[str, str]
"""A backbone and a strategy."""


@dataclass(frozen=True)
class Next:
    """The comparison that is advised, and the search after it."""

    compare: str
    tuned: Sequence[Key]
    """Its backbones and strategies, without the probes, the best first."""
    num_runs: int
    seconds: float | None
    """Of all its runs, one after the other; `None` where a price is missing."""
    search: str = ""
    """Empty where nothing is tuned."""
    exact: bool = True
    """Whether its probe is solved for; else it is trained by steps."""
    ranges: Sequence[str] = ()
    trials: int = TRIALS
    search_seconds: float | None = None


def next_steps(
    choice: Choice,
    prices: Mapping[tuple[str, str], Price],
    words: Sequence[str],
    name: str,
    max_epochs: int,
    ranges: Mapping[tuple[str, str], Sequence[str]],
    exact: bool = True,
) -> Next | None:
    """`words` are the user's own, but for backbone and strategy; `name` is the comparison's; `ranges` are what a search
    varies, by option. `exact`: whether a head can be solved for with these words."""
    if choice.best is None:
        return None
    words = [*map(_quoted, words), *_without_grid(words)]
    backbones, tuned = to_compare(in_order(choice))
    seeds = [] if _has(words, "seed") else [f"seed={','.join(map(str, range(SEEDS)))}"]
    probe = "strategy=feature_extraction" + (" head.solver=lbfgs" if exact else "")
    own = [word for word in words if is_of_strategy(word)]
    shared = [word for word in words if word not in own]
    chosen, lines = _lines(backbones, tuned, probe, own)
    listed = ",".join(map(_in_quotes, lines))
    if _has(words, "experiment"):  # whose file may ask for a search
        shared.append("search=none")
    compare = shlex.join(["headstart", "train", "-m", *chosen, *shared, *seeds, f"hydra.sweeper.runs=[{listed}]"])
    number = SEEDS if seeds else 1
    keys = [*((backbone, PROBE) for backbone in backbones), *tuned]
    seconds = _total([prices.get(key) for key in keys], number)
    found = Next(compare, tuned, number * len(keys), seconds, exact=exact)
    if not tuned:
        return found
    best = tuned[0]
    start = ("headstart", "train", "-m", "search=tpe", "search/stopping=halving", f"search.trials={TRIALS}")
    lines = ["hydra.sweeper.runs=null"] if _has(words, "experiment") else []
    search = shlex.join([*start, f"backbone={best[0]}", f"strategy={best[1]}", *renamed(words, name), *lines])
    epochs = epochs_in_all(TRIALS, rungs(max_epochs, REDUCTION), REDUCTION, NUM_BEST + 1)
    a_run = _total([prices.get(best)], 1)
    took = None if a_run is None else a_run * epochs / max_epochs
    return replace(found, search=search, ranges=tuple(ranges.get(best, ())), search_seconds=took)


def in_order(choice: Choice) -> list[Key]:
    """Options in the order of advice, then those of which nothing is recorded."""
    told = [(one.backbone, one.strategy) for one in choice.options]
    names = dict.fromkeys(name for name, _ in told)
    untold = [(name, strategy) for name in names for strategy in choice.unrecorded]
    return [*told, *(key for key in untold if key not in choice.impossible)]


def to_compare(options: Sequence[Key]) -> tuple[list[str], list[Key]]:
    """Of options in the order of advice, the backbones to compare, with their probes, and the options that tune them.

    First the best of each backbone, then the next: backbones differ more in what tuning adds than their features tell,
    so one option of each says more than several of one (docs/advice.md has the figures).
    """
    names = list(dict.fromkeys(name for name, _ in options))[:MOST_COMPARED]
    tuned = [key for key in options if key[0] in names and key[1] != PROBE]
    first = [key for place, key in enumerate(tuned) if key[0] not in {name for name, _ in tuned[:place]}]
    return names, [*first, *(key for key in tuned if key not in first)][:MOST_COMPARED]


def renamed(words: Sequence[str], name: str) -> list[str]:
    """The words with a name of the search's own: in the comparison's folder it would be taken for a part of it."""
    own = f"name={name}-search" if re.fullmatch(r"[\w.-]+", name) else f'name="{name}-search"'
    return [*(word for word in words if not word.startswith("name=")), own]


def is_of_strategy(word: str) -> bool:
    """Whether it says how a strategy tunes, which no probe does."""
    return key_of(word).partition(".")[0] in ("strategy", "unfreeze")


def _without_grid(words: Sequence[str]) -> list[str]:
    """What takes away the comparison that an experiment's file may hold: its settings alone are wanted."""
    return ["hydra.sweeper.params=null", "hydra.sweeper.zip=null"] if _has(words, "experiment") else []


def _lines(
    backbones: Sequence[str], tuned: Sequence[Key], probe: str, own: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The word that lists backbones where each has the same options, and the comparison's lines; without it, a line
    names its backbone. `own`: settings that only strategies that tune have."""
    strategies = list(dict.fromkeys(strategy for _, strategy in tuned))
    if {(name, strategy) for name in backbones for strategy in strategies} == {*tuned}:
        lines = [probe, *(" ".join([f"strategy={strategy}", *own]) for strategy in strategies)]
        return [f"backbone={','.join(backbones)}"], lines
    lines = [f"backbone={name} {probe}" for name in backbones]
    return [], [*lines, *(" ".join([f"backbone={name} strategy={strategy}", *own]) for name, strategy in tuned)]


def _quoted(word: str) -> str:
    """With double quotes around the value in place of single ones, which a shell has to quote again."""
    key, equals, value = word.partition("=")
    inner = value[1:-1]
    is_plain = value[:1] == value[-1:] == "'" and len(value) > 1 and not {"'", '"', "\\", "$"} & set(inner)
    return f'{key}{equals}"{inner}"' if is_plain else word


def _in_quotes(line: str) -> str:
    """A text of Hydra's grammar, where a backslash stands for itself unless a quote follows."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ("\\" + found[2] if found[2] else ""), line) + '"'


def _total(prices: Sequence[Price | None], number: int) -> float | None:
    """Seconds of so many runs of each; `None` where a price is missing."""
    known = [one.seconds for one in prices if one is not None and one.seconds == one.seconds]
    return number * sum(known) if len(known) == len(prices) else None


def _has(words: Sequence[str], key: str) -> bool:
    return any(word.partition("=")[0].partition(".")[0] == key for word in words)
