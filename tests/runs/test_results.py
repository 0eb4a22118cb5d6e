"""Rows and results: JSON round trips, ranking, atomic writes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sugarsearch.errors import RunError
from sugarsearch.runs.results import ScreeningRow, StudyResult, counts, ranked, replacing, write_atomically
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


def test_any_flipped_bit_of_a_result_is_seen_or_changes_nothing(screening_row: Rows, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    given = result([screening_row(0, 0.5)])
    given.save(path)
    whole = path.read_bytes()
    refused = 0
    for offset in range(len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1 << offset % 8]) + whole[offset + 1 :])
        try:
            assert StudyResult.load(path) == given
        except RunError:
            refused += 1
    assert refused > 0.8 * len(whole)  # the rest is the space between the values


def test_a_result_without_a_checksum_is_read_as_earlier_versions_wrote_it(screening_row: Rows, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    given = result([screening_row(0, 0.5)])
    path.write_text(json.dumps(given.to_json()))
    assert StudyResult.load(path) == given
    path.write_text(json.dumps({**given.to_json(), "seconds": float("nan")}))
    with pytest.raises(RunError, match="not a study's results"):
        StudyResult.load(path)


def test_a_result_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()
    with pytest.raises(RunError, match="cannot be read: Is a directory"):
        StudyResult.load(tmp_path / "results.json")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="does not exist"):
        StudyResult.load(tmp_path / "file" / "results.json")


WRITER = """
import resource, sys
from pathlib import Path
from sugarsearch.runs.results import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_atomically(Path(sys.argv[1]), "new" * 10_000)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("room", [0, 1, 8192, 29_999])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, room: int) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    command = [sys.executable, "-c", WRITER, str(path), str(room)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"RunError {path} cannot be written: File too large. Make room")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="full cannot be written: No space left on device"),
        replacing(tmp_path / "full") as file,
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert file.closed
    assert not list(tmp_path.iterdir())


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a[1].json"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = [tmp_path / f".{path.name}.{number}" for number in (1, os.getppid(), "notes")]
    for file in (*mine, tmp_path / f".{path.name}.{dead.pid}", tmp_path / f".{path.name}.{10**30}"):
        file.touch()
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert set(tmp_path.iterdir()) == {path, *mine}


def test_a_folder_in_the_way_is_an_error_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path, reason in ((tmp_path / "file" / "a", "File exists|Not a directory"), (tmp_path / "folder", "directory")):
        with pytest.raises(RunError, match=reason):
            write_atomically(path, "new")
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder"}
