"""The story of advice: the data, each backbone's features, what strategies cost, and what follows from it."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headstart.advice import rule
from headstart.advice.choice import Choice, choose
from headstart.advice.facts import Facts, facts_of
from headstart.advice.measure import Measured, measure
from headstart.advice.price import Price, price
from headstart.advice.sample import Sample, draw
from headstart.errors import InputError
from headstart.names import plain
from headstart.run.job import Job

log = logging.getLogger(__name__)

FOR_FEATURES = 0.6
"""Share of the minutes after which no further backbone's features are begun."""


@dataclass(frozen=True)
class Candidate:
    """A backbone: the trial that reads its features, and how each strategy's is made."""

    name: str
    job: Job
    strategies: Mapping[str, Callable[[], Job]]
    """By name; the exact probe is none of them."""
    impossible: Mapping[str, str] = field(default_factory=dict)
    """Strategies that this backbone, or these settings, do not go with, and why."""


@dataclass(frozen=True)
class Findings:
    """All that was measured, and what follows."""

    facts: Facts
    sample: Sample
    measured: Sequence[Measured]
    left_out: Mapping[str, str]
    """Backbones and strategies that were not measured, and why."""
    prices: Mapping[tuple[str, str], Price]
    choice: Choice
    rule: rule.Rule
    doubted: Sequence[int]
    """Places of examples whose neighbours speak against their label in every backbone."""
    seconds: float


def find(candidates: Sequence[Candidate], strategies: Sequence[str], minutes: float) -> Findings:
    """Measure within so many minutes, about; the first backbone is always measured."""
    began = time.monotonic()
    end, left_out = began + 60 * minutes, {}
    first = candidates[0].job
    facts, sample = facts_of(first), draw(first)
    measured: list[Measured] = []
    for candidate in candidates:
        if measured and time.monotonic() > began + FOR_FEATURES * 60 * minutes:
            left_out[candidate.name] = "no time was left for features (--minutes)"
            continue
        _say(f"{candidate.name}: features of {len(sample):,} examples, neighbours, probes")
        try:
            measured.append(measure(candidate.name, candidate.job, sample))
        except RuntimeError as error:  # features that are not finite, memory of a GPU: the others are measured
            log.warning("Features of %s were not measured: %s", candidate.name, error)
            left_out[candidate.name] = (str(error).splitlines() or [type(error).__name__])[0]
    if not measured:
        raise InputError(*(f"Features of {name} cannot be measured: {why}." for name, why in left_out.items()))
    known = rule.read()
    names_of = [(one.name, strategy, why) for one in candidates for strategy, why in one.impossible.items()]
    left_out |= {f"{strategy} of {name}": why for name, strategy, why in names_of}
    impossible = frozenset((name, strategy) for name, strategy, _ in names_of)
    asked = strategies, known, sample.num_taken, facts.modality, impossible
    first_choice = choose(measured, {}, *asked)
    names = list(dict.fromkeys([*(one.backbone for one in first_choice.options), *(one.name for one in measured)]))
    prices = _prices(candidates, measured, names, strategies, end, left_out)
    return Findings(
        facts=facts,
        sample=sample,
        measured=measured,
        left_out=left_out,
        prices=prices,
        choice=choose(measured, prices, *asked),
        rule=known,
        doubted=sorted(frozenset.intersection(*(one.doubted for one in measured))),
        seconds=time.monotonic() - began,
    )


def _prices(
    candidates: Sequence[Candidate],
    measured: Sequence[Measured],
    names: Sequence[str],
    strategies: Sequence[str],
    end: float,
    left_out: dict[str, str],
) -> dict[tuple[str, str], Price]:
    """Of the best backbones first, until time is over; one is always taken."""
    by_name = {one.name: one for one in candidates}
    known = {one.name: one for one in measured}
    found: dict[tuple[str, str], Price] = {}
    for name in names:
        for strategy in strategies:
            candidate = by_name[name]
            if strategy in candidate.impossible:
                continue
            if strategy == rule.PROBE:
                found[name, strategy] = price(strategy, candidate.job, known[name].seconds, known[name].solving)
            elif len(found) > 1 and time.monotonic() > end:
                left_out[f"{strategy} of {name}"] = "no time was left for steps (--minutes)"
            else:
                _say(f"{name}: a few steps of {strategy}")
                try:
                    found[name, strategy] = price(strategy, candidate.strategies[strategy](), known[name].seconds)
                except InputError as error:
                    left_out[f"{strategy} of {name}"] = " ".join(error.messages)
    return found


def _say(words: str) -> None:
    sys.stderr.write(f"{plain(words)}\n")
    sys.stderr.flush()
