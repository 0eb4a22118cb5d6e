"""Expressions: immutable trees over x, constants, named parameters and operators.

Trees are made by `call`, `constant` and `parameter`, which keep them canonical: a subtree of constants only is
folded to its value, so `str` and the parser are inverse to each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sugarsearch.errors import UnknownNameError, UsageError
from sugarsearch.symbolic.operators import OPERATORS

MAX_CONSTANT = 1e6
MAX_EXPONENT = 8.0

# Binding strength as in Python: conditional < sum < product < minus < power < atom.
_CONDITIONAL, _SUM, _PRODUCT, _MINUS, _POWER, _ATOM = range(6)
_INFIX = {"add": (" + ", _SUM), "sub": (" - ", _SUM), "mul": ("*", _PRODUCT), "div": ("/", _PRODUCT)}
_CONDITIONALS = {"if_positive": ">", "if_nonnegative": ">="}


@dataclass(frozen=True, slots=True, repr=False)
class Expression:
    """A node: op is "x", "constant" (value), "parameter" (name) or the name of an operator (args)."""

    op: str
    args: tuple[Expression, ...] = ()
    value: float = 0.0
    name: str = ""

    def walk(self) -> Iterator[Expression]:
        """All subtrees, this one first, in the order in which `subtree` and `replace` count them."""
        yield self
        for argument in self.args:
            yield from argument.walk()

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return 1 + sum(argument.nodes for argument in self.args)

    @property
    def depth(self) -> int:
        """Number of operators on the longest path; 0 for a leaf."""
        return 1 + max(argument.depth for argument in self.args) if self.args else 0

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the free parameters."""
        return frozenset(node.name for node in self.walk() if node.op == "parameter")

    @property
    def is_constant(self) -> bool:
        """Whether this node is a literal number."""
        return self.op == "constant"

    def subtree(self, index: int) -> Expression:
        """The subtree at `index` in the order of `walk`."""
        for position, node in enumerate(self.walk()):
            if position == index:
                return node
        raise IndexError(f"subtree {index} of an expression with {self.nodes} nodes.")

    def replace(self, index: int, new: Expression) -> Expression:
        """This tree with the subtree at `index` replaced."""
        if index == 0:
            return new
        index -= 1
        for position, argument in enumerate(self.args):
            if index < argument.nodes:
                changed = argument.replace(index, new)
                return call(self.op, *self.args[:position], changed, *self.args[position + 1 :])
            index -= argument.nodes
        raise IndexError("the index lies beyond the last subtree.")

    def substitute(self, values: Mapping[str, float | Expression]) -> Expression:
        """This tree with parameters replaced by numbers or expressions; unnamed ones stay."""
        if self.op == "parameter" and self.name in values:
            new = values[self.name]
            return new if isinstance(new, Expression) else constant(new)
        if not self.args:
            return self
        return call(self.op, *[argument.substitute(values) for argument in self.args])

    def __str__(self) -> str:
        return _text(self)[0]

    def __repr__(self) -> str:
        return f"Expression({_text(self)[0]!r})"


X = Expression("x")
"""The variable."""


def constant(value: float) -> Expression:
    """A number.

    Raises:
        UsageError: not finite, or larger in magnitude than MAX_CONSTANT.
    """
    value = float(value)
    if not abs(value) <= MAX_CONSTANT:
        raise UsageError(
            f"the constant {value:g} is not allowed; constants are finite and at most {MAX_CONSTANT:g} in size."
        )
    return Expression("constant", value=value + 0.0)  # + 0.0 turns -0.0 into 0.0


def parameter(name: str) -> Expression:
    """A named free parameter.

    Raises:
        UsageError: not an identifier, or a name that means something else in expressions.
    """
    if not name.isidentifier() or not name.isascii() or name in OPERATORS or name in ("x", "pi", "e"):
        raise UsageError(f"{name!r} cannot name a parameter; use a word that is no operator and not x, pi or e.")
    return Expression("parameter", name=name)


def call(op: str, *args: Expression) -> Expression:
    """The operator `op` applied to `args`; a call on constants only becomes its value, a decided condition its branch.

    Raises:
        UnknownNameError: no such operator.
        UsageError: wrong number of arguments, an exponent out of bounds, or constants that fold to no finite number.
    """
    operator = OPERATORS.get(op)
    if operator is None:
        raise UnknownNameError("operator", op, OPERATORS)
    if len(args) != operator.arity:
        raise UsageError(f"{op} takes {operator.arity} argument(s); {len(args)} given.")
    if op == "pow":
        _check_power(*args)
    if all(argument.is_constant for argument in args):
        return _fold(op, args)
    if op in _CONDITIONALS and args[0].is_constant:
        return args[1] if _fold(op, (args[0], constant(1), constant(0))).value else args[2]
    return Expression(op, args)


def _fold(op: str, args: tuple[Expression, ...]) -> Expression:
    with np.errstate(all="ignore"):
        value = float(OPERATORS[op].numpy(*[np.float64(argument.value) for argument in args]))
    if not math.isfinite(value):
        raise UsageError(f"{_text(Expression(op, args))[0]} is not a finite real number.")
    return constant(value)


def _check_power(base: Expression, exponent: Expression) -> None:
    if not exponent.is_constant:
        raise UsageError(
            "an exponent must be a number; for a power of two expressions write exp(b*softplus(a)) or the like."
        )
    total = abs(exponent.value)
    while base.op == "pow":
        total *= max(1.0, abs(base.args[1].value))
        base = base.args[0]
    if total > MAX_EXPONENT:
        limit = f"exponents (multiplied up where nested) are at most {MAX_EXPONENT:g}"
        raise UsageError(f"the exponent {total:g} is not allowed; {limit}.")


def _text(node: Expression) -> tuple[str, int]:
    """The text of `node`, and how strongly it binds."""
    if node.op == "x":
        return "x", _ATOM
    if node.op == "parameter":
        return node.name, _ATOM
    if node.is_constant:
        text = str(int(node.value)) if node.value.is_integer() else repr(node.value)
        return text, _MINUS if node.value < 0 else _ATOM
    if node.op in _INFIX:
        sign, strength = _INFIX[node.op]
        left, right = node.args
        return f"{_wrapped(left, strength)}{sign}{_wrapped(right, strength + 1)}", strength
    if node.op == "neg":
        # A minus before a number would read as part of it.
        return f"-{_wrapped(node.args[0], _MINUS)}", _MINUS
    if node.op == "pow":
        return f"{_wrapped(node.args[0], _ATOM)}**{_wrapped(node.args[1], _MINUS)}", _POWER
    if node.op in _CONDITIONALS:
        condition, then, otherwise = (_wrapped(argument, _SUM) for argument in node.args)
        return f"{then} if {condition} {_CONDITIONALS[node.op]} 0 else {otherwise}", _CONDITIONAL
    return f"{node.op}({', '.join(_text(argument)[0] for argument in node.args)})", _ATOM


def _wrapped(node: Expression, strength: int) -> str:
    text, own = _text(node)
    return text if own >= strength else f"({text})"


def is_real(value: Any) -> bool:
    """Whether `value` is a finite int or float (not a bool)."""
    # math.isfinite raises for integers beyond float's range.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
