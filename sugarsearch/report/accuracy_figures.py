"""The pictures of a table of accuracies: bars beside the printed ones, accuracy over epochs and over learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from sugarsearch.config.arm import TrainingArm
from sugarsearch.evaluation.records import Record
from sugarsearch.report import style
from sugarsearch.reproduction.accuracy.cells import Cell
from sugarsearch.reproduction.accuracy.comparison import Accuracy

_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}")
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
_COLOURS: Final = (style.FOUND, *style.OTHERS)
_DASHES: Final = ("solid", (0, (5, 1.5)), (0, (1, 1.2)))
_FIXED: Final[dict[str, dict[str, Any]]] = {
    "relu": style.RELU_LINE,
    "b_silu": {"color": style.B_SILU, "linestyle": "solid"},
}
_SHAPES: dict[TrainingArm, tuple[Any, str]] = {"sugar": ("solid", "o"), "non_sugar": ((0, (2, 1.2)), "s")}


@style.styled
def bars_figure(title: str, accuracies: Sequence[Accuracy]) -> Figure:
    """Every cell that was run: ours with its deviation, and the printed one above it; one row each."""
    figure, (axes,) = style.new_figure(width=7.2, height=1.3 + 0.46 * len(accuracies))
    places = -np.arange(len(accuracies), dtype=float)
    printed = [(place, found.printed) for place, found in zip(places, accuracies, strict=True) if found.printed]
    if printed:
        axes.barh(
            [place + 0.2 for place, _ in printed],
            [mean for _, (mean, _) in printed],
            xerr=[sd for _, (_, sd) in printed],
            height=0.36,
            color=style.PALE,
            label="printed",
        )
    axes.barh(
        places - 0.2,
        [found.mean or 0.0 for found in accuracies],
        xerr=[found.sd or 0.0 for found in accuracies],
        height=0.36,
        color=style.FOUND,
        label="ours",
    )
    axes.set_yticks(places, [found.title for found in accuracies])
    axes.set(xlabel="test accuracy (%), mean and standard deviation", title=title, ylim=(places[-1] - 0.6, 0.6))
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@style.styled
def courses_figure(title: str, panels: Sequence[tuple[str, Sequence[tuple[str, str, Sequence[Record]]]]]) -> Figure:
    """Mean test accuracy over epochs, on one scale.

    Args:
        title: of the picture.
        panels: the title of each, and its lines: the row's name, its title and its runs.
    """
    looks = _looks([name for _, lines in panels for name, _, _ in lines])
    rows = max((len(lines) for _, lines in panels), default=0)
    figure, axes = style.new_figure(max(len(panels), 1), width=10.0, height=4.2 + style.room_for(rows // 2))
    for panel, (name, lines) in zip(axes, panels, strict=True):
        for row, label, runs in lines:
            if runs:
                scores = np.mean([record.scores for record in runs], axis=0)
                panel.plot(range(1, len(scores) + 1), scores, label=label, **looks[row])
        panel.set(title=name, xlabel="epoch")
        panel.sharey(axes[0])
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=6))
        panel.yaxis.set_major_formatter(_PERCENT)
        style.legend_below(panel, columns=3)
    axes[0].set_ylabel("test accuracy (%)")
    figure.suptitle(title)
    return figure


@style.styled
def rates_figure(title: str, swept: Sequence[tuple[Cell, Sequence[Accuracy]]]) -> Figure:
    """Accuracy over the learning rate with 95 % intervals: one line a setting, dotted in the non-SUGAR arm.

    Args:
        title: of the picture.
        swept: of each setting a cell, which says what it is, and the accuracies at its learning rates.
    """
    figure, (axes,) = style.new_figure(width=8.0, height=4.9)
    looks = _looks([cell.row_name for cell, _ in swept])
    for cell, accuracies in swept:
        _draw_sweep(axes, cell, accuracies, looks[cell.row_name]["color"])
    axes.set_xscale("log")
    rates = sorted({rate for cell, _ in swept for rate in cell.model.learning_rates})
    axes.xaxis.set_major_locator(FixedLocator(rates))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set(xlabel="learning rate", ylabel="test accuracy (%), mean and 95 % interval", title=title)
    style.legend_below(axes, columns=3)
    return figure


def _draw_sweep(axes: Axes, cell: Cell, accuracies: Sequence[Accuracy], colour: str) -> None:
    rates = [float(found.cell.rpartition("@")[2]) for found in accuracies]
    means = np.array([found.mean for found in accuracies], dtype=float)
    halves = [0.0 if found.interval is None else (found.interval[1] - found.interval[0]) / 2 for found in accuracies]
    dashes, marker = _SHAPES[cell.arm]
    axes.errorbar(
        rates,
        means,
        yerr=halves,
        color=colour,
        linestyle=dashes,
        marker=marker,
        markersize=5,
        linewidth=1.8,
        elinewidth=1.0,
        capsize=2,
        label=cell.title,
    )


def _looks(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How the line of each row looks; colours that come again do so with other dashes."""
    free = dict.fromkeys(name for name in rows if name not in _FIXED)
    return {
        **_FIXED,
        **{
            name: {
                "color": _COLOURS[index % len(_COLOURS)],
                "linestyle": _DASHES[index // len(_COLOURS) % len(_DASHES)],
            }
            for index, name in enumerate(free)
        },
    }
