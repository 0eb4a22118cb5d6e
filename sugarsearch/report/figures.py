"""The pictures of a study and of one surrogate, as matplotlib figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from sugarsearch.report import style
from sugarsearch.report.text import shorten
from sugarsearch.runs.results import ScreeningRow, ranked
from sugarsearch.symbolic.surrogate import Surrogate

REACH = 6.0  # curves are drawn on [-REACH, REACH]; beyond it N(0, 1) has 2e-9 of its mass

_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}")
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


@style.styled
def surrogate_figure(surrogate: Surrogate, ax: Axes | None = None) -> Figure:
    """g beside ReLU's derivative, and where a primitive is known a second panel with it beside ReLU.

    With `ax`, only g is drawn, there.
    """
    if ax is not None:
        _draw_derivative(ax, surrogate)
        return ax.get_figure(root=True)  # type: ignore[return-value]
    values = np.linspace(-REACH, REACH, 1201)
    primitive = surrogate.primitive_values(values)
    panels = 1 if primitive is None else 2
    figure, (left, *right) = style.new_figure(panels, width=style.WIDTH if panels == 1 else 10.0)
    _draw_derivative(left, surrogate)
    if primitive is not None:
        right[0].plot(values, primitive, color=style.FOUND, linewidth=2.6, label="primitive f of g")
        right[0].plot(values, np.maximum(values, 0), label="ReLU", **style.RELU_LINE)
        right[0].set(xlabel="x", ylabel="f(x)", xlim=(-REACH, REACH), title="f with f' = g")
        style.legend_below(right[0])
    return figure


@style.styled
def curves_figure(arms: Sequence[tuple[str, str, Surrogate]]) -> Figure:
    """The g's of several arms, (name, title, g) each, on one pair of axes; what was found comes first, nameless."""
    columns = _columns(title for _, title, _ in arms)
    figure, (axes,) = style.new_figure(height=style.HEIGHT + style.room_for(math.ceil(len(arms) / columns)))
    for index, (name, title, surrogate) in enumerate(arms):
        _draw(axes, surrogate, f"{shorten(title, 40)},  gain {surrogate.gain:.2f}", style.arm_line(name, index))
    _label_derivative(axes)
    axes.set_title("the surrogate derivatives compared")
    style.legend_below(axes, columns=columns)
    return figure


@style.styled
def functions_figure(surrogates: Sequence[Surrogate]) -> Figure:
    """The primitives of several g's, as far as they are known, and beside them the g's themselves."""
    figure, (left, right) = style.new_figure(2, width=10.0, height=style.HEIGHT + style.room_for(len(surrogates) // 2))
    values = np.linspace(-REACH, REACH, 1201)
    for index, g in enumerate(surrogates):
        line = style.arm_line(g.name, index + 1)
        if (exact := g.primitive_values(values)) is not None:
            left.plot(values, exact, **line)
        _draw(right, g, g.label, line)
    left.set(xlabel="x", ylabel="f(x)", xlim=(-4, 4), ylim=(-1.5, 4), title="activation functions")
    _label_derivative(right)
    right.set(xlim=(-4, 4), title="their derivatives")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@style.styled
def screening_figure(rows: Sequence[ScreeningRow]) -> Figure:
    """Score of every candidate in the order of proposal, and the best so far as a line with its steps."""
    figure, (axes,) = style.new_figure()
    queued = [row for row in rows if row.finished and row.origin == "queue"]
    plain = [row for row in rows if row.finished and row.origin != "queue"]
    stopped = [row for row in rows if row.status == "PRUNED"]
    failed = [row for row in rows if not row.finished and row.status != "PRUNED"]
    _scatter(axes, plain, "trained to the end", marker="o", color=style.OTHERS[3], s=30)
    _scatter(axes, queued, "from the queue", marker="D", color=style.B_SILU, s=34)
    _scatter(axes, stopped, "pruned", marker="v", color=style.PALE, s=22)
    _scatter(axes, failed, "failed", marker="x", color=style.RELU, s=30)
    steps = hall_of_fame(rows)
    if steps:
        xs, ys = [row.index for row in steps], [row.score for row in steps]
        axes.step(
            [*xs, max(row.index for row in rows)], [*ys, ys[-1]], where="post", color=style.FOUND, label="best so far"
        )
        _ring(axes, xs, ys, style.FOUND, s=110)
        axes.set_title(f"best: {shorten(steps[-1].label, 32)} at {100 * ys[-1]:.1f} %")
    axes.set(xlabel="candidate, in the order of proposal", ylabel="validation accuracy (%)")
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    style.legend_below(axes, columns=3)
    return figure


@style.styled
def learning_rate_figure(arms: Sequence[tuple[str, str, dict[float, float]]]) -> Figure:
    """Mean score over learning rates: (name, title, mean by rate) of each arm; the best rate is ringed."""
    columns = _columns(title for _, title, _ in arms)
    figure, (axes,) = style.new_figure(height=style.HEIGHT + style.room_for(math.ceil(len(arms) / columns)))
    for index, (name, title, means) in enumerate(arms):
        rates = sorted(means)
        scores = [means[rate] for rate in rates]
        line = style.arm_line(name, index)
        axes.plot(rates, scores, marker="o", label=shorten(title, 54), **line)
        best = max(rates, key=lambda rate: means[rate])
        _ring(axes, [best], [means[best]], line["color"])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted({rate for _, _, means in arms for rate in means})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set(
        xlabel="learning rate",
        ylabel="validation accuracy (%)",
        title="the learning rate of each arm; its best is ringed",
    )
    style.legend_below(axes, columns=columns)
    return figure


@style.styled
def parameter_figure(
    rows: Sequence[ScreeningRow], names: Sequence[str], relu: float | None = None, log: Sequence[str] = ()
) -> Figure:
    """Score over each tuned parameter of a family.

    Args:
        rows: members of the family; at least one has finished.
        names: the tuned parameters.
        relu: ReLU's score under the same recipe, drawn as a line.
        log: those of `names` with a logarithmic axis.
    """
    members = ranked(rows)
    figure, panels = style.new_figure(len(names), width=style.WIDTH if len(names) == 1 else min(12.0, 5.0 * len(names)))
    for axes, name in zip(panels, names, strict=True):
        xs, ys = zip(*sorted((row.parameters[name], row.score) for row in members), strict=True)
        # A line joins the dots only where this parameter alone explains them.
        axes.plot(xs, ys, "-o" if len(names) == 1 else "o", color=style.FOUND, markersize=5, linewidth=1.3)
        best = members[0].parameters[name]
        _ring(axes, [best], [members[0].score], style.B_SILU, label=f"best: {name} = {best:.3g}")
        if relu is not None:
            axes.axhline(relu, label=f"ReLU, {100 * relu:.1f} %", **style.RELU_LINE)
        style.legend_below(axes)
        if name in log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(_PLAIN)
        axes.set(xlabel=name, ylabel="validation accuracy (%)")
        axes.yaxis.set_major_formatter(_PERCENT)
    panels[0].set_title(f"best: {shorten(members[0].label, 32)} at {100 * members[0].score:.1f} %")
    return figure


def hall_of_fame(rows: Sequence[ScreeningRow]) -> list[ScreeningRow]:
    """The finished candidates that were the best of all before them, in the order of proposal."""
    steps: list[ScreeningRow] = []
    for row in sorted((row for row in rows if row.finished), key=lambda row: row.index):
        if not steps or row.score > steps[-1].score:
            steps.append(row)
    return steps


def _columns(titles: Iterable[str]) -> int:
    """Formulas are long: two a line where they fit, else one."""
    return 2 if max(map(len, titles)) < 34 else 1


def _halves() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of x <= 0 and of x > 0, the latter from just above 0: a jump there is a gap and not a slope."""
    side = np.linspace(0, REACH, 601)
    return -side[::-1], np.concatenate([[1e-20], side[1:]])


def _draw(axes: Axes, surrogate: Surrogate, label: str, line: dict[str, Any]) -> None:
    below, above = _halves()
    axes.plot(below, surrogate(below), label=label, **line)
    axes.plot(above, surrogate(above), **line)
    if abs(surrogate.at_zero - surrogate.at_zero_plus) > 1e-6:
        dot: dict[str, Any] = {"marker": "o", "markersize": 6, "color": line["color"], "zorder": 5}
        axes.plot([0.0], [surrogate.at_zero], **dot)
        axes.plot([0.0], [surrogate.at_zero_plus], markerfacecolor="white", **dot)


def _draw_derivative(axes: Axes, surrogate: Surrogate) -> None:
    _draw(axes, surrogate, "g, the backward pass", {"color": style.FOUND, "linewidth": 2.6})
    for values, level, label in zip(_halves(), (0.0, 1.0), ("ReLU's derivative", "_nolegend_"), strict=True):
        axes.plot(values, np.full_like(values, level), label=label, **style.RELU_LINE)
    _label_derivative(axes)
    axes.set_title(f"{shorten(surrogate.label, 28)}: gain {surrogate.gain:.2f}, g(0) = {surrogate.at_zero:.3g}")
    style.legend_below(axes)


def _label_derivative(axes: Axes) -> None:
    axes.set(xlabel="x, the input of the ReLU", ylabel="g(x)", xlim=(-REACH, REACH))
    axes.margins(y=0.08)


def _ring(axes: Axes, xs: Sequence[float], ys: Sequence[float], color: str, **look: Any) -> None:
    axes.scatter(
        xs, ys, **{"s": 150, "facecolors": "none", "edgecolors": color, "linewidths": 1.8, "zorder": 4, **look}
    )


def _scatter(axes: Axes, rows: Sequence[ScreeningRow], label: str, **look: Any) -> None:
    if rows:
        xs, ys = [row.index for row in rows], [row.score for row in rows]
        axes.scatter(xs, ys, label=label, linewidths=1.2, zorder=3, **look)
