"""What is known of a comparison from its directory alone: which runs belong to it and what became of each."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart import result
from headstart.claim import CLAIM, Claim, is_held

FILE = "sweep.json"


@dataclass(frozen=True)
class Entry:
    """One run of the comparison, as planned."""

    run_id: str
    overrides: tuple[str, ...]
    choices: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int


class Ledger:
    """`sweep.json` and the run directories beside it. Several processes may work on it at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def enrol(self, name: str, command: str, entries: Iterable[Entry]) -> None:
        """Add runs to the comparison; those that are there stay."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with Claim(self.directory / ".sweep.claim"):
            known = {entry["run_id"]: entry for entry in self.read().get("runs", [])}
            known |= {entry.run_id: {**vars(entry), "overrides": list(entry.overrides)} for entry in entries}
            value = {"schema": 1, "name": name, "command": command, "runs": list(known.values())}
            result.write_json(self.directory / FILE, value)

    def read(self) -> dict[str, Any]:
        """The contents of `sweep.json`; empty if there is none."""
        try:
            value = json.loads((self.directory / FILE).read_text(encoding="utf8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def path(self, run_id: str) -> Path:
        return self.directory / run_id

    def state(self, run_id: str) -> str:
        """`completed`, `failed`, `running`, `interrupted` (begun, its worker gone) or `missing`."""
        done = result.read(self.path(run_id))
        if done is not None:
            return str(done["status"])
        claim = self.path(run_id) / CLAIM
        if is_held(claim):
            return "running"
        return "interrupted" if claim.exists() or (self.path(run_id) / "history.csv").exists() else "missing"

    def set_failed_aside(self, run_id: str) -> None:
        """Make room for another attempt at a failed run."""
        if self.state(run_id) == "failed":
            result.set_failed_aside(self.path(run_id))

    def bury(self, run_id: str, message: str, job: Any) -> None:
        """Record a run as failed that could not do so itself."""
        with self.claim(run_id) as claim:
            if claim.held:
                result.write_json(
                    self.path(run_id) / result.FILE,
                    {
                        "schema": result.SCHEMA,
                        "run_id": run_id,
                        "choices": dict(job.cfg.choices),
                        "settings": dict(job.identity["settings"]),
                        "overrides": list(job.cfg.overrides),
                        "seed": job.seed,
                        "status": "failed",
                        "error": {"type": "WorkerDied", "message": message, "traceback": ""},
                        "metrics": {},
                        "cost": {},
                        "rerun": f"headstart rerun {self.path(run_id)}",
                        "finished": result.now(),
                    },
                )

    def claim(self, run_id: str) -> Claim:
        """The right to work on a run: `held` only if no one else has it. To be used as a context manager."""
        self.path(run_id).mkdir(parents=True, exist_ok=True)
        return Claim(self.path(run_id) / CLAIM, wait=False)
