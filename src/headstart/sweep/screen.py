"""What a comparison looks like in a terminal: the runs to come, the grid of a sweep, the table at the end."""

from collections.abc import Iterable
from pathlib import Path

from headstart import result
from headstart.errors import InputError
from headstart.progress import duration
from headstart.sweep.ledger import FILE, Entry, Ledger

MARKS = {"completed": "✔", "failed": "✘", "running": "▶", "interrupted": "‖", "missing": "·"}
COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "interrupted": "yellow", "missing": "dim"}


def show_dry_run(ledger: Ledger, jobs: Iterable[Entry]) -> None:
    """Every run with its state, and what doing the rest may cost, as far as finished runs of its kind tell."""
    from rich.console import Console
    from rich.table import Table

    jobs = list(jobs)
    table = Table("run", "state", "overrides", box=None, pad_edge=False)
    seconds: dict[str, list[float]] = {}
    for job in jobs:
        done = result.read(ledger.path(job.run_id))
        if done is not None and done["status"] == "completed":
            seconds.setdefault(_kind(job), []).append(done["cost"]["total_seconds"])
    left = [job for job in jobs if ledger.state(job.run_id) != "completed"]
    for job in jobs:
        state = ledger.state(job.run_id)
        table.add_row(job.run_id, f"[{COLOURS[state]}]{MARKS[state]} {state}[/]", " ".join(job.overrides))
    console = Console()
    console.print(table)
    known = [sum(seconds[_kind(job)]) / len(seconds[_kind(job)]) for job in left if _kind(job) in seconds]
    guess = f", about {duration(sum(known) / len(known) * len(left))} by those that are done" if known else ""
    console.print(f"{len(jobs)} runs, {len(jobs) - len(left)} done, {len(left)} to do{guess if left else ''}.")


def _kind(job: Entry) -> str:
    return str(job.choices.get("strategy"))


def show_status(directory: Path) -> None:
    """The grid of a comparison: every run that belongs to it and what became of it."""
    from rich.console import Console
    from rich.table import Table

    ledger = Ledger(directory)
    entries = ledger.read().get("runs", [])
    if not entries:
        raise InputError(f"{directory} must hold a comparison, but it has no {FILE} that lists runs.")
    table = Table("run", "state", "overrides", box=None, pad_edge=False)
    states = {entry["run_id"]: ledger.state(entry["run_id"]) for entry in entries}
    for entry in entries:
        state = states[entry["run_id"]]
        table.add_row(entry["run_id"], f"[{COLOURS[state]}]{MARKS[state]} {state}[/]", " ".join(entry["overrides"]))
    console = Console()
    console.print(table)
    counted = {state: list(states.values()).count(state) for state in MARKS}
    console.print(", ".join(f"{count} {state}" for state, count in counted.items() if count))
