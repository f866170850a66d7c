"""The measure that a report compares runs by, and how its values are written."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, isnan, log10, nan
from statistics import median

from headstart import metrics
from headstart.report.reading import Run


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure by name (`accuracy` stands for val/accuracy and test/accuracy)."""

    name: str
    decimals: int = 4
    """Places after the point of a measure that is no share, the same on the whole page."""

    @classmethod
    def fitting(cls, name: str, values: Iterable[float | None]) -> "Metric":
        """The measure with as many decimals as give the middle one of `values` four digits: 1.620, 12.34, 0.6512."""
        sizes = [abs(value) for value in values if value is not None and isfinite(value)]
        middle = median(sizes) if sizes else 0.0
        return cls(name, min(6, max(0, 3 - floor(log10(middle)))) if middle else 4)

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is: scores are values times this."""
        return metrics.sign(self.name)

    @property
    def share(self) -> bool:
        """Whether the measure is a share of 1, written as a percentage."""
        return metrics.is_share(self.name)

    @property
    def counts_right(self) -> bool:
        """Whether the measure is the share of examples that were answered rightly."""
        return metrics.counts_right(self.name)

    @property
    def title(self) -> str:
        """The name in plain words."""
        return metrics.title(self.name)

    def val(self, run: Run) -> float | None:
        """The validation score of the epoch that was selected (more is better)."""
        return _signed(run.metrics.get(f"val/{self.name}"), self.sign)

    def test(self, run: Run) -> float | None:
        """The test score of the epoch that was selected on val (more is better)."""
        return _signed(run.metrics.get(f"test/{self.name}"), self.sign)

    def shift(self, run: Run, name: str) -> float | None:
        """The score on a shifted test set (more is better)."""
        return _signed(run.metrics.get(f"shift/{name}/{self.name}"), self.sign)

    def raw(self, score: float) -> float:
        """A score as the measure it came from, in the unit of the figures' axis (percent for shares)."""
        return score * self.sign * (100 if self.share else 1)

    def text(self, score: float | None) -> str:
        """A score as the reader sees it: `84.2%`, or `0.4312` for a measure that is no share."""
        if score is None or isnan(score):
            return "–"
        return f"{self.raw(score):.1f}%".replace("-", "−") if self.share else self._fixed(self.raw(score))

    def ends(self, low: float, high: float) -> tuple[float, float]:
        """An interval of scores as the measure they came from, lower end first, as far as the measure can go."""
        if not (isfinite(low) and isfinite(high)):
            return nan, nan
        least, most = (end * (100 if self.share else 1) for end in metrics.bounds(self.name))
        low, high = sorted((self.raw(low), self.raw(high)))
        return max(low, least), min(high, most)

    def range(self, low: float, high: float) -> str:
        """An interval of scores: `82.1 to 86.3%`."""
        low, high = self.ends(low, high)
        if isnan(low):
            return "–"
        if self.share:
            return f"{low:.1f} to {high:.1f}%".replace("-", "−")
        return f"{self._fixed(low)} to {self._fixed(high)}"

    def cell(self, score: float | None) -> str:
        """A score in a table whose heading names the unit: `84.2`."""
        return self.text(score).removesuffix("%")

    @property
    def heading(self) -> str:
        """The name with its unit: `accuracy (%)`."""
        return self.title + (" (%)" if self.share else "")

    def gap(self, difference: float | None, signed: bool = True) -> str:
        """A difference of scores, better being positive, in points (hundredths) for shares."""
        if difference is None or isnan(difference):
            return "–"
        value, digits = (100 * difference, 1) if self.share else (difference, self.decimals)
        if value != 0 and abs(value) < 0.95 * 10.0**-digits:
            digits += 1  # a small difference is not shown as none
        text = f"{value:+.{digits}f}" if signed and round(value, digits) else f"{abs(value):.{digits}f}"
        return text.replace("-", "−")

    def _fixed(self, value: float) -> str:
        return f"{value:.{self.decimals}f}".replace("-", "−")

    def margin_text(self, margin: float | None) -> str:
        """A margin with its unit: `1 point`, `0.5 points`, `0.02`; where there is none, `no margin`."""
        if margin is None:
            return "no margin"
        return f"{100 * margin:g} point{'s' * (margin != 0.01)}" if self.share else number(margin)

    @property
    def direction(self) -> str:
        """`less is better`, where it is; else nothing."""
        return "less is better" if self.sign < 0 else ""

    @property
    def unit(self) -> str:
        """What differences are counted in."""
        return " points" if self.share else ""


def choose_metric(runs: Sequence[Run]) -> tuple[Metric, list[str]]:
    """The measure that most completed runs have on both val and test; and what that leaves out, in words.

    Of several, the one that all runs selected their epoch by, unless that is the loss; else the one of their task.
    """
    counts: Counter[str] = Counter()
    completed = [run for run in runs if run.completed]
    for run in completed:
        counts.update(key[4:] for key in run.metrics if key.startswith("val/") and f"test/{key[4:]}" in run.metrics)
    if not counts:
        for run in completed:
            counts.update(key[5:] for key in run.metrics if key.startswith("test/"))
    if not counts:
        return Metric(next((run.score for run in runs if run.score), "loss")), []
    monitors = {run.monitor.removeprefix("val/") for run in completed}
    monitored = [name for name in monitors if len(monitors) == 1 and name != "loss"]
    own = [name for name, _ in Counter(run.score for run in completed).most_common()]
    order = {name: i for i, name in enumerate(dict.fromkeys([*monitored, *own]))}
    name = min(counts, key=lambda key: (-counts[key], order.get(key, len(order)), key == "loss", key))
    metric = Metric.fitting(name, (run.metrics.get(f"{part}/{name}") for run in completed for part in ("val", "test")))
    notes: list[str] = []
    without = [run for run in completed if metric.test(run) is None]
    if without:
        others = Counter(", ".join(sorted(k[5:] for k in run.metrics if k.startswith("test/"))) for run in without)
        listing = "; ".join(f"{count} with {keys or 'no test measure'}" for keys, count in others.most_common(4))
        notes.append(
            f"The runs do not share one measure. Compared is test {metric.title}, which "
            f"{len(completed) - len(without)} of {len(completed)} completed runs have; left out: {listing}."
        )
    return metric, notes


BASELINES = ("majority_", "baseline_")
"""Beginnings of the names of what one constant answer, the best for training, would score."""


def is_baseline(key: str) -> bool:
    """Whether a metric of the test set tells of one constant answer."""
    return key.startswith(tuple(f"test/{beginning}" for beginning in BASELINES))


def baseline(beside: Mapping[str, float], metric: Metric) -> float | None:
    """What one constant answer would score by a measure, among those that stand beside it."""
    return next((value for key, value in beside.items() if key in [f"{b}{metric.name}" for b in BASELINES]), None)


def _signed(value: float | None, sign: int) -> float | None:
    return None if value is None else sign * value


def number(value: float | None, digits: int = 4) -> str:
    """A plain number to `digits` significant digits, with a true minus sign."""
    if value is None or not isfinite(value):
        return "–"
    text = f"{value:.{digits}g}"
    return (f"{value:.0f}" if "e+" in text and abs(value) < 1e15 else text).replace("-", "−")


def p_text(p: float | None) -> str:
    """A p-value: `0.25`, `0.0312`, `< 0.001`."""
    if p is None or isnan(p):
        return "–"
    if p < 0.001:
        return "< 0.001"
    return f"{min(p, 1.0):.3g}"


def p_equals(p: float) -> str:
    """A p-value in a sentence: `p = 0.25`, `p < 0.001`."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"


def seconds_text(seconds: float | None) -> str:
    """A duration in the unit that suits it: `8.1 s`, `3.4 min`, `2.1 h`."""
    if seconds is None or not isfinite(seconds):
        return "–"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def scaled(value: float | None, unit: str = "", binary: bool = False) -> str:
    """A large number with its prefix: `4.05 M`, `1.2 TFLOP`, `310 MiB`."""
    if value is None or not isfinite(value):
        return "–"
    step, prefixes = (1024, ("", "Ki", "Mi", "Gi", "Ti")) if binary else (1000, ("", "k", "M", "G", "T", "P", "E"))
    power = 0
    while abs(value) >= step and power < len(prefixes) - 1:
        value, power = value / step, power + 1
    digits = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{digits} {prefixes[power]}{unit}".strip()
