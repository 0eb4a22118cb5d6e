"""Cells are trained as far as they are not known; arms, test data, other data, stops."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.config.schema import ExecutionConfig
from sugarsearch.errors import RunError, StoppedError
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.evaluation.jobs import Workload
from sugarsearch.evaluation.records import RecordLog, Status
from sugarsearch.evaluation.stop import Stop
from sugarsearch.reproduction.accuracy.cells import Cell, Choice, chosen
from sugarsearch.reproduction.accuracy.run import DATA, Progress, Runs, reproduce


def test_what_is_trained_is_what_the_cells_say_and_is_not_trained_again(
    tiny: AccuracyBaseline, named: dict[str, Cell], tmp_path: Path
) -> None:
    seen: list[Progress] = []
    cells = chosen(tiny, Choice(models=["deep"], rows=["relu", "elu"]))
    runs = reproduce(cells, [3], tmp_path / "run", seen.append)
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert {p.cell.name for p in seen} == {"deep/relu", "deep/elu/non_sugar", "deep/elu/sugar"}
    # The same jobs by another executor, in this process.
    workload = Workload(tiny.models["deep"].recipe, ExecutionConfig(device="cpu"))
    with InlineExecutor(workload, RecordLog(tmp_path / "other.jsonl")) as executor:
        expected = {record.job.id: record.scores for record in executor.evaluate([cell.job(3) for cell in cells])}
    found = {record.job.id: record.scores for cell in cells if (record := runs.of(cell, 3))}
    assert found == expected
    assert len(set(found.values())) == 3
    again: list[Progress] = []
    more = reproduce(cells, [3, 4], tmp_path / "run", again.append)
    assert [p.record.job.seed for p in again] == [4, 4, 4]
    assert sorted(more.all_of(named["deep/relu"])) == [3, 4]
    assert not (tmp_path / "run/checkpoints").exists()


def test_runs_of_other_settings_are_not_seen(tiny: AccuracyBaseline, named: dict[str, Cell], tmp_path: Path) -> None:
    reproduce([named["deep/relu"]], [3], tmp_path)
    longer = tiny.models["deep"].recipe.model_copy(update={"epochs": 3})
    model = tiny.models["deep"].model_copy(update={"recipe": longer})
    changed = tiny.model_copy(update={"models": {**tiny.models, "deep": model}})
    (cell,) = chosen(changed, Choice(models=["deep"], rows=["relu"]))
    runs = Runs(tmp_path)
    assert runs.all_of(named["deep/relu"]).keys() == {3}
    assert runs.all_of(cell) == {}


def test_other_data_is_refused(named: dict[str, Cell], tmp_path: Path) -> None:
    reproduce([named["deep/relu"]], [3], tmp_path)
    known = json.loads((tmp_path / DATA).read_text())
    (tmp_path / DATA).write_text(json.dumps(dict.fromkeys(known, "0123456789")))
    with pytest.raises(RunError, match="has runs on other data"):
        reproduce([named["deep/relu"]], [4], tmp_path)
    (tmp_path / DATA).write_text("[")
    with pytest.raises(RunError, match="Delete it, if the data is still what it was"):
        reproduce([named["deep/relu"]], [4], tmp_path)


def test_a_stop_keeps_what_is_finished(named: dict[str, Cell], tmp_path: Path) -> None:
    stop = Stop()

    def ask(progress: Progress) -> None:
        stop.signal = signal.SIGINT

    with pytest.raises(StoppedError):
        reproduce([named["deep/relu"]], [3, 4, 5, 6], tmp_path, ask, stop)
    kept = Runs(tmp_path).all_of(named["deep/relu"])
    assert 1 <= len(kept) < 4
    runs = reproduce([named["deep/relu"]], [3, 4, 5, 6], tmp_path)
    assert all(record.status is Status.COMPLETED for record in runs.all_of(named["deep/relu"]).values())
    assert len(RecordLog(tmp_path / "records.jsonl").load()) == 4


def test_a_record_that_is_cut_off_is_dropped_and_one_that_is_damaged_is_refused(
    named: dict[str, Cell], tmp_path: Path
) -> None:
    reproduce([named["deep/relu"]], [3, 4], tmp_path)
    path = tmp_path / "records.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with pytest.warns(UserWarning, match="records.jsonl"):
        assert len(Runs(tmp_path).all_of(named["deep/relu"])) == 1
    path.write_bytes(b"x" + content[1:])
    with pytest.raises(RunError, match=r"records.jsonl"):
        Runs(tmp_path)
