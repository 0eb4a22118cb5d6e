"""What a reproduction writes: tables and pictures that show what the results hold."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.report.narrow import activity_figure, predictions_figure, write
from sugarsearch.reproduction.narrow.cells import Cell, CellResult, chosen
from sugarsearch.reproduction.narrow.run import reproduce

Known = tuple[list[Cell], dict[str, CellResult]]


@pytest.fixture(scope="module")
def known(small: NarrowNetsBaseline, tmp_path_factory: pytest.TempPathFactory) -> Known:
    """f1 by three arms, of which two were run, and f4 by two, which have more layers and one more epochs."""
    run = chosen(small, ["f1/he", "f1/elu", "f4/sugar", "f4/rai"])
    results = reproduce(run, 4, tmp_path_factory.mktemp("known"), "cpu").cells
    return chosen(small, ["f1/he", "f1/rai", "f1/elu", "f4/sugar", "f4/rai"]), results


def test_every_table_and_picture_is_written(known: Known, tmp_path: Path) -> None:
    files = write("the source", *known, tmp_path)
    assert all(path.stat().st_size > 0 for path in files)
    pictures = {path.name for path in tmp_path.glob("figures/*")}
    assert pictures == {f"{kind}_{target}.png" for kind in ("predictions", "activity") for target in ("f1", "f4")}
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("# the source\n")
    assert "without the bars" in text
    assert all(f"(figures/{name})" in text for name in pictures)
    with (tmp_path / "tables" / "shares.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == [
        *["f1/he"] * 3,
        *["f1/rai"] * 3,
        *["f1/elu"] * 3,
        *["f4/rai"] * 2,
        *["f4/sugar"] * 2,
    ]
    assert [row["verdict"] for row in rows if row["cell"] == "f1/rai"] == ["not run", "", ""]
    assert sum(float(row["ours"]) for row in rows if row["cell"] == "f1/he") == 1
    assert rows[0]["printed"] == "0.936"


def test_predictions_are_drawn_on_their_target(known: Known) -> None:
    cells, results = known
    he = cells[0]
    figure = predictions_figure([(he, results["f1/he"])])
    assert len(figure.axes) == 3
    for axes, name in zip(figure.axes, he.target.classes, strict=True):
        exact, *drawn = axes.lines
        x, y = (np.asarray(values, float) for values in exact.get_data())
        np.testing.assert_allclose(y, abs(x), atol=1e-6)
        example = results["f1/he"].examples.get(name)
        assert len(drawn) == (example is not None)
        if example:
            np.testing.assert_array_equal(np.asarray(drawn[0].get_ydata()), example.prediction[0])


@pytest.mark.parametrize("drawn", [{"f1/he": (3, 10), "f1/elu": (3, 10)}, {"f4/rai": (4, 12), "f4/sugar": (4, 10)}])
def test_activity_is_drawn_by_layer_with_its_mean(known: Known, drawn: dict[str, tuple[int, int]]) -> None:
    cells, results = known
    figure = activity_figure([(cell, results[cell.name]) for cell in cells if cell.name in drawn])
    for axes, (name, (count, epochs)) in zip(figure.axes, drawn.items(), strict=True):
        *layers, mean = [np.asarray(line.get_ydata(), float) for line in axes.lines]
        assert (len(layers), np.asarray(axes.lines[0].get_xdata(), float)[-1]) == (count, epochs)
        assert epochs < axes.get_xlim()[1] < epochs + 1  # no part of a panel is empty
        activity = np.array(results[name].activity)
        np.testing.assert_array_equal(np.array(layers).T, activity)
        np.testing.assert_allclose(mean, activity.mean(axis=1))
        assert 0 < activity.max() <= 1
