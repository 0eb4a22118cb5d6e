"""Cell by cell: stops, resumption, more runs, and damaged files."""

from __future__ import annotations

import dataclasses
import json
import signal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.errors import RunError, StoppedError, UnknownNameError
from sugarsearch.evaluation.stop import Stop
from sugarsearch.reproduction.narrow import run as module
from sugarsearch.reproduction.narrow.cells import chosen
from sugarsearch.reproduction.narrow.results import FILE, Results
from sugarsearch.reproduction.narrow.run import Progress, reproduce
from tests.reproduction.narrow.conftest import narrow

CELLS = ["f1/he", "f1/sugar", "f4/rai"]


def found(results: Results) -> dict[str, Any]:
    """All that the tables are made of, less the time that it took."""
    return {name: dataclasses.replace(result, seconds=0.0) for name, result in results.cells.items()}


def test_a_stopped_call_keeps_finished_cells_and_resumes_to_the_same(small: NarrowNetsBaseline, tmp_path: Path) -> None:
    cells = chosen(small, CELLS)
    whole = reproduce(cells, 5, tmp_path / "whole", "cpu")
    stop, trained = Stop(), list[str]()

    def watch(progress: Progress) -> None:
        if progress.epoch == 0:
            trained.append(progress.cell.name)
        if progress.cell.name == "f1/sugar" and progress.epoch == 4:
            stop.signal = signal.SIGINT

    with pytest.raises(StoppedError):
        reproduce(cells, 5, tmp_path / "cut", "cpu", watch, stop)
    assert list(Results(tmp_path / "cut").cells) == ["f1/he"]
    resumed = reproduce(cells, 5, tmp_path / "cut", "cpu", watch)
    assert trained == ["f1/he", "f1/sugar", "f1/sugar", "f4/rai"]
    assert found(resumed) == found(whole) == found(Results(tmp_path / "cut"))


def test_later_calls_add_runs_and_cells(
    small: NarrowNetsBaseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    whole = reproduce(chosen(small, ["f1/he"]), 6, tmp_path / "whole", "cpu").cells["f1/he"]
    reproduce(chosen(small, ["f1/he"]), 3, tmp_path / "grown", "cpu")
    reproduce(chosen(small, ["f1/sugar"]), 2, tmp_path / "grown", "cpu")
    grown = reproduce(chosen(small, ["f1/he"]), 6, tmp_path / "grown", "cpu").cells
    assert list(grown) == ["f1/he", "f1/sugar"]
    assert grown["f1/he"].losses == whole.losses
    assert grown["f1/he"].born_dead == whole.born_dead
    assert len(set(whole.losses)) == 6
    for mine, theirs in zip(grown["f1/he"].activity, whole.activity, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    fewer = reproduce(chosen(small, ["f1/he"]), 1, tmp_path / "grown", "cpu").cells
    assert fewer["f1/he"] == grown["f1/he"]


@pytest.fixture(scope="module")
def kept(small: NarrowNetsBaseline, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A results file of two cells."""
    folder = tmp_path_factory.mktemp("kept")
    return reproduce(chosen(small, ["f1/he", "f1/rai"]), 1, folder, "cpu").path.read_bytes()


@pytest.mark.parametrize("fault", ["cut", "digit", "other", "not JSON", "not UTF-8"])
def test_a_damaged_file_is_refused_with_its_line(
    fault: str, kept: bytes, small: NarrowNetsBaseline, tmp_path: Path
) -> None:
    first, second = kept.splitlines(keepends=True)
    value = json.loads(second)
    changed = {
        "cut": second[: len(second) // 2],
        "digit": second.replace(b'"losses": [', b'"losses": [1', 1),
        "other": json.dumps({"cell": "f1/he"}).encode(),
        "not JSON": b"{" + second,
        "not UTF-8": b"\xff" + second,
    }[fault]
    assert value["cell"] == "f1/rai"
    (tmp_path / FILE).write_bytes(first + changed)
    with pytest.raises(RunError, match=rf"{FILE}:2: this line is damaged or was edited .* Delete the line"):
        reproduce(chosen(small, ["f1/he"]), 1, tmp_path, "cpu")
    assert (tmp_path / FILE).read_bytes() == first + changed
    (tmp_path / FILE).write_bytes(first)
    assert list(Results(tmp_path).cells) == ["f1/he"]


def test_runs_of_other_settings_are_not_mixed(
    kept: bytes, small: NarrowNetsBaseline, paper: NarrowNetsBaseline, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_bytes(kept)
    trained: list[Progress] = []
    with pytest.raises(RunError, match="has runs of f1/he with other settings"):
        reproduce(chosen(paper, ["f2/he"]), 1, tmp_path, "cpu", trained.append)
    assert not trained


def test_identity_is_by_a_cells_own_settings_wherever_they_are_given(paper: NarrowNetsBaseline) -> None:
    def identities(*overrides: str) -> dict[str, str]:
        return {cell.name: cell.identity for cell in chosen(narrow(overrides), [])}

    shipped = {cell.name: cell.identity for cell in chosen(paper, [])}
    assert len(set(shipped.values())) == 12
    wide = identities("experiment.hidden_layers=19", "experiment.width=4", "targets.f4.experiment={}")
    assert {name for name in shipped if wide[name] == shipped[name]} == {"f4/he", "f4/rai", "f4/sugar"}
    for setting, kept in (("targets.f4.experiment.width=5", "f[123]/*"), ("arms.rai.experiment.epochs=400", "*/[hs]*")):
        changed = identities(setting)
        assert {name for name in shipped if changed[name] == shipped[name]} == {
            name for name in shipped if fnmatchcase(name, kept)
        }


def test_targets_and_arms_train_by_their_own_settings(small: NarrowNetsBaseline, tmp_path: Path) -> None:
    cells, ends = chosen(small, ["f1/he", "f4/he", "f1/rai", "f4/rai"]), dict[str, int]()

    def watch(progress: Progress) -> None:
        ends[progress.cell.name] = progress.epoch
        assert progress.epoch <= progress.epochs

    results = reproduce(cells, 1, tmp_path, "cpu", watch).cells
    assert ends == {"f1/he": 10, "f1/rai": 12, "f4/he": 10, "f4/rai": 12}
    layers = {name: len(result.activity[0]) for name, result in results.items()}
    assert layers == {"f1/he": 3, "f1/rai": 3, "f4/he": 4, "f4/rai": 4}


def test_cells_are_chosen_by_name_and_by_pattern(paper: NarrowNetsBaseline) -> None:
    assert [cell.name for cell in chosen(paper, ["f1/elu", "f3/he"])] == ["f1/elu", "f3/he"]
    assert [cell.name for cell in chosen(paper, ["*/nelu"])] == ["f1/nelu", "f2/nelu", "f3/nelu", "f4/nelu"]
    assert {cell.arm_name for cell in chosen(paper, [])} == {"he", "rai", "sugar"}
    assert len(chosen(paper, ["*"])) == 40
    with pytest.raises(UnknownNameError, match=r"unknown cell 'f1/sugr'; did you mean f1/sugar"):
        chosen(paper, ["f1/he", "f1/sugr"])
