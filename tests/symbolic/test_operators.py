"""Operators against their definitions in arbitrary precision, in both dtypes, and their SymPy forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy
from mpmath import mp

from sugarsearch.symbolic.operators import OPERATORS, Operator

POINTS = (-65504.0, -300.0, -88.5, -20.0, -4.0, -1.0, -1e-3, 0.0, 1e-3, 0.75, 3.0, 17.0, 100.0, 65504.0)
SMALL = (-3.0, -0.5, 0.0, 1.25, 2.0)


def test_every_operator_has_a_definition_to_be_tested_against(definitions):
    assert set(definitions) == set(OPERATORS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name, operator in OPERATORS.items() if operator.arity == 1])
def test_unary_operators_equal_their_definition(name, dtype, definitions):
    points = [x for x in POINTS if not (name == "sqrt" and x < 0) and not (name == "exp" and x > 80)]
    with np.errstate(all="ignore"):
        got = OPERATORS[name].numpy(np.array(points, dtype))
    assert got.dtype == dtype
    # The float of a float32 is exact, so both sides see one input.
    with mp.workprec(400):
        wanted = [float(definitions[name](mp.mpf(float(dtype(x))))) for x in points]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got, wanted, rtol=400 * eps, atol=4 * np.finfo(dtype).tiny)


@pytest.mark.parametrize("name", [name for name, operator in OPERATORS.items() if operator.arity > 1])
def test_operators_of_more_arguments_equal_their_definition(name, definitions):
    operator = OPERATORS[name]
    for arguments in itertools.product(SMALL, repeat=operator.arity):
        if (name == "div" and arguments[1] == 0) or (name == "pow" and (arguments[0] <= 0)):
            continue
        got = operator.numpy(*[np.array([a]) for a in arguments])
        assert got[0] == pytest.approx(float(definitions[name](*map(mp.mpf, arguments))), rel=1e-14)


@pytest.mark.parametrize("name", list(OPERATORS))
def test_sympy_forms_equal_their_definition(name, definitions):
    operator = OPERATORS[name]
    for arguments in itertools.product(SMALL, repeat=operator.arity):
        if (name == "sqrt" and arguments[0] < 0) or (name == "div" and arguments[1] == 0):
            continue
        if name == "pow" and arguments[0] <= 0:
            continue
        form = operator.sympy(sympy, *[sympy.Rational(a) for a in arguments])
        assert float(form) == pytest.approx(float(definitions[name](*map(mp.mpf, arguments))), rel=1e-12, abs=1e-300)


def test_relu_conventions_at_zero():
    zero = np.zeros(1)
    assert OPERATORS["step"].numpy(zero) == 0
    assert OPERATORS["if_positive"].numpy(zero, np.ones(1), zero) == 0
    assert OPERATORS["if_nonnegative"].numpy(zero, np.ones(1), zero) == 1


def test_sigmoid_s_derivative_keeps_its_digits_in_the_tails():
    for x in (-80.0, -40.0, 40.0, 80.0):
        point = np.float32(x)
        got = OPERATORS["sigmoid"].numpy(point) * OPERATORS["sigmoid"].numpy(-point)
        assert float(got) == pytest.approx(float(mp.exp(-80 if abs(x) == 80 else -40)), rel=1e-5)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda a: a.astype(np.float64), TypeError),
        (lambda a: a.sum(), TypeError),
        (lambda a: np.exp(a) / (1 + np.exp(a)), ValueError),
    ],
)
def test_a_bad_operator_is_refused_where_it_is_defined(function, error):
    with pytest.raises(error, match="bad"):
        Operator("bad", 1, function, lambda s, a: a)
