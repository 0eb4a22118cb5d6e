"""A profile's tables and pictures: how often units fire, and how units die in training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sugarsearch.analysis.profile import BINS, LayerProfile
from sugarsearch.report import style
from sugarsearch.report.sheets import Cell, Column, Sheet
from sugarsearch.report.text import percent, shorten
from sugarsearch.report.writers import as_csv, as_markdown
from sugarsearch.runs.results import write_atomically

TABLE, ROWS, DOCUMENT, HISTOGRAMS, COURSE = "table.md", "profile.csv", "profile.json", "profile.png", "epochs.png"
COLUMNS: Final = 5
"""Panels side by side: their titles are legible still on a page's width."""

_DEAD, _SOME, _ALWAYS = style.B_SILU, style.FOUND, style.OTHERS[0]
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g}")


@dataclass(frozen=True)
class Moment:
    """The profile of a network after `epoch` epochs; None where that is not known."""

    epoch: int | None
    layers: Sequence[LayerProfile]


@dataclass(frozen=True)
class Outcome:
    """What one way of training reached.

    Attributes:
        title: of the way.
        dead: share of units dead after the last epoch, None where there is no such number.
        accuracy: on the validation split, likewise.
        remark: why there is none.
    """

    title: str
    dead: float | None
    accuracy: float | None
    remark: str = ""


def layers_sheet(title: str, moment: Moment) -> Sheet:
    """A row for each layer."""
    return Sheet("profile", title, _COLUMNS, [_row(layer) for layer in moment.layers])


def course_sheet(moments: Sequence[Moment]) -> Sheet:
    """A row for each layer after each epoch that was looked at."""
    rows = [[moment.epoch, *_row(layer)] for moment in moments for layer in moment.layers]
    return Sheet("profile", "Layers by epoch", (Column("epoch", "epoch", "number"), *_COLUMNS), rows)


def remedies_sheet(title: str, outcomes: Sequence[Outcome]) -> Sheet:
    """A row for each way of training."""
    columns = (
        Column("trained_as", "trained as"),
        _share("dead", "dead %"),
        _share("accuracy", "validation %"),
        Column("remark", "remark"),
    )
    rows = [(one.title, one.dead, one.accuracy, one.remark) for one in outcomes]
    return Sheet("remedies", title, columns, rows)


def write(
    folder: Path, sheets: Sequence[Sheet], said: Sequence[str], moments: Sequence[Moment], document: dict[str, Any]
) -> list[Path]:
    """Write the tables of `sheets` with what is `said` of them, all layers of all moments, and pictures; the files.

    Raises:
        RunError: one cannot be written.
    """
    pictures = {HISTOGRAMS: histograms_figure(moments[-1].layers)}
    epochs = [moment.epoch for moment in moments if moment.epoch is not None]
    if len(epochs) > 1:
        pictures[COURSE] = course_figure(epochs, [moment.layers for moment in moments])
    links = [f"![{Path(name).stem}]({name})" for name in pictures]
    notes = [f"- {sentence}" for sentence in said]
    texts = {
        TABLE: "\n".join([*map(as_markdown, sheets), *notes, "", *links]) + "\n",
        ROWS: as_csv(course_sheet(moments)),
        DOCUMENT: json.dumps(document, indent=1, allow_nan=False) + "\n",
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [*(folder / name for name in texts), *(style.save(made, folder / name) for name, made in pictures.items())]


@style.styled
def histograms_figure(layers: Sequence[LayerProfile]) -> Figure:
    """A panel for each layer: its units by the share of samples for which they fire."""
    figure, panels = _grid(len(layers))
    for layer, axes in zip(layers, panels, strict=True):
        never, *between, always = (count / layer.units for count in layer.histogram)
        axes.bar([(index + 0.5) / BINS for index in range(BINS)], between, width=1 / BINS, color=_SOME)
        # Beside the axis from 0 to 1, so that exactly 0 and exactly 1 are not taken for bins.
        axes.bar([-0.06], [never], width=0.08, color=_DEAD)
        axes.bar([1.06], [always], width=0.08, color=_ALWAYS)
        axes.set_title(f"{shorten(layer.name, 22)}\n{layer.dead} of {layer.units} dead", fontsize=9)
        axes.set(xlim=(-0.12, 1.12), ylim=(0, 1), xticks=[0, 0.5, 1])
        axes.xaxis.set_major_formatter(_PERCENT)
    names = {"never: dead": _DEAD, "for some samples": _SOME, "for every sample": _ALWAYS}
    _finish(figure, "share of samples for which a unit fires (%)", "units (%)", names)
    return figure


@style.styled
def course_figure(epochs: Sequence[int], profiles: Sequence[Sequence[LayerProfile]]) -> Figure:
    """A panel for each layer: its dead and its always-on units over epochs."""
    figure, panels = _grid(len(profiles[0]))
    for course, axes in zip(zip(*profiles, strict=True), panels, strict=True):
        axes.plot(epochs, [layer.always_on / layer.units for layer in course], color=_ALWAYS, clip_on=False)
        axes.plot(epochs, [layer.dead / layer.units for layer in course], color=_DEAD, clip_on=False)
        axes.set_title(shorten(course[0].name, 22), fontsize=9)
        axes.set(xlim=(epochs[0], epochs[-1]), ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=4))
    _finish(figure, "epoch", "units (%)", {"dead": _DEAD, "always on": _ALWAYS})
    return figure


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """A figure that grows in height with its panels."""
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(style.WIDTH, 2.1 * columns), 1.1 + 1.7 * rows))
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for left in axes[count:]:
        left.set_visible(False)
    for above in axes[count - columns : count]:  # the lowest of its column, though others stand in the last row
        above.tick_params(labelbottom=True)
    return figure, axes[:count]


def _finish(figure: Figure, below: str, beside: str, colours: dict[str, str]) -> None:
    figure.axes[0].yaxis.set_major_formatter(_PERCENT)  # shared by all
    figure.supxlabel(below, fontsize=11)
    figure.supylabel(beside, fontsize=11)
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _share(name: str, title: str) -> Column:
    return Column(name, title, "number", percent)


_COLUMNS: Final = (
    Column("layer", "layer"),
    Column("units", "units", "number"),
    Column("samples", "samples", "number"),
    Column("dead", "dead", "number"),
    _share("dead_share", "dead %"),
    Column("always_on", "always on", "number"),
    Column("fewest", "fire: fewest", "number"),
    Column("mean", "mean", "number", lambda units: f"{units:.1f}"),
    Column("most", "most", "number"),
    _share("zeros", "outputs 0 %"),
)


def _row(layer: LayerProfile) -> list[Cell]:
    counted = [layer.dead, layer.dead / layer.units, layer.always_on, layer.fewest, layer.mean, layer.most]
    return [layer.name, layer.units, layer.samples, *counted, layer.zeros]
