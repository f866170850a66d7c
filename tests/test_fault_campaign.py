"""Some cases of each fault of `scripts/fault_campaign.py`, which says what they are; docs/reliability.md has all."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fault_campaign.py"


SOME = {"kill", "twice", "full", "slow", "clock", "nolocks", "local", "two"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "faults"), [("--cases 3", SOME), ("--only every --share 1/80", {"every"})], ids=["some", "every"]
)
def test_a_comparison_ends_as_if_nothing_had_happened(tmp_path: Path, words: str, faults: set[str]):
    command = [sys.executable, str(SCRIPT), *words.split(), "--folder", str(tmp_path / "campaign")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    table = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if len(line.split()) == 4}
    assert {*table} >= faults
