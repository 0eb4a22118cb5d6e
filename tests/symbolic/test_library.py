"""Every named surrogate: g is the derivative of its primitive, and the names, defaults and figures are the papers'."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mpmath import mp
from torch.nn import functional as F

from sugarsearch.errors import ExpressionError, UnknownNameError, UsageError
from sugarsearch.symbolic.interpreter import evaluate
from sugarsearch.symbolic.library import LIBRARY, canonical_name, family, surrogate
from sugarsearch.symbolic.parser import parse

POINTS = [sign * x for x in (0.013, 0.31, 0.77, 1.41, 2.7, 4.2, 9.6) for sign in (-1, 1)]
OTHER_VALUES = {"alpha": 0.6, "beta": 2.5, "slope": 3.5, "sigma": 0.35, "width": 2.2}


# Every entry at its defaults and at other values: a number that should be a parameter shows in the second.
VARIANTS = [
    pytest.param(name, values, id=f"{name}-{kind}")
    for name, entry in LIBRARY.items()
    for kind, values in (("default", entry.defaults), ("other", {key: OTHER_VALUES[key] for key in entry.defaults}))
    if values or kind == "default"
]


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_g_is_the_derivative_of_the_primitive(name, values, exact):
    g = surrogate(name, **values)
    for x in POINTS:
        with mp.workdps(40):
            slope = float(mp.diff(lambda t: exact(g.primitive, t, values), mp.mpf(x)))
        assert float(g(x)) == pytest.approx(slope, rel=1e-12, abs=1e-15), x


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_sympy_s_derivative_of_the_primitive_is_g(name, values):
    import sympy

    from sugarsearch.symbolic.sympy_form import to_sympy

    g = surrogate(name, **values)
    assert g.primitive is not None
    x = sympy.Symbol("x", real=True)
    slope = sympy.diff(to_sympy(g.primitive.substitute(values)), x)
    form = g.sympy()
    for point in POINTS[:8]:
        at = sympy.Float(point, 30)
        assert float(slope.subs(x, at)) == pytest.approx(float(form.subs(x, at)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_the_primitive_is_continuous_at_its_kinks(name, values):
    g = surrogate(name, **values)
    for kink in (0.0, -values.get("width", 0.0), values.get("width", 0.0)):
        values_beside = g.primitive_values([kink - 1e-9, kink + 1e-9])
        assert values_beside is not None
        assert np.ptp(values_beside) < 1e-7


@pytest.mark.parametrize("name", ["relu", "prelu", "elu", "selu", "gelu", "silu", "mish", "b_silu", "nelu"])
def test_activations_pass_through_the_origin(name):
    values = surrogate(name).primitive_values([0.0])
    assert values is not None
    assert values[0] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(("name", "values"), VARIANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_g_is_finite_on_the_whole_line(name, values, dtype):
    x = np.concatenate([-np.geomspace(1e-7, 65504, 400), [0.0], np.geomspace(1e-7, 65504, 400)]).astype(dtype)
    assert np.isfinite(evaluate(surrogate(name, **values).bound, x)).all()


@pytest.mark.parametrize(
    ("name", "values", "activation"),
    [
        ("relu", {}, F.relu),
        ("leaky_relu", {}, F.leaky_relu),
        ("prelu", {}, lambda x: F.prelu(x, torch.tensor(0.25, dtype=x.dtype))),
        ("elu", {}, F.elu),
        ("elu", {"alpha": 0.6}, lambda x: F.elu(x, 0.6)),
        ("selu", {}, F.selu),
        ("gelu", {}, F.gelu),
        ("silu", {}, F.silu),
        ("mish", {}, F.mish),
        ("softplus", {}, F.softplus),
        ("softplus", {"beta": 2.5}, lambda x: F.softplus(x, 2.5)),
    ],
)
def test_g_and_primitive_are_those_of_torch_zero_included(name, values, activation):
    x = torch.tensor([*POINTS, 0.0], dtype=torch.float64, requires_grad=True)
    y = activation(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    g, points = surrogate(name, **values), x.detach().numpy()
    f = g.primitive_values(points)
    assert f is not None
    np.testing.assert_allclose(g(points), slope.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(f, y.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_b_silu_has_the_paper_s_figures():
    g = surrogate("b_silu")
    x = np.linspace(-8, 8, 160_001)
    values = g(x)
    assert dict(g.parameters) == {"alpha": 1.67}
    assert g.at_zero == pytest.approx(0.9175)
    assert values.max() == pytest.approx(1.2904, abs=5e-5)
    assert x[values.argmax()] == pytest.approx(1.49, abs=5e-3)
    assert values.min() == pytest.approx(-0.0237, abs=5e-5)
    assert x[values.argmin()] == pytest.approx(-3.76, abs=5e-3)
    assert float(g(-2.735)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_nelu_has_the_paper_s_figures(alpha):
    g = surrogate("nelu", alpha=alpha)
    assert float(g(-1 / math.sqrt(3))) == pytest.approx(-0.6495 * alpha, rel=1e-4)
    assert g.bounds[0] == pytest.approx(-0.6495 * alpha, rel=1e-4)
    assert g.at_zero == 0
    assert float(g(3.0)) == 1


def test_b_silu_and_nelu_do_not_share_a_default():
    assert dict(surrogate("b_silu").parameters) != dict(surrogate("nelu").parameters)


def test_spikes_have_area_one_or_height_one_as_their_sources_say():
    x = np.linspace(-400, 400, 800_001)
    for name in ("sigmoid_prime", "arctan", "gaussian", "triangular"):
        assert np.trapezoid(surrogate(name)(x), x) == pytest.approx(1, abs=2e-3)
    for name in ("fast_sigmoid", "triangular", "sigmoid_prime", "arctan"):
        assert surrogate(name).at_zero == 1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("swish", "silu"),
        ("swish(beta=2)", "silu(beta=2)"),
        (" b_silu ", "b_silu(alpha=1.67)"),
        ("b_silu()", "b_silu"),
        ("arctan(alpha=4/2)", "arctan"),
    ],
)
def test_texts_that_name_one_surrogate(text, same):
    assert surrogate(text) == surrogate(same)


def test_values_may_stand_in_the_text_or_beside_it():
    assert surrogate("b_silu(alpha=2)") == surrogate("b_silu", alpha=2)
    assert surrogate("sigmoid(k*x)", k=4).identity == surrogate("sigmoid(4*x)").identity


def test_a_call_with_an_argument_is_an_expression_and_a_name_is_an_entry():
    assert surrogate("softplus").expression == parse("sigmoid(beta*x)", ["beta"])
    assert surrogate("softplus(x)").expression == parse("softplus(x)")
    assert surrogate("gaussian(x)").name == ""


@pytest.mark.parametrize(
    ("text", "values", "error", "match"),
    [
        ("b_sillu", {}, UnknownNameError, "did you mean b_silu"),
        ("b_sillu(alpha=2)", {}, UnknownNameError, "did you mean b_silu"),
        ("frobnicate", {}, UnknownNameError, "Known: arctan, b_silu"),
        ("b_silu", {"beta": 1}, UsageError, "no parameter 'beta'; its parameters: alpha"),
        ("gelu", {"alpha": 1}, UsageError, "its parameters: none"),
        ("b_silu(alpha=2)", {"alpha": 2}, UsageError, "given twice"),
        ("b_silu", {"alpha": float("nan")}, UsageError, "alpha = nan"),
        ("b_silu", {"alpha": True}, UsageError, "alpha = True"),
        ("b_silu(2)", {}, ExpressionError, "parameter=number"),
        ("b_silu(alpha=x)", {}, ExpressionError, "parameter=number"),
        ("b_silu(alpha=1, alpha=2)", {}, ExpressionError, "each once"),
        ("b_silu(**x)", {}, ExpressionError, "parameter=number"),
        ("b_silu(alpha='1')", {}, ExpressionError, "no real number"),
        ("sigmoid", {}, ExpressionError, "write sigmoid"),
        ("sigmod(4*x)", {}, ExpressionError, "did you mean sigmoid"),
        ("sigmoid(k*x)", {}, ExpressionError, "unknown name 'k'"),
        ("sigmoid(x)", {"k": 1}, UsageError, "none; given: k"),
        ("", {}, ExpressionError, "empty"),
        ("(" * 600, {}, ExpressionError, "characters"),
    ],
)
def test_what_names_nothing_is_refused(text, values, error, match):
    with pytest.raises(error, match=match):
        surrogate(text, **values)


def test_names_and_aliases_are_distinct_and_known_canonically():
    names = [*LIBRARY, *(alias for entry in LIBRARY.values() for alias in entry.aliases)]
    assert len(names) == len(set(names))
    assert canonical_name("swish") == "silu"
    assert canonical_name("nothing") is None


def test_families_have_their_defaults_and_primitive():
    expression, primitive, defaults = family("b_silu", {"alpha"})
    assert (expression, primitive) == (surrogate("b_silu").expression, surrogate("b_silu").primitive)
    assert defaults == {"alpha": 1.67}
    assert family("b_silu(alpha=2)").defaults == {"alpha": 2}


def test_an_expression_is_a_family_of_its_parameters():
    expression, primitive, defaults = family("sigmoid(k*x)", {"k"})
    assert (str(expression), primitive, defaults) == ("sigmoid(k*x)", None, {})


@pytest.mark.parametrize(
    ("text", "parameters", "error", "match"),
    [
        ("b_silu", {"k"}, UsageError, "no parameter 'k'"),
        ("sigmoid(4*x)", {"k"}, UsageError, "'k' does not occur"),
        ("sigmoid(k*x)", set(), ExpressionError, "unknown name 'k'"),
        ("b_sillu", {"alpha"}, UnknownNameError, "did you mean"),
    ],
)
def test_what_is_no_family_is_refused(text, parameters, error, match):
    with pytest.raises(error, match=match):
        family(text, parameters)
