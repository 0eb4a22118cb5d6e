"""Two searches on one run folder: the second leaves at once and names the first; a dead one's lock holds nobody up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sugarsearch.runs.results import StudyResult

STUDY = """\
name: shared
space: whole_line
recipe:
  data: {name: digits, train_limit: 200, test_limit: 100}
  model: {name: deep_narrow_mlp, options: {depth: 2, width: 4}}
  optimizer: adam
  epochs: 1
search: {candidates: 4000, batch: 4, population: 4, tournament: 2, learning_rates: [0.003, 0.01, 0.03]}
final: {learning_rates: [0.01], replicates: 7}
execution: {device: cpu, threads: 1}
"""


def command(study: Path, *more: str) -> list[str]:
    code = "from sugarsearch.cli import main; main()"
    return [sys.executable, "-c", code, "search", str(study), "--run", str(study.parent / "run"), *more]


@pytest.mark.slow
def test_the_second_leaves_and_names_the_first_and_a_dead_ones_lock_is_no_lock(tmp_path: Path) -> None:
    study, folder = tmp_path / "shared.yaml", tmp_path / "run"
    study.write_text(STUDY)
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    first = subprocess.Popen(command(study), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        hall = folder / "hall_of_fame.csv"
        while first.poll() is None and not (hall.exists() and hall.read_text().count("\n") > 1):
            time.sleep(0.1)
        second = subprocess.run(command(study), capture_output=True, text=True, env=environment, check=False)
        assert second.returncode == 2, second.stderr
        held = f"sugarsearch: {folder} is in use by process {first.pid} on {socket.gethostname()}."
        assert held in second.stderr.splitlines()[-1]
        assert "Traceback" not in second.stderr
        assert second.stdout == ""
        count = hall.stat().st_size and (folder / "records.jsonl").stat().st_size
        assert first.poll() is None, "the first is not disturbed"
    finally:
        first.send_signal(signal.SIGKILL)
        _, stderr = first.communicate()
    assert first.returncode == -signal.SIGKILL, stderr
    assert f"process {first.pid}" in (folder / "lock").read_text()
    resumed = subprocess.run(
        command(study, "--set", "search.candidates=4"), capture_output=True, text=True, env=environment, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert (folder / "records.jsonl").stat().st_size >= count
    assert len(StudyResult.load(folder / "results.json").screening) >= 4
    assert not (folder / "checkpoints").exists()
