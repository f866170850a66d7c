"""What tells apart runs of one and the same contender: the seed, the fold, the seed of the split.

Such runs repeat a measurement; they are no contenders. They are paired by all of these together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headstart.report.reading import Run

KINDS = {
    "split.fold": "fold",
    "split.seed": "split",
    "split.val_fold": "validation fold",
}
"""Settings beside the seed that draw or choose examples, and what each of their values is."""
NO_SEED = -1
MEANINGS = {
    "seed": "Seeds stand for new splits, initialisation and order, not for other data or tasks.",
    "seed on one split": "The split is the same in all runs: seeds stand for other initialisation and order, not for "
    "other examples, other data or tasks.",
    "split": "Splits stand for other draws of the same examples, not for other data or tasks.",
    "fold": "Folds are tested on other examples, but trained on much the same ones: intervals and tests over them look "
    "surer than they are, and they do not stand for other data or tasks.",
    "run": "Runs of several folds or splits are trained on much the same examples: intervals and tests over them look "
    "surer than they are, and they do not stand for other data or tasks.",
}


@dataclass(slots=True)
class Replicates:
    """The replicate that each run is, by number: the seed, where only that varies."""

    numbers: list[int] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    unit: str = "seed"
    """What one is: a seed, a fold, a split; or a run, where several of these vary."""
    one_split: bool = False
    """Whether all runs on the same data have one and the same split, whatever their seeds."""

    @property
    def meaning(self) -> str:
        """What repeating a measurement so can show, and what it cannot."""
        if self.unit == "seed" and self.one_split:
            return MEANINGS["seed on one split"]
        return MEANINGS.get(self.unit, MEANINGS["run"])

    def name(self, number: int) -> str:
        """`seed 0`, `fold 2`, `seed 0, fold 2`."""
        words = self.names[number]
        return words if self.unit == "run" else f"{self.unit} {words}"

    def count(self, number: int) -> str:
        """`5 folds`."""
        return f"{number:,} {self.unit}{'s' * (number != 1)}"


def read_replicates(runs: Sequence[Run]) -> Replicates:
    """Number the replicates; a setting that follows from those before it (split_seed=${seed}) says nothing more."""
    columns: dict[str, list[object]] = {"seed": [NO_SEED if run.seed is None else run.seed for run in runs]}
    for key, kind in KINDS.items():
        column = [run.settings.get(key) for run in runs]
        if len(set(map(str, column))) > 1 and not _follows(column, list(columns.values())):
            columns[kind] = column
    if len(columns) == 1:
        seeds = [int(str(seed)) for seed in columns["seed"]]
        return Replicates(seeds, {seed: "–" if seed == NO_SEED else str(seed) for seed in seeds})
    if len(set(columns["seed"])) == 1:
        del columns["seed"]
    points = list(zip(*columns.values(), strict=True))
    order = sorted(set(points), key=lambda point: [_natural(value) for value in point])
    places = {point: place for place, point in enumerate(order)}
    unit = next(iter(columns)) if len(columns) == 1 else "run"
    names = {
        place: ", ".join(f"{kind} {value}" for kind, value in zip(columns, point, strict=True) if value is not None)
        if unit == "run"
        else ("–" if point[0] is None else str(point[0]))
        for place, point in enumerate(order)
    }
    return Replicates([places[point] for point in points], names, unit)


def _follows(column: Sequence[object], others: Sequence[Sequence[object]]) -> bool:
    """Whether a value is settled by those of `others`."""
    found: dict[tuple[object, ...], object] = {}
    return all(found.setdefault(tuple(other), value) == value for value, *other in zip(column, *others, strict=True))


def _natural(value: object) -> tuple[float, str]:
    """Numbers by size, before all else by name."""
    try:
        return float(str(value)), ""
    except ValueError:
        return float("inf"), str(value)
