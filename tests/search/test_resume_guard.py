"""Resuming: what has changed since the run began is refused or noted, and a kill at the worst moments loses nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sugarsearch as ss
from sugarsearch.errors import RunError
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.evaluation.records import RecordLog
from sugarsearch.runs.load import tune_study
from sugarsearch.runs.observer import Silent, StudyProgress
from sugarsearch.runs.provenance import versions
from sugarsearch.runs.results import StudyResult
from sugarsearch.search.study import run_study

PACKAGES = {"sugarsearch", "torch", "numpy", "optuna", "sympy", "python"}


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def edit(folder: Path, **changes: Any) -> None:
    """As if the run had begun otherwise; versions are given as `versions={...}` and merged."""
    path = folder / "run.json"
    value = json.loads(path.read_text())
    changes["versions"] = {**value["versions"], **changes.get("versions", {})}
    path.write_text(json.dumps({**value, **changes}))


def test_a_run_notes_what_it_began_with(tiny_study: Any) -> None:
    value = json.loads((tiny_study.folder / "run.json").read_text())
    assert value["versions"] == versions() == tiny_study.result.versions
    assert set(value["versions"]) == PACKAGES
    assert value["versions"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert re.fullmatch("[0-9a-f]{16,}", value["data"])
    assert value["changes"] == []
    assert tiny_study.result.note == ""


CHANGES: dict[str, tuple[Mapping[str, Any], list[str]]] = {
    "torch": ({"versions": {"torch": "2.14.0"}}, [f"torch: the run has 2.14.0, here is {versions()['torch']}"]),
    "python": ({"versions": {"python": "3.10"}}, ["python: the run has 3.10, here is"]),
    "a package that is gone": ({"versions": {"triton": "3.0"}}, ["triton: the run has 3.0, here is none"]),
    "data": ({"data": "0123456789abcdef0123"}, ["data fingerprint: the run has 0123456789abcdef0123, here is "]),
    "all": (
        {"versions": {"torch": "2.14.0", "numpy": "1.0"}, "data": "00"},
        ["torch: the run has", "numpy: the run has", "data fingerprint: the run has 00"],
    ),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_changed_package_or_data_is_refused_with_the_difference_and_changes_nothing(
    tiny_study: Any, tmp_path: Path, changed: str
) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    values, words = CHANGES[changed]
    edit(folder, **values)
    before = contents(folder)
    with pytest.raises(RunError, match="begun with other packages or data") as refusal:
        tiny_study.run(folder, "search.candidates=12")
    lines = [line for line in str(refusal.value).splitlines() if line.startswith("  ")]
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))
    assert "--allow-changes" in str(refusal.value)
    assert contents(folder) == before


def test_allowed_changes_are_noted_and_said_with_the_results(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    edit(folder, versions={"torch": "2.14.0"}, data="00")
    result = tiny_study.run(folder, allow_changes=True)
    assert tiny_study.told_by(result) == tiny_study.told
    assert (folder / "records.jsonl").read_bytes() == tiny_study.records  # what was finished is kept
    value = json.loads((folder / "run.json").read_text())
    torch_changed, data_changed = value["changes"]
    assert torch_changed["what"] == f"torch 2.14.0 became {versions()['torch']}"
    assert data_changed["what"].startswith("data fingerprint 00 became ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", torch_changed["when"])
    assert torch_changed["what"] in result.note
    assert "may not all compare" in StudyResult.load(folder / "results.json").note
    # From now on this is what the run is made with; the earlier change is not forgotten.
    edit(folder, versions={"sympy": "1.0"})
    assert "sympy 1.0 became" in tiny_study.run(folder, allow_changes=True).note
    again = tiny_study.run(folder)
    assert [word in again.note for word in ("torch 2.14.0", "data fingerprint 00", "sympy 1.0")] == [True] * 3
    assert len(json.loads((folder / "run.json").read_text())["changes"]) == 3


def test_another_study_is_refused_even_where_changes_are_allowed(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    with pytest.raises(RunError, match=r"recipe\.epochs: the run has 2, given is 3"):
        tiny_study.run(folder, "recipe.epochs=3", "search.pruning=null", allow_changes=True)


def test_a_study_file_edited_in_the_run_folder_does_not_smuggle_another_study_in(
    tiny_study: Any, tmp_path: Path
) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    path = folder / "study.yaml"
    text = path.read_text()
    assert text.count("  seed: 0") == 1
    path.write_text(text.replace("  seed: 0", "  seed: 7"))
    with pytest.raises(RunError, match=r"study\.yaml is no longer what the run was begun with"):
        tiny_study.run(folder, "search.seed=7", allow_changes=True)


def test_a_run_folder_of_an_earlier_version_is_taken_up(tiny_study: Any, tmp_path: Path) -> None:
    """Without run.json, and with the database that was written then."""
    folder = tiny_study.copy(tmp_path / "run")
    (folder / "run.json").unlink()
    with pytest.warns(ss.errors.SugarsearchWarning, match="it is of another run"):
        assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told
    assert json.loads((folder / "run.json").read_text())["versions"] == versions()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", "\x00" * 100, '{"run": 1}', "[" * 5000),
        '{"run": "a", "study": "b", "versions": {}, "data": "c", "changes": []}',
        '{"run": "a", "study": "b", "versions": {"sugarsearch": "1"}, "data": 3, "changes": []}',
        '{"run": "a", "study": "b", "versions": {"sugarsearch": "1"}, "data": "c", "changes": [3]}',
    ],
)
def test_a_damaged_run_file_is_named_with_its_remedy(tiny_study: Any, tmp_path: Path, text: str) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    (folder / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run.json is damaged [^\0]*delete it to resume"):
        tiny_study.run(folder)
    assert (folder / "run.json").read_text() == text


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def test_a_search_from_python_takes_the_flag_too(tmp_path: Path) -> None:
    def call(**options: Any) -> StudyResult:
        inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
        data = inputs, (inputs.sum(1) > 0).long()
        final = {"learning_rates": [0.01], "replicates": 7}
        recipe = {"epochs": 1, "optimizer": "adam"}
        return ss.search(Net, data, data, "gate", recipe, 2, tmp_path, final=final, queue=[], threads=1, **options)

    call()
    edit(tmp_path, versions={"optuna": "4.0.0"})
    with pytest.raises(RunError, match=r"optuna: the run has 4\.0\.0"):
        call()
    assert "optuna 4.0.0 became" in call(allow_changes=True).note


class StopError(Exception):
    """Stands for whatever ends a controller."""


class StopAfterBatch(Silent):
    def progress(self, progress: StudyProgress) -> None:
        raise StopError


def test_a_family_tuned_by_tpe_resumes_to_the_uninterrupted_result(tiny_study: Any, tmp_path: Path) -> None:
    """The sampler learns from the trials' parameters, which are made again from their rows."""
    overrides = ["recipe.data.train_limit=100", "recipe.data.test_limit=100", "recipe.epochs=1", "execution.threads=1"]
    overrides += ["recipe.model.options.depth=2", "search.batch=12", "final.replicates=7", "final.learning_rates=[0.1]"]
    config = tune_study("b_silu", "digits", "deep_narrow_mlp", candidates=24, overrides=overrides)
    whole = run_study(config, tmp_path / "whole", make_executor=InlineExecutor)
    assert len({row.parameters.get("alpha") for row in whole.screening[12:]}) == 12
    with pytest.raises(StopError):
        run_study(config, tmp_path / "stopped", StopAfterBatch(), make_executor=InlineExecutor)
    resumed = run_study(config, tmp_path / "stopped", make_executor=InlineExecutor)
    assert tiny_study.told_by(resumed) == tiny_study.told_by(whole)


KILLED = """
import os, signal, sys
from sugarsearch.config import loader
from sugarsearch.config.schema import StudyConfig
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.runs import folder, provenance
from sugarsearch.search import database
from sugarsearch.runs.observer import Silent
from sugarsearch.search.study import run_study

where, left = sys.argv[3], int(sys.argv[4])

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    method = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **options: (step(), method(*arguments, **options))[1])

class Observer(Silent):
    def stage(self, name, done, total):
        if where == f"{name} job recorded":
            step()

if where == "told, not mirrored":
    before(database.Mirror, "extend")
elif where == "hall of fame":
    before(folder, "write_hall_of_fame")
elif where == "run.json":
    before(provenance, "write_atomically")
elif where == "study.yaml":
    before(folder, "write_atomically")
else:
    connect = database._connect
    def traced(path):
        connection = connect(path)
        connection.set_trace_callback(lambda statement: where in statement and step())
        return connection
    database._connect = traced
run_study(loader.load(sys.argv[1], StudyConfig), sys.argv[2], Observer(), make_executor=InlineExecutor)
"""

MOMENTS = [
    ("study.yaml", 1),  # before the study is written
    ("run.json", 1),  # between the study and what it began with
    ("CREATE TABLE", 5),  # while the database is made
    ("INSERT INTO studies", 1),
    ("screening job recorded", 8),  # in the second batch
    ("screening job recorded", 12),  # the last record of a batch is there, its candidates are not told
    ("told, not mirrored", 2),
    ("INSERT INTO trials", 5),  # within a batch's second trial, and so on: an open transaction
    ("INSERT INTO trial_params", 37),
    ("INSERT INTO trial_user_attributes", 12),
    ("hall of fame", 3),
    ("final job recorded", 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "count"), MOMENTS, ids=[f"{where} {count}" for where, count in MOMENTS])
def test_kill_9_at_the_worst_moments_loses_and_repeats_nothing(
    tiny_study: Any, tmp_path: Path, where: str, count: int
) -> None:
    arguments = [str(tiny_study.folder / "study.yaml"), str(tmp_path / "run"), where, str(count)]
    death = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert death.returncode == -signal.SIGKILL, death.stderr.decode()
    log = tmp_path / "run" / "records.jsonl"
    recorded = log.read_bytes() if log.exists() else b""
    assert tiny_study.told_by(tiny_study.run(tmp_path / "run")) == tiny_study.told
    assert log.read_bytes().startswith(recorded)
    ids = [record.job.id for record in RecordLog(log).load()]
    assert len(ids) == len(set(ids))
    assert not list((tmp_path / "run").glob("study.db.*")), "nothing is set aside after a kill"
