"""Trees: canonical form, text that parses back, surgery on trees, and interpreted values against mpmath."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp

from sugarsearch.errors import UnknownNameError, UsageError
from sugarsearch.symbolic.expression import Expression, X, call, constant, parameter
from sugarsearch.symbolic.interpreter import evaluate
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.parser import parse

ALPHA = parameter("alpha")
Trees = st.SearchStrategy[Expression]
FIXED = settings(max_examples=300, deadline=None, derandomize=True)


def applied(children: Trees) -> Trees:
    """Operators on `children`; calls that are refused (constants that fold to no number) are skipped."""

    def make(pick: tuple[str, list[Expression], float]) -> Expression:
        name, arguments, exponent = pick
        given_ = arguments[: OPERATORS[name].arity]
        if name == "pow":
            given_ = [given_[0], constant(exponent)]
        try:
            return call(name, *given_)
        except UsageError:
            return X

    exponents = st.sampled_from([2.0, 3.0, -1.0, -2.0, 0.5])
    names = st.sampled_from(sorted(OPERATORS))
    return st.tuples(names, st.lists(children, min_size=3, max_size=3), exponents).map(make)


def trees(leaves: Trees) -> Trees:
    return st.recursive(leaves, applied, max_leaves=12)


NUMBERS = st.one_of(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), st.floats(-4, 4, allow_subnormal=False))
CLOSED = trees(st.one_of(st.just(X), NUMBERS.map(constant)))
OPEN = trees(st.one_of(st.just(X), st.just(ALPHA), NUMBERS.map(constant), st.floats(-1e6, 1e6).map(constant)))


@FIXED
@given(OPEN)
def test_text_parses_back_to_an_equal_tree(tree):
    text = str(tree)
    assume(len(text) <= 512)
    assert parse(text, ["alpha"]) == tree


NEG, SUM, DIFFERENCE = call("neg", X), call("add", X, ALPHA), call("sub", X, ALPHA)
PRODUCT, QUOTIENT, POWER = call("mul", X, ALPHA), call("div", X, ALPHA), call("pow", X, constant(2))
PIECES = call("if_positive", X, ALPHA, X)
KINDS = (X, constant(-2), NEG, SUM, DIFFERENCE, PRODUCT, QUOTIENT, POWER, PIECES)


@pytest.mark.parametrize("name", list(OPERATORS))
def test_every_operator_in_every_place_of_every_other_is_written_unambiguously(name):
    for arguments in itertools.product(KINDS, repeat=OPERATORS[name].arity):
        if name == "pow":
            arguments = (arguments[0], constant(-2))
        if all(argument.is_constant for argument in arguments):
            continue
        tree = call(name, *arguments)
        assert parse(str(tree), ["alpha"]) == tree


@FIXED
@given(OPEN)
def test_no_subtree_but_a_leaf_is_made_of_constants_only(tree):
    assert all(not node.args or any(not inner.is_constant for inner in node.args) for node in tree.walk())


@FIXED
@given(CLOSED, st.floats(-50, 50, allow_subnormal=False))
def test_interpreted_values_are_those_of_arbitrary_precision(exact, tree, x):
    _compare(exact, tree, np.float64(x), range(50, 54))


@FIXED
@given(CLOSED, st.floats(-50, 50, width=32, allow_subnormal=False))
def test_interpreted_float32_values_are_those_of_arbitrary_precision(exact, tree, x):
    _compare(exact, tree, np.float32(x), range(21, 25))


def _compare(exact: Callable[..., Any], tree: Expression, x: Any, precisions: range) -> None:
    """The interpreter may err as much as mpmath does at about the same precision, times a small factor."""
    seen: list[Any] = []
    try:
        with mp.workprec(300):
            wanted = exact(tree, float(x), seen=seen)
        rough = []
        for bits in precisions:
            with mp.workprec(bits):
                rough.append(exact(tree, float(x)))
    except (OverflowError, ZeroDivisionError, ValueError):
        assume(False)
    got = evaluate(tree, np.array([x]))
    assert got.dtype == x.dtype
    spread = max(abs(value - wanted) for value in rough)
    tolerance = 30 * spread + 40 * np.finfo(x.dtype).eps * max(1, *seen)
    assert abs(got[0] - wanted) <= tolerance, (str(tree), x, got, wanted, tolerance)


@pytest.mark.parametrize("text", ["1/x", "sqrt(x - 1)", "1/(x*x)", "x**-1", "(x - 1)**0.5", "exp(exp(exp(20 + x)))"])
def test_no_finite_real_value_shows_as_inf_or_nan_without_a_warning(text):
    assert not np.isfinite(evaluate(parse(text), np.zeros(1)))[0]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
@pytest.mark.parametrize("text", ["x", "2", "sigmoid(x)", "1 if x > 0 else 0"])
def test_values_have_the_shape_and_dtype_of_x_and_are_new(text, shape):
    for dtype in (np.float32, np.float64):
        x = np.ones(shape, dtype)
        values = evaluate(parse(text), x)
        assert values.shape == shape
        assert values.dtype == dtype
        assert not np.shares_memory(values, x)


def test_evaluate_refuses_other_dtypes_and_missing_parameters():
    with pytest.raises(UsageError, match="float16"):
        evaluate(X, np.zeros(1, np.float16))  # type: ignore[type-var]
    with pytest.raises(UsageError, match="'alpha' has no value"):
        evaluate(ALPHA, np.zeros(1))


def test_parameters_are_found_valued_and_substituted():
    tree = parse("alpha*x + beta", ["alpha", "beta"])
    assert tree.parameters == {"alpha", "beta"}
    assert evaluate(tree, np.array([3.0]), {"alpha": 2.0, "beta": 1.0}) == 7
    assert tree.substitute({"alpha": 2.0, "beta": X}) == parse("2*x + x")
    assert tree.substitute({"beta": 1.0}).parameters == {"alpha"}


def test_subtrees_are_counted_in_the_order_of_walk():
    tree = parse("sigmoid(2*x) + tanh(x)")
    assert tree.nodes == 7
    assert tree.depth == 3
    assert [str(node) for node in tree.walk()][1:3] == ["sigmoid(2*x)", "2*x"]
    for index, node in enumerate(tree.walk()):
        assert tree.subtree(index) == node
        assert tree.replace(index, node) == tree
    assert str(tree.replace(5, X)) == "sigmoid(2*x) + x"
    with pytest.raises(IndexError):
        tree.subtree(7)
    with pytest.raises(IndexError):
        tree.replace(7, X)


def test_replacing_the_last_x_folds_the_constants():
    assert parse("2*x + 1").replace(3, constant(4)) == constant(9)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: call("sigmod", X), UnknownNameError, "did you mean sigmoid"),
        (lambda: call("add", X), UsageError, "takes 2"),
        (lambda: call("sqrt", constant(-1)), UsageError, "not a finite real number"),
        (lambda: call("div", constant(1), constant(0)), UsageError, "not a finite real number"),
        (lambda: call("mul", constant(1e6), constant(10)), UsageError, "1e\\+07"),
        (lambda: call("pow", X, X), UsageError, "must be a number"),
        (lambda: call("pow", X, constant(9)), UsageError, "exponent 9"),
        (lambda: call("pow", call("pow", X, constant(4)), constant(3)), UsageError, "exponent 12"),
        (lambda: constant(float("nan")), UsageError, "nan"),
        (lambda: constant(float("inf")), UsageError, "inf"),
        (lambda: parameter("x"), UsageError, "cannot name"),
        (lambda: parameter("sigmoid"), UsageError, "cannot name"),
        (lambda: parameter("a b"), UsageError, "cannot name"),
    ],
)
def test_what_is_no_expression_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_minus_zero_is_zero():
    assert str(constant(-0.0)) == "0"


def test_expressions_are_immutable_and_hashable():
    assert {parse("x + 1"), parse("x+1"), Expression("x")} == {parse("x + 1"), X}
    with pytest.raises(AttributeError):
        X.op = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "branch"),
    [
        ("exp(2 if 1 > 0 else x)", "7.38905609893065"),
        ("exp(2 if 0 > 0 else x)", "exp(x)"),
        ("x*(3 if 0 >= 0 else x)", "x*3"),
        ("x*(3 if -1 >= 0 else x)", "x*x"),
    ],
)
def test_a_condition_of_numbers_is_decided_at_once(text: str, branch: str) -> None:
    assert str(parse(text)) == branch
