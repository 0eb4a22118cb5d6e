"""g as a step function of few levels, so that a backward pass needs 8, 4 or 2 bits of x in place of x.

A code stands for a class of cells of the line (those of a table, see sugarsearch.nn.table) and has one level, which
takes g's place there. The classes are those of the least squared error: cells are sorted by g's value, a half-line at
a time, and divided by dynamic programming. A stretch where g is constant costs one code.

Codes of fewer than 8 bits are packed: byte i of m holds the elements i, i + m, i + 2m, ... from its lowest bits up,
so that packing works on whole rows of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sugarsearch.errors import UsageError
from sugarsearch.nn.table import CELLS_PER_HALF, Function, cell_values, coordinate, points

BITS: Final = (8, 4, 2)
"""The widths that a code may have."""

_UNIFORM: Final = 0.1  # of the weight lies evenly over u, so that the tails count too
_PIN: Final = 100.0  # weight of g(0), against 1 for all else
_STRIDE: Final = 16
_CHUNK: Final = 2**17  # elements worked on at once on the CPU, so that intermediate results stay in its cache
_CHUNK_ELSEWHERE: Final = 2**24  # on other devices, so that intermediate results stay small beside what is saved

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Codebook:
    """A code for each cell of the line and a level for each code. x <= 0 and x > 0 never share a code.

    Attributes:
        bits: of a code: 8, 4 or 2.
        codes: uint8 [cells], the code of each cell.
        levels: float32 [2**bits, or fewer], what stands for g where x has that code. The level of x = 0 is g(0).
        rms_error: root mean square of g(z) - level, z ~ N(0, 1).
        max_error: a bound of |g(x) - level| over all x: the largest over the cells of the error at its worse end,
            plus twice the distance of g in the cell's middle from the mean of its ends, because a kink or jump may lie
            elsewhere in its cell.
    """

    bits: int
    codes: Tensor
    levels: Tensor
    rms_error: float
    max_error: float

    def to(self, device: torch.device | str) -> Codebook:
        """The same on another device; itself where it is there already."""
        if self.codes.device == torch.device(device):
            return self
        return replace(self, codes=self.codes.to(device), levels=self.levels.to(device))

    def relus_own(self) -> Codebook:
        """The same codes with ReLU's own derivative for levels: 1 for x > 0, else 0. Errors are not restated."""
        levels = torch.zeros_like(self.levels)
        levels[self.codes[self.codes.numel() // 2 :].long()] = 1.0
        return replace(self, levels=levels)


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory: its shape, and its dimensions from the outermost to the innermost."""

    shape: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor) -> Layout:
        """That of x."""
        strides = x.stride()
        return cls(tuple(x.shape), tuple(sorted(range(x.dim()), key=lambda dimension: -strides[dimension])))

    def flat(self, x: Tensor) -> Tensor:
        """The elements of x in this order, one-dimensional; a view where x lies so, without gaps, else a copy."""
        return x.permute(self.order).contiguous().view(-1)

    def shaped(self, flat: Tensor) -> Tensor:
        """The reverse of `flat`: a view in this shape, without gaps."""
        outermost_first = flat.view([self.shape[dimension] for dimension in self.order])
        return outermost_first.permute([self.order.index(dimension) for dimension in range(len(self.order))])


@lru_cache(maxsize=64)
def codebook(g: Function, bits: int) -> Codebook:
    """The codebook of least squared error for g, from and to float64 arrays; remembered, as sites share a g.

    A cell weighs 0.9 of its probability under N(0, 1) and 0.1 of its share of u, the table's bounded coordinate, so
    that the tails count too. The cell that ends at 0 counts with g(0) and outweighs all others together a hundredfold:
    x = 0, the input of every unit above a dead layer, has the level g(0) to float32's precision, at any width.
    Takes 0.15 s for 8 bits, 0.02 s for 4.

    Raises:
        UsageError: another number of bits.
        AdmissionError: g is not finite.
    """
    if bits not in BITS:
        raise UsageError(f"codes of {bits} bits are not known; allowed are {', '.join(map(str, BITS))}.")
    left, middle, right = cell_values(g, CELLS_PER_HALF)
    zero = CELLS_PER_HALF - 1
    means = (left + 4 * middle + right) / 6
    means[zero] = right[zero]
    masses = _normal_masses()
    weights = (1 - _UNIFORM) * masses + _UNIFORM / masses.size
    weights[zero] += _PIN
    codes = _classes(means, weights, 2**bits)
    levels = np.bincount(codes, weights * means) / np.bincount(codes, weights)
    levels[codes[zero]] = right[zero]
    levels = levels.astype(np.float32)
    own = levels[codes].astype(np.float64)
    squares = ((left - own) ** 2 + 4 * (middle - own) ** 2 + (right - own) ** 2) / 6
    bend = 2 * np.abs(middle - (left + right) / 2)
    return Codebook(
        bits,
        torch.from_numpy(codes.astype(np.uint8)),
        torch.from_numpy(levels),
        rms_error=float(np.sqrt(masses @ squares)),
        max_error=float(np.max(np.maximum(np.abs(left - own), np.abs(right - own)) + bend)),
    )


@lru_cache(maxsize=1)
def _normal_masses() -> Floats:
    """The probability of each cell under N(0, 1)."""
    below = torch.from_numpy(points(CELLS_PER_HALF)[0][: CELLS_PER_HALF + 1])
    left = np.diff(torch.special.ndtr(below).numpy())
    return np.concatenate([left, left[::-1]])


def _classes(values: Floats, weights: Floats, most: int) -> Indices:
    """The class of each cell, at most `most` of them: those of the lower half first, in each half rising with g."""
    half = values.size // 2
    pairs = [np.unique(side, return_inverse=True) for side in (values[:half], values[half:])]
    border = pairs[0][0].size
    which = np.concatenate([pairs[0][1], pairs[1][1] + border])
    distinct = np.concatenate([pairs[0][0], pairs[1][0]])
    if distinct.size <= most:
        return which
    starts = partition(distinct, np.bincount(which, weights).astype(np.float64), border, most)
    classes: Indices = np.searchsorted(starts, which, side="right") - 1
    return classes


def partition(values: Floats, weights: Floats, border: int, classes: int) -> Indices:
    """Where each of `classes` intervals starts that divide `values` with the least weighted squared error.

    values: [n], distinct and rising before `border` and from there on; no interval lies on both sides of it.
    weights: [n], positive. classes: 2 to n.
    """
    # Squares lose fewest digits around the heaviest value of each side.
    heaviest = values[[np.argmax(weights[:border]), border + np.argmax(weights[border:])]]
    centred = values - np.repeat(heaviest, [border, values.size - border])
    sums = np.stack([np.concatenate([[0.0], np.cumsum(weights * centred**power)]) for power in range(3)])
    least = _least_costs(sums, border, classes)
    starts, end = [], values.size
    for before in least[-2::-1]:
        first = border if end > border else 0
        start = np.arange(first, end)
        end = first + int(np.argmin(_costs(before - sums[2], sums, start, sums[0, end], sums[1, end])))
        starts.append(end)
    return np.array(starts[::-1], np.intp)


def _least_costs(sums: Floats, border: int, classes: int) -> Floats:
    """Of the first j values in k intervals, [classes + 1, n + 1]; infinite where there is no such division.

    Where the last interval starts rises with j. So it is sought for every 16th j first, from where it
    started with one interval fewer, and for those between within their neighbours' starts.
    """
    count = sums.shape[1] - 1
    least = np.full((classes + 1, count + 1), np.inf)
    least[0, 0] = 0.0
    least[1, 1 : border + 1] = sums[2, 1 : border + 1] - sums[1, 1 : border + 1] ** 2 / sums[0, 1 : border + 1]
    marks = np.unique(np.concatenate([np.arange(0, count, _STRIDE), [border, count]]))
    between = np.minimum(marks[:-1, None] + np.arange(1, _STRIDE), count)
    inside = between < marks[1:, None]
    starts = np.where(marks > border, border, 0)
    floors = np.where(marks[:-1] >= border, border, 0)
    weight, first = sums[:2, between]
    for before, row in pairwise(least[1:]):
        before = before - sums[2]
        firsts, start, lengths = _spans(starts, marks)
        costs = _costs(before, sums, start, *np.repeat(sums[:2, marks], lengths, axis=1))
        lowest = np.minimum.reduceat(costs, firsts)
        hits = np.flatnonzero(costs == np.repeat(lowest, lengths))
        starts = np.maximum.accumulate(start[hits[np.searchsorted(hits, firsts)]])
        row[marks] = lowest + sums[2, marks]
        firsts, start, lengths = _spans(np.maximum(starts[:-1], floors), np.maximum(starts[1:], floors))
        block = np.repeat(np.arange(marks.size - 1), lengths)
        costs = _costs(before, sums, start[:, None], weight[block], first[block])
        row[between[inside]] = (np.minimum.reduceat(costs, firsts) + sums[2, between])[inside]
    return least


def _spans(low: Indices, high: Indices) -> tuple[Indices, Indices, Indices]:
    """The integers low[i]..high[i] of all i in a row: where each i's begin, they themselves, how many each has."""
    lengths = high - low + 1
    firsts = np.cumsum(lengths) - lengths
    return firsts, np.arange(int(lengths.sum())) - np.repeat(firsts - low, lengths), lengths


def _costs(before: Floats, sums: Floats, start: Indices, weight: Floats, first: Floats) -> Floats:
    """The cost with a last interval from `start` to an end, less sums[2] there; infinite for an empty interval.

    before: the least cost up to each place, less sums[2]. weight, first: sums[0] and sums[1] at the end.
    """
    weight, first = weight - sums[0, start], first - sums[1, start]
    empty = weight <= 0
    np.copyto(weight, 1.0, where=empty)
    costs: Floats = np.subtract(before[start], np.square(first, out=first) / weight)
    np.copyto(costs, np.inf, where=empty)
    return costs


def encode(x: Tensor, book: Codebook) -> Tensor:
    """The codes of x, packed: uint8 [ceil(numel * bits / 8)], in the order in which x lies in memory.

    x without gaps is read in place, in any memory format; x with gaps is copied first. NaN has the code of 0.
    """
    flat = Layout.of(x).flat(x)
    half = book.codes.numel() // 2
    codes = torch.empty(flat.shape, dtype=torch.uint8, device=x.device)
    for piece in _pieces(flat):
        part = flat[piece]
        cell = coordinate(part if part.dtype == torch.float64 else part.float(), half).ceil_().int().add_(half - 1)
        codes[piece] = book.codes.index_select(0, cell)
    return _pack(codes, book.bits)


def decode(packed: Tensor, book: Codebook, layout: Layout) -> Tensor:
    """The levels of what `encode` packed, float32; layout: Layout.of(x), which x with gaps gets without them."""
    numbers = torch.empty(int(np.prod(layout.shape)), dtype=torch.float32, device=packed.device)
    for piece, levels in levels_of(packed, book, numbers.numel()):
        numbers[piece] = levels
    return layout.shaped(numbers)


def levels_of(packed: Tensor, book: Codebook, count: int) -> Iterator[tuple[slice, Tensor]]:
    """The levels of `count` packed codes, float32, piece by piece, each with its place."""
    codes = _unpack(packed, book.bits)[:count]
    for piece in _pieces(codes):
        yield piece, book.levels.index_select(0, codes[piece].int())


def _pieces(flat: Tensor) -> list[slice]:
    if torch.compiler.is_compiling():  # a loop would be unrolled
        return [slice(None)]
    size = _CHUNK if flat.device.type == "cpu" else _CHUNK_ELSEWHERE
    return [slice(start, min(start + size, flat.numel())) for start in range(0, flat.numel(), size)]


def _pack(codes: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return codes
    size = -(-codes.numel() * bits // 8)
    packed = codes[:size].clone()
    for place in range(1, 8 // bits):
        row = codes[place * size : (place + 1) * size]
        packed[: row.numel()] |= row << (place * bits)
    return packed


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """One code to a byte; at the end there may be codes of no element."""
    if bits == 8:
        return packed
    codes = packed.new_empty(8 // bits, packed.numel())
    for place, row in enumerate(codes):
        torch.bitwise_and(packed >> (place * bits), 2**bits - 1, out=row)
    return codes.view(-1)
