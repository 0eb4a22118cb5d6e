"""Pictures of landscapes: one scale for all networks, gaps where losses are not finite, nothing cut off."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image

from sugarsearch.analysis.landscape import Landscape
from sugarsearch.report import style
from sugarsearch.report.landscape import contour_figure, scale_of, surface_figure

STEPS = (-0.25, -0.125, 0.0, 0.125, 0.25)
BOTH = [contour_figure, surface_figure]
Draw = Callable[[Any], Figure]


def made(losses: Any) -> Landscape:
    values = np.broadcast_to(np.asarray(losses, dtype=np.float64), (5, 5)).copy()
    return Landscape(STEPS, STEPS, values, np.full((5, 5), 0.75))


def bowl(low: float, high: float) -> NDArray[np.float64]:
    squares = np.add.outer(np.square(STEPS), np.square(STEPS)) / (2 * 0.25**2)
    values: NDArray[np.float64] = low * (high / low) ** squares
    return values


def gaps() -> NDArray[np.float64]:
    values = bowl(0.5, 4)
    values[0, 0], values[4, 3], values[2, 2] = np.nan, np.inf, np.nan
    return values


def assert_nothing_is_cut_off(figure: Figure) -> None:
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


@pytest.fixture
def surfaces(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is handed to `plot_surface`: coordinates and heights."""
    seen: list[Any] = []
    real = Axes3D.plot_surface

    def record(axes: Axes3D, *coordinates: Any, **looks: Any) -> Any:
        seen.append(coordinates)
        return real(axes, *coordinates, **looks)

    monkeypatch.setattr(Axes3D, "plot_surface", record)
    return seen


def test_the_first_direction_goes_to_the_right(surfaces: list[Any]) -> None:
    rising = np.add.outer(np.arange(5.0), np.zeros(5)) + 1  # along the first alone
    axes = contour_figure([("net", made(rising))]).axes[0]
    drawn = [np.asarray(path.vertices) for each in axes.collections for path in each.get_paths()]
    lines = [vertices for vertices in drawn if len(vertices) == 5]
    assert lines
    assert all(np.ptp(line[:, 0]) < 1e-12 and np.ptp(line[:, 1]) == 0.5 for line in lines)
    assert axes.get_xlabel() == "first direction"
    surface_figure([("net", made(rising))])
    ((first, second, heights),) = surfaces
    np.testing.assert_allclose(heights, first * 8 + 3)
    np.testing.assert_array_equal(second[0], STEPS)


@pytest.mark.parametrize("draw", BOTH)
def test_two_networks_share_levels_colours_and_heights(draw: Draw) -> None:
    figure = draw([("low", made(bowl(0.5, 1))), ("high", made(bowl(2, 6)))])
    left, right, bar = figure.axes
    for one, two in zip(left.collections, right.collections, strict=True):
        assert one.get_clim() == two.get_clim()
        lowest, highest = one.get_clim()
        assert lowest is not None
        assert highest is not None
        assert lowest <= 0.5
        assert highest >= 6
        assert one.get_cmap() == two.get_cmap()
        assert list(getattr(one, "levels", [])) == list(getattr(two, "levels", []))
    assert left.get_xlim() == right.get_xlim()
    if draw is surface_figure:
        assert left.get_zlim() == right.get_zlim()  # type: ignore[attr-defined]
    assert bar.get_ylabel() == "cross-entropy"
    assert left.get_title() == "low\nloss 0.5, accuracy 75.0 %"
    assert right.get_title() == "high\nloss 2, accuracy 75.0 %"


@pytest.mark.parametrize(
    ("low", "high", "logarithmic"),
    [(1, 19, False), (1, 21, True), (1e-6, 1e-4, True), (0.01, 1e30, True), (1e-300, 1e300, True)],
)
def test_levels_enclose_the_losses_and_are_few_and_logarithmic_where_they_differ_much(
    low: float, high: float, logarithmic: bool
) -> None:
    losses = np.geomspace(low, high, 25).reshape(5, 5)
    scale = scale_of([made(losses)])
    assert scale.logarithmic == logarithmic
    heights = scale.heights(losses)
    np.testing.assert_allclose(heights, np.log10(losses) if logarithmic else losses)
    assert scale.levels[0] <= heights.min() + 1e-9
    assert heights.max() <= scale.levels[-1] + 1e-9
    assert np.all(np.diff(scale.levels) > 0)
    assert 4 <= len(scale.levels) <= 15
    texts = [scale.text(level) for level in scale.levels]
    assert len(set(texts)) == len(texts)
    read = np.array(list(map(float, texts)))
    np.testing.assert_allclose(np.log10(read) if logarithmic else read, scale.levels, atol=1e-9)


def test_levels_that_lie_close_together_are_told_apart() -> None:
    scale = scale_of([made(bowl(1.70002, 1.70011))])
    texts = [scale.text(level) for level in scale.levels]
    assert len(set(texts)) == len(texts) > 4


def test_a_loss_of_zero_lies_at_the_lowest_positive_one_of_a_logarithmic_scale() -> None:
    losses = bowl(0.01, 1)
    losses[2, 2] = 0
    scale = scale_of([made(losses)])
    assert scale.logarithmic
    assert scale.heights(losses)[2, 2] == np.log10(losses[losses > 0].min())


ODD = {
    "gaps": gaps(),
    "nothing finite": np.nan,
    "flat": 2.3,
    "all 0": 0.0,
    "0 and one other": np.eye(5) * 3,
    "decades": bowl(1e-5, 1e25),
    "narrow": bowl(1.70002, 1.70011),
}


@pytest.mark.parametrize("draw", BOTH)
@pytest.mark.parametrize("losses", ODD.values(), ids=ODD)
def test_whatever_the_losses_are_nothing_is_cut_off(draw: Draw, losses: Any) -> None:
    name = "$a^{_\udcff very long name of a file that would not fit"
    assert_nothing_is_cut_off(draw([("one", made(losses)), (name, made(bowl(0.5, 2)))]))


@pytest.mark.parametrize("draw", BOTH)
def test_a_single_network_is_drawn_whole_and_saved(draw: Draw, tmp_path: Path) -> None:
    figure = draw([("one", made(gaps()))])
    assert_nothing_is_cut_off(figure)
    style.save(figure, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 1000


def test_losses_that_are_not_finite_leave_gaps(surfaces: list[Any]) -> None:
    surface_figure([("net", made(gaps()))])
    ((_, _, heights),) = surfaces
    np.testing.assert_array_equal(heights, np.where(np.isfinite(gaps()), gaps(), np.nan))
    figure = contour_figure([("net", made(gaps()))])
    axes, stream = figure.axes[0], io.BytesIO()
    figure.savefig(stream, dpi=figure.dpi)
    with Image.open(stream) as picture:
        pixels = np.asarray(picture.convert("RGB"))[::-1]  # rows from below, as matplotlib counts

    def is_blank(first: float, second: float) -> bool:
        x, y = axes.transData.transform((first, second)).astype(int)
        return bool((pixels[y, x] == 255).all())

    assert is_blank(0.05, 0.05)  # beside the cross in the middle
    assert is_blank(-0.245, -0.245)
    assert is_blank(0.245, 0.125)
    assert not any(is_blank(*place) for place in ((-0.2, 0.1), (0.1, -0.2), (0.15, 0.0), (-0.1, -0.1)))
    assert axes.get_title() == "net\nloss not finite, accuracy 75.0 %"
