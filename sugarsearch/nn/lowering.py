"""Surrogates in torch: g in closed form, as a short program over the operator table.

A program is data (names, positions and numbers), so it can be pickled and copied; torch.compile traces through it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.surrogate import REACH, Surrogate

Value = Tensor | float


def _sech2(a: Tensor) -> Tensor:
    tail = torch.exp(-2 * torch.abs(a))  # 1 - tanh(a)^2 would be 0 from a = 9 (fp32)
    return 4 * tail / torch.square(1 + tail)


def _maximum(a: Value, b: Value) -> Tensor:
    if isinstance(a, Tensor):
        return torch.maximum(a, b) if isinstance(b, Tensor) else torch.clamp(a, min=b)
    return _maximum(b, a)


def _minimum(a: Value, b: Value) -> Tensor:
    if isinstance(a, Tensor):
        return torch.minimum(a, b) if isinstance(b, Tensor) else torch.clamp(a, max=b)
    return _minimum(b, a)


def _select(condition: Any, mask: Any, a: Any, b: Any) -> Any:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):  # two numbers would take torch's default dtype
        a = torch.full_like(condition, a)
    return torch.where(mask, a, b)


TORCH: dict[str, Callable[..., Value]] = {
    "neg": operator.neg,
    "abs": torch.abs,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log1p_abs": lambda a: torch.log1p(torch.abs(a)),
    "sigmoid": torch.sigmoid,
    "softplus": lambda a: F.softplus(a, threshold=50.0),  # the default, 20, errs by 2e-9
    "tanh": torch.tanh,
    "sech2": _sech2,
    "erf": torch.erf,
    "normal_cdf": lambda a: 0.5 * torch.erfc(-math.sqrt(0.5) * a),
    "normal_pdf": lambda a: torch.exp(-0.5 * torch.square(a)) * (1 / math.sqrt(2 * math.pi)),
    "gaussian": lambda a: torch.exp(-torch.square(a)),
    "atan": torch.atan,
    "sin": torch.sin,
    "cos": torch.cos,
    "step": lambda a: _select(a, a > 0, 1.0, 0.0),  # a cast of the mask would not be made a vector instruction
    "softsign": lambda a: a / (1 + torch.abs(a)),
    "relu": torch.relu,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "max": _maximum,
    "min": _minimum,
    "if_positive": lambda c, a, b: _select(c, c > 0, a, b),
    "if_nonnegative": lambda c, a, b: _select(c, c >= 0, a, b),
}
"""Each operator on tensors, with Python numbers for some but not all of its arguments; a condition is a tensor."""

if TORCH.keys() != OPERATORS.keys():
    raise ImportError(f"operators without a torch form, or the reverse: {sorted(TORCH.keys() ^ OPERATORS.keys())}")


@dataclass(frozen=True, eq=False)
class Lowered:
    """g in closed form: a callable from a float tensor to one of its shape and memory format.

    Computed in float32, for float64 input in float64, and returned so; x beyond +-65504, infinity included, counts as
    +-65504, so that an admitted g is finite.

    steps: name of the operator and its operands, an int for an earlier value (0 is x, i is step i), a float for a
    number; result: the operand that is g, before `scale`; name: in the library, or "", with the values of its
    `parameters`, sorted by their names.
    """

    steps: tuple[tuple[str, tuple[int | float, ...]], ...]
    result: int | float
    scale: float
    name: str = ""
    parameters: tuple[float, ...] = ()

    def __eq__(self, other: object) -> bool:
        """By repr, because value 1 is another operand than the number 1.0, which equals it."""
        return isinstance(other, Lowered) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self, x: Tensor) -> Tensor:
        return self.at(torch.clamp(x if x.dtype == torch.float64 else x.float(), -REACH, REACH))

    def at(self, x: Tensor) -> Tensor:
        """The value at x, float32 or float64, also beyond +-65504; x itself where that is the formula."""
        values: list[Value] = [x]
        for name, operands in self.steps:
            values.append(TORCH[name](*[values[i] if isinstance(i, int) else i for i in operands]))
        g = values[self.result] if isinstance(self.result, int) else self.result
        if not isinstance(g, Tensor):
            return torch.full_like(x, g * self.scale)
        return g if self.scale == 1 else g * self.scale


@dataclass(frozen=True)
class LoweredMembers:
    """The closed forms of a population's g's, by members: neighbours with the same g share one computation.

    runs: how many members a run of neighbours has, and their g.
    """

    runs: tuple[tuple[int, Lowered], ...]

    def pieces(self) -> Iterator[tuple[slice, Lowered]]:
        """The members of each run, and their g."""
        start = 0
        for count, g in self.runs:
            yield slice(start, start + count), g
            start += count


def lower_members(surrogates: Sequence[Surrogate]) -> LoweredMembers:
    """The closed forms of a population; equal surrogates should be neighbours."""
    return LoweredMembers(tuple((len(list(equal)), lower(g)) for g, equal in groupby(surrogates)))


def lower(surrogate: Surrogate) -> Lowered:
    """The closed form of `surrogate`; a subtree that occurs twice is computed once."""
    steps: list[tuple[str, tuple[int | float, ...]]] = []
    seen: dict[Expression, int | float] = {}

    def place(node: Expression) -> int | float:
        if node.op == "x":
            return 0
        if node.op == "constant":
            return node.value
        if node not in seen:
            steps.append((node.op, tuple(place(argument) for argument in node.args)))
            seen[node] = len(steps)
        return seen[node]

    result = place(surrogate.bound)
    values = tuple(value for _, value in surrogate.parameters)
    # A factor of 0 makes NaN of an infinite x; the steps, which keep x finite, know no such case.
    name = surrogate.name if all(values) else ""
    return Lowered(tuple(steps), result, surrogate.scale, name, values)
