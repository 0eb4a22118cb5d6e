"""The pictures of how runs went: seeds, complexity, dead units over epochs, what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from scipy import stats

from sugarsearch.report import style
from sugarsearch.report.text import shorten
from sugarsearch.runs.results import ScreeningRow, ranked

_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}")
_CONFIDENCE = 0.95


@style.styled
def seeds_figure(arms: Sequence[tuple[str, str, Sequence[float]]], collapse_below: float, scored_on: str) -> Figure:
    """Every run of every arm as a dot, the arm's mean and its 95 % interval.

    Args:
        arms: (name, title, accuracies) of each, from top to bottom.
        collapse_below: drawn as a line where a run lies at or below it.
        scored_on: the split.
    """
    figure, (axes,) = style.new_figure(height=1.5 + 0.62 * len(arms))
    for index, (name, title, scores) in enumerate(arms):
        colour = style.arm_line(name, index)["color"]
        axes.scatter(scores, _spread(len(scores)) - index, s=14, color=colour, alpha=0.5, linewidths=0)
        low, high = mean_interval(scores)
        mean = float(np.mean(scores))
        axes.plot([low, high], [-index, -index], color=colour, linewidth=3.2, solid_capstyle="butt", zorder=4)
        axes.plot([mean], [-index], "o", color=colour, markerfacecolor=style.PAPER, markersize=7, zorder=5)
        label = f"{shorten(title, 40)}, {100 * mean:.1f} %"
        # Above the dots, from the left edge: formulas are too long to stand beside the axis.
        axes.annotate(label, (0, -index + 0.12), xycoords=("axes fraction", "data"), fontsize=10, va="bottom")
    if any(score <= collapse_below for _, _, scores in arms for score in scores):
        axes.axvline(collapse_below, color=style.PALE, linestyle=(0, (2, 2)), linewidth=1.2, zorder=1)
    axes.set(ylim=(-len(arms) + 0.5, 0.62), yticks=[], xlabel=f"{scored_on} accuracy (%), one dot a seed")
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.set_title("every run, the mean and its 95 % interval")
    return figure


def mean_interval(scores: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's t; the mean itself, twice, where one run has no spread."""
    mean = float(np.mean(scores))
    if len(scores) < 2:
        return mean, mean
    half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(scores) - 1) * stats.sem(scores))
    return mean - half, mean + half


@style.styled
def complexity_figure(rows: Sequence[ScreeningRow]) -> Figure:
    """Score of every finished candidate over its size, and the front: better than all that are simpler."""
    figure, (axes,) = style.new_figure()
    finished = ranked(rows)
    front = pareto_front(rows)
    axes.scatter([_nodes(row) for row in finished], [row.score for row in finished], s=26, color=style.OTHERS[3])
    xs, ys = [_nodes(row) for row in front], [row.score for row in front]
    axes.step(xs, ys, where="post", color=style.FOUND, label="best at its size or below")
    axes.scatter(xs, ys, s=110, facecolors="none", edgecolors=style.FOUND, linewidths=1.8, zorder=4)
    axes.set(xlabel="size: operators, numbers and x in the formula", ylabel="validation accuracy (%)")
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_title("score against complexity")
    style.legend_below(axes)
    return figure


def pareto_front(rows: Sequence[ScreeningRow]) -> list[ScreeningRow]:
    """The finished candidates that are better than all of their size or smaller, smallest first."""
    front: list[ScreeningRow] = []
    for row in sorted(ranked(rows), key=_nodes):  # ranked before: of one size the best comes first
        if not front or row.score > front[-1].score:
            front.append(row)
    return front


@style.styled
def activity_figure(arms: Sequence[tuple[str, str, Sequence[float], Sequence[float]]]) -> Figure:
    """Dead units and sparsity over epochs: (name, title, dead units, sparsity) of each arm, shares by epoch."""
    figure, (left, right) = style.new_figure(2, height=4.4 + style.room_for(len(arms)))
    for index, (name, title, dead, sparsity) in enumerate(arms):
        line = style.arm_line(name, index)
        for axes, values in ((left, dead), (right, sparsity)):
            marker = "o" if len(values) == 1 else None
            axes.plot(range(1, len(values) + 1), values, label=shorten(title, 52), marker=marker, **line)
    left.set(title="dead units (%)", xlabel="epoch")
    right.set(title="outputs that are 0 (%)", xlabel="epoch")
    for axes in (left, right):
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=6))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return figure


@style.styled
def importance_figure(importances: Mapping[str, float]) -> Figure:
    """How much each property of a candidate told of its score; largest on top."""
    figure, (axes,) = style.new_figure(height=1.4 + 0.34 * len(importances))
    names = sorted(importances, key=lambda name: importances[name])
    axes.barh(names, [importances[name] for name in names], color=style.FOUND, height=0.62)
    axes.set(xlabel="share of importance (%)", title="what told good candidates from others")
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.grid(False, axis="y")
    return figure


def _nodes(row: ScreeningRow) -> int:
    return row.restore().expression.nodes


def _spread(count: int) -> NDArray[np.float64]:
    """Offsets below an arm's line that keep equal runs apart: a golden-ratio sequence, the same in each picture."""
    golden = (np.sqrt(5.0) - 1) / 2
    offsets: NDArray[np.float64] = np.mod(np.arange(count) * golden, 1.0)
    return -0.1 - 0.28 * offsets
