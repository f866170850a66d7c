"""`headstart predict`: answers of a finished run for new examples, on the screen or in a file."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.cli.options import given
from headstart.errors import InputError
from headstart.names import plain

if TYPE_CHECKING:
    from headstart.predict.answer import Answer
    from headstart.predict.layout import Layout

VALUED = ("--out", "--top", "--interval", "--root", "--device", "--batch-size")
FLAGS = ("--force", "--ensemble", "--calibrated")
EXAMPLE = "headstart predict outputs/demo photos/ --out answers.csv"
MOST_ON_SCREEN = 40


def predict(words: Sequence[str]) -> int:
    """Predict; 1 if something could not be read, else 0."""
    typed = given(words, VALUED, FLAGS, EXAMPLE)
    places, values, flags = typed.names, typed.values, typed.flags
    if len(places) < 2:
        raise InputError(f"Name a run's directory and what to predict on, as in: {EXAMPLE}")
    out, root = (Path(values[name]).expanduser() if name in values else None for name in ("--out", "--root"))
    top, batch_size = _number(values, "--top"), _number(values, "--batch-size")
    interval = _share(values)
    device = values.get("--device", "auto")
    if out is not None:
        from headstart.predict.writing import check_output

        check_output(out, "--force" in flags)

    import torch

    from headstart.predict.model import load
    from headstart.training.device import default_threads

    torch.set_num_threads(default_threads())
    model = load(places[0], ensemble="--ensemble" in flags)
    if model.chosen:
        sys.stderr.write(f"{plain(model.chosen)}\n")
    model.check(top, "--calibrated" in flags, interval)
    reader = model.reader()
    inputs = model.gather(places[1:], reader, root)
    if out is not None and any(_same(out, word) for word in places[1:]):
        raise InputError(f"--out={out} is what is to be predicted on: name another file.")
    found = model.answers(inputs, reader, top, "--calibrated" in flags, interval, batch_size, device)
    counts: Counter[str] = Counter()
    try:
        _carry_out(_counted(found, counts, inputs.total), model.layout(top, interval), out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Stopped." + (f" Nothing was written to {out}." if out else "")) from None
    reader.say()
    unread = counts.pop("", 0)
    _summarise(counts, unread, model.layout(top, interval), out)
    return 1 if unread else 0


def _carry_out(found: Iterable["Answer"], layout: "Layout", out: Path | None) -> None:
    """Show the first answers, and write all where there is a file for them."""
    from headstart.predict.writing import written

    shown: list[Answer] = []
    unread: list[Answer] = []
    number = -1
    with nullcontext() if out is None else written(out, layout) as write:
        for number, answer in enumerate(found):
            if write is not None:
                write(answer)
            if number < MOST_ON_SCREEN:
                shown.append(answer)
            elif answer.error and len(unread) < MOST_ON_SCREEN:
                unread.append(answer)
    if out is None:
        _show(shown, layout)
        if number >= MOST_ON_SCREEN:
            print(f"… and {number + 1 - MOST_ON_SCREEN:,} more: --out FILE (csv, jsonl, parquet) keeps all of them.")
        for answer in unread:
            print(plain(f"{answer.input}  {layout.screen(answer)[0]}"))


def _show(answers: Sequence["Answer"], layout: "Layout") -> None:
    rows = [[plain(cell) for cell in (_tail(answer.input), *layout.screen(answer))] for answer in answers]
    heads = ["input", *layout.heads]
    rows = [heads, *rows]
    most = max(map(len, rows))
    widths = [max((len(row[place]) for row in rows if place < len(row) - 1), default=0) for place in range(most)]
    for row in rows:
        cells = [f"{cell:<{widths[place]}}" if place < len(row) - 1 else cell for place, cell in enumerate(row)]
        print("  ".join(cells).rstrip())


def _tail(name: str, most: int = 60) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _counted(found: Iterator["Answer"], counts: Counter[str], total: int | None) -> Iterator["Answer"]:
    """Answers as they come, counted by label (those without an answer under no name), with progress on a terminal."""
    from headstart.data.parallel import shown_progress

    with shown_progress("Predicting", total) as advance:
        for answer in found:
            counts["" if answer.error else answer.label or "–"] += 1
            yield answer
            advance(1)


def _summarise(counts: Counter[str], unread: int, layout: "Layout", out: Path | None) -> None:
    from headstart.predict.layout import OF_NUMBERS, by_label

    total = sum(counts.values()) + unread
    what = "" if layout.task == OF_NUMBERS or not counts else f": {by_label(counts)}"
    failed = f" {unread:,} cannot be read; the output says why." if unread else ""
    where = f" They are in {out}." if out else ""
    sys.stderr.write(plain(f"{total:,} input{'s' * (total != 1)}{what}.{failed}{where}") + "\n")


def _number(values: dict[str, str], name: str) -> int | None:
    if name not in values:
        return None
    if not values[name].isdecimal() or not 0 < int(values[name]) <= 1_000_000:
        raise InputError(f"{name} must be a whole number above 0, but is {values[name]!r}.")
    return int(values[name])


def _share(values: dict[str, str]) -> float | None:
    if "--interval" not in values:
        return None
    try:
        return float(values["--interval"])
    except ValueError:
        raise InputError(f"--interval must be a share such as 0.9, but is {values['--interval']!r}.") from None


def _same(out: Path, word: str) -> bool:
    place = Path(word).expanduser()
    return out.exists() and place.exists() and out.samefile(place)
