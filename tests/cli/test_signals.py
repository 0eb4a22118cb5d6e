"""Signals to a running search: what they end, with which code, and that the same command goes on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from sugarsearch.evaluation.records import RecordLog

STUDY = """\
name: endless
space: gate
recipe:
  data: {name: digits, train_limit: 200, test_limit: 100}
  model: {name: deep_narrow_mlp, options: {depth: 2, width: 8}}
  optimizer: adam
  epochs: 2
search: {candidates: 4000, batch: 4, queue: [relu], learning_rates: [0.003, 0.01]}
final: {learning_rates: [0.01], replicates: 7}
execution: {device: cpu, threads: 1}
"""
MAIN = "from sugarsearch.cli import main; main()"
# Whoever runs the tests in the background may have them ignore these, and children inherit that.
HEARING = "import signal; signal.signal(2, signal.default_int_handler); signal.signal(1, signal.SIG_DFL); " + MAIN
COMMAND = (sys.executable, "-c", HEARING, "search")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "endless.yaml"
    path.write_text(STUDY)
    return path


class Search:
    """A search in a process of its own, and what it is doing."""

    def __init__(self, study: Path, *options: str, start: tuple[str, ...] = COMMAND) -> None:
        self.run = study.parent / "run"
        command = [*start, str(study), "--run", str(self.run), *options]
        environment = {**os.environ, "PYTHONPATH": str(study.parent)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=study.parent
        )

    def wait_for(self, happened: Callable[[], bool]) -> None:
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.05)

    def recorded(self) -> int:
        path = self.run / "records.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return list(map(int, children))

    def end(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=60)
        assert "Traceback" not in stderr
        return self.process.returncode, stderr


@pytest.fixture
def search(study: Path) -> Iterator[Callable[..., Search]]:
    searches: list[Search] = []

    def start(*options: str, start: tuple[str, ...] = COMMAND) -> Search:
        searches.append(Search(study, *options, start=start))
        return searches[-1]

    yield start
    for each in searches:
        each.process.kill()
        each.process.communicate()


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 5
    while not all(map(is_gone, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(map(is_gone, processes))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_one_signal_stops_after_the_step_at_hand(
    search: Callable[..., Search], number: signal.Signals, code: int
) -> None:
    first = search()
    first.wait_for(lambda: first.recorded() >= 8)
    workers = first.workers()
    first.process.send_signal(number)
    ended, stderr = first.end()
    assert ended == code
    assert "stopping after the training step at hand; a second signal ends it at once." in stderr
    assert stderr.endswith("sugarsearch: stopped as asked; the same command goes on from here.\n")
    wait_until_gone(workers)
    records = RecordLog(first.run / "records.jsonl").load()
    assert {record.status for record in records} == {"COMPLETED"}  # who stops on request spoils no attempt
    states = optuna.load_study(study_name=None, storage=f"sqlite:///{first.run / 'study.db'}").trials
    assert {trial.state.name for trial in states} == {"COMPLETE"}
    if number != signal.SIGTERM:
        return
    # The same command goes on, here to an end that is near.
    candidates = len({record.job.surrogate for record in records})
    second = search("--set", f"search.candidates={candidates + 4}")
    ended, stderr = second.end()
    assert ended == 0, stderr
    assert "resumed" in stderr
    again = RecordLog(first.run / "records.jsonl").load()
    assert again[: len(records)] == records
    assert set(Counter(record.job.id for record in again).values()) == {1}


# A network that holds on to the interpreter in a step that never ends.
_STUBBORN = """
import ctypes
from pathlib import Path
from torch import nn

class Stubborn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU())
    def forward(self, x):
        Path("stuck").touch()
        ctypes.PyDLL(None).sleep(600)
        return self.layers(x)
"""


def test_a_step_that_never_ends_is_waited_for_five_seconds(study: Path, search: Callable[..., Search]) -> None:
    (study.parent / "stubborn.py").write_text(_STUBBORN)
    stuck = search("--set", "recipe.model.name=stubborn:Stubborn", "--set", "recipe.model.options={}")
    stuck.wait_for((study.parent / "stuck").exists)
    workers = stuck.workers()
    stuck.process.send_signal(signal.SIGTERM)
    assert stuck.end()[0] == 143
    wait_until_gone(workers)
    assert stuck.recorded() == 0


def test_the_second_signal_ends_it_at_once(study: Path, search: Callable[..., Search]) -> None:
    (study.parent / "stubborn.py").write_text(_STUBBORN)
    stuck = search("--set", "recipe.model.name=stubborn:Stubborn", "--set", "recipe.model.options={}")
    stuck.wait_for((study.parent / "stuck").exists)
    workers = stuck.workers()
    stuck.process.send_signal(signal.SIGINT)
    assert stuck.process.stderr is not None
    for line in stuck.process.stderr:
        if "a second signal" in line:
            break
    stuck.process.send_signal(signal.SIGTERM)
    ended, stderr = stuck.end()
    assert (ended, stderr) == (143, "sugarsearch: stopped at once.\n")
    wait_until_gone(workers)


def test_a_search_that_is_killed_leaves_no_worker_behind_even_in_a_call_without_end(
    study: Path, search: Callable[..., Search]
) -> None:
    (study.parent / "stubborn.py").write_text(_STUBBORN)
    stuck = search("--set", "recipe.model.name=stubborn:Stubborn", "--set", "recipe.model.options={}")
    stuck.wait_for((study.parent / "stuck").exists)
    workers = stuck.workers()
    assert workers
    stuck.process.kill()
    wait_until_gone(workers)


def test_nohup_keeps_a_search_alive(search: Callable[..., Search]) -> None:
    kept = search(start=("nohup", sys.executable, "-c", MAIN, "search"))
    kept.wait_for(lambda: kept.recorded() >= 8)
    before = kept.recorded()
    kept.process.send_signal(signal.SIGHUP)
    kept.wait_for(lambda: kept.recorded() > before + 8)
    kept.process.send_signal(signal.SIGTERM)
    assert kept.end()[0] == 143


def test_ctrl_c_on_a_terminal_ends_the_display_and_shows_the_cursor(study: Path) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.execv(COMMAND[0], [*COMMAND, str(study), "--run", str(study.parent / "run")])
    output, records = b"", study.parent / "run" / "records.jsonl"
    try:
        while True:
            try:
                output += os.read(terminal, 1 << 16)
            except OSError:
                break  # the terminal closes with its process
            if records.exists() and records.stat().st_size and b"\x03" not in output:
                os.write(terminal, b"\x03")
                output += b"\x03"
    finally:
        os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"stopped as asked" in output
    assert output.rfind(b"\x1b[?25h") > output.rfind(b"\x1b[?25l")
