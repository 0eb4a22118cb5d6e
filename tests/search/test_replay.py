"""The verdict from the records alone: that of the search, or a refusal that says what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sugarsearch as ss
from sugarsearch.errors import RunError
from sugarsearch.search.replay import recomputed

Damage = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def keep(folder: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leave the records that are `wanted`, as they were written."""
    path = folder / "records.jsonl"
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if wanted(json.loads(line))))


def test_the_records_give_what_the_search_gave_and_nothing_is_written(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    for name in ("study.db", "results.json", "hall_of_fame.csv"):
        (folder / name).unlink()
    before = contents(folder)
    result = recomputed(folder)
    assert tiny_study.told_by(result) == tiny_study.told
    assert result.activity == tiny_study.result.activity
    assert result.versions == tiny_study.result.versions
    assert contents(folder) == before


@pytest.mark.parametrize("stage", ["screening", "rerun", "tuning", "final"])
def test_a_missing_record_is_refused_with_its_stage_and_never_trained(
    tiny_study: Any, tmp_path: Path, stage: str
) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    lost = next(
        record["job_id"]
        for record in map(json.loads, (folder / "records.jsonl").read_text().splitlines())
        if record["job"]["stage"] == stage
    )
    keep(folder, lambda record: record["job_id"] != lost)
    with pytest.raises(RunError, match=rf"1 of \d+ trainings of the stage '{stage}' are not in the records"):
        recomputed(folder)


def test_a_search_that_has_not_ended_has_no_verdict_yet(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    keep(folder, lambda record: record["job"]["stage"] == "screening")
    with pytest.raises(RunError, match="has no verdict yet") as refusal:
        recomputed(folder)
    assert "Give the command that began the run" in str(refusal.value)
    assert "other packages" not in str(refusal.value)
    begun = json.loads((folder / "run.json").read_text())
    begun["versions"]["optuna"] = "1.0"
    (folder / "run.json").write_text(json.dumps(begun))
    with pytest.raises(RunError, match=r"other packages, .* optuna 1\.0 became"):
        recomputed(folder)


def test_a_search_that_its_time_limit_ended_ends_there_again(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    study = folder / "study.yaml"
    longer = study.read_text().replace("candidates: 9\n", "candidates: 12\n")
    study.write_text(longer)
    with pytest.raises(RunError, match="stage 'screening'"):
        recomputed(folder)
    study.write_text(longer.replace("time_limit: null\nfinal", "time_limit: 9.0\nfinal"))
    result = recomputed(folder)
    assert tiny_study.told_by(result) == tiny_study.told
    assert result.note == "the time limit of 9 s was over: the screening ended after 9 of 12 candidates"


def test_a_search_from_python_was_scored_on_its_validation_data(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    data = x, (x[:, 0] > 0).long()
    recipe, final = {"epochs": 1, "optimizer": "adam"}, {"learning_rates": [0.01], "replicates": 7}
    made = ss.search(network, data, data, "gate", recipe, 3, tmp_path / "run", final=final, threads=1)
    again = recomputed(tmp_path / "run")
    assert again.final == made.final
    assert again.final is not None
    assert again.final["scored_on"] == "validation"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        recomputed(tmp_path)
    with pytest.raises(RunError, match="is not a run"):
        recomputed(tmp_path / "absent")
