"""Made-up sweeps for the report's tests, by the script that makes them for benchmarks."""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_ledger.py"


@pytest.fixture(scope="session")
def make_sweep() -> Callable[..., Path]:
    """`make_sweep(directory, runs=…, strategies=…, …)` writes a sweep and gives its directory."""
    spec = importlib.util.spec_from_file_location("make_ledger", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

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


@pytest.fixture
def quick_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are painted but not written, where a test is not about them."""
    from headstart.report import style

    picture = '<svg role="img" aria-label="not drawn"></svg>'
    monkeypatch.setattr(style, "finish", lambda _, *words: style.Drawing(*words, picture, {"svg": b"", "pdf": b""}))
