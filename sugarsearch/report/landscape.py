"""The pictures of loss landscapes: contours and surfaces, networks side by side on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sugarsearch.analysis.landscape import Landscape
from sugarsearch.report import style
from sugarsearch.report.text import percent

Named = tuple[str, Landscape]
"""A network's title and its landscape."""

LOGARITHMIC_FROM = 20.0
"""The ratio of the highest loss to the lowest from which levels are on a logarithmic scale."""

_COLOURS = colormaps["viridis"]
_EDGE = 0.93  # of the reach: beyond it a line's label meets the border
_TITLE = 32  # letters of a title
_MANY = 14  # more levels than these run into each other


@dataclass(frozen=True)
class Scale:
    """What height, colour and levels of all networks in a picture are.

    Attributes:
        logarithmic: whether heights are log10 of the losses.
        levels: heights that lines are drawn at, rising; they enclose every finite loss.
        lowest: the lowest positive loss; those below it are drawn there where heights are logarithms.
    """

    logarithmic: bool
    levels: tuple[float, ...]
    lowest: float

    def heights(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where losses lie; NaN, which leaves a gap, for those that are not finite."""
        finite = np.where(np.isfinite(losses), losses, np.nan)
        return np.log10(np.maximum(finite, self.lowest)) if self.logarithmic else finite

    def text(self, height: float) -> str:
        """The loss at a level, with as many digits as tell the levels apart."""
        loss = 10**height if self.logarithmic else height
        return f"{loss:.{self._digits}g}"

    @cached_property
    def _digits(self) -> int:
        if self.logarithmic:
            return 2
        gap, largest = self.levels[1] - self.levels[0], max(map(abs, self.levels))
        return max(3, math.ceil(math.log10(largest / gap)) + 2)

    @property
    def colours(self) -> ScalarMappable:
        """Colour by height."""
        return ScalarMappable(Normalize(self.levels[0], self.levels[-1]), _COLOURS)


def scale_of(landscapes: Sequence[Landscape]) -> Scale:
    """One scale for the finite losses of all; logarithmic where they differ by more than `LOGARITHMIC_FROM`."""
    every = np.concatenate([each.losses.ravel() for each in landscapes])
    finite = every[np.isfinite(every)]
    positive = finite[finite > 0]
    if not len(positive):  # nothing but gaps, or a loss of 0 everywhere
        return Scale(False, (0.0, 1.0), 1.0)
    lowest, highest = float(positive.min()), float(positive.max())
    if highest <= LOGARITHMIC_FROM * finite.min():
        levels = MaxNLocator(nbins=12, steps=[1, 2, 2.5, 5, 10]).tick_values(float(finite.min()), highest)
        return Scale(False, tuple(map(float, levels)), lowest)
    return Scale(True, _decades(lowest, highest), lowest)


@style.styled
def contour_figure(networks: Sequence[Named]) -> Figure:
    """Filled contours with labelled lines, a panel for each network; a cross marks the network itself."""
    scale = scale_of([made for _, made in networks])
    figure, panels = style.new_figure(len(networks), width=1.6 + 4.2 * len(networks), height=5.0)
    for axes, (title, made) in zip(panels, networks, strict=True):
        heights = scale.heights(made.losses).T  # the first direction goes to the right
        plane = made.alphas, made.betas, np.ma.masked_invalid(heights)
        if plane[2].count():
            axes.contourf(*plane, levels=scale.levels, cmap=_COLOURS, norm=scale.colours.norm)
            lines = axes.contour(*plane, levels=scale.levels, colors=style.RELU, linewidths=0.6)
            # Not inline: where a label is removed, its line must be whole.
            for label in axes.clabel(lines, fmt=scale.text, fontsize=8, inline=False):
                label.set_path_effects([withStroke(linewidth=3, foreground=style.PAPER)])
                if max(map(abs, label.get_position())) > _EDGE * made.alphas[-1]:
                    label.remove()  # the border would cut through it
        axes.plot([0], [0], "+", color=style.PAPER, markersize=11, markeredgewidth=1.8)
        axes.set_title(_title(title, made), parse_math=False)  # a file's name is no formula
        axes.set(xlabel="first direction", aspect="equal", **_ticks(made))
        axes.grid(False)
    panels[0].set_ylabel("second direction")
    _colour_bar(figure, panels, scale)
    return figure


@style.styled
def surface_figure(networks: Sequence[Named]) -> Figure:
    """The losses as surfaces over the plane, a panel for each network."""
    scale = scale_of([made for _, made in networks])
    figure = Figure(figsize=(1.6 + 4.6 * len(networks), 4.8))
    FigureCanvasAgg(figure)
    panels: list[Axes] = []
    for index, (title, made) in enumerate(networks):
        axes: Any = figure.add_subplot(1, len(networks), index + 1, projection="3d")
        first, second = np.meshgrid(made.alphas, made.betas, indexing="ij")
        count = len(made.alphas)
        axes.plot_surface(
            first, second, scale.heights(made.losses), rcount=count, ccount=count, cmap=_COLOURS,
            norm=scale.colours.norm, edgecolor=style.RELU, linewidth=0.15,
        )  # fmt: skip
        axes.set_title(_title(title, made), parse_math=False)
        axes.set(xlabel="first direction", ylabel="second direction", **_ticks(made))
        axes.set_zlim(scale.levels[0], scale.levels[-1])
        axes.set_zticks(scale.levels, [scale.text(level) for level in scale.levels])
        axes.tick_params(labelsize=8, pad=1)
        axes.tick_params(axis="z", pad=4)
        panels.append(axes)
    _colour_bar(figure, panels, scale)
    return figure


def _decades(lowest: float, highest: float) -> tuple[float, ...]:
    """Heights of round losses that enclose the two: as many to a decade as there is room for."""
    low, high = math.log10(lowest), math.log10(highest)
    whole = range(math.floor(low), math.floor(high) + 2)
    for mantissas in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        rounds = [decade + math.log10(mantissa) for decade in whole for mantissa in mantissas]
        start = max(height for height in rounds if height <= low)
        end = min(height for height in rounds if height >= high and height > low)
        levels = tuple(height for height in rounds if start <= height <= end)
        if len(levels) <= _MANY:
            return levels
    stride = -(-len(levels) // _MANY)
    return (*levels[:-1:stride], levels[-1])


def _title(title: str, made: Landscape) -> str:
    loss, accuracy = made.centre
    words = f"loss {loss:.4g}" if math.isfinite(loss) else "loss not finite"
    shown = "".join(letter if letter.isprintable() else "?" for letter in title)
    if len(shown) > _TITLE:
        shown = f"{shown[: _TITLE // 2]}…{shown[-_TITLE // 2 + 1 :]}"
    return f"{shown}\n{words}, accuracy {percent(accuracy)} %"


def _ticks(made: Landscape) -> dict[str, Any]:
    """Five marks along each direction, with the fewest digits."""
    reach = made.alphas[-1]
    places = [reach * part for part in (-1, -0.5, 0, 0.5, 1)]
    texts = [f"{place:.3g}" for place in places]
    return {"xticks": places, "xticklabels": texts, "yticks": places, "yticklabels": texts}


def _colour_bar(figure: Figure, panels: Sequence[Axes], scale: Scale) -> None:
    bar = figure.colorbar(scale.colours, ax=list(panels), ticks=list(scale.levels), shrink=0.85)
    bar.ax.set_yticklabels([scale.text(level) for level in scale.levels], fontsize=9)
    bar.set_label("cross-entropy, logarithmic" if scale.logarithmic else "cross-entropy")
