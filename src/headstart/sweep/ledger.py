"""What is known of a comparison from its directory alone: which runs belong to it and what became of each."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.record import result
from headstart.record.directory import RunDirectory, SweepDirectory
from headstart.record.result import DataRecord, Failure, Result
from headstart.record.writing import write_bytes, write_json
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.checksums import read_json
from headstart.system.lock import Lock, holder, is_held

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedRun:
    """One run of the comparison, as planned."""

    run_id: str
    overrides: tuple[str, ...]
    choices: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int
    data: Mapping[str, str]
    """What its data is called, and its contents' fingerprint."""
    sizes: Mapping[str, int]
    """How many examples train, select and test."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "overrides": list(self.overrides),
            "choices": dict(self.choices),
            "settings": dict(self.settings),
            "seed": self.seed,
            "data": dict(self.data),
        }


class Ledger:
    """The listing of a comparison and the run directories beside it. Several processes may work on it at once."""

    def __init__(self, path: Path) -> None:
        self.directory = SweepDirectory(path)

    def add(self, name: str, command: str, entries: Iterable[ListedRun], fresh: bool = False) -> None:
        """Add runs to the comparison; those that are there stay. Each keeps the last command that asked for it.

        `fresh` ones are of seeds that nothing is selected on, as long as nobody asks for them otherwise.
        """
        self.directory.path.mkdir(parents=True, exist_ok=True)
        listing = self.directory.listing
        with Lock(self.directory.lock):
            try:
                before = self.read()
            except DamagedError as error:
                before = {}
                names = listing.name, error, self.directory.damaged_listing.name
                listing.replace(self.directory.damaged_listing)
                log.warning("%s is begun anew, as %s; what was there is %s now.", *names)
            known = {entry["run_id"]: entry for entry in before.get("runs", [])}
            commands = list(before.get("commands", filter(None, [before.get("command")])))
            commands += [command] * (command not in commands)
            for entry in entries:
                listed = known.get(entry.run_id, entry.to_dict() | ({"fresh": True} if fresh else {}))
                known[entry.run_id] = {**listed, "command": commands.index(command)}
                if not fresh:
                    known[entry.run_id].pop("fresh", None)
            value = {
                "schema": 1, "name": name, "command": command, "commands": commands, "runs": list(known.values()),
            }  # fmt: skip
            if value != before:
                write_json(listing, value, durable=True, seal=True)

    def read(self) -> dict[str, Any]:
        """The contents of the listing; empty if there is none. Entries that do not say all of a run are left out.

        Raises:
            DamagedError: if it is no list of runs at all.
        """
        try:
            value = read_json(self.directory.listing, bounded.MOST_LISTED)
        except FileNotFoundError:
            return {}
        entries = value.get("runs")
        if not isinstance(entries, list):
            raise DamagedError("it has no list of runs")
        whole = [entry for entry in entries if _is_whole(entry)]
        if len(whole) < len(entries):
            found = len(entries) - len(whole), len(entries), self.directory.listing.name
            log.warning("%d of %d entries of %s do not say what to run, and are left out.", *found)
        if "commands" in value:
            value["commands"] = list(map(str, value["commands"])) if isinstance(value["commands"], list) else []
        known = range(len(value.get("commands", ())))
        runs = [{k: v for k, v in entry.items() if k != "command" or v in known} for entry in whole]
        return {**value, "runs": runs}

    def commands(self, entries: Iterable[Mapping[str, Any]]) -> list[str]:
        """The commands that between them do these runs of the listing."""
        listing = self.read()
        known = listing.get("commands", [])
        asked = [known[entry["command"]] if "command" in entry else listing.get("command", "") for entry in entries]
        return list(dict.fromkeys(map(str, asked)))

    def run(self, run_id: str) -> RunDirectory:
        return self.directory.run(run_id)

    def state(self, run_id: str) -> str:
        """`completed`, `failed`, `running`, `interrupted` (begun, its worker gone) or `missing`."""
        done = result.read(self.run(run_id), run_id)
        return self.state_without_result(run_id) if done is None else done.status

    def state_without_result(self, run_id: str) -> str:
        """`running`, `interrupted` or `missing`, for a run that is known to have no result."""
        directory = self.run(run_id)
        if is_held(directory.lock):
            return "running"
        return "interrupted" if directory.is_begun else "missing"

    def last_holder(self, run_id: str) -> str | None:
        """A token of the worker that is at the run or died over it; `None` if the last one left in good order."""
        return holder(self.run(run_id).lock).get("token")

    def write_config(self, run_id: str, text: str) -> None:
        """Put a run's config where its worker looks for it, unless one has begun."""
        with self.locked(run_id) as lock:
            if lock.held and result.read(self.run(run_id), run_id) is None:
                write_bytes(self.run(run_id).config, text.encode())

    def set_failed_aside(self, run_id: str) -> None:
        """Make room for another attempt at a failed run."""
        with self.locked(run_id) as lock:
            if lock.held and self.state(run_id) == "failed":
                self.run(run_id).set_aside()

    def tidy(self, entry: ListedRun) -> None:
        """Remove what the worker of a completed run left if it was killed at the very end."""
        self.run(entry.run_id).finish(bool(entry.settings.get("trainer.keep_checkpoint", True)))

    def give_up(self, entry: ListedRun, message: str) -> None:
        """Record a run as failed that could not do so itself."""
        directory = self.run(entry.run_id)
        with self.locked(entry.run_id) as lock:
            if lock.held and result.read(directory, entry.run_id) is None:
                failed = Result(
                    run_id=entry.run_id,
                    choices=entry.choices,
                    settings=entry.settings,
                    overrides=list(entry.overrides),
                    seed=entry.seed,
                    data=DataRecord(name=entry.data["name"], fingerprint=entry.data["fingerprint"]),
                    rerun=result.repeat_command(directory.path.absolute()),
                    status="failed",
                    error=Failure(type="WorkerDied", message=message),
                    metrics={},
                    cost={},
                    finished=result.now(),
                )
                result.write(directory, failed)

    def locked(self, run_id: str) -> Lock:
        """The right to work on a run: `held` only if no one else has it. To be used as a context manager."""
        directory = self.run(run_id)
        directory.path.mkdir(parents=True, exist_ok=True)
        return Lock(directory.lock, wait=False)


def _is_whole(entry: Any) -> bool:
    """Whether an entry is one that `ListedRun` wrote."""
    kinds = {"run_id": str, "overrides": list, "choices": dict, "settings": dict, "seed": int}
    if not isinstance(entry, dict) or any(type(entry.get(name)) is not kind for name, kind in kinds.items()):
        return False
    words = [*entry["overrides"], *(value for value in entry["choices"].values() if value is not None)]
    return result.RUN_ID.fullmatch(entry["run_id"]) is not None and all(type(word) is str for word in words)
