"""Properties of a surrogate against quadrature, limits and bounds known otherwise; identity; JSON; text."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from sugarsearch.errors import UsageError
from sugarsearch.symbolic.expression import X, call, constant
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.surrogate import REACH, Surrogate

JUMPING = "1 if x > 0.3 else 0.2*sin(x)"


@pytest.mark.parametrize("text", [*LIBRARY, "sigmoid(4*x)", "sigmoid(30*x)", "exp(x)", "sin(3*x)", "b_silu(alpha=5)"])
def test_gain_is_that_of_quadrature_in_arbitrary_precision(text, exact):
    g = surrogate(text)
    values = dict(g.parameters)
    width = values.get("width", 1.0)
    pieces = [-12, -width, -width / 8, 0, width / 8, width, 12]
    square = mp.quad(lambda z: exact(g.expression, z, values) ** 2 * mp.npdf(z), pieces)
    assert g.gain == pytest.approx(float(mp.sqrt(2 * square)), rel=1e-7)


@pytest.mark.parametrize(
    ("text", "gain"),
    [
        ("relu", 1.0),
        ("silu", 0.871),
        ("softplus", 0.766),
        ("elu", 1.156),
        ("b_silu", 1.303),
        ("straight_through", math.sqrt(2)),
    ],
)
def test_gain_has_the_known_figures(text, gain):
    assert surrogate(text).gain == pytest.approx(gain, abs=1e-3)


def test_gain_at_a_jump_anywhere_errs_by_less_than_half_a_percent(exact):
    g = surrogate(JUMPING)
    square = mp.quad(lambda z: exact(g.expression, z) ** 2 * mp.npdf(z), [-12, 0, 0.3, 12])
    assert g.gain == pytest.approx(float(mp.sqrt(2 * square)), rel=5e-3)


@pytest.mark.parametrize("text", [*LIBRARY, "sigmoid(4*x)"])
def test_unit_gain_has_gain_one_and_the_same_shape(text):
    g = surrogate(text)
    unit = g.at_unit_gain()
    assert unit.gain == pytest.approx(1, rel=1e-12)
    x = np.linspace(-5, 5, 41)
    np.testing.assert_allclose(unit(x) * g.gain, g(x), rtol=1e-12, atol=1e-15)
    assert unit.identity == g.identity
    assert unit.at_unit_gain() == unit
    f, unit_f = g.primitive_values(x), unit.primitive_values(x)
    if f is not None and unit_f is not None:
        np.testing.assert_allclose(unit_f * g.gain, f, rtol=1e-12, atol=1e-15)


def test_zero_has_no_unit_gain():
    with pytest.raises(UsageError, match="cannot be scaled"):
        surrogate("0*x").at_unit_gain()
    with pytest.raises(UsageError, match="cannot be scaled"):
        surrogate("1/x - 1/x").at_unit_gain()


@pytest.mark.parametrize(
    ("text", "at_zero", "above", "left", "right", "low", "high", "side"),
    [
        ("relu", 0, 1, 0, 1, 0, 1, "zero"),
        ("leaky_relu", 0.01, 1, 0.01, 1, 0.01, 1, "positive"),
        ("elu", 1, 1, 0, 1, 0, 1, "positive"),
        ("nelu", 0, 1, 0, 1, -0.65 * 0.04996, 1, "negative"),
        ("gelu", 0.5, 0.5, 0, 1, -0.128904, 1.128904, "mixed"),
        ("straight_through", 1, 1, 1, 1, 1, 1, "positive"),
        ("softsign(x)", 0, 0, -1, 1, -1, 1, "negative"),
        ("x/(20 + abs(x))", 0, 0, -1, 1, -1, 1, "negative"),
        ("sin(x)", 0, 0, None, None, -1, 1, "mixed"),
        ("x", 0, 0, None, None, -REACH, REACH, "negative"),
        ("1 if x >= 0 else -1", 1, 1, -1, 1, -1, 1, "negative"),
        ("step(-x)", 0, 0, 1, 0, 0, 1, "positive"),
    ],
)
def test_properties(text, at_zero, above, left, right, low, high, side):
    g = surrogate(text)
    assert (g.at_zero, g.at_zero_plus) == (at_zero, above)
    assert g.left_limit == (None if left is None else pytest.approx(left, abs=1e-7))
    assert g.right_limit == (None if right is None else pytest.approx(right, abs=1e-7))
    assert g.bounds == pytest.approx((low, high), rel=1e-4, abs=1e-7)
    assert g.negative_side == side


def test_properties_carry_the_scale():
    half = Surrogate.of(surrogate("gelu").expression, scale=0.5)
    assert half.at_zero == 0.25
    assert half.right_limit == 0.5
    assert half.bounds == pytest.approx((-0.064452, 0.564452), abs=1e-6)
    assert half.gain == pytest.approx(surrogate("gelu").gain / 2)


def test_a_narrow_extreme_is_found():
    assert surrogate("gaussian(80*(x - 1.2345))").bounds == pytest.approx((0, 1), abs=1e-3)


def test_beyond_the_reach_g_keeps_its_value():
    g = surrogate("exp(-x*x)*x + softsign(x)")
    assert g([1e300, -1e300, np.inf]).tolist() == g([REACH, -REACH, REACH]).tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x/(1 + abs(x))", "softsign(x)"),
        ("1 - 1/(1 + x**2)", "x*x/(1 + x**2)"),
        ("sigmoid(x)*(1 - sigmoid(x))", "sigmoid(x)*sigmoid(-x)"),
        ("sech2(x/2)/4", "sigmoid(x)*sigmoid(-x)"),
        ("(1 + tanh(x/2))/2", "sigmoid(x)"),
        ("(1 + erf(x/sqrt(2)))/2", "normal_cdf(x)"),
        ("1 if x > 0 else 0", "step(x)"),
        ("step(x)", "relu"),
        ("0 if x <= 0 else 1", "step(x)"),
        ("max(x, -x)", "abs(x)"),
        ("sin(x)**2 + cos(x)**2", "1"),
        ("exp(x)/(1 + exp(x))", "1/(1 + exp(-x))"),
        ("2*sigmoid(2*x) - 1", "tanh(x)"),
        ("(x + 2) - 2", "x"),
    ],
)
def test_rewrites_of_one_function_are_one_candidate(one, other):
    assert surrogate(one).identity == surrogate(other).identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 if x > 0 else 0", "1 if x >= 0 else 0"),
        ("sigmoid(x)", "2*sigmoid(x)"),
        ("sigmoid(x)", "sigmoid(-x)"),
        ("sigmoid(4*x)", "sigmoid(4.001*x)"),
        ("b_silu(alpha=1.67)", "b_silu(alpha=1.68)"),
        ("1 if x > 2 else 0", "1 if x > 2.02 else 0"),
        ("1 if x > 0 else 0.01", "1 if x > 0 else 0.0101"),
        ("softsign(x)", "1/(1 + 1/x)"),
        ("tanh(x)", "max(-1, min(1, x))"),
        ("1 if x < -100 else 0", "0"),
        ("1/x", "2/x"),
        ("sqrt(x)", "-sqrt(x)"),
        ("x", "sqrt(x)*sqrt(x)"),
    ],
)
def test_different_functions_are_different_candidates(one, other):
    assert surrogate(one).identity != surrogate(other).identity


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(-2, 2), st.floats(0.1, 5), st.sampled_from(["sigmoid", "tanh", "sech2", "atan", "sin", "exp"]))
def test_rounding_does_not_change_the_identity(shift, slope, operator):
    """a*(x + b) against a*x + a*b: the same function, rounded differently at every point."""
    product = call("mul", constant(slope), call("add", X, constant(shift)))
    expanded = call("add", call("mul", constant(slope), X), constant(slope * shift))
    assert Surrogate.of(call(operator, product)).identity == Surrogate.of(call(operator, expanded)).identity


def test_identity_is_the_same_in_every_process():
    """It is stored in run folders: Python's own hash, salted per process, would not do."""
    code = "from sugarsearch.symbolic.library import surrogate; print(surrogate('b_silu').identity)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == surrogate("b_silu").identity


@pytest.mark.parametrize("text", [*LIBRARY, "b_silu(alpha=1/3)", "1 if x - 0.1 > 0 else -x**-2"])
def test_json_and_pickle_bring_back_an_equal_surrogate(text):
    g = surrogate(text).at_unit_gain() if text in LIBRARY else surrogate(text)
    again = Surrogate.from_json(json.loads(json.dumps(g.to_json())))
    assert again == g
    assert again.to_json() == g.to_json()
    assert hash(again) == hash(g)
    assert pickle.loads(pickle.dumps(g)) == g


@pytest.mark.parametrize("text", [*LIBRARY, "sin(x)"])
def test_the_formula_is_text_of_the_same_g(text):
    g = surrogate(text).at_unit_gain()
    x = np.linspace(-6, 6, 101)
    np.testing.assert_allclose(surrogate(g.formula)(x), g(x), rtol=1e-14, atol=1e-16)


def test_labels_are_short_and_for_people():
    assert surrogate("b_silu").label == "b_silu(alpha=1.67)"
    assert surrogate("swish", beta=1 / 3).label == "silu(beta=0.333333)"
    assert surrogate("relu").label == "relu"
    assert surrogate("sigmoid(k*x)", k=4).label == "sigmoid(4*x)"


def test_latex_and_sympy_are_of_the_scaled_g():
    g = Surrogate.of(surrogate("b_silu(alpha=1/3)").expression, {"alpha": 1 / 3}, scale=2.0)
    assert "0.333333" in g.latex()
    assert "0.3333333" not in g.latex()
    x = sympy.Symbol("x", real=True)
    assert float(g.sympy().subs(x, 0.7)) == pytest.approx(float(g(0.7)), rel=1e-12)
    assert surrogate("relu").latex().startswith("\\begin{cases} 1")


def test_primitive_values_are_known_or_none():
    values = surrogate("relu").primitive_values([-2.0, 3.0])
    assert values is not None
    assert values.tolist() == [0, 3]
    assert surrogate("sigmoid(4*x)").primitive_values([0.0]) is None


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Surrogate.of(X, {"k": 1.0}), "given: k"),
        (lambda: Surrogate(surrogate("b_silu").expression), "the parameters: alpha; given: none"),
        (lambda: Surrogate.of(X, scale=0.0), "must be positive"),
        (lambda: Surrogate.of(X, scale=float("inf")), "scale = inf"),
        (lambda: Surrogate.of(X, scale=1e7), "scale = 10000000.0"),
        (lambda: surrogate("exp(k)*x", k=1000.0), "not a finite real number"),
        (lambda: Surrogate(surrogate("x*a + b", a=1.0, b=2.0).expression, (("b", 1.0), ("a", 2.0))), "sorted"),
    ],
)
def test_incoherent_surrogates_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_whole_numbers_become_floats():
    assert json.dumps(surrogate("b_silu", alpha=2).to_json()) == json.dumps(surrogate("b_silu", alpha=2.0).to_json())


def test_expressions_load_neither_torch_nor_sympy():
    code = (
        "import sys; from sugarsearch.symbolic import grammar, library; g = library.surrogate('b_silu');"
        "g.gain, g.identity, g.bounds, g.to_json(); print(*[m for m in ('torch', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("x*(x + 1) - (x - 1)", r"x \, \left(x + 1\right) - \left(x - 1\right)"),
        ("-2*x + (-3)", r"-2 \, x + \left(-3\right)"),
        ("x - (-x)", r"x - \left(-x\right)"),
        ("-(x + 1)**2", r"-\left(x + 1\right)^{2}"),
        ("(-x)**-0.5", r"\left(-x\right)^{-0.5}"),
        ("x*3*2", r"x \cdot 3 \cdot 2"),
        ("2*(3*x)", r"2 \cdot 3 \, x"),
        ("x*(1*(0.5*x*x))", r"x \cdot 0.5 \, x \, x"),
        ("x*(-2*x)", r"x \, \left(-2 \, x\right)"),
        ("(1*x)**3", "x^{3}"),
        ("1.5e-7*x/(x - 1)", r"\frac{1.5 \cdot 10^{-7} \, x}{x - 1}"),
        ("(2 if x >= 0 else 3) + 1",
         r"\left(\begin{cases} 2 & \text{for}\: x \ge 0 \\ 3 & \text{otherwise} \end{cases}\right)"
         " + 1"),
        ("max(-x, exp(-x))", r"\max\left(-x, e^{-x}\right)"),
    ],
)  # fmt: skip
def test_latex_keeps_the_order_of_operations(text, latex):
    assert surrogate(text).latex() == latex
