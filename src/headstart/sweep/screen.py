"""What a comparison looks like in a terminal: the runs to come, the grid of a sweep, the table at the end."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from headstart.config.earlier import FIRST_MONITOR
from headstart.errors import InputError
from headstart.metrics import shown
from headstart.names import in_console, plural, safe_command
from headstart.progress import bar, duration
from headstart.record import result
from headstart.record.result import Failure, Result
from headstart.sweep.ledger import Ledger, ListedRun
from headstart.sweep.resources import told
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.lock import holder

MARKS = {"completed": "✔", "failed": "✘", "running": "▶", "interrupted": "‖", "missing": "·"}
COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "interrupted": "yellow", "missing": "dim"}
WORDS = {
    "completed": "done",
    "failed": "failed",
    "running": "running",
    "interrupted": "interrupted",
    "missing": "to do",
}
MOST_ROWS = 40
"""Rows of the grid; more than that are counted by strategy."""
LAST_BYTES = 4096
"""Of a history, enough for its last row."""


def show_dry_run(
    ledger: Ledger, planned: Iterable[ListedRun], retry_failed: bool = False, asked: Mapping[str, str] | None = None
) -> None:
    """Every run with its state, and what doing the rest may cost, as far as finished runs of its kind tell.

    `asked`: what each run asks its launcher for, over what all ask for; shown where any does.
    """
    kept = ("completed",) if retry_failed else ("completed", "failed")
    listed = list(planned)
    entries = [entry.to_dict() for entry in listed]
    sizes = {entry.run_id: entry.sizes for entry in listed}
    several = len({tuple(found.values()) for found in sizes.values()}) > 1
    runs, _ = _records(ledger, entries)
    states = {run_id: _state(ledger, run_id, done) for run_id, done in runs.items()}
    console, labels = _console(), _labels(entries)
    common = [word for word in entries[0]["overrides"] if all(word in entry["overrides"] for entry in entries)]
    if len(entries) > 1 and common:
        console.print(f"all with: {in_console(' '.join(common))}\n", highlight=False)
    if entries and not several:
        each = ", ".join(f"{count:,} {part}" for part, count in listed[0].sizes.items())
        console.print(f"examples: {each}\n", highlight=False)
    asked = asked if asked and any(asked.values()) else {}
    columns = ["run", "state", *["train", "val", "test"] * several, *["asks for"] * bool(asked), "overrides"]
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # a setting is never cut
    for entry in entries:
        state, run_id = states[entry["run_id"]], entry["run_id"]
        overrides = labels[run_id] if len(entries) > 1 else " ".join(entry["overrides"])
        counts = [f"{count:,}" for count in sizes[run_id].values()] * several
        counts += [in_console(told(asked[run_id]))] if asked else []
        table.add_row(run_id, f"[{COLOURS[state]}]{MARKS[state]} {WORDS[state]}[/]", *counts, in_console(overrides))
    console.print(table)
    done = sum(state == "completed" for state in states.values())
    left = [entry for entry in entries if states[entry["run_id"]] not in kept]
    failed = "" if retry_failed else _failed(states)
    console.print(f"{plural(len(entries), 'run')}, {done} done, {len(left)} to do{failed}{_cost(left, runs, entries)}.")


def show_status(directory: Path) -> int:
    """The grid of a comparison: every run that belongs to it and what became of it.

    Raises:
        InputError: if `directory` holds no comparison.
    """
    ledger = Ledger(directory)
    listed = ledger.directory.listing.name
    try:
        listing = ledger.read()
    except DamagedError as error:
        raise InputError(
            f"{directory} must hold a comparison, but its {listed} cannot be used: {error}. The command that made it "
            "lists its runs anew."
        ) from None
    entries = listing.get("runs", [])
    if not entries:
        raise InputError(f"{directory} must hold a comparison, but it has no {listed} that lists runs.")
    runs, damaged = _records(ledger, entries)
    states = {run_id: _state(ledger, run_id, done) for run_id, done in runs.items()}
    console = _console()
    _show_head(console, str(listing.get("name", directory.name)), states)
    console.print(_grid(entries, states))
    _show_running(console, ledger, entries, states)
    show_failures(entries, {run_id: done for run_id, done in runs.items() if states[run_id] == "failed" and done})
    _show_damaged(console, entries, damaged)
    left = [entry for entry in entries if states[entry["run_id"]] in ("missing", "interrupted")]
    if left or "failed" in states.values():
        retry = "" if left else " --retry-failed"
        again = left or [entry for entry in entries if states[entry["run_id"]] == "failed"]
        to_do = f"{len(left)} run{'s' * (len(left) > 1)} to do{_cost(left, runs, entries)}. To go on:"
        console.print(f"\n{to_do}" if left else "\nTo try again:")
        for command in ledger.commands(again):
            print(f"  {safe_command(command, 'headstart', 'train')}{retry}")  # by itself: it is copied
    return 0


def show_failures(entries: Sequence[Mapping[str, Any]], failed: Mapping[str, Result]) -> None:
    """What failed, why, and the command that repeats it, one run after the other."""
    if not failed:
        return
    console, labels = _console(), _labels(entries)
    console.print(f"\n[red]{len(failed)} failed[/]")
    for run_id, done in failed.items():
        error = done.error or Failure()
        console.print(f"[red]✘[/] {in_console(labels[run_id])}", highlight=False)
        kind, message = str(error.type), str(error.message).partition("\n")[0] or "no message"
        console.print(f"    {in_console(kind)}: {in_console(message)}", highlight=False, soft_wrap=True)
        print(f"    {safe_command(result.as_command(str(done.rerun)), 'headstart', 'rerun')}")


def _records(ledger: Ledger, entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Result | None], dict[str, str]]:
    """By run id, what is recorded of it, if anything, and why what is there cannot be used."""
    runs: dict[str, Result | None] = {}
    damaged: dict[str, str] = {}
    for entry in entries:
        run_id = entry["run_id"]
        try:
            runs[run_id] = result.checked(ledger.run(run_id), run_id)
        except DamagedError as error:
            runs[run_id], damaged[run_id] = None, str(error)
    return runs, damaged


def _show_damaged(console: Console, entries: Sequence[Mapping[str, Any]], damaged: Mapping[str, str]) -> None:
    if not damaged:
        return
    labels = _labels(entries)
    console.print(f"\n[red]{len(damaged)} damaged[/], which are done again, and what is there set aside")
    for run_id, why in list(damaged.items())[:MOST_ROWS]:
        console.print(f"[red]✘[/] {in_console(f'{labels[run_id]} ({run_id}): {why}')}", soft_wrap=True)


def _console() -> Console:
    return Console(highlight=False, emoji=False)


def _state(ledger: Ledger, run_id: str, done: Result | None) -> str:
    return ledger.state_without_result(run_id) if done is None else done.status


def _show_head(console: Console, name: str, states: Mapping[str, str]) -> None:
    counted = Counter(states.values())
    parts = [f"[{COLOURS[state]}]{counted[state]} {WORDS[state]}[/]" for state in MARKS if counted[state]]
    share = (counted["completed"] + counted["failed"]) / len(states)
    console.print(f"[bold]{in_console(name)}[/]  {bar(share, 20)}  {', '.join(parts)} of {len(states)}\n")


def _grid(entries: Sequence[Mapping[str, Any]], states: Mapping[str, str]) -> Table:
    """A row for each combination of settings, a column for each seed; counts where a cell has several runs."""
    labels = _labels(entries, without="seed")
    if len(set(labels.values())) > MOST_ROWS:
        labels = {entry["run_id"]: str(entry["choices"].get("strategy")) for entry in entries}
    seeds = sorted({entry["seed"] for entry in entries})
    by_seed = len(seeds) <= 12
    cells: dict[str, dict[Any, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        cells[labels[entry["run_id"]]][entry["seed"] if by_seed else "seeds"].append(states[entry["run_id"]])
    columns = seeds if by_seed else ["seeds"]
    fresh = set(seeds) - {entry["seed"] for entry in entries if not entry.get("fresh")}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for column in columns:
        title = f"seed {column}{' (fresh)' * (column in fresh)}" if by_seed else plural(len(seeds), "seed")
        table.add_column(title, justify="center", no_wrap=True)
    for label, row in cells.items():
        table.add_row(in_console(label), *(_cell(row.get(column, [])) for column in columns))
    return table


def _cell(states: Sequence[str]) -> str:
    counted = Counter(states)
    if len(states) == 1:
        return f"[{COLOURS[states[0]]}]{MARKS[states[0]]}[/]"
    return " ".join(f"[{COLOURS[state]}]{MARKS[state]}{counted[state]}[/]" for state in MARKS if counted[state])


def _show_running(
    console: Console, ledger: Ledger, entries: Sequence[Mapping[str, Any]], states: Mapping[str, str]
) -> None:
    labels = _labels(entries)
    running = [entry for entry in entries if states[entry["run_id"]] == "running"]
    if running:
        console.print()
    for entry in running[:MOST_ROWS]:
        directory, total = ledger.run(entry["run_id"]), entry["settings"].get("trainer.max_epochs")
        total = total if isinstance(total, int) else 0
        monitor = str(entry["settings"].get("trainer.monitor", FIRST_MONITOR))
        done, rest = _epochs(_last_row(directory.history), total, monitor)
        label = in_console(labels[entry["run_id"]])
        text = f"[cyan]▶[/] {label}  epoch {done} of {total} {bar(done / max(total, 1), 10)}{rest}"
        worker = holder(directory.lock)
        if worker:
            text += f"  [dim]{in_console(str(worker['host']).partition('/')[0])}:{worker['pid']}[/]"
        console.print(text, soft_wrap=True)
    if len(running) > MOST_ROWS:
        console.print(f"  and {len(running) - MOST_ROWS} more")


def _epochs(row: Mapping[str, str] | None, total: int, monitor: str) -> tuple[int, str]:
    """Epochs done by the last row of a history, with its score and what is left."""
    if row is None:
        return 0, ""
    try:
        done, left = int(row["epoch"]) + 1, duration(float(row["seconds"]) * (total - int(row["epoch"]) - 1))
        return done, f"  {in_console(shown(monitor, float(row.get(monitor, 'nan'))))}, {left} left"
    except (KeyError, ValueError, OverflowError):
        return 0, ""


def _last_row(path: Path) -> dict[str, str] | None:
    """The last row of a history, whatever its length; `None` if there is none."""
    try:
        with bounded.opened(path, bounded.MOST_BYTES) as file:
            header = file.readline(LAST_BYTES).decode().strip().split(",")
            start = file.tell()
            size = file.seek(0, 2)
            file.seek(max(start, size - LAST_BYTES))
            lines = file.read().decode().splitlines()
    except (OSError, ValueError):
        return None
    values = lines[-1].split(",") if lines else []
    return dict(zip(header, values, strict=True)) if len(values) == len(header) else None


def _labels(entries: Sequence[Mapping[str, Any]], without: str = "") -> dict[str, str]:
    """What tells a run from the others: its strategy's name and the overrides that are not common to all."""
    words = {entry["run_id"]: dict(word.partition("=")[::2] for word in entry["overrides"]) for entry in entries}
    values: dict[str, set[str | None]] = defaultdict(set)
    for keys in (set().union(*words.values()),):
        for own in words.values():
            for key in keys:
                values[key].add(own.get(key))
    varied = [key for key, found in values.items() if len(found) > 1 and key not in (without, "strategy")]
    varied.sort(key=lambda key: (key == "seed", key))
    return {
        entry["run_id"]: " ".join(
            [
                str(entry["choices"].get("strategy", "run")),
                *(f"{key}={words[entry['run_id']][key]}" for key in varied if key in words[entry["run_id"]]),
            ]
        )
        for entry in entries
    }


def _failed(states: Mapping[str, str]) -> str:
    count = sum(state == "failed" for state in states.values())
    return f", {count} failed (add --retry-failed to do them again)" if count else ""


def _cost(
    left: Sequence[Mapping[str, Any]],
    runs: Mapping[str, Result | None],
    entries: Sequence[Mapping[str, Any]],
) -> str:
    """About how long the rest takes one after the other, by the runs of the same strategies; none may be unknown."""
    seconds: dict[Any, list[float]] = defaultdict(list)
    for entry in entries:
        done = runs[entry["run_id"]]
        if done is not None and done.is_completed:
            seconds[entry["choices"].get("strategy")].append(done.cost.get("total_seconds") or 0.0)
    if not left or not {entry["choices"].get("strategy") for entry in left} <= seconds.keys():
        return ""
    means = {kind: sum(values) / len(values) for kind, values in seconds.items()}
    total = sum(means[entry["choices"].get("strategy")] for entry in left)
    return f", about {duration(total)} one after the other by those that are done"
