"""A thousand trials cost no more each than the first ones, in time and in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_memory_and_cost_stay_flat_over_a_thousand_trials_and_the_overhead_is_small() -> None:
    """In a process of its own, by the benchmark; time is CPU time, so other load matters little."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead", "1000"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout)
    for study in (measured["training"], measured["without_training"]):
        assert study["memory_growth_mb_after_first_fifth"] < 50
        assert study["last_fifth_over_second"] <= 2.5  # a cost that grows with each trial would give 3
    # Promised are 20 ms; 2 to 4 were measured on one core of an idle machine.
    assert measured["without_training"]["overhead_ms_a_candidate"] < 20
