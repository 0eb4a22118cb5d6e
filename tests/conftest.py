"""What tests of several layers share: the oracle for values of g, which evaluates expressions by mpmath from
definitions of its own; and rows of a screening."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import pytest
from mpmath import mp

from sugarsearch.runs.results import ScreeningRow
from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.library import surrogate

Exact = Callable[..., Any]

_LARGEST = mpmath.mpf(10) ** 30

_DEFINITIONS: dict[str, Callable[..., Any]] = {
    "neg": lambda a: -a,
    "abs": abs,
    "square": lambda a: a * a,
    "sqrt": mp.sqrt,
    "exp": mp.exp,
    "log1p_abs": lambda a: mp.log1p(abs(a)),
    "sigmoid": lambda a: 1 / (1 + mp.exp(-a)),
    "softplus": lambda a: mp.log1p(mp.exp(a)),
    "tanh": mp.tanh,
    "sech2": lambda a: 1 / mp.cosh(a) ** 2,
    "erf": mp.erf,
    "normal_cdf": mp.ncdf,
    "normal_pdf": mp.npdf,
    "gaussian": lambda a: mp.exp(-a * a),
    "atan": mp.atan,
    "sin": mp.sin,
    "cos": mp.cos,
    "step": lambda a: mp.mpf(1 if a > 0 else 0),
    "softsign": lambda a: a / (1 + abs(a)),
    "relu": lambda a: max(a, mp.mpf(0)),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "max": max,
    "min": min,
    "if_positive": lambda c, a, b: a if c > 0 else b,
    "if_nonnegative": lambda c, a, b: a if c >= 0 else b,
}


@pytest.fixture(scope="session")
def definitions() -> Mapping[str, Callable[..., Any]]:
    """Every operator's definition, in mpmath's arithmetic."""
    return _DEFINITIONS


@pytest.fixture(scope="session")
def exact() -> Exact:
    """exact(expression, x, parameters, seen=None): the value in mpmath's current precision.

    `seen`, a list, collects the sizes of all intermediate values. Raises OverflowError beyond 1e30 and ValueError
    where a value is not real.
    """

    def value(
        node: Expression, x: Any, parameters: Mapping[str, float] | None = None, seen: list[Any] | None = None
    ) -> Any:
        if node.op == "x":
            result = mp.mpf(x)
        elif node.op == "constant":
            result = mp.mpf(node.value)
        elif node.op == "parameter":
            result = mp.mpf((parameters or {})[node.name])
        else:
            result = _DEFINITIONS[node.op](*[value(argument, x, parameters, seen) for argument in node.args])
        if not isinstance(result, mpmath.mpf):
            raise ValueError(f"{node} is not real")
        if abs(result) > _LARGEST:
            raise OverflowError(str(node))
        if seen is not None:
            seen.append(abs(result))
        return result

    return value


def _row(index: int, score: float, status: str = "COMPLETED", text: str = "b_silu") -> ScreeningRow:
    g = surrogate(text).at_unit_gain()
    return ScreeningRow(
        index=index,
        label=g.label,
        surrogate=g.to_json(),
        origin="queue",
        status=status,
        score=score,
        best_learning_rate=0.01,
        scores_by_learning_rate={"0.01": score},
        epochs_scores=[score],
        gain=g.gain,
        at_zero=g.at_zero,
        reason="",
        seconds=1.0,
    )


@pytest.fixture(scope="session")
def screening_row() -> Callable[..., ScreeningRow]:
    """Makes a row of the screening: (index, score, status, text of g)."""
    return _row
