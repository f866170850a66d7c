"""Pictures of a plan: groups down, epochs across, the rate as shade. For a terminal, and as SVG for a paper."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log10

from headstart.names import in_markup
from headstart.strategies.plan import HEAD, Plan
from headstart.strategies.rate import foreseen
from headstart.strategies.schedule import Schedule

STEPS_PER_EPOCH = 20
"""Steps of an imagined epoch, to sample the schedule within it."""
SHADES = ((0.5, "█"), (0.1, "▓"), (0.02, "▒"), (0.0, "░"))
"""Least share of the highest rate at which a cell of the terminal's picture takes each shade."""
FROZEN = "·"
FAINTEST = 1e-3
"""Share of the highest rate from which down the SVG's cells are equally pale."""
PALE, DARK = (222, 235, 247), (8, 48, 107)
"""Ends of the SVG's scale; even in lightness between, so that it survives grey printing."""
Rates = Mapping[str, Sequence[float]]


def rates(plan: Plan, schedule: Schedule) -> dict[str, list[float]]:
    """By group, its highest relative rate in each epoch; 0 where frozen.

    Phases that wait for a plateau are drawn as soon as they may begin.
    """
    table: dict[str, list[float]] = {group: [] for group in plan.groups}
    total = plan.max_epochs * STEPS_PER_EPOCH
    for epoch in range(plan.max_epochs):
        rates = foreseen(plan, schedule.factor, epoch, STEPS_PER_EPOCH, total)
        steps = range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        multipliers = plan.phases[rates.phase].rates
        for group in plan.groups:
            row = group, max(multipliers[group], key=multipliers[group].__getitem__)
            is_frozen = not multipliers[group][row[1]]  # most groups of most plans are
            table[group].append(0.0 if is_frozen else max(rates.at(step, row) for step in steps))
    return table


def text(plan: Plan, schedule: Schedule, width: int = 80, base_rate: float = 1.0) -> str:
    """The plan for a terminal of `width` columns: a row to a group, from the head down to the stem.

    At the right the highest rate that the group comes to, `base_rate` times its relative one, and since when it trains.
    """
    table = rates(plan, schedule)
    top = max(max(row) for row in table.values())
    notes = {group: _note(plan, group, base_rate * max(table[group])) for group in plan.groups}
    label = max(len("phase"), *map(len, plan.groups))
    room = max(10, width - label - max(map(len, notes.values())) - 4)
    per_column = -(-plan.max_epochs // room)  # epochs that share a column where there are more than fit
    per_epoch = max(1, min(8, room // plan.max_epochs))
    columns = range(0, plan.max_epochs, per_column)
    lines = [
        f"{'phase':>{label}}  {_ruler(columns, per_epoch, {s: str(i) for i, s in enumerate(plan.earliest)})}",
        f"{'epoch':>{label}}  {_ruler(columns, per_epoch, {e: str(e) for e in _ticks(columns, per_epoch)})}",
    ]
    for group in reversed(plan.groups):
        cells = "".join(_shade(max(table[group][c : c + per_column]) / top) * per_epoch for c in columns)
        lines.append(f"{group:>{label}}  {cells}  {notes[group]}".rstrip())
    limits = [f"{shade} from {_number(base_rate * top * least)}" for least, shade in SHADES[:-1]]
    legend = f"learning rate  {'  '.join(limits)}  {SHADES[-1][1]} below  {FROZEN} frozen"
    indent = " " * max(0, min(label + 2, width - len(legend)))
    return "\n".join([*lines, "", indent + legend])


def svg(plan: Plan, schedule: Schedule, base_rate: float = 1.0) -> str:
    """The plan as a drawing: dark where the rate is high, hatched where a group is frozen, phases marked above."""
    return _Sheet(plan, rates(plan, schedule), base_rate).drawn()


class _Sheet:
    """Measures and parts of the SVG, in its units (points, were it printed unscaled)."""

    font, top, bottom = 9.0, 34.0, 66.0

    def __init__(self, plan: Plan, table: Rates, base_rate: float) -> None:
        self.plan, self.table, self.base_rate = plan, table, base_rate
        self.highest = max(max(row) for row in table.values())
        self.row = 15.0 if len(plan.groups) <= 24 else max(6.0, 360 / len(plan.groups))
        self.left = 22 + 5.2 * max(map(len, plan.groups))
        self.column = min(28.0, max(1.5, 360 / plan.max_epochs))
        self.across, self.down = self.column * plan.max_epochs, self.row * len(plan.groups)
        self.right = self.left + self.across
        self.width, self.height = max(self.right + 62, self.left + 290), self.top + self.down + self.bottom

    def drawn(self) -> str:
        size = f'viewBox="0 0 {self.width:.0f} {self.height:.0f}" width="{self.width:.0f}" height="{self.height:.0f}"'
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="Helvetica, Arial, sans-serif" '
            f'font-size="{self.font:g}" fill="#222222">',
            "<title>Thaw plan: learning rate of each depth group by epoch</title>",
            '<defs><pattern id="frozen" width="4" height="4" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect width="4" height="4" fill="white"/>'
            '<line x1="0" y1="0" x2="0" y2="4" stroke="#c8c8c8" stroke-width="0.9"/></pattern></defs>',
            '<rect width="100%" height="100%" fill="white"/>',
        ]
        return "\n".join([*head, *self._rows(), *self._phases(), *self._epochs(), *self._legend(), "</svg>", ""])

    def _rows(self) -> list[str]:
        parts = [self._text(self.right + 6, self.top - 8, "highest rate")]
        for place, group in enumerate(reversed(self.plan.groups)):
            y, middle = self.top + place * self.row, self.top + (place + 0.5) * self.row + 0.34 * self._small
            peak = max(self.table[group])
            parts.append(self._text(self.left - 6, middle, group, "end", self._small))
            parts.append(self._text(self.right + 6, middle, _number(self.base_rate * peak), "start", self._small))
            for first, end, rate in _runs(self.table[group]):
                span = f"epoch {first}" if end == first + 1 else f"epochs {first} to {end - 1}"
                said = f"rate {_number(self.base_rate * rate)}" if rate > 0 else "frozen"
                parts.append(
                    f'<rect x="{self.left + first * self.column:.2f}" y="{y:.2f}" '
                    f'width="{(end - first) * self.column:.2f}" height="{self.row:.2f}" fill="{self._fill(rate)}">'
                    f"<title>{in_markup(group)}, {span}: {said}</title></rect>"
                )
        lines = [self.top + place * self.row for place in range(1, len(self.plan.groups))]
        parts += [self._line(self.left, y, self.right, y, "white", 0.6) for y in lines]
        frame = f'x="{self.left:.2f}" y="{self.top:.2f}" width="{self.across:.2f}" height="{self.down:.2f}"'
        return [*parts, f'<rect {frame} fill="none" stroke="#222222" stroke-width="0.7"/>']

    def _phases(self) -> list[str]:
        begun = self.plan.earliest
        parts, free = [self._text(self.left - 6, self.top - 8, "phase", "end")], 0.0
        for index, (start, phase) in enumerate(zip(begun, self.plan.phases, strict=True)):
            x = self.left + start * self.column
            if index:
                dashes = ' stroke-dasharray="2.5 1.8"' if phase.start is None else ""
                parts.append(self._line(x, self.top - 5, x, self.top + self.down, "#d95f02", 0.8, dashes))
            if x >= free:
                parts.append(self._text(x + (2 if index else 0), self.top - 8, str(index), fill="#d95f02"))
                free = x + 14
        if any(phase.start is None for phase in self.plan.phases):
            note = "dashed: on a plateau, drawn as early as it may come"
            parts.append(self._text(self.left, self.top - 21, note, size=7.5))
        return parts

    def _epochs(self) -> list[str]:
        y = self.top + self.down
        every = _step(self.plan.max_epochs, int(max(2, self.across // 24)))
        parts = [
            self._text(self.left + (epoch + 0.5) * self.column, y + 11, str(epoch), "middle")
            for epoch in range(0, self.plan.max_epochs, every)
        ]
        return [*parts, self._text(self.left + self.across / 2, y + 23, "epoch", "middle")]

    def _legend(self) -> list[str]:
        y, bar, pieces = self.top + self.down + 34, 120.0, 40
        parts = [f'<rect x="{self.left:.2f}" y="{y}" width="14" height="9" fill="url(#frozen)" stroke="#888888" '
                 'stroke-width="0.5"/>', self._text(self.left + 19, y + 7.8, "frozen")]  # fmt: skip
        x = self.left + 66
        for piece in range(pieces):
            share = FAINTEST ** (1 - (piece + 0.5) / pieces)
            width = bar / pieces + 0.3  # overlapping, so that no seams show
            parts.append(f'<rect x="{x + piece * bar / pieces:.2f}" y="{y}" width="{width:.2f}" height="9" '
                         f'fill="{_colour(share)}"/>')  # fmt: skip
        for power in range(-3, 1):
            at = x + bar * (power + 3) / 3
            parts.append(self._line(at, y + 9, at, y + 12, "#222222", 0.6))
            value = _number(self.base_rate * self.highest * 10.0**power)
            parts.append(self._text(at, y + 20, value, "middle", 7.5))
        return [*parts, self._text(x + bar + 16, y + 7.8, "learning rate")]

    @property
    def _small(self) -> float:
        return min(self.font, self.row * 0.85)

    def _fill(self, rate: float) -> str:
        return _colour(rate / self.highest) if rate > 0 else "url(#frozen)"

    def _text(self, x: float, y: float, words: str, anchor: str = "start", size: float = 0, fill: str = "") -> str:
        style = (f' font-size="{size:g}"' if size else "") + (f' fill="{fill}"' if fill else "")
        return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}"{style}>{in_markup(words)}</text>'

    def _line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, width: float, more: str = "") -> str:
        ends = f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"'
        return f'<line {ends} stroke="{stroke}" stroke-width="{width:g}"{more}/>'


def _runs(row: Sequence[float]) -> list[tuple[int, int, float]]:
    """Neighbouring epochs of one rate as `(first, past the last, rate)`."""
    edges = [0, *(i for i in range(1, len(row)) if row[i] != row[i - 1]), len(row)]
    return [(first, end, row[first]) for first, end in pairwise(edges)]


def _colour(share: float) -> str:
    strength = 1 - min(1.0, log10(max(share, FAINTEST)) / log10(FAINTEST))
    return "#{:02x}{:02x}{:02x}".format(*(round(a + (b - a) * strength) for a, b in zip(PALE, DARK, strict=True)))


def _shade(share: float) -> str:
    return FROZEN if share <= 0 else next(shade for least, shade in SHADES if share >= least)


def _ruler(columns: range, per_epoch: int, marks: Mapping[int, str]) -> str:
    """Marks over the columns they begin in; one that has no room is left out."""
    line = ""
    for mark, word in marks.items():
        place = (mark // columns.step) * per_epoch
        if place >= len(line) + (1 if line else 0):
            line = line.ljust(place) + word
    return line


def _ticks(columns: range, per_epoch: int) -> range:
    widest = len(str(columns.stop)) + 2
    return range(0, columns.stop, _step(columns.stop, max(1, len(columns) * per_epoch // widest)))


def _step(count: int, most: int) -> int:
    """The least of 1, 2, 5, 10, 20, … at which at most `most` of `count` are named."""
    return next(s for s in (d * 10**p for p in range(9) for d in (1, 2, 5)) if -(-count // s) <= most)


def _note(plan: Plan, group: str, peak: float) -> str:
    first = next((i for i, phase in enumerate(plan.phases) if phase.trains(group)), None)
    if first is None:
        return "frozen"
    phase = plan.phases[first]
    kinds = [kind for kind, rate in phase.rates[group].items() if rate > 0]
    in_part = not {"weight", "bias", "norm", "norm_bias"} <= set(kinds) and group != HEAD
    return _number(peak) + (f"  {', '.join(kinds)}" if in_part else "")


def _number(value: float) -> str:
    if value == 0:
        return "–"
    return f"{value:.2g}" if 0.01 <= value < 100 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
