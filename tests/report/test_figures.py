"""Pictures: what is drawn is what g is, nothing is cut off, and matplotlib's own state is left alone."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image

from sugarsearch.report import figures, style
from sugarsearch.runs.results import ScreeningRow
from sugarsearch.symbolic.library import surrogate

LONG = "0.123456789*sigmoid(1.23456789*x) + 0.23456789*exp(-abs(x)) + x/(1 + square(x))*0.3456789"


def row(index: int, text: str, score: float, status: str = "COMPLETED", origin: str = "sampler") -> ScreeningRow:
    g = surrogate(text)
    return ScreeningRow(
        index, g.label, g.to_json(), origin, status, score, 0.01, {"0.01": score}, [score], g.gain, g.at_zero, "", 1.0
    )


def curve(axes: Axes, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """All points of the lines of one colour, by x."""
    lines = [line for line in axes.get_lines() if line.get_color() == colour and line.get_marker() == "None"]
    x = np.concatenate([line.get_xdata() for line in lines])
    y = np.concatenate([line.get_ydata() for line in lines])
    return x, y


def assert_nothing_is_cut_off(figure: Figure) -> None:
    figure.canvas.draw()
    drawn = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


@pytest.mark.parametrize("name", ["relu", "b_silu", "nelu", "selu", "triangular"])
def test_the_drawn_curve_is_g_and_its_jump_is_a_gap(name: str) -> None:
    g = surrogate(name)
    figure = figures.surrogate_figure(g)
    x, y = curve(figure.axes[0], style.FOUND)
    np.testing.assert_allclose(y, g(x))
    assert x.min() == -figures.REACH
    assert x.max() == figures.REACH
    for line in figure.axes[0].get_lines():
        xs = np.asarray(line.get_xdata())
        assert not (xs.min() <= 0 < xs.max()), "a line across 0 would draw a jump as a slope"
    primitive_x, primitive_y = curve(figure.axes[1], style.FOUND)
    expected = g.primitive_values(primitive_x)
    assert expected is not None
    np.testing.assert_allclose(primitive_y, expected)
    assert_nothing_is_cut_off(figure)


def test_an_expression_without_a_primitive_has_one_panel() -> None:
    figure = figures.surrogate_figure(surrogate(LONG))
    assert len(figure.axes) == 1
    assert_nothing_is_cut_off(figure)


def test_surrogate_plot_draws_into_given_axes() -> None:
    figure, (axes,) = style.new_figure()
    assert surrogate("b_silu").plot(axes) is figure
    assert axes.get_lines()


def test_curves_name_every_arm_with_its_gain() -> None:
    arms = [
        ("", "best found: " + LONG, surrogate(LONG)),
        ("relu", "relu", surrogate("relu")),
        ("b_silu", "b_silu(alpha=1.67)", surrogate("b_silu")),
    ]
    figure = figures.curves_figure(arms)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert [label.rpartition("gain ")[2] for label in labels] == [f"{g.gain:.2f}" for _, _, g in arms]
    assert_nothing_is_cut_off(figure)


ROWS = [
    row(0, "relu", 0.6, origin="queue"),
    row(1, "b_silu", 0.55, origin="queue"),
    row(2, "sigmoid(2*x)", 0.9, "PRUNED"),
    row(3, "sigmoid(3*x)", 0.7),
    row(4, "sigmoid(4*x)", 0.1, "DIVERGED"),
    row(5, LONG, 0.8),
    row(6, "sigmoid(5*x)", 0.75),
]


def test_hall_of_fame_takes_finished_candidates_alone() -> None:
    assert [step.index for step in figures.hall_of_fame(ROWS)] == [0, 3, 5]
    assert figures.hall_of_fame([]) == []


def test_screening_shows_every_candidate_and_the_steps() -> None:
    figure = figures.screening_figure(ROWS)
    (axes,) = figure.axes
    labels = {text.get_text() for text in axes.get_legend().get_texts()}  # type: ignore[union-attr]
    assert labels == {"trained to the end", "from the queue", "pruned", "failed", "best so far"}
    points = sum(len(np.asarray(c.get_offsets())) for c in axes.collections)
    assert points >= len(ROWS)
    (line,) = axes.get_lines()
    assert np.asarray(line.get_ydata()).tolist() == [0.6, 0.7, 0.8, 0.8]
    assert_nothing_is_cut_off(figure)


def test_screening_without_a_finished_candidate_is_drawn() -> None:
    assert_nothing_is_cut_off(figures.screening_figure([ROWS[4]]))


def test_learning_rates_ring_the_best_of_each_arm() -> None:
    means = {0.001: 0.6, 0.003: 0.8, 0.01: 0.7}
    arms = [("", LONG, means), ("relu", "ReLU", {0.001: 0.9, 0.01: 0.2})]
    figure = figures.learning_rate_figure(arms)
    rings = [np.asarray(c.get_offsets())[0] for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    assert [ring[1] for ring in rings] == [0.8, 0.9]
    assert [ring[0] for ring in rings] == [0.003, 0.001]
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("log", [(), ("alpha",)])
def test_parameter_curve_goes_through_every_member_and_names_the_best(log: tuple[str, ...]) -> None:
    rows = [
        row(i, f"b_silu(alpha={alpha})", score) for i, (alpha, score) in enumerate([(2, 0.7), (0.5, 0.6), (1, 0.8)])
    ]
    figure = figures.parameter_figure(rows, ["alpha"], 0.65, log)
    (axes,) = figure.axes
    line = axes.get_lines()[0]
    assert np.asarray(line.get_xdata()).tolist() == [0.5, 1, 2]
    assert np.asarray(line.get_ydata()).tolist() == [0.6, 0.8, 0.7]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert legend == ["best: alpha = 1", "ReLU, 65.0 %"]
    assert axes.get_xscale() == ("log" if log else "linear")
    assert_nothing_is_cut_off(figure)


def test_two_parameters_have_a_panel_each() -> None:
    texts = ["if_positive(x, a, b)"]
    rows = []
    for index, (a, b) in enumerate([(1.0, 0.1), (2.0, 0.3)]):
        g = surrogate(texts[0], a=a, b=b)
        made = row(index, "relu", 0.5 + 0.1 * index)
        rows.append(ScreeningRow(**{**{f: getattr(made, f) for f in made.__slots__}, "surrogate": g.to_json()}))
    figure = figures.parameter_figure(rows, ["a", "b"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b"]
    assert_nothing_is_cut_off(figure)


def test_saving_makes_folders_and_leaves_a_whole_png_alone(tmp_path: Path) -> None:
    path = style.save(figures.surrogate_figure(surrogate("relu")), tmp_path / "figures" / "relu.png")
    with Image.open(path) as image:
        image.load()
        assert image.width >= 1200
    assert [entry.name for entry in path.parent.iterdir()] == ["relu.png"]


def test_the_style_does_not_leak_and_no_window_system_is_loaded() -> None:
    before = dict(matplotlib.rcParams)
    figures.surrogate_figure(surrogate("relu"))
    assert dict(matplotlib.rcParams) == before
