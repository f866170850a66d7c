"""Made-up sweeps for the report's tests, by the script that makes them for benchmarks."""

import argparse
import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from headstart.report import style


@pytest.fixture(autouse=True)
def _figures_without_pdf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fonts are put into a figure's PDF in a third of the time of a report; few tests look at PDFs."""
    if request.path.stem not in ("test_build", "test_font"):
        real = style._save
        monkeypatch.setattr(
            style, "_save", lambda figure, kind, *more: b"%PDF" if kind == "pdf" else real(figure, kind, *more)
        )


@pytest.fixture(scope="session")
def make_sweep() -> Callable[..., Path]:
    """`make_sweep(directory, runs=…, strategies=…, …)` writes a sweep and gives its directory."""
    module = importlib.import_module("make_ledger")

    def make(directory: Path, **options) -> Path:
        defaults = {
            "runs": 12,
            "strategies": 3,
            "seeds": 4,
            "sizes": [20],
            "datasets": 1,
            "failed": 0.0,
            "missing": 0.0,
        }
        module.write(argparse.Namespace(directory=directory, **{**defaults, **options}))
        return directory

    return make


def write_scores(root: Path, runs: Iterable[Mapping[str, Any]], command: str = "headstart train -m …") -> Path:
    """A sweep of which only strategies, seeds and scores matter; a run without `test` diverged.

    Keys of a run: `strategy`, `seed`, `test`, `val`, `data`, `n` (examples a class), `split`, `lr`, `secs`, `cost`,
    `sizes`, `settings`, `choices`, `metrics`, `result` (other keys of result.json).
    """
    root.mkdir(parents=True, exist_ok=True)
    entries = []
    for run in runs:
        strategy, seed, data, n = run["strategy"], run["seed"], run.get("data", "d0"), run.get("n")
        choices = {"backbone": "b0", "strategy": strategy, "data": data, **run.get("choices", {})}
        settings = {"optimizer.lr": run.get("lr", 0.001), "data.n_per_class": n, "seed": seed, "trainer.max_epochs": 8}
        settings |= run.get("settings", {})
        run_id = hashlib.sha256(json.dumps([choices, settings]).encode()).hexdigest()[:12]
        entry = {"run_id": run_id, "overrides": [f"strategy={strategy}", f"data={data}", f"seed={seed}"],
                 "choices": choices, "settings": settings, "seed": seed}  # fmt: skip
        entries.append(entry | ({"fresh": True} if run.get("fresh") else {}))
        done = "test" in run
        error = {"type": "DivergedError", "message": "Loss is nan at epoch 3", "traceback": ""}
        metrics = {"val/accuracy": run.get("val", run.get("test")), "test/accuracy": run.get("test")}
        result = {
            "schema": 1, **entry, "status": "completed" if done else "failed", "error": None if done else error,
            "metrics": {**metrics, **run.get("metrics", {})} if done else {},
            "cost": {"total_seconds": run.get("secs", 30), "train_seconds": run.get("secs", 30), "feature_seconds": 0,
                     **run.get("cost", {})},
            "data": {"name": data, "fingerprint": hashlib.sha256(data.encode()).hexdigest(),
                     "split_sha256": run.get("split", f"{data}{n}{seed}"),
                     "sizes": run.get("sizes", {"train": 800, "val": 200, "test": 343}), "classes": list("abcdefgh")},
        }  # fmt: skip
        (root / run_id).mkdir(exist_ok=True)
        (root / run_id / "result.json").write_text(json.dumps({**result, **run.get("result", {})}))
    listing = {"schema": 1, "name": root.name, "command": command, "runs": entries}
    (root / "sweep.json").write_text(json.dumps(listing))
    return root


@pytest.fixture(scope="session")
def write_sweep() -> Callable[..., Path]:
    """`write_scores`, for tests whose truth is in the scores."""
    return write_scores


@pytest.fixture
def quick_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are painted but not written, where a test is not about them."""
    from headstart.report import style

    picture = '<svg role="img" aria-label="not drawn"></svg>'
    monkeypatch.setattr(style, "finish", lambda _, *words: style.Drawing(*words, picture, {"svg": b"", "pdf": b""}))
