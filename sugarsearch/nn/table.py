"""g as data: tables of its values on the whole line, looked up with linear interpolation.

A table is swapped in a compiled model without recompiling it, and each member of a population has its
own. The line is mapped to the bounded coordinate u = s x / (1 + |x|), rising, with u(0) = 0, in which the knots are
the integers -n..n. Within a cell, between neighbouring knots, g is taken as intercept + slope * u. Cells of x <= 0 and
of x > 0 are two half-tables, so that a jump at 0 is exact: cell ceil(u) = 0 ends with g(0), cell 1 starts with g(0+).
Jumps elsewhere are smeared over one cell, and the stated error says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sugarsearch.errors import AdmissionError
from sugarsearch.symbolic.surrogate import REACH

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

CELLS_PER_HALF = 2048
"""Knots are 5e-4 apart at 0 and 8e-3 at |x| = 3; one member's table takes 32 KiB."""

MARGIN = 1e-6  # keeps u below the last knot for every finite x in float32
_JUST_ABOVE_ZERO = 1e-30  # where g(0+) is read


@dataclass(frozen=True)
class Table:
    """Tables of one or more g's.

    cells: float32 [2, members, 2 * n]: intercepts, then slopes; the first n cells of each are those of x <= 0.
    errors: for each member a bound of the absolute error against g: twice the largest one in the middles of the
    cells, because a kink or jump may lie elsewhere in its cell.
    """

    cells: Tensor
    errors: tuple[float, ...]


def tabulate(functions: Sequence[Function], cells_per_half: int = CELLS_PER_HALF) -> Table:
    """The table of `functions`, each from and to float64 arrays. About 0.5 ms for each.

    Raises AdmissionError where one is not finite.
    """
    ceilings = np.arange(1.0 - cells_per_half, cells_per_half + 1)
    cells = np.empty((2, len(functions), 2 * cells_per_half), dtype=np.float32)
    errors = []
    for member, function in enumerate(functions):
        left, exact, right = cell_values(function, cells_per_half)
        cells[1, member] = right - left
        cells[0, member] = right - cells[1, member] * ceilings
        tabled = cells[0, member] + cells[1, member] * (ceilings - 0.5)
        errors.append(2 * float(np.max(np.abs(tabled - exact))))
    return Table(torch.from_numpy(cells), tuple(errors))


def look_up(cells: Tensor, x: Tensor) -> Tensor:
    """g(x) out of a table's `cells`, float32, shape and memory format of x.

    With more than one member x is [members, ...]. The result is finite for every x, NaN too.
    """
    x = x if x.dtype == torch.float64 else x.float()
    return _traced(cells, x) if torch.compiler.is_compiling() else _eager(cells, x)


def _eager(cells: Tensor, x: Tensor) -> Tensor:
    half = cells.shape[2] // 2
    u = coordinate(x, half)
    index = u.ceil().int().add_(_first_cells(cells, x.dim()) if cells.shape[1] > 1 else half - 1)
    intercepts, slopes = cells.flatten(1)
    return _take(intercepts, index).addcmul_(u.float(), _take(slopes, index))


def coordinate(x: Tensor, half: int) -> Tensor:
    """u of x (float32 or float64), a new tensor: finite for every x, 0 for NaN. x's cell is ceil(u) + half - 1."""
    scale = half * (1 - MARGIN)
    u = torch.nan_to_num(x, nan=0.0, posinf=REACH, neginf=-REACH)
    return u.div_(torch.add(1 / scale, u.abs(), alpha=1 / scale))


def _traced(cells: Tensor, x: Tensor) -> Tensor:
    """The same as operations that Inductor turns into vector instructions.

    It writes nan_to_num and index_select as a loop over single elements, and checks each index that it cannot prove to
    be in range: 2.5 times as slow in a network on the CPU.
    """
    half = cells.shape[2] // 2
    scale = half * (1 - MARGIN)
    u = torch.where(x > -REACH, x, -REACH).clamp(max=REACH)
    u = u * scale / (1 + u.abs())
    index = (u.ceil() + (half - 1)).clamp(0, 2 * half - 1).long()
    if cells.shape[1] > 1:
        index = index + (_first_cells(cells, x.dim()) - (half - 1))
    intercepts, slopes = _gathered(cells.flatten(1), index)
    g: Tensor = intercepts + slopes * u.float()
    return g


def _gathered(rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """rows[0][index] and rows[1][index].

    On the CPU, which gathers element by element, both halves of one 64-bit number: 0.7 times a look-up's time.
    """
    if rows.device.type != "cpu":
        return rows[0][index], rows[1][index]
    pairs = torch.stack([*(rows if sys.byteorder == "little" else rows.flip(0))], 1).view(torch.int64).squeeze(1)
    both = pairs[index]
    return both.to(torch.int32).view(torch.float32), (both >> 32).to(torch.int32).view(torch.float32)


def _first_cells(cells: Tensor, dimensions: int) -> Tensor:
    """Where the cell with ceil(u) = 0 of each member lies, int32 [members, 1, ...]."""
    members, count = cells.shape[1], cells.shape[2]
    start = count // 2 - 1
    first = torch.arange(start, start + members * count, count, dtype=torch.int32, device=cells.device)
    return first.view(members, *[1] * (dimensions - 1))


def _take(row: Tensor, index: Tensor) -> Tensor:
    """row[index]; index_select is five times as fast on the CPU, but takes flat indices only."""
    if index.is_contiguous():
        return row.index_select(0, index.view(-1)).view(index.shape)
    return row[index]


def cell_values(function: Function, half: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What `function` is at the left ends, in the middles and at the right ends of the cells, [2 * half] each.

    Raises AdmissionError where one is not finite.
    """
    knots, middles = points(half)
    values = function(np.concatenate([knots, middles]))
    _require_finite(function, knots, values)
    ends, at_middles = values[: knots.size], values[knots.size :]
    return np.delete(ends, [half, ends.size - 1]), at_middles, np.delete(ends, [0, half + 1])


@lru_cache(maxsize=4)
def points(half: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x at the knots -n..0, 0+..n (the outermost at +-REACH) and at the middles of the cells."""
    scale = half * (1 - MARGIN)

    def at(u: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return u / (scale - u)

    knots = np.concatenate([[_JUST_ABOVE_ZERO], at(np.arange(1.0, half)), [REACH]])
    middles = at(np.arange(half) + 0.5)
    below = -knots[::-1]
    below[-1] = 0.0
    return np.concatenate([below, knots]), np.concatenate([-middles[::-1], middles])


def _require_finite(function: Function, points: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values))) % points.size
        raise AdmissionError(str(function), float(points[at]), "float64", "its table is not finite")
