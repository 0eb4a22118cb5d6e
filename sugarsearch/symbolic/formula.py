"""Exact forms by SymPy: for display, derivatives and checks. Slow (imports SymPy), so off the path of a search."""

from __future__ import annotations

from typing import Any

from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.operators import OPERATORS


def to_sympy(expression: Expression) -> Any:
    """The SymPy form of `expression`; x and the parameters become real symbols.

    Integers stay exact; other constants become floats of 15 digits.
    """
    import sympy  # takes 0.3 s

    return _convert(expression, sympy)


def to_latex(expression: Expression, digits: int) -> str:
    """`expression` as LaTeX, its constants rounded to `digits` significant digits."""
    import sympy  # takes 0.3 s

    return str(sympy.latex(_convert(expression, sympy, digits)))


def _convert(node: Expression, sympy: Any, digits: int = 15) -> Any:
    if node.op in ("x", "parameter"):
        return sympy.Symbol(node.name or "x", real=True)  # without real=True, Abs differentiates into complex terms
    if node.is_constant:
        return sympy.Integer(int(node.value)) if node.value.is_integer() else sympy.Float(node.value, digits)
    return OPERATORS[node.op].sympy(sympy, *[_convert(argument, sympy, digits) for argument in node.args])
