"""SymPy's form of an expression, for derivatives and checks."""

from __future__ import annotations

from typing import Any

from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.operators import OPERATORS


def to_sympy(expression: Expression) -> Any:
    """The SymPy form of `expression`; x and the parameters become real symbols.

    Integers stay exact; other constants become floats of 15 digits. SymPy evaluates as it builds, and towers of powers
    that cancel to numbers can keep it busy for ever: for expressions one knows, never on the path of a run.
    """
    import sympy  # takes 0.3 s

    if expression.op in ("x", "parameter"):
        return sympy.Symbol(expression.name or "x", real=True)  # else Abs differentiates into complex terms
    if expression.is_constant:
        value = expression.value
        return sympy.Integer(int(value)) if value.is_integer() else sympy.Float(value, 15)
    return OPERATORS[expression.op].sympy(sympy, *[to_sympy(argument) for argument in expression.args])
