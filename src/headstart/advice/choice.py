"""What is advised: every backbone with every strategy, what each may score, and which cannot be told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.advice.intervals import told_apart
from headstart.advice.measure import CHOSEN, Measured
from headstart.advice.order import Gain, Looked
from headstart.advice.price import Price
from headstart.advice.rule import PROBE, Rule
from headstart.report.statistics import Interval


@dataclass(frozen=True)
class Option:
    """A backbone and a strategy, with the score that is foretold."""

    backbone: str
    strategy: str
    score: float
    low: float
    high: float
    gain: Gain | None
    price: Price | None = None

    @property
    def likely(self) -> float:
        """The score as it can be."""
        return min(1.0, self.score)

    @property
    def is_probe(self) -> bool:
        return self.strategy == PROBE


@dataclass(frozen=True)
class Choice:
    """The options in the order of advice, and what follows from them."""

    options: Sequence[Option]
    equals: Sequence[str]
    """Backbones that cannot be told from the best one by their features, the best first."""
    ahead: Mapping[str, Interval]
    """How far the best backbone's probe is ahead of each other's."""
    unrecorded: Sequence[str] = ()
    """Strategies that are asked about and of which no comparison is recorded: nothing can be foretold of them."""
    impossible: frozenset[tuple[str, str]] = frozenset()
    """Backbones and strategies that do not go together, as these settings are."""

    @property
    def best(self) -> Option | None:
        return self.options[0] if self.options else None

    @property
    def best_foretold(self) -> Option | None:
        """The one with the highest score, which need not be the one that is advised."""
        return max(self.options, key=lambda one: one.score) if self.options else None

    @property
    def probe(self) -> Option | None:
        """The best backbone's exact probe."""
        return next((one for one in self.options if one.is_probe), None)

    @property
    def best_tuned(self) -> Option | None:
        """The best that tunes the backbone."""
        return next((one for one in self.options if not one.is_probe), None)

    @property
    def features_are_enough(self) -> bool:
        """Whether none that tunes is advised."""
        return self.best is not None and self.best.is_probe


def choose(
    measured: Sequence[Measured], prices: Mapping[tuple[str, str], Price], strategies: Sequence[str], rule: Rule,
    num_classes: int, modality: str, impossible: frozenset[tuple[str, str]] = frozenset(),
) -> Choice:  # fmt: skip
    """Options of all backbones that have a foretold score; `prices`, and what is `impossible`, by backbone and
    strategy."""
    options = [
        _option(one, strategy, rule, num_classes, modality, prices.get((one.name, strategy)))
        for one in measured
        if one.foretold is not None
        for strategy in strategies
        if (one.name, strategy) not in impossible
    ]
    known = [option for option in options if option is not None]
    looked = [
        Looked(one.name, one.num_parameters, one.foretold.interval.mean, one.by_fold)
        for one in measured
        if one.foretold is not None and one.by_fold is not None
    ]
    gains = {(one.backbone, one.strategy): one.gain for one in known if one.gain is not None}
    values = rule.order.values(looked, gains)
    ordered = sorted(known, key=lambda one: -values[one.backbone, one.strategy])
    compared = sorted((one for one in measured if one.by_fold is not None), key=lambda one: -_mean(one))
    ahead = {
        other.name: told_apart(compared[0].by_fold, other.by_fold, CHOSEN)
        for other in compared[1:]
        if compared[0].by_fold is not None and other.by_fold is not None
    }
    equals = [compared[0].name] if compared else []
    equals += [name for name, interval in ahead.items() if not interval.excludes_zero]
    unrecorded = [one for one in strategies if one != PROBE and one not in rule.fits]
    return Choice(ordered, equals, ahead, unrecorded, impossible)


def _mean(one: Measured) -> float:
    assert one.by_fold is not None
    return float(one.by_fold.mean())


def _option(
    one: Measured, strategy: str, rule: Rule, num_classes: int, modality: str, price: Price | None
) -> Option | None:
    """`None` for a strategy of which no comparison is recorded: nothing can be foretold of it."""
    assert one.foretold is not None
    foretold = one.foretold.interval
    gain = rule.gain(strategy, one.foretold.size / max(1, num_classes), foretold.mean, modality, one.batch_norm)
    if gain is None:
        return None
    below = ((foretold.mean - foretold.low) ** 2 + (gain.mean - gain.low) ** 2) ** 0.5
    above = ((foretold.high - foretold.mean) ** 2 + (gain.high - gain.mean) ** 2) ** 0.5
    score = foretold.mean + gain.mean
    return Option(one.name, strategy, score, score - below, score + above, gain, price)
