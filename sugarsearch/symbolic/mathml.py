"""MathML of an expression, written from the tree: typeset by every present browser, without a script or a network."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sugarsearch.symbolic.expression import Expression, constant

# Binding strength of what is written; _MINUS is what begins with a minus.
_CASES, _MINUS, _SUM, _PRODUCT, _ATOM = range(5)

_APPLY: Final = "<mo>&#x2061;</mo>"  # invisible: "function applied to"
_TIMES: Final = '<mo>&#x2062;</mo><mspace width="0.15em"/>'  # invisible as well, but for the space
_DOT: Final = "<mo>&#x22c5;</mo>"
_MINUS_SIGN: Final = '<mo form="prefix">&#x2212;</mo>'


def _function(name: str) -> str:
    return f"<mrow>{name}{_APPLY}<mo>(</mo>{{0}}<mo>)</mo></mrow>"


def _named(name: str) -> str:
    return _function(f'<mi mathvariant="normal">{name}</mi>')


_BARS: Final = '<mrow><mo stretchy="true">|</mo>{0}<mo stretchy="true">|</mo></mrow>'

# Each argument is written once: a form with two would double with every level of nesting.
_FORMS: Mapping[str, str] = MappingProxyType(
    {
        "abs": _BARS,
        "sqrt": "<msqrt>{0}</msqrt>",
        "exp": "<msup><mi>e</mi><mrow>{0}</mrow></msup>",
        "log1p_abs": _named("ln").replace("{0}", f"<mn>1</mn><mo>+</mo>{_BARS}"),
        "sigmoid": _function("<mi>σ</mi>"),
        "softplus": _named("ln").replace("{0}", "<mn>1</mn><mo>+</mo><msup><mi>e</mi><mrow>{0}</mrow></msup>"),
        "tanh": _named("tanh"),
        "sech2": _function('<msup><mi mathvariant="normal">sech</mi><mn>2</mn></msup>'),
        "erf": _named("erf"),
        "normal_cdf": _named("Φ"),
        "normal_pdf": _function("<mi>φ</mi>"),
        "gaussian": f"<msup><mi>e</mi><mrow>{_MINUS_SIGN}<msup><mrow><mo>(</mo>{{0}}<mo>)</mo></mrow><mn>2</mn></msup>"
        "</mrow></msup>",
        "atan": _named("arctan"),
        "sin": _named("sin"),
        "cos": _named("cos"),
        "softsign": _named("softsign"),
        # Iverson's bracket: a brace over two lines needs a font for mathematics, and this is ReLU's own derivative.
        "step": '<mrow><mn mathvariant="bold">1</mn><mo>[</mo>{0}<mo>&gt;</mo><mn>0</mn><mo>]</mo></mrow>',
        "relu": _named("max").replace("{0}", "{0}<mo>,</mo><mn>0</mn>"),
        "max": _named("max").replace("{0}", "{0}<mo>,</mo>{1}"),
        "min": _named("min").replace("{0}", "{0}<mo>,</mo>{1}"),
        "div": "<mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac>",
    }
)
_CONDITIONS: Mapping[str, str] = MappingProxyType({"if_positive": "&gt;", "if_nonnegative": "≥"})


def to_mathml(expression: Expression, digits: int) -> str:
    """`expression` as a `<math>` element, term by term as it stands, constants to `digits` significant digits.

    The notation is that of `formula.to_latex`, but 1[x > 0] for a step: σ is the logistic function, Φ and φ are
    the normal distribution's.
    """
    return f"<math><mrow>{_mathml(expression, digits)[0]}</mrow></math>"


def _mathml(node: Expression, digits: int) -> tuple[str, int]:
    """The MathML of `node`, and how strongly it binds."""
    if node.op == "x":
        return "<mi>x</mi>", _ATOM
    if node.op == "parameter":
        return f'<mi mathvariant="normal">{node.name}</mi>', _ATOM
    if node.is_constant:
        return _number(node.value, digits)
    if node.op in _FORMS:
        return _FORMS[node.op].format(*[_mathml(argument, digits)[0] for argument in node.args]), _ATOM
    if node.op in _CONDITIONS:
        return _cases(node, digits), _CASES
    return _arithmetic(node, digits)


def _cases(node: Expression, digits: int) -> str:
    condition, *cases = (_mathml(argument, digits)[0] for argument in node.args)
    then, otherwise = cases
    test = f"<mtext>for&#xa0;</mtext>{condition}<mo>{_CONDITIONS[node.op]}</mo><mn>0</mn>"
    rows = "".join(
        f"<mtr><mtd><mrow>{value}</mrow></mtd><mtd><mrow>{when}</mrow></mtd></mtr>"
        for value, when in ((then, test), (otherwise, "<mtext>otherwise</mtext>"))
    )
    return f'<mrow><mo stretchy="true">{{</mo><mtable columnalign="left left">{rows}</mtable></mrow>'


def _arithmetic(node: Expression, digits: int) -> tuple[str, int]:
    def part(index: int, strength: int) -> str:
        text, own = _mathml(node.args[index], digits)
        return text if own >= strength else f"<mrow><mo>(</mo>{text}<mo>)</mo></mrow>"

    if node.op == "add":
        return f"{part(0, _MINUS)}<mo>+</mo>{part(1, _SUM)}", _SUM
    if node.op == "sub":
        return f"{part(0, _MINUS)}<mo>&#x2212;</mo>{part(1, _PRODUCT)}", _SUM
    if node.op == "neg":
        return f"{_MINUS_SIGN}{part(0, _PRODUCT)}", _MINUS
    if node.op == "mul":
        left, right = node.args
        if left == constant(1):  # a parameter's value: 1 x is x
            return _mathml(right, digits)
        if left == constant(-1):
            return f"{_MINUS_SIGN}{part(1, _PRODUCT)}", _MINUS
        negative = left.is_constant and left.value < 0
        first = part(0, _MINUS if negative else _PRODUCT)
        sign = _DOT if right.is_constant else _TIMES
        return f"{first}{sign}{part(1, _PRODUCT)}", _MINUS if negative else _PRODUCT
    exponent = "<mn>2</mn>" if node.op == "square" else f"<mrow>{_mathml(node.args[1], digits)[0]}</mrow>"
    inner = _mathml(node.args[0], digits)[0]
    base = inner if node.args[0].op == "x" else f"<mrow><mo>(</mo>{inner}<mo>)</mo></mrow>"
    return f"<msup>{base}{exponent}</msup>", _ATOM


def _number(value: float, digits: int) -> tuple[str, int]:
    mantissa, _, exponent = f"{abs(value):.{digits}g}".partition("e")
    sign, strength = (_MINUS_SIGN, _MINUS) if value < 0 else ("", _ATOM)
    if not exponent:
        return f"{sign}<mn>{mantissa}</mn>", strength
    power = f"<msup><mn>10</mn><mn>{int(exponent)}</mn></msup>"
    return f"{sign}<mn>{mantissa}</mn>{_DOT}{power}", _MINUS if value < 0 else _PRODUCT
