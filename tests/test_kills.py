"""Thirty kills -9 at random moments of whole searches: the short form of the soak that the benchmarks hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_thirty_random_kills_lose_repeat_and_leave_nothing(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "benchmarks.soak", "--kills", "30", "--seed", "7", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = json.loads(out.read_text())
    assert counted["kills"] == 30
    assert counted["kills_while_training"] > 5
    assert set(counted["kills_by_target"]) == {"controller", "worker", "both"}
    assert counted["records"] > 100
    broken = ("records_lost", "trainings_run_twice", "orphans", "ends_that_differ", "failures")
    assert {name: counted[name] for name in broken if counted[name]} == {}
