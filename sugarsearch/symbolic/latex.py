"""LaTeX of an expression: the table of a notation."""

from __future__ import annotations

from typing import Final

from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.notation import Notation, write


def _cases(then: str, condition: str, otherwise: str) -> str:
    rows = rf"{then} & \text{{{{for}}}}\: {condition} \\ {otherwise} & \text{{{{otherwise}}}}"
    return rf"\begin{{{{cases}}}} {rows} \end{{{{cases}}}}"


_LATEX: Final = Notation(
    x="x",
    parameter=r"\mathrm{{{0}}}",
    underscore=r"\_",
    number="{0}",
    scientific=r"{0} \cdot 10^{{{1}}}",
    brackets=r"\left({0}\right)",
    dot=r"{0} \cdot {1}",
    operators={
        "neg": "-{0}",
        "abs": r"\left|{0}\right|",
        "square": "{0}^{{2}}",
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
        "step": _cases("1", "{0} > 0", "0"),
        "softsign": r"\operatorname{{softsign}}\left({0}\right)",
        "relu": r"\max\left({0}, 0\right)",
        "add": "{0} + {1}",
        "sub": "{0} - {1}",
        "mul": r"{0} \, {1}",
        "div": r"\frac{{{0}}}{{{1}}}",
        "pow": "{0}^{{{1}}}",
        "max": r"\max\left({0}, {1}\right)",
        "min": r"\min\left({0}, {1}\right)",
        "if_positive": _cases("{1}", "{0} > 0", "{2}"),
        "if_nonnegative": _cases("{1}", r"{0} \ge 0", "{2}"),
    },
    cases=frozenset({"step", "if_positive", "if_nonnegative"}),
)


def to_latex(expression: Expression, digits: int) -> str:
    """`expression` as LaTeX, its constants rounded to `digits` significant digits.

    \\sigma is the logistic function; \\Phi and \\varphi are the normal distribution's function and density.
    """
    return write(expression, _LATEX, digits)
