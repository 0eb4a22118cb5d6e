"""MathML of an expression: the table of a notation that browsers typeset without a script or a network."""

from __future__ import annotations

from typing import Final

from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.notation import Notation, write

_APPLY: Final = "<mo>&#x2061;</mo>"  # invisible: "function applied to"
_TIMES: Final = '<mo>&#x2062;</mo><mspace width="0.15em"/>'  # invisible as well, but for the space
_DOT: Final = "<mo>&#x22c5;</mo>"
_MINUS_SIGN: Final = '<mo form="prefix">&#x2212;</mo>'
_BRACKETS: Final = "<mrow><mo>(</mo>{0}<mo>)</mo></mrow>"
_BARS: Final = '<mrow><mo stretchy="true">|</mo>{0}<mo stretchy="true">|</mo></mrow>'
_EXP: Final = "<msup><mi>e</mi><mrow>{0}</mrow></msup>"


def _function(name: str, arguments: str = "{0}") -> str:
    return f"<mrow>{name}{_APPLY}<mo>(</mo>{arguments}<mo>)</mo></mrow>"


def _named(name: str, arguments: str = "{0}") -> str:
    return _function(f'<mi mathvariant="normal">{name}</mi>', arguments)


def _cases(then: str, condition: str, otherwise: str) -> str:
    rows = (then, f"<mtext>for&#xa0;</mtext>{condition}"), (otherwise, "<mtext>otherwise</mtext>")
    table = "".join(f"<mtr><mtd><mrow>{value}</mrow></mtd><mtd><mrow>{when}</mrow></mtd></mtr>" for value, when in rows)
    return f'<mrow><mo stretchy="true">{{{{</mo><mtable columnalign="left left">{table}</mtable></mrow>'


_MATHML: Final = Notation(
    x="<mi>x</mi>",
    parameter='<mi mathvariant="normal">{0}</mi>',
    underscore="_",
    number="<mn>{0}</mn>",
    scientific=f"<mn>{{0}}</mn>{_DOT}<msup><mn>10</mn><mn>{{1}}</mn></msup>",
    brackets=_BRACKETS,
    dot=f"{{0}}{_DOT}{{1}}",
    operators={
        "neg": f"{_MINUS_SIGN}{{0}}",
        "abs": _BARS,
        "square": "<msup>{0}<mn>2</mn></msup>",
        "sqrt": "<msqrt>{0}</msqrt>",
        "exp": _EXP,
        "log1p_abs": _named("ln", f"<mn>1</mn><mo>+</mo>{_BARS}"),
        "sigmoid": _function("<mi>σ</mi>"),
        "softplus": _named("ln", f"<mn>1</mn><mo>+</mo>{_EXP}"),
        "tanh": _named("tanh"),
        "sech2": _function('<msup><mi mathvariant="normal">sech</mi><mn>2</mn></msup>'),
        "erf": _named("erf"),
        "normal_cdf": _named("Φ"),
        "normal_pdf": _function("<mi>φ</mi>"),
        "gaussian": _EXP.replace("{0}", f"{_MINUS_SIGN}<msup>{_BRACKETS}<mn>2</mn></msup>"),
        "atan": _named("arctan"),
        "sin": _named("sin"),
        "cos": _named("cos"),
        # Iverson's bracket: a brace over two lines needs a font for mathematics, and this is ReLU's own derivative.
        "step": '<mrow><mn mathvariant="bold">1</mn><mo>[</mo>{0}<mo>&gt;</mo><mn>0</mn><mo>]</mo></mrow>',
        "softsign": _named("softsign"),
        "relu": _named("max", "{0}<mo>,</mo><mn>0</mn>"),
        "add": "{0}<mo>+</mo>{1}",
        "sub": "{0}<mo>&#x2212;</mo>{1}",
        "mul": f"{{0}}{_TIMES}{{1}}",
        "div": "<mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac>",
        "pow": "<msup>{0}<mrow>{1}</mrow></msup>",
        "max": _named("max", "{0}<mo>,</mo>{1}"),
        "min": _named("min", "{0}<mo>,</mo>{1}"),
        "if_positive": _cases("{1}", "{0}<mo>&gt;</mo><mn>0</mn>", "{2}"),
        "if_nonnegative": _cases("{1}", "{0}<mo>≥</mo><mn>0</mn>", "{2}"),
    },
    cases=frozenset({"if_positive", "if_nonnegative"}),
)


def to_mathml(expression: Expression, digits: int) -> str:
    """`expression` as a `<math>` element, as `latex.to_latex` writes it but for a step, 1[x > 0]."""
    return f"<math><mrow>{write(expression, _MATHML, digits)}</mrow></math>"
