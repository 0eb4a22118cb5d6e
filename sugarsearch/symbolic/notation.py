"""Formulas for people: one walk over the tree; a notation, such as LaTeX, is a table of how the parts are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from sugarsearch.symbolic.expression import Expression, call, constant
from sugarsearch.symbolic.operators import OPERATORS

# Binding strength of what is written; _MINUS is what begins with a minus, and only x is raised without brackets.
_CASES, _MINUS, _SUM, _PRODUCT, _ATOM, _X = range(6)
_OWN = {"add": _SUM, "sub": _SUM, "neg": _MINUS}
# How strongly an argument must bind to stand without brackets. Forms of other operators keep their arguments apart.
_NEEDED = {"add": (_MINUS, _SUM), "sub": (_MINUS, _PRODUCT), "neg": (_PRODUCT,), "square": (_X,), "pow": (_X, _CASES)}


@dataclass(frozen=True)
class Notation:
    """How the parts of a formula are written: templates of `str.format`, where {0} is the first argument."""

    x: str
    parameter: str  # {0} is its name
    underscore: str  # in such a name
    number: str  # without a sign: its minus is that of the operator neg
    scientific: str  # {0} times ten to the power {1}
    brackets: str
    dot: str  # a product whose second factor begins with a number; other products are the operator mul
    operators: Mapping[str, str]  # each argument once: with two, text would double with every level of nesting
    cases: frozenset[str]  # the operators whose form has an open end: it needs brackets in a sum or a product

    def __post_init__(self) -> None:
        for name in OPERATORS.keys() | self.operators.keys() | self.cases:
            places = sorted(place for _, place, _, _ in Formatter().parse(self.operators.get(name, "")) if place)
            if name not in OPERATORS or places != [str(index) for index in range(OPERATORS[name].arity)]:
                raise ValueError(f"operator {name!r} is unknown, or its form does not show each argument once.")


def write(expression: Expression, notation: Notation, digits: int) -> str:
    """`expression` in `notation`, term by term as it stands, its constants rounded to `digits` significant digits."""
    return _write(expression, notation, digits)[0]


def _write(node: Expression, notation: Notation, digits: int) -> tuple[str, int]:
    """The text of `node`, and how strongly it binds."""
    if node.op == "x":
        return notation.x, _X
    if node.op == "parameter":
        return notation.parameter.format(node.name.replace("_", notation.underscore)), _ATOM
    if node.is_constant:
        return _number(node.value, notation, digits)
    if node.op == "mul":
        return _product(node, notation, digits)
    parts = _parts(node.args, _NEEDED.get(node.op, (_CASES,) * len(node.args)), notation, digits)
    own = _CASES if node.op in notation.cases else _OWN.get(node.op, _ATOM)
    return notation.operators[node.op].format(*parts), own


def _parts(nodes: tuple[Expression, ...], needed: tuple[int, ...], notation: Notation, digits: int) -> list[str]:
    written = zip((_write(node, notation, digits) for node in nodes), needed, strict=True)
    return [text if own >= least else notation.brackets.format(text) for (text, own), least in written]


def _product(node: Expression, notation: Notation, digits: int) -> tuple[str, int]:
    left, right = node.args
    if left.is_constant and abs(left.value) == 1:  # a parameter's value: 1 x is x
        return _write(right if left.value > 0 else call("neg", right), notation, digits)
    lead = next((part for part in right.walk() if part.op != "mul" and part != constant(1)), right)
    side_by_side = right.is_constant or (lead.is_constant and lead.value >= 0)  # two numbers would read as one
    template = notation.dot if side_by_side else notation.operators["mul"]
    own = _MINUS if left.is_constant and left.value < 0 else _PRODUCT
    return template.format(*_parts(node.args, (own, _PRODUCT), notation, digits)), own


def _number(value: float, notation: Notation, digits: int) -> tuple[str, int]:
    mantissa, _, exponent = f"{abs(value):.{digits}g}".partition("e")
    text = notation.scientific.format(mantissa, int(exponent)) if exponent else notation.number.format(mantissa)
    if value < 0:
        return notation.operators["neg"].format(text), _MINUS
    return text, _PRODUCT if exponent else _ATOM
