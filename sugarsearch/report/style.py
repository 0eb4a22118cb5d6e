"""How every picture looks: one palette, one size of type, no global state of matplotlib."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sugarsearch.runs.results import replacing

P = ParamSpec("P")
R = TypeVar("R")

# Okabe and Ito's colours, told apart by all common forms of colour blindness; each role keeps its colour.
FOUND = "#0072B2"
RELU = "#000000"
B_SILU = "#D55E00"
OTHERS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9")

PALE = "#B5B5B5"
GRID, PAPER = "#E4E4E4", "#FFFFFF"

DARK: Mapping[str, str] = MappingProxyType(
    {
        FOUND: "#5DB4E8",
        RELU: "#F0F0F0",
        B_SILU: "#FF9248",
        OTHERS[0]: "#F5BC42",
        OTHERS[1]: "#2CC79A",
        OTHERS[2]: "#E7A3CB",
        OTHERS[3]: "#8FD0F5",
        PALE: "#777E86",
        GRID: "#343A41",
        PAPER: "#15191E",
    }
)
"""What each colour of a picture becomes on a dark page; a picture has no others."""

# Dashes repeat what colour says, for print in grey.
_DASHES = ((0, (6, 1.5)), (0, (1, 1.2)), (0, (6, 1.2, 1.2, 1.2)))
# Drawn last and thin: where ReLU's line covers another, both stay visible.
RELU_LINE: dict[str, Any] = {"color": RELU, "linestyle": (0, (5, 2)), "linewidth": 1.5, "zorder": 3}

FONT = "DejaVu Sans"

_TYPE = {
    "font.family": FONT,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    # Words stay words in an SVG: they can be searched, read aloud and set in the reader's own type.
    "svg.fonttype": "none",
    "svg.hashsalt": "sugarsearch",
}


WIDTH, HEIGHT = 5.6, 3.9  # inches: two pictures stand side by side on a page, and one is still legible on a phone


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under this style, and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with rc_context(_TYPE):  # type: ignore[arg-type]
            return draw(*args, **kwargs)

    return wrapper


def new_figure(columns: int = 1, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """A figure (inches) of `columns` panels, drawn by Agg without a window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def arm_line(name: str, index: int) -> dict[str, Any]:
    """Line of an arm: fixed for the names relu and b_silu and for the first of others, in turn for the rest."""
    if name == "relu":
        return dict(RELU_LINE)
    if name == "b_silu":
        return {"color": B_SILU, "linestyle": _DASHES[2]}
    if index == 0:
        return {"color": FOUND, "linewidth": 2.6}
    return {
        "color": OTHERS[index % len(OTHERS)],
        "linestyle": _DASHES[(index + (index - 1) // len(OTHERS)) % 2],
    }  # the third is B-SiLU's


def room_for(rows: int) -> float:
    """Inches that a legend of so many rows takes beyond what a picture has for it."""
    return 0.2 * max(0, rows - 4)


def legend_below(axes: Axes, columns: int = 2) -> None:
    """A legend under the axes, where it hides no data."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, handletextpad=0.5, columnspacing=1.4)


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG of 220 dots per inch, or an SVG, by the end of the name; a reader never sees half a file.

    Raises:
        RunError: it cannot be written.
    """
    content = svg(figure).encode() if path.suffix == ".svg" else _png(figure)
    with replacing(path) as file:
        file.write(content)
    return path


def svg(figure: Figure) -> str:
    """The picture as SVG, byte for byte the same each time."""
    stream = io.StringIO()
    with rc_context(_TYPE):  # type: ignore[arg-type]
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=220)
    return stream.getvalue()
