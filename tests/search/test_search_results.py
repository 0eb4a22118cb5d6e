"""Rows and results: JSON round trips, ranking, atomic writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sugarsearch.errors import RunError
from sugarsearch.search.results import ScreeningRow, StudyResult, counts, ranked, write_atomically
from sugarsearch.symbolic.library import surrogate

Rows = Callable[..., ScreeningRow]


def result(rows: list[ScreeningRow]) -> StudyResult:
    return StudyResult("s", "runs/s", {"name": "s"}, rows, None, {"torch": "2"}, "cpu", 1.0)


def test_ranking_takes_finished_candidates_best_first_and_of_equals_the_earlier(screening_row: Rows) -> None:
    rows = [
        screening_row(0, 0.5),
        screening_row(1, 0.9, "PRUNED"),
        screening_row(2, 0.7),
        screening_row(3, 0.7),
        screening_row(4, 0.1, "DIVERGED"),
    ]
    assert [r.index for r in ranked(rows)] == [2, 3, 0]


def test_counts_are_by_status_commonest_first(screening_row: Rows) -> None:
    rows = [screening_row(0, 0.1, "DIVERGED"), screening_row(1, 0.1, "PRUNED"), screening_row(2, 0.1, "PRUNED")]
    assert list(counts(rows).items()) == [("PRUNED", 2), ("DIVERGED", 1)]


def test_result_comes_back_from_its_file_equal(screening_row: Rows, tmp_path: Path) -> None:
    given = result([screening_row(0, 0.1 + 0.2), screening_row(1, 1 / 3, text="sigmoid(4.1*x)")])
    given.save(tmp_path / "results.json")
    back = StudyResult.load(tmp_path / "results.json")
    assert back == given
    assert back.best == surrogate("sigmoid(4.1*x)").at_unit_gain()
    assert back.screening[0].parameters == {"alpha": 1.67}
    assert back.screening[0].scale == surrogate("b_silu").at_unit_gain().scale


def test_no_finished_candidate_has_no_best(screening_row: Rows) -> None:
    with pytest.raises(RunError, match="no candidate"):
        _ = result([screening_row(0, 0.5, "PRUNED")]).best


@pytest.mark.parametrize("text", ["", "{", "{}", '{"screening": [{}]}', "[1]"])
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(RunError, match="not a study's results"):
        StudyResult.load(path)


def test_a_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        StudyResult.load(tmp_path / "results.json")


def test_nan_never_reaches_the_file(screening_row: Rows, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON"):
        result([screening_row(0, float("nan"))]).save(path)
    assert path.read_text() == "old"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, json.dumps("new"))
    assert path.read_text() == "old"
