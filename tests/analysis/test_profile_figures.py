"""Pictures and tables of profiles: bars and lines are the counts, dead units have a colour of their own, all fits."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sugarsearch.analysis.profile import LayerProfile
from sugarsearch.report import style
from sugarsearch.report.profile import COLUMNS, Moment, course_figure, course_sheet, histograms_figure
from sugarsearch.report.writers import as_csv


def layer(name: str, fired: Sequence[int] = (0, 0, 0, 3, 10, 10, 5, 5)) -> LayerProfile:
    always = tuple(unit for unit, count in enumerate(fired) if count == 10)
    return LayerProfile(name, 10, tuple(fired), always, 1, 3.3, 5, 0.6)


def assert_nothing_is_cut_off_or_overlaps(figure: Figure) -> None:
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.get_visible()]
    assert not any(a.padded(-1).overlaps(b.padded(-1)) for i, a in enumerate(boxes) for b in boxes[:i])  # type: ignore[union-attr]


def test_bars_are_the_shares_of_units_and_never_and_always_stand_apart() -> None:
    (axes,) = histograms_figure([layer("a")]).axes
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_height() > 0]
    found = {to_hex(bar.get_facecolor()).upper(): 0.0 for bar in bars}
    for bar in bars:
        found[to_hex(bar.get_facecolor()).upper()] += bar.get_height()
    assert found == {style.B_SILU: 3 / 8, style.FOUND: 3 / 8, style.OTHERS[0]: 2 / 8}
    dead, always = (
        next(bar for bar in bars if to_hex(bar.get_facecolor()).upper() == colour)
        for colour in (style.B_SILU, style.OTHERS[0])
    )
    assert dead.get_x() + dead.get_width() < 0
    assert always.get_x() > 1
    inner = {round(bar.get_x(), 9): bar.get_height() for bar in bars if 0 <= bar.get_x() <= 1}
    assert inner == {0.3: 1 / 8, 0.5: 2 / 8}
    assert axes.get_title() == "a\n3 of 8 dead"


@pytest.mark.parametrize("count", [1, 7, 50])
def test_up_to_fifty_layers_fit(count: int) -> None:
    layers = [layer(f"stages.{index}.blocks.10.activation1#2") for index in range(count)]
    figure = histograms_figure(layers)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == count
    assert len({round(axes.get_position().x0, 3) for axes in shown}) <= COLUMNS
    assert_nothing_is_cut_off_or_overlaps(figure)


def test_a_course_of_a_row_and_a_half_fits() -> None:
    assert_nothing_is_cut_off_or_overlaps(course_figure([0, 1, 2], [[layer("activations.10")] * 7] * 3))


def test_lines_are_dead_and_always_on_shares_by_epoch() -> None:
    course = [[layer("a", [10, 10, 5, 5])], [layer("a", [0, 10, 5, 5])], [layer("a", [0, 0, 0, 5])]]
    (axes,) = course_figure([0, 1, 2], course).axes
    lines = {line.get_color(): np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()}
    assert lines == {style.B_SILU: [0, 0.25, 0.75], style.OTHERS[0]: [0.5, 0.25, 0]}


def test_rows_by_epoch_are_the_profiles() -> None:
    sheet = course_sheet([Moment(0, [layer("a"), layer("b")]), Moment(None, [layer("a", [10, 0])])])
    rows = list(csv.DictReader(io.StringIO(as_csv(sheet))))
    assert [(row["epoch"], row["layer"]) for row in rows] == [("0", "a"), ("0", "b"), ("", "a")]
    assert rows[2] == {
        "epoch": "",
        "layer": "a",
        "units": "2",
        "samples": "10",
        "dead": "1",
        "dead_share": "0.5",
        "always_on": "1",
        "fewest": "1",
        "mean": "3.3",
        "most": "5",
        "zeros": "0.6",
    }
