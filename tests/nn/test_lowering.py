import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sugarsearch.nn.lowering import TORCH, lower
from sugarsearch.symbolic.expression import Expression, X, call, constant
from sugarsearch.symbolic.interpreter import evaluate
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.surrogate import Surrogate

POINTS = np.concatenate([np.linspace(-9, 9, 181), [0.0, -0.0, 1e-30, -1e-30, 60.0, -60.0, 3e4, -3e4, 65504, -65504]])


def arguments(name: str) -> list[tuple[Expression, ...]]:
    """Every way of giving an operator x, another function of x, and numbers."""
    half, shifted = constant(0.5), call("sub", X, constant(0.25))
    if name == "pow":
        return [(X, constant(e)) for e in (2.0, 3.0, -1.0, 0.5)]
    if OPERATORS[name].arity == 1:
        return [(X,)]
    if OPERATORS[name].arity == 2:
        return [(X, shifted), (X, half), (half, X)]
    return [(X, half, shifted), (X, shifted, constant(0.1)), (X, constant(0.1), constant(0.7)), (half, X, shifted)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPERATORS)
def test_each_operator_gives_what_numpy_gives(name: str, dtype: type[np.floating]) -> None:
    x = POINTS.astype(dtype)
    for given_arguments in arguments(name):
        expression = call(name, *given_arguments)
        wanted = evaluate(expression, x)
        got = lower(Surrogate.of(expression))(torch.from_numpy(x))
        assert got.dtype == torch.from_numpy(x).dtype
        close = 1e-6 if dtype is np.float32 else 1e-13
        np.testing.assert_allclose(got.numpy(), wanted, rtol=close, atol=close)


def test_the_table_of_operators_is_complete() -> None:
    assert TORCH.keys() == OPERATORS.keys()


@pytest.mark.parametrize("name", LIBRARY)
@given(x=st.floats(allow_nan=False, width=32))
@settings(max_examples=25, deadline=None)
def test_library_agrees_with_float64_everywhere(name: str, x: float) -> None:
    g = surrogate(name)
    got = lower(g)(torch.tensor(x)).item()
    assert got == pytest.approx(float(g(x)), abs=2e-6, rel=2e-6)


def test_the_scale_counts_also_for_a_constant() -> None:
    g = surrogate("straight_through").at_unit_gain()
    assert torch.equal(lower(g)(torch.zeros(3)), torch.full((3,), g.scale))
    b_silu = surrogate("b_silu").at_unit_gain()
    assert lower(b_silu)(torch.zeros(())).item() == pytest.approx(b_silu.at_zero)


def test_equal_subtrees_are_computed_once() -> None:
    steps = lower(surrogate("sigmoid(2*x) * sigmoid(2*x) + sigmoid(2*x)")).steps
    assert [name for name, _ in steps] == ["mul", "sigmoid", "mul", "add"]


def test_a_program_can_be_pickled() -> None:
    program = lower(surrogate("nelu", alpha=0.07))
    copy = pickle.loads(pickle.dumps(program))
    assert copy == program
    assert torch.equal(copy(torch.linspace(-2, 2, 9)), program(torch.linspace(-2, 2, 9)))


def test_two_numbers_in_float64_stay_exact() -> None:
    x = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    assert lower(surrogate("0.1 if x > 0 else 0.7"))(x).tolist() == [0.7, 0.1]


def test_numbers_beyond_half_precision_count_as_its_largest() -> None:
    g = surrogate("log1p_abs(x)")
    x = torch.tensor([65504.0, 1e30, -1e30, float("inf"), -float("inf")])
    np.testing.assert_allclose(lower(g)(x).numpy(), float(g(65504.0)), rtol=1e-6)


def test_programs_that_differ_in_a_number_for_a_value_are_not_equal() -> None:
    square, once = lower(surrogate("exp(x)*exp(x)")), lower(surrogate("exp(x)*1"))
    assert square != once
    assert len({square, once, lower(surrogate("exp(x)*exp(x)"))}) == 2
