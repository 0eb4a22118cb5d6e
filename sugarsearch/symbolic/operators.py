"""The operators that an expression of g may use: one literal table.

Each has a numpy form, which keeps float32 and float64 and never turns a finite result into NaN by an overflow on
the way, and a SymPy form for display and exact derivatives. The torch forms stand beside the other torch code
and are proved complete against this table at import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.floating[Any]]

_PROBE = (-65504.0, -1.5, 0.0, 1.5, 65504.0)


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: as written in expressions.
        arity: number of arguments.
        numpy: its value on arrays (or numpy scalars) of one float dtype, elementwise.
        sympy: its exact form, called with the sympy module and the arguments.
        total: whether it is finite on all moderate arguments; sqrt, div and pow are not.
    """

    name: str
    arity: int
    numpy: Callable[..., Any]
    sympy: Callable[..., Any]
    total: bool = True

    def __post_init__(self) -> None:
        for dtype in (np.float32, np.float64):
            probe = np.array(_PROBE, dtype)
            with np.errstate(all="ignore"):
                value = self.numpy(*[probe] * self.arity)
            if value.dtype != probe.dtype or value.shape != probe.shape:
                raise TypeError(
                    f"operator {self.name!r} gives {value.dtype}{value.shape} for {probe.dtype}{probe.shape}."
                )
            if self.total and np.isnan(value).any():
                raise ValueError(f"operator {self.name!r} gives NaN at a finite point; mend it or mark it partial.")


def _sech2(x: Array) -> Any:
    tail = np.exp(-2 * np.abs(x))  # 1 - tanh(x)^2 would be 0 from x = 9 (fp32)
    return 4 * tail / np.square(1 + tail)


def _step(x: Array) -> Any:
    return np.greater(x, 0).astype(x.dtype)


def _normal_pdf(x: Array) -> Any:
    return np.exp(-0.5 * np.square(x)) * (1 / math.sqrt(2 * math.pi))


def _pieces(s: ModuleType, condition: Any, then: Any, otherwise: Any) -> Any:
    return s.Piecewise((then, condition), (otherwise, True))


_TABLE = (
    Operator("neg", 1, np.negative, lambda s, a: -a),
    Operator("abs", 1, np.abs, lambda s, a: s.Abs(a)),
    Operator("square", 1, np.square, lambda s, a: a**2),
    Operator("sqrt", 1, np.sqrt, lambda s, a: s.sqrt(a), total=False),
    Operator("exp", 1, np.exp, lambda s, a: s.exp(a)),
    Operator("log1p_abs", 1, lambda a: np.log1p(np.abs(a)), lambda s, a: s.log(1 + s.Abs(a))),
    Operator("sigmoid", 1, special.expit, lambda s, a: 1 / (1 + s.exp(-a))),
    Operator("softplus", 1, lambda a: np.logaddexp(0, a), lambda s, a: s.log(1 + s.exp(a))),
    Operator("tanh", 1, np.tanh, lambda s, a: s.tanh(a)),
    Operator("sech2", 1, _sech2, lambda s, a: s.sech(a) ** 2),
    Operator("erf", 1, special.erf, lambda s, a: s.erf(a)),
    Operator("normal_cdf", 1, special.ndtr, lambda s, a: s.erfc(-a / s.sqrt(2)) / 2),
    Operator("normal_pdf", 1, _normal_pdf, lambda s, a: s.exp(-(a**2) / 2) / s.sqrt(2 * s.pi)),
    Operator("gaussian", 1, lambda a: np.exp(-np.square(a)), lambda s, a: s.exp(-(a**2))),
    Operator("atan", 1, np.arctan, lambda s, a: s.atan(a)),
    Operator("sin", 1, np.sin, lambda s, a: s.sin(a)),
    Operator("cos", 1, np.cos, lambda s, a: s.cos(a)),
    Operator("step", 1, _step, lambda s, a: _pieces(s, a > 0, 1, 0)),
    Operator("softsign", 1, lambda a: a / (1 + np.abs(a)), lambda s, a: a / (1 + s.Abs(a))),
    Operator("relu", 1, lambda a: np.maximum(a, 0), lambda s, a: s.Max(a, 0)),
    Operator("add", 2, np.add, lambda s, a, b: a + b),
    Operator("sub", 2, np.subtract, lambda s, a, b: a - b),
    Operator("mul", 2, np.multiply, lambda s, a, b: a * b),
    Operator("div", 2, np.divide, lambda s, a, b: a / b, total=False),
    Operator("pow", 2, np.power, lambda s, a, b: a**b, total=False),
    Operator("max", 2, np.maximum, lambda s, a, b: s.Max(a, b)),
    Operator("min", 2, np.minimum, lambda s, a, b: s.Min(a, b)),
    Operator("if_positive", 3, lambda c, a, b: np.where(c > 0, a, b), lambda s, c, a, b: _pieces(s, c > 0, a, b)),
    Operator("if_nonnegative", 3, lambda c, a, b: np.where(c >= 0, a, b), lambda s, c, a, b: _pieces(s, c >= 0, a, b)),
)

OPERATORS: Mapping[str, Operator] = MappingProxyType({operator.name: operator for operator in _TABLE})
"""Every operator by name."""
