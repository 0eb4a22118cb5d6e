"""A disk that is full or may not be written: a study stops with one message, and goes on where it was afterwards.

The disk is made full by the limit on the size of files that the kernel keeps for a process: a write beyond it fails
half way, as on a full disk. The message is then "File too large" in place of "No space left on device".
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

import optuna
import pytest

from sugarsearch.errors import RunError
from sugarsearch.evaluation.records import RecordLog
from sugarsearch.runs.results import StudyResult
from sugarsearch.search.database import Mirror, mirror

STUDY = """\
name: tiny
space: whole_line
recipe:
  data: {name: digits, train_limit: 200, test_limit: 100}
  model: {name: deep_narrow_mlp, options: {depth: 2, width: 8}}
  optimizer: adam
  epochs: 2
search: {candidates: 6, batch: 2, population: 2, tournament: 2, learning_rates: [0.003, 0.01], replicates: 6}
final: {learning_rates: [0.01], replicates: 7}
execution: {device: cpu, threads: 1}
"""

# A batch is two computations of twelve records, about 11 kB each. SQLite needs files of 32 kB to open its database,
# so for the records to be what finds no room there must be more of them than that.

# Runs a study in one child for each limit, so that torch is loaded once. With "stop" the study is left after its
# second batch; a limit of "grow+N" is N bytes above the size of the records.
CHAIN = """
import os, resource, sys
from pathlib import Path
from sugarsearch.errors import RunError
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.runs.load import load_study
from sugarsearch.runs.observer import Silent
from sugarsearch.search.study import run_study

study, folder, limits = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]

class Stopping(Silent):
    def progress(self, progress):
        if progress.done == 4:
            raise RunError("stopped")

for limit in limits:
    sys.stdout.flush()
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    observer = Stopping() if limit == "stop" else None
    if limit.startswith("grow+"):
        limit = str((folder / "records.jsonl").stat().st_size + int(limit[5:]))
    if limit.isdecimal():
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        run_study(load_study(study), folder, observer, make_executor=InlineExecutor)
        said = "done"
    except RunError as error:
        said = f"refused: {error}"
    left = sorted(path.name for path in folder.glob(".*")) if folder.exists() else []
    lines = len((folder / "records.jsonl").read_bytes().splitlines()) if (folder / "records.jsonl").exists() else 0
    os.write(1, repr({"said": said, "left": left, "lines": lines}).encode() + b"\\n")
    os._exit(0)
"""
UNLIMITED = "unlimited"


def chain(study: Path, folder: Path, *limits: str) -> list[dict[str, Any]]:
    """What each limit led to."""
    command = [sys.executable, "-c", CHAIN, str(study), str(folder), *limits]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert output.returncode == 0, output.stderr
    return [eval(line, {"__builtins__": {}}) for line in output.stdout.splitlines()]


def told(folder: Path) -> tuple[list[Any], Any]:
    """All that a study found, without how long it took."""
    result = StudyResult.load(folder / "results.json")
    return [dataclasses.replace(row, seconds=0.0) for row in result.screening], result.final


def jobs(folder: Path) -> list[str]:
    return [record.job.id for record in RecordLog(folder / "records.jsonl").load()]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "tiny.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def whole(study: Path) -> Path:
    """The run that nothing disturbed."""
    folder = study.parent / "whole"
    assert [step["said"] for step in chain(study, folder, UNLIMITED)] == ["done"]
    return folder


def database(folder: Path) -> AbstractContextManager[Mirror]:
    return mirror(folder / "study.db", "tiny", "run", lambda rows: None)


def is_refusal(said: str, folder: Path) -> bool:
    """Whether it names a file of the run, says that there is no room and what to do, in one line."""
    is_whole = said.startswith(f"refused: {folder}") and "room" in said and "\n" not in said
    return is_whole and any(reason in said.lower() for reason in ("file too large", "disk", "full"))


def test_a_disk_that_is_full_from_the_start_stops_the_study_cleanly(study: Path, whole: Path) -> None:
    folder = study.parent / "fresh"
    limits = ["0", "10", "900", "3000", "9000", "40000", "90000"]
    *steps, last = chain(study, folder, *limits, UNLIMITED)
    for step in steps:
        assert is_refusal(step["said"], folder), step
        assert step["left"] == [], "what was half written is removed"
    assert last["said"] == "done"
    assert told(folder) == told(whole)
    assert jobs(folder) == jobs(whole)


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_no_record_and_repeats_none(study: Path, whole: Path) -> None:
    folder = study.parent / "filling"
    _, *steps, last = chain(study, folder, "stop", "grow+0", "grow+5000", "grow+15000", "grow+5000", UNLIMITED)
    assert [step["lines"] for step in steps] == [48, 48, 60, 60]
    for step in steps:
        assert is_refusal(step["said"], folder), step
        assert step["left"] == []
    assert last["said"] == "done"
    assert told(folder) == told(whole)
    assert jobs(folder) == jobs(whole)


def test_a_new_database_is_not_taken_away_from_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk SQLite cannot move the log into the file; a reader that holds the log has the same effect."""
    create_study = optuna.create_study
    with ExitStack() as readers:

        def create_under_a_reader(**options: Any) -> optuna.Study:
            study = create_study(**options)
            reader = readers.enter_context(closing(sqlite3.connect(tmp_path / "study.db.new", isolation_level=None)))
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM studies").fetchall()
            return study

        monkeypatch.setattr(optuna, "create_study", create_under_a_reader)
        with pytest.raises(RunError, match=r"study\.db cannot be used: No space left"), database(tmp_path):
            pass
    assert not (tmp_path / "study.db").exists()
    monkeypatch.undo()
    with database(tmp_path) as mirrored:
        assert mirrored.rows == []
    assert (tmp_path / "study.db").exists()


def command_line(
    *arguments: str, limit: int | None = None, is_restrained: bool = False
) -> subprocess.CompletedProcess[str]:
    """The real command; `is_restrained`: file modes count even for root."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = [sys.executable, "-c", "from sugarsearch.cli import main; main()", *arguments]
    if is_restrained and os.getuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, preexec_fn=restrict, timeout=120
    )


def is_clean_stop(output: subprocess.CompletedProcess[str], folder: Path) -> bool:
    """Exit code 2, one message that names a file of the run, no traceback, nothing on stdout."""
    messages = [line for line in output.stderr.splitlines() if line.startswith("sugarsearch: ")]
    is_clean = output.returncode == 2 and "Traceback" not in output.stderr and output.stdout == ""
    return is_clean and len(messages) == 1 and str(folder) in messages[0]


@pytest.mark.slow
def test_search_on_a_full_disk_stops_with_one_message_and_the_same_command_goes_on(study: Path, whole: Path) -> None:
    folder = study.parent / "cli"
    search = ("search", str(study), "--run", str(folder))
    assert is_clean_stop(command_line(*search, limit=2000), folder)
    shorter = command_line(*search, "--set", "search.candidates=4")
    assert shorter.returncode == 0, shorter.stderr
    before = (folder / "records.jsonl").read_bytes()
    full = command_line(*search, limit=len(before) + 5000)
    assert is_clean_stop(full, folder), full.stderr
    between = (folder / "records.jsonl").read_bytes()
    assert between.startswith(before)
    # The pictures have no room either, and the old ones are unharmed.
    pictures = {path: path.read_bytes() for path in (folder / "figures").iterdir()}
    report = command_line("report", str(folder), limit=20_000)
    assert is_clean_stop(report, folder), report.stderr
    assert {path: path.read_bytes() for path in (folder / "figures").iterdir()} == pictures
    last = command_line(*search, "--json")
    assert last.returncode == 0, last.stderr
    assert json.loads(last.stdout)["final"] == StudyResult.load(whole / "results.json").final
    assert told(folder) == told(whole)
    ids = jobs(folder)
    assert len(ids) == len(set(ids))
    assert (folder / "records.jsonl").read_bytes().startswith(between)


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_refused_and_left_as_it_was(study: Path, whole: Path) -> None:
    home = study.parent / "locked"
    run = home / "run"
    home.mkdir()
    subprocess.run(["cp", "-r", str(whole), str(run)], check=True)
    subprocess.run(["chmod", "-R", "a-w", str(home)], check=True)
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for arguments in (
        ("search", str(study), "--run", str(home / "new")),
        ("search", str(study), "--run", str(run)),
        ("report", str(run)),
    ):
        output = command_line(*arguments, is_restrained=True)
        assert is_clean_stop(output, home), output.stderr
        assert "Permission denied" in output.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files
    assert list(home.iterdir()) == [run]


def test_if_every_candidate_fails_search_says_why_and_exits_with_3(study: Path) -> None:
    folder = study.parent / "failing"
    queue = "search.queue=['1/x', '1/(x-1)', exp(9*x), relu]"
    settings = (queue, "search.candidates=4", "space.gain=own", "search.allow_gain_ranking=true")
    hot = (
        "search.learning_rates=[100.0]",
        "recipe.optimizer=sgd",
        "search.trial_time_limit=1e-9",
        "search.replicates=1",
    )
    options = [part for text in (*settings, *hot) for part in ("--set", text)]
    output = command_line("search", str(study), "--run", str(folder), *options)
    assert output.returncode == 3, output.stderr
    assert output.stdout == ""
    assert "Traceback" not in output.stderr
    assert "none of 4 candidates finished (3 REJECTED, 1 TIMEOUT):" in output.stderr
    assert "1 x REJECTED: 1/x is not admitted" in output.stderr
    assert len(jobs(folder)) == 4
    assert not (folder / "results.json").exists()
