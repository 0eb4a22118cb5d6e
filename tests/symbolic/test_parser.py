"""The parser: what is read, and that everything else is refused at once, with a place and a reason."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sugarsearch.errors import ExpressionError
from sugarsearch.symbolic.expression import X, call, constant, parameter
from sugarsearch.symbolic.interpreter import evaluate
from sugarsearch.symbolic.parser import parse

POINTS = np.array([-2.5, -1.0, 0.0, 1e-9, 1.0, 2.0, 7.25])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x", lambda x: x),
        ("-x**2", lambda x: -(x**2)),
        ("+x", lambda x: x),
        ("2*x - 3*x + 1", lambda x: -x + 1),
        ("x - 1 - 2", lambda x: x - 3),
        ("8/4/2 + 0*x", lambda x: 1 + 0 * x),
        ("pi*x/e", lambda x: math.pi * x / math.e),
        ("max(0, 1 - abs(x))", lambda x: np.maximum(0, 1 - abs(x))),
        ("1 if x > 0 else 2", lambda x: np.where(x > 0, 1, 2)),
        ("1 if x >= 0 else 2", lambda x: np.where(x >= 0, 1, 2)),
        ("1 if x < 0 else 2", lambda x: np.where(x < 0, 1, 2)),
        ("1 if x <= 0 else 2", lambda x: np.where(x <= 0, 1, 2)),
        ("1 if 0 < x else 2", lambda x: np.where(x > 0, 1, 2)),
        ("1 if 0 <= x else 2", lambda x: np.where(x >= 0, 1, 2)),
        ("1 if 0 > x else 2", lambda x: np.where(x < 0, 1, 2)),
        ("1 if 0 >= x else 2", lambda x: np.where(x <= 0, 1, 2)),
        ("1 if x > 1 else 2", lambda x: np.where(x > 1, 1, 2)),
        ("1 if 1 <= x else 2", lambda x: np.where(x >= 1, 1, 2)),
        ("1 if x < 2*x else 2", lambda x: np.where(x < 2 * x, 1, 2)),
        ("1 if x > 1 else 2 if x > 0 else 3", lambda x: np.where(x > 1, 1, np.where(x > 0, 2, 3))),
        ("if_positive(x, 1, 2)", lambda x: np.where(x > 0, 1, 2)),
        ("  x +\n\t1 ", lambda x: x + 1),
        ("1e-3*x", lambda x: 1e-3 * x),
    ],
)
def test_texts_mean_what_python_means(text, wanted):
    np.testing.assert_allclose(evaluate(parse(text), POINTS), wanted(POINTS) + 0.0 * POINTS, rtol=1e-15)


def test_constants_are_folded_in_float():
    assert parse("2**3*x") == call("mul", constant(8), X)
    assert parse("-(1 + 1)") == constant(-2)
    assert parse("sigmoid(0)") == constant(0.5)


def test_parameters_are_names_given_beforehand():
    assert parse("alpha*x", ["alpha"]) == call("mul", parameter("alpha"), X)
    with pytest.raises(ExpressionError, match="unknown name 'alpha'"):
        parse("alpha*x")


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "empty"),
        ("   ", 1, "empty"),
        ("  sigmod(x)", 3, "did you mean sigmoid"),
        ("x + frob(x)", 5, "unknown operator 'frob'; known: neg"),
        ("1 + sigmoid", 5, "sigmoid is an operator"),
        ("x + y", 5, "known here: e, pi, x"),
        ("tanh(x, x)", 1, "takes 1 argument"),
        ("tanh(a=x)", 1, "no named arguments"),
        ("max(*x)", 5, "not allowed here"),
        ("x > 0", 1, "a comparison is no number"),
        ("1 if x else 2", 6, "one comparison"),
        ("1 if x == 0 else 2", 6, "one comparison"),
        ("1 if 0 < x < 1 else 2", 6, "chained"),
        ("1 if x > 0 and x < 1 else 2", 6, "one comparison"),
        ("2**x", 1, "must be a number"),
        ("x**9", 1, "exponent 9"),
        ("(x**4)**4", 1, "exponent 16"),
        ("9**9**9", 4, "exponent 9"),
        ("1/0", 1, "not a finite real number"),
        ("x + sqrt(-1)", 5, "not a finite real number"),
        ("(-8)**0.5", 1, "not a finite real number"),
        ("x*1e999", 3, "too large"),
        ("x*1000001", 3, "too large"),
        ("1000*1000*1000", 1, "1e\\+09"),
        ("1j*x", 1, "no real number"),
        ("True", 1, "no real number"),
        ("'x'", 1, "no real number"),
        ("None", 1, "no real number"),
        ("x.real", 1, "not allowed here"),
        ("x[0]", 1, "not allowed here"),
        ("x @ x", 1, "not allowed here"),
        ("x // 2", 1, "not allowed here"),
        ("x % 2", 1, "not allowed here"),
        ("~x", 1, "not allowed here"),
        ("not x", 1, "not allowed here"),
        ("[x]", 1, "not allowed here"),
        ("(x, x)", 1, "not allowed here"),
        ("lambda: x", 1, "not allowed here"),
        ("(y := x)", 2, "not allowed here"),
        ("f'{x}'", 1, "not allowed here"),
        ("[x for x in x]", 1, "not allowed here"),
        ("__import__('os').system('true')", 1, "only operators"),
        ("(lambda: x)()", 1, "only operators"),
        ("x\x00", 2, "character"),
        ("\u03b1*x", 1, "character"),
        ("\uff58", 1, "character"),
        ("x # comment", 3, "character"),
        ("x # comment\n+ 1", 3, "character"),
        ("x + \u0445", 5, "CYRILLIC SMALL LETTER HA"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text, column, reason):
    with pytest.raises(ExpressionError, match=reason) as caught:
        parse(text)
    assert caught.value.position == column - 1
    assert caught.value.text == text
    assert f"column {column}:" in str(caught.value)


@pytest.mark.parametrize("text", ["x +", "x y", "(x", "x)", "x = 1", "x; x", "  import os", "1..2", "x if"])
def test_what_is_no_python_is_refused_with_the_place_that_python_names(text):
    with pytest.raises(ExpressionError, match="this is not an expression") as caught:
        parse(text)
    assert 0 <= caught.value.position <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "(" * 255 + "x" + ")" * 255,
        "-" * 511 + "x",
        "x" + "+x" * 255,
        "9" * 512,
        "9**" * 170 + "9",
        "exp(" * 100 + "9" + ")" * 100,
        "x**8" + "**8" * 100,
        "max(x," * 80 + "x" + ")" * 80,
        "1 if x > 0 else " * 30 + "x",
        "((((((((9**8)**8)**8)**8)**8)**8)**8)**8)",
        "9" * 5000,
    ],
)
def test_hostile_texts_are_refused_fast(text):
    start = time.perf_counter()
    try:
        tree = parse(text)
    except ExpressionError:
        pass
    else:
        assert tree.nodes <= 200
    assert time.perf_counter() - start < 1  # 1,000 times what they take


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.text(alphabet="x0123456789.+-*/()<>=, ifelsigmodtanhpw_[]'\\\n", max_size=60))
def test_any_text_is_an_expression_or_an_expression_error(text):
    try:
        tree = parse(text)
    except ExpressionError:
        return
    assert parse(str(tree)) == tree


def test_advice_of_python_s_own_parser_is_no_warning():
    assert parse("1if x > 0else 2") == parse("1 if x > 0 else 2")
