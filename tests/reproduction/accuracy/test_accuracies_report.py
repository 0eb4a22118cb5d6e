"""The tables of accuracies as they are read: the paper's layout with ours beside, "not run", pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle

from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.report.accuracies import best_sheet, paper_sheet, pictures, sheets_of, write
from sugarsearch.report.accuracy_figures import _looks
from sugarsearch.report.sheets import Sheet
from sugarsearch.reproduction.accuracy.run import Runs
from sugarsearch.reproduction.load import load
from tests.reproduction.accuracy.conftest import Filled

SCORES = {
    "deep/relu": {3: 0.52, 4: 0.55},
    "deep/elu/sugar": {3: 0.7},
    "swept/relu@0.001": {3: 0.2, 4: 0.25},
    "swept/relu@0.01": {3: 0.5, 4: 0.55},
    "swept/elu/non_sugar@0.01": {3: 0.6, 4: 0.6},
    "swept/elu/non_sugar@0.1": {3: 0.4, 4: 0.5},
}


@pytest.fixture
def runs(filled: Filled, tmp_path: Path) -> Runs:
    return filled(tmp_path / "records", SCORES)


def lines(sheet: Sheet) -> list[list[str]]:
    return [[column.text(value) for column, value in zip(sheet.columns, row, strict=True)] for row in sheet.rows]


def test_a_table_stands_as_the_paper_prints_it_with_ours_beside(tiny: AccuracyBaseline, runs: Runs) -> None:
    sheet = paper_sheet(tiny, "deep", runs)
    assert [column.title for column in sheet.columns] == [
        *("surrogate", "non-SUGAR: paper", "ours"),
        *("SUGAR: paper", "ours"),
    ]
    assert lines(sheet) == [
        ["ReLU", "", "", "50.00 ± 1.00", "53.50 ± 2.12 (n 2)"],
        ["ELU", "60.00 ± 2.00", "not run", "70.00 ± 3.00", "70.00 (n 1)"],
        ["B-SiLU at unit gain", "", "", "", "not run"],
    ]


def test_the_best_rates(tiny: AccuracyBaseline, runs: Runs) -> None:
    rows = lines(best_sheet(tiny, runs))
    assert [row[:4] for row in rows] == [
        ["swept", "ReLU", "0.01", "52.5"],
        ["swept", "ELU, non-SUGAR", "0.01", "60.0"],
    ]
    assert [row[-1] for row in rows] == ["highest tried", "lowest tried"]
    assert rows[0][-2] == ""
    low, high = (float(end) for end in rows[1][-2].split(" to "))
    assert low < 7.5 < high


def test_files_of_all_that_is_known(tiny: AccuracyBaseline, runs: Runs, tmp_path: Path) -> None:
    files = write(tiny, "the title", runs, tmp_path)
    assert files[0] == tmp_path / "table.md"
    assert all(path.stat().st_size > 0 for path in files)
    names = {path.stem for path in files if path.suffix == ".csv"}
    assert names == {sheet.name for sheet in sheets_of(tiny, runs)} == {"tiny_deep", "best_rates", "claims", "cells"}
    drawn = {path.stem for path in files if path.suffix == ".png"}
    assert drawn == {"accuracy_deep", "convergence_deep", "learning_rates_swept"} == set(pictures(tiny, runs))
    text = files[0].read_text()
    assert text.startswith("# the title\n")
    assert "- a note to readers" in text
    assert "![learning_rates_swept](figures/learning_rates_swept.png)" in text


def test_nothing_run_is_a_table_too(tiny: AccuracyBaseline, tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert pictures(tiny, runs) == {}
    assert all(row[-1] in ("not run", "") for row in lines(paper_sheet(tiny, "deep", runs)))
    assert "not run" in write(tiny, "nothing", runs, tmp_path)[0].read_text()


def test_lines_and_bars_are_the_numbers(tiny: AccuracyBaseline, runs: Runs) -> None:
    drawn = pictures(tiny, runs)
    (axes,) = drawn["learning_rates_swept"].axes
    bars = {one.get_label(): one for one in axes.containers if isinstance(one, ErrorbarContainer)}
    assert set(bars) == {"ReLU", "ELU, non-SUGAR"}
    line = bars["ReLU"].lines[0]
    assert np.asarray(line.get_xdata()) == pytest.approx([0.001, 0.01])
    assert np.asarray(line.get_ydata()) == pytest.approx([0.225, 0.525])
    (axes,) = drawn["accuracy_deep"].axes
    widths = {round(patch.get_width(), 3) for patch in axes.patches if isinstance(patch, Rectangle)}
    assert widths == {0.5, 0.7, 0.535}
    left, *_ = drawn["convergence_deep"].axes
    (relu,) = [line for line in left.get_lines() if line.get_label() == "ReLU"]
    assert np.asarray(relu.get_ydata()) == pytest.approx([0.2675, 0.535])


def test_no_two_rows_look_alike() -> None:
    table = load("table4")
    assert isinstance(table, AccuracyBaseline)
    looks = [(look["color"], look["linestyle"]) for look in _looks(list(table.rows)).values()]
    assert len(set(looks)) == len(looks) == len(table.rows)
