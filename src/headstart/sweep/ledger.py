"""What is known of a comparison from its directory alone: which runs belong to it and what became of each."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.record import result
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.lock import CLAIM, Claim, holder, is_held

FILE = "sweep.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One run of the comparison, as planned."""

    run_id: str
    overrides: tuple[str, ...]
    choices: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int
    data: Mapping[str, str]
    """What its data is called, and its contents' fingerprint."""

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
    """`sweep.json` and the run directories beside it. Several processes may work on it at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def enrol(self, name: str, command: str, entries: Iterable[Entry]) -> None:
        """Add runs to the comparison; those that are there stay. Each keeps the last command that asked for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with Claim(self.directory / ".sweep.claim"):
            try:
                before = self.read()
            except DamagedError as error:
                before = {}
                (self.directory / FILE).replace(self.directory / f"damaged-{FILE}")
                log.warning("%s is begun anew, as %s; what was there is damaged-%s now.", FILE, error, FILE)
            known = {entry["run_id"]: entry for entry in before.get("runs", [])}
            commands = list(before.get("commands", filter(None, [before.get("command")])))
            commands += [command] * (command not in commands)
            for entry in entries:
                known[entry.run_id] = {**known.get(entry.run_id, entry.to_dict()), "command": commands.index(command)}
            value = {
                "schema": 1, "name": name, "command": command, "commands": commands, "runs": list(known.values()),
            }  # fmt: skip
            if value != before:
                result.write_json(self.directory / FILE, value, durable=True)

    def read(self) -> dict[str, Any]:
        """The contents of `sweep.json`; empty if there is none. Entries that do not say all of a run are left out.

        Raises:
            DamagedError: if it is no list of runs at all.
        """
        try:
            value = bounded.json_object(self.directory / FILE, bounded.MOST_LISTED)
        except FileNotFoundError:
            return {}
        entries = value.get("runs")
        if not isinstance(entries, list):
            raise DamagedError("it has no list of runs")
        whole = [entry for entry in entries if _is_whole(entry)]
        if len(whole) < len(entries):
            left = len(entries) - len(whole)
            log.warning("%d of %d entries of %s do not say what to run, and are left out.", left, len(entries), FILE)
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

    def path(self, run_id: str) -> Path:
        return self.directory / run_id

    def state(self, run_id: str) -> str:
        """`completed`, `failed`, `running`, `interrupted` (begun, its worker gone) or `missing`."""
        done = result.read(self.path(run_id), run_id)
        return self.state_without_result(run_id) if done is None else str(done["status"])

    def state_without_result(self, run_id: str) -> str:
        """`running`, `interrupted` or `missing`, for a run that is known to have no result."""
        path = self.path(run_id)
        if is_held(path / CLAIM):
            return "running"
        begun = any((path / name).exists() for name in (CLAIM, "history.csv", "plan.json"))
        return "interrupted" if begun else "missing"

    def last_holder(self, run_id: str) -> str | None:
        """A token of the worker that is at the run or died over it; `None` if the last one left in good order."""
        return holder(self.path(run_id) / CLAIM).get("token")

    def write_config(self, run_id: str, text: str) -> None:
        """Put a run's config where its worker looks for it, unless one has begun."""
        with self.claim(run_id) as claim:
            if claim.held and result.read(self.path(run_id), run_id) is None:
                result.write_bytes(self.path(run_id) / "config.yaml", text.encode())

    def set_failed_aside(self, run_id: str) -> None:
        """Make room for another attempt at a failed run."""
        with self.claim(run_id) as claim:
            if claim.held and self.state(run_id) == "failed":
                result.set_aside(self.path(run_id))

    def tidy(self, entry: Entry) -> None:
        """Remove what the worker of a completed run left if it was killed at the very end."""
        path = self.path(entry.run_id)
        if any((path / name).exists() for name in (CLAIM, "checkpoints/last.ckpt", "checkpoints/folded.ckpt")):
            with self.claim(entry.run_id) as claim:
                if claim.held:
                    result.remove_drafts(path)
                    result.tidy(path, bool(entry.settings.get("trainer.keep_checkpoint", True)))

    def bury(self, entry: Entry, message: str) -> None:
        """Record a run as failed that could not do so itself."""
        path = self.path(entry.run_id)
        with self.claim(entry.run_id) as claim:
            if claim.held and result.read(path, entry.run_id) is None:
                value = {
                    "schema": result.SCHEMA,
                    **entry.to_dict(),
                    "status": "failed",
                    "error": {"type": "WorkerDied", "message": message, "traceback": ""},
                    "metrics": {},
                    "cost": {},
                    "rerun": result.repeat_command(path.absolute()),
                    "finished": result.now(),
                }
                result.write_json(path / result.FILE, value, durable=True)

    def claim(self, run_id: str) -> Claim:
        """The right to work on a run: `held` only if no one else has it. To be used as a context manager."""
        self.path(run_id).mkdir(parents=True, exist_ok=True)
        return Claim(self.path(run_id) / CLAIM, wait=False)


def _is_whole(entry: Any) -> bool:
    """Whether an entry is one that `Entry` wrote."""
    kinds = {"run_id": str, "overrides": list, "choices": dict, "settings": dict, "seed": int}
    if not isinstance(entry, dict) or any(type(entry.get(name)) is not kind for name, kind in kinds.items()):
        return False
    words = [*entry["overrides"], *(value for value in entry["choices"].values() if value is not None)]
    return result.RUN_ID.fullmatch(entry["run_id"]) is not None and all(type(word) is str for word in words)
