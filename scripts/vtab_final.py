"""The second half of VTAB-1k: what was selected on 200 examples of each task is trained on all 1,000, and averaged.

python scripts/vtab_final.py outputs/vtab_1k [SETTING=VALUE ...]
"""

import json
import shlex
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from headstart.cli.main import main as headstart

DATA, STRATEGY = "data.dataset", "strategy"
OWN = ("experiment", "name", "seed", "data.splits", "hydra")
"""Of a run that was selected, what the second half says itself."""


def completed(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text(encoding="utf8")) for path in sorted(folder.glob("*/result.json"))]
    return [one for one in found if one["status"] == "completed"]


def words(run: dict[str, Any]) -> dict[str, str]:
    """The overrides that made a run, by what they set."""
    return dict(line.lstrip("+").partition("=")[::2] for line in run["overrides"])


def selected(folder: Path) -> list[dict[str, Any]]:
    """For each task and strategy the run that was best on val, the first of equals."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for run in completed(folder):
        said = words(run)
        key, sign = (said[DATA], said[STRATEGY]), 1 if run["selection"]["mode"] == "max" else -1
        if key not in best or sign * run["selection"]["value"] > sign * best[key]["selection"]["value"]:
            best[key] = run
    return [best[key] for key in sorted(best)]


def lines(folder: Path) -> list[str]:
    """A line of overrides for each run of the second half."""
    kept = [{key: value for key, value in words(run).items() if not key.startswith(OWN)} for run in selected(folder)]
    return [shlex.join(f"{key}={value}" for key, value in one.items()) for one in kept]


def scores(folder: Path) -> dict[str, dict[str, float]]:
    """Test accuracy by strategy and task, the mean over seeds."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in completed(folder):
        said = words(run)
        found[said[STRATEGY]][said[DATA]].append(run["metrics"]["test/accuracy"])
    return {name: {task: sum(n) / len(n) for task, n in tasks.items()} for name, tasks in found.items()}


def main(folder: Path, *more: str) -> int:
    """Train what was selected in `folder` on all 1,000 examples of each task, and print the means."""
    chosen = lines(folder)
    if not chosen:
        print(f"{folder} has no completed run of experiment=vtab_1k.", file=sys.stderr)
        return 2
    out = folder.with_name(f"{folder.name}_final")
    runs = "[" + ",".join(json.dumps(line) for line in chosen) + "]"
    place = [f"name={out.name}", f"hydra.sweep.dir={out}", f"hydra.sweeper.runs={runs}"]
    if status := headstart(["train", "-m", "experiment=vtab_1k_final", *place, *more]):
        return status
    for strategy, tasks in scores(out).items():
        print(f"{strategy}: mean over {len(tasks)} tasks {100 * sum(tasks.values()) / len(tasks):.1f}")
        for task, value in tasks.items():
            print(f"    {task}: {100 * value:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
