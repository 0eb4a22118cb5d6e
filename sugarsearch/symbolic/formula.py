"""Forms for people: LaTeX, written from the tree; and SymPy's, for derivatives and checks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sugarsearch.symbolic.expression import Expression, constant
from sugarsearch.symbolic.operators import OPERATORS

# Binding strength of what is written; _MINUS is what begins with a minus.
_CASES, _MINUS, _SUM, _PRODUCT, _ATOM = range(5)

# Each argument is written once: a form with two would double with every level of nesting.
_FORMS: Mapping[str, str] = MappingProxyType(
    {
        "abs": r"\left|{0}\right|",
        "sqrt": r"\sqrt{{{0}}}",
        "exp": r"e^{{{0}}}",
        "log1p_abs": r"\ln\left(1 + \left|{0}\right|\right)",
        "sigmoid": r"\sigma\left({0}\right)",
        "softplus": r"\ln\left(1 + e^{{{0}}}\right)",
        "tanh": r"\tanh\left({0}\right)",
        "sech2": r"\operatorname{{sech}}^{{2}}\left({0}\right)",
        "erf": r"\operatorname{{erf}}\left({0}\right)",
        "normal_cdf": r"\Phi\left({0}\right)",
        "normal_pdf": r"\varphi\left({0}\right)",
        "gaussian": r"e^{{-\left({0}\right)^{{2}}}}",
        "atan": r"\arctan\left({0}\right)",
        "sin": r"\sin\left({0}\right)",
        "cos": r"\cos\left({0}\right)",
        "softsign": r"\operatorname{{softsign}}\left({0}\right)",
        "relu": r"\max\left({0}, 0\right)",
        "max": r"\max\left({0}, {1}\right)",
        "min": r"\min\left({0}, {1}\right)",
        "div": r"\frac{{{0}}}{{{1}}}",
    }
)
_CONDITIONS: Mapping[str, str] = MappingProxyType({"step": ">", "if_positive": ">", "if_nonnegative": r"\ge"})


def to_sympy(expression: Expression) -> Any:
    """The SymPy form of `expression`; x and the parameters become real symbols.

    Integers stay exact; other constants become floats of 15 digits. SymPy evaluates as it builds, and towers of powers
    that cancel to numbers can keep it busy for ever: for expressions one knows, never on the path of a run.
    """
    import sympy  # takes 0.3 s

    return _convert(expression, sympy)


def _convert(node: Expression, sympy: Any) -> Any:
    if node.op in ("x", "parameter"):
        return sympy.Symbol(node.name or "x", real=True)  # without real=True, Abs differentiates into complex terms
    if node.is_constant:
        return sympy.Integer(int(node.value)) if node.value.is_integer() else sympy.Float(node.value, 15)
    return OPERATORS[node.op].sympy(sympy, *[_convert(argument, sympy) for argument in node.args])


def to_latex(expression: Expression, digits: int) -> str:
    """`expression` as LaTeX, term by term as it stands, its constants rounded to `digits` significant digits.

    \\sigma is the logistic function; \\Phi and \\varphi are the normal distribution's function and density.
    """
    return _latex(expression, digits)[0]


def _latex(node: Expression, digits: int) -> tuple[str, int]:
    """The LaTeX of `node`, and how strongly it binds."""
    if node.op == "x":
        return "x", _ATOM
    if node.op == "parameter":
        return rf"\mathrm{{{node.name.replace('_', chr(92) + '_')}}}", _ATOM
    if node.is_constant:
        return _number(node.value, digits)
    if node.op in _FORMS:
        return _FORMS[node.op].format(*[_latex(argument, digits)[0] for argument in node.args]), _ATOM
    if node.op in _CONDITIONS:
        condition, *cases = (_latex(argument, digits)[0] for argument in node.args)
        then, otherwise = cases or ("1", "0")
        test = rf"{condition} {_CONDITIONS[node.op]} 0"
        return (
            rf"\begin{{cases}} {then} & \text{{for}}\: {test} \\ {otherwise} & \text{{otherwise}} \end{{cases}}",
            _CASES,
        )
    return _arithmetic(node, digits)


def _arithmetic(node: Expression, digits: int) -> tuple[str, int]:
    def part(index: int, strength: int) -> str:
        text, own = _latex(node.args[index], digits)
        return text if own >= strength else rf"\left({text}\right)"

    if node.op == "add":
        return f"{part(0, _MINUS)} + {part(1, _SUM)}", _SUM
    if node.op == "sub":
        return f"{part(0, _MINUS)} - {part(1, _PRODUCT)}", _SUM
    if node.op == "neg":
        return f"-{part(0, _PRODUCT)}", _MINUS
    if node.op == "mul":
        left, right = node.args
        if left == constant(1):  # a parameter's value: 1 x is x
            return _latex(right, digits)
        if left == constant(-1):
            return f"-{part(1, _PRODUCT)}", _MINUS
        negative = left.is_constant and left.value < 0
        sign = r"\cdot" if right.is_constant else r"\,"
        first = part(0, _MINUS if negative else _PRODUCT)
        return f"{first} {sign} {part(1, _PRODUCT)}", _MINUS if negative else _PRODUCT
    exponent = "2" if node.op == "square" else _latex(node.args[1], digits)[0]
    base = "x" if node.args[0].op == "x" else rf"\left({_latex(node.args[0], digits)[0]}\right)"
    return f"{base}^{{{exponent}}}", _ATOM


def _number(value: float, digits: int) -> tuple[str, int]:
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if not exponent:
        return mantissa, _MINUS if value < 0 else _ATOM
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}", _MINUS if value < 0 else _PRODUCT
