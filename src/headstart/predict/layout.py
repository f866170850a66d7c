"""How answers are laid out: the columns of a table, the keys of a line of JSON, what a screen shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.predict.answer import Answer

OF_CLASSES, OF_LABELS, OF_NUMBERS = "multiclass", "multilabel", "regression"


@dataclass(frozen=True)
class Layout:
    """Of the answers to one task. `between` stands between several labels of one cell."""

    task: str
    names: Sequence[str]
    top: int | None = None
    with_region: bool = False
    between: str = ","

    @property
    def columns(self) -> dict[str, type]:
        """Columns of a table by name, with what they hold."""
        if self.task == OF_NUMBERS:
            numbers: dict[str, type] = {}
            ends = self._ends if self.with_region else ()
            for name in self.names:
                numbers |= {self._number(name): float, **{end.format(self._number(name)): float for end in ends}}
            return {"input": str, **numbers, "error": str}
        score = str if self.task == OF_LABELS else float
        if self.top is None:
            more: dict[str, type] = {f"score_{name}": float for name in self.names}
        else:
            first = 1 if self.task == OF_LABELS else 2
            more = {}
            for place in range(first, min(self.top, len(self.names)) + 1):
                more |= {f"label_{place}": str, f"score_{place}": float}
        region: dict[str, type] = {"set": str} if self.with_region else {}
        return {"input": str, "label": str, "score": score, **region, **more, "error": str}

    def row(self, answer: Answer) -> list[Any]:
        """A row of that table; `None` where there is nothing."""
        if answer.error:
            return [answer.input, *[None] * (len(self.columns) - 2), answer.error]
        if self.task == OF_NUMBERS:
            numbers: list[Any] = []
            for name in self.names:
                numbers.append(_short(answer.all[name]))
                if self.with_region:
                    numbers += map(_short, answer.region[name])
            return [answer.input, *numbers, None]
        label: Any = answer.label
        score: Any = _short(answer.score or 0.0)
        if self.task == OF_LABELS:
            label = self.between.join(answer.labels)
            score = self.between.join(f"{value:.4f}" for value in answer.scores)
        more: list[Any] = []
        if self.top is None:
            more = [_short(answer.all[name]) for name in self.names]
        else:
            skipped = 0 if self.task == OF_LABELS else 1
            for name, value in list(answer.all.items())[skipped:]:
                more += [name, _short(value)]
        region = [self.between.join(answer.region)] if self.with_region else []
        return [answer.input, label, score, *region, *more, None]

    def record(self, answer: Answer) -> dict[str, Any]:
        """An answer as a line of JSON."""
        if answer.error:
            return {"input": answer.input, "error": answer.error}
        values = {name: _short(value) for name, value in answer.all.items()}
        if self.task == OF_NUMBERS:
            region = {name: list(map(_short, ends)) for name, ends in (answer.region or {}).items()}
            if len(self.names) == 1:
                only = {"value": next(iter(values.values()))}
                return {"input": answer.input, **only, **({"interval": next(iter(region.values()))} if region else {})}
            return {"input": answer.input, "values": values, **({"intervals": region} if region else {})}
        if self.task == OF_LABELS:
            head: dict[str, Any] = {"labels": list(answer.labels)}
        else:
            head = {"label": answer.label, "score": _short(answer.score or 0.0)}
        region_of = {"set": list(answer.region)} if self.with_region else {}
        return {"input": answer.input, **head, **region_of, "scores": values}

    def screen(self, answer: Answer) -> list[str]:
        """What a screen shows of it beside its name."""
        if answer.error:
            return [f"cannot be read: {answer.error}"]
        if self.task == OF_NUMBERS:
            return [_number(answer.all[name], (answer.region or {}).get(name)) for name in self.names]
        if self.task == OF_LABELS:
            pairs = zip(answer.labels, answer.scores, strict=True)
            return [", ".join(f"{label} {score:.1%}" for label, score in pairs) or "–"]
        best = sorted(answer.all.items(), key=lambda one: -one[1])[: self.top or 2]
        region = [f"{{{', '.join(answer.region)}}}"] if self.with_region else []
        return [str(answer.label), f"{answer.score:.1%}", *region, *(f"{name} {value:.1%}" for name, value in best[1:])]

    @property
    def heads(self) -> list[str]:
        """Headings of what a screen shows beside the name."""
        if self.task == OF_NUMBERS:
            return list(self.names)
        if self.task == OF_LABELS:
            return ["labels"]
        return ["label", "score", *(["set"] if self.with_region else []), "then"]

    @property
    def _ends(self) -> tuple[str, str]:
        """What the ends of an interval are called; otherwise where a number is called so itself."""
        usual = "{}_low", "{}_high"
        taken = {self._number(name) for name in self.names}
        is_free = not any(end.format(number) in taken for end in usual for number in taken)
        return usual if is_free else ("low of {}", "high of {}")

    def _number(self, name: str) -> str:
        return "value" if len(self.names) == 1 else f"value_{name}"


def _short(value: float) -> float:
    """As many digits as 32 bits hold."""
    return float(f"{value:.7g}")


def _number(value: float, ends: Sequence[float] | None) -> str:
    return f"{value:.4g}" if ends is None else f"{value:.4g} ({ends[0]:.4g} to {ends[1]:.4g})"


def by_label(counts: Mapping[str, int], most: int = 8) -> str:
    """`1,200 cat, 34 dog`."""
    first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    shown = ", ".join(f"{count:,} {name}" for name, count in first[:most])
    return shown + (f" and {len(first) - most} more" if len(first) > most else "")
