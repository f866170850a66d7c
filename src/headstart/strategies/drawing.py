"""Pictures of a plan: groups down, epochs across, the rate as shade. For a terminal, and as SVG for a paper."""

from html import escape

from headstart.strategies.plan import HEAD, Plan
from headstart.strategies.schedule import Schedule

STEPS_PER_EPOCH = 20
"""Steps of an imagined epoch, to sample the schedule within it."""
SHADES = " ░▒▓█"
CELL_WIDTH, CELL_HEIGHT, LABEL_WIDTH = 24, 16, 120


def rates(plan: Plan, schedule: Schedule) -> dict[str, list[float]]:
    """By group, its highest relative rate in each epoch: schedule × multiplier × warm-up; 0 where frozen.

    Phases that wait for a plateau are drawn one after the other in the epochs that remain, as soon as they may begin.
    """
    begun = _foreseen(plan)
    table: dict[str, list[float]] = {group: [] for group in plan.groups}
    for epoch in range(plan.max_epochs):
        index = max(i for i, start in enumerate(begun) if start <= epoch)
        steps = range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        factor = max(schedule.factor(step, plan.max_epochs * STEPS_PER_EPOCH) for step in steps)
        epochs_in = [epoch + 1 - start for start in begun]
        for group in plan.groups:
            highest = max(plan.phases[index].rates[group].values())
            table[group].append(highest * factor * plan.warmup(index, group, epochs_in))
    return table


def text(plan: Plan, schedule: Schedule) -> str:
    """The plan for a terminal: a row to a group from the head down to the stem, a column to an epoch."""
    table = rates(plan, schedule)
    top = max(max(row) for row in table.values())
    width = max(len(group) for group in plan.groups)
    per_epoch = 3 if plan.max_epochs <= 24 else 1
    ruler = "".join(
        f"{epoch:<{per_epoch}}" if epoch % (10 // per_epoch + 1) == 0 else " " * per_epoch
        for epoch in range(plan.max_epochs)
    )
    lines = [f"{'epoch':>{width}}  {ruler}"]
    for group in reversed(plan.groups):
        cells = "".join(_shade(rate / top) * per_epoch for rate in table[group])
        lines.append(f"{group:>{width}}  {cells}  {_summary(plan, group)}")
    return "\n".join(lines)


def svg(plan: Plan, schedule: Schedule) -> str:
    """The plan as a small SVG drawing, dark where the rate is high and white where a group is frozen."""
    table = rates(plan, schedule)
    top = max(max(row) for row in table.values())
    cell = min(CELL_WIDTH, max(4, 480 // plan.max_epochs))
    width, height = LABEL_WIDTH + cell * plan.max_epochs + 16, CELL_HEIGHT * len(plan.groups) + 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="Helvetica, Arial, sans-serif" font-size="10">',
        "<title>Thaw plan: learning rate of each depth group by epoch</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, group in enumerate(reversed(plan.groups)):
        y = 12 + place * CELL_HEIGHT
        parts.append(f'<text x="{LABEL_WIDTH - 8}" y="{y + 11}" text-anchor="end">{escape(group)}</text>')
        for epoch, rate in enumerate(table[group]):
            fill = _colour(rate / top) if rate > 0 else "white"
            parts.append(
                f'<rect x="{LABEL_WIDTH + epoch * cell}" y="{y}" width="{cell}" height="{CELL_HEIGHT}" fill="{fill}" '
                f'stroke="#dddddd" stroke-width="0.5"><title>{escape(group)}, epoch {epoch}: '
                f"{f'{rate:.3g} of the base rate' if rate > 0 else 'frozen'}</title></rect>"
            )
    base = 12 + CELL_HEIGHT * len(plan.groups)
    every = max(1, -(-plan.max_epochs // 12))
    for epoch in range(0, plan.max_epochs, every):
        parts.append(
            f'<text x="{LABEL_WIDTH + (epoch + 0.5) * cell}" y="{base + 13}" text-anchor="middle">{epoch}</text>'
        )
    parts.append(
        f'<text x="{LABEL_WIDTH + cell * plan.max_epochs / 2}" y="{base + 28}" text-anchor="middle">epoch</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def _foreseen(plan: Plan) -> list[int]:
    begun: list[int] = []
    for index, phase in enumerate(plan.phases):
        until = plan.phases[index - 1].until if index else None
        begun.append(phase.start if phase.start is not None else begun[-1] + (until.patience if until else 1) + 1)
    return begun


def _shade(share: float) -> str:
    return "·" if share <= 0 else SHADES[min(4, 1 + int(share * 3.999))]


def _colour(share: float) -> str:
    # from pale to dark blue, even in lightness, so that it survives grey printing
    light, dark = (222, 235, 247), (8, 69, 148)
    mixed = [round(a + (b - a) * min(1.0, share) ** 0.5) for a, b in zip(light, dark, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _summary(plan: Plan, group: str) -> str:
    first = next((i for i, phase in enumerate(plan.phases) if phase.trains(group)), None)
    if first is None:
        return "frozen"
    phase = plan.phases[first]
    start = "on a plateau" if phase.start is None else f"from epoch {phase.start}"
    kinds = [kind for kind, rate in phase.rates[group].items() if rate > 0]
    own = {"weight", "bias", "norm", "norm_bias"}
    what = "" if own <= set(kinds) or group == HEAD else f"  {', '.join(kinds)}"
    return f"{start}  × {max(phase.rates[group].values()):.3g}{what}"
