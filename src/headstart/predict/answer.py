"""What is said of one example, as people and programs read it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstart.predict.stream import Said
from headstart.tasks.task import Task
from headstart.training.calibration import Conformal


@dataclass(frozen=True)
class Answer:
    """What a model answers of one example.

    Attributes:
        input: What the example is called: its path, its row in a table, or the text itself.
        labels: The class; of several labels, all above the threshold, the surest first; the names of the numbers.
        scores: Probabilities of these, from 0 to 1; or the numbers, in the units of the data.
        all: The same of every class or number, by name; with `top` of the likeliest classes alone.
        error: Why there is no answer: the example could not be read. Empty where there is one.
        region: What holds the truth as often as was asked for: classes, or lowest and highest of each number by name.
    """

    input: str
    labels: Sequence[str] = ()
    scores: Sequence[float] = ()
    all: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    region: Any = None

    @property
    def label(self) -> str | None:
        """The class, or the surest label; `None` where there is none."""
        return self.labels[0] if self.labels else None

    @property
    def score(self) -> float | None:
        """The probability of `label`, or the (first) number."""
        return self.scores[0] if self.scores else None


def answers(
    found: Iterable[Said],
    task: Task,
    names: Sequence[str],
    top: int | None = None,
    conformal: Conformal | None = None,
) -> Iterator[Answer]:
    """Answers in words; `names` are those of the outputs."""
    for said in found:
        if said.values is None:
            yield Answer(said.name, error=said.problem)
            continue
        if not np.isfinite(said.values).all():
            yield Answer(said.name, error="what the model gives for it are no numbers (NaN or infinite)")
            continue
        chosen, values = task.chosen(said.values), said.values.tolist()
        shown = range(len(names)) if top is None else np.argsort(-said.values, kind="stable")[:top].tolist()
        yield Answer(
            said.name,
            [names[place] for place in chosen],
            [values[place] for place in chosen],
            {names[place]: values[place] for place in shown},
            region=None if conformal is None else conformal.region(said.values, names),
        )
