import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sugarsearch.errors import AdmissionError
from sugarsearch.nn.table import look_up, tabulate
from sugarsearch.symbolic.library import LIBRARY, surrogate

TEXTS = [*LIBRARY, "sigmoid(20*x)", "gaussian(8*x)", "1 if x > 0.3 else x/(1 + x**2)", "max(0, 1 - abs(x - 0.1))"]


@pytest.mark.parametrize("text", TEXTS)
@given(values=st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_values_lie_within_the_stated_error(text: str, values: list[float]) -> None:
    g = surrogate(text)
    table = tabulate([g])
    x = np.array(values)
    got = look_up(table.cells, torch.from_numpy(x).float()).numpy()
    assert np.abs(got - g(x)).max() <= table.errors[0] + 1e-6


@pytest.mark.parametrize("text", ["silu", "b_silu", "gelu", "nelu", "sigmoid_prime", "elu", "relu", "leaky_relu"])
def test_the_error_of_smooth_surrogates_is_small(text: str) -> None:
    assert tabulate([surrogate(text)]).errors[0] < 2e-6


def test_a_jump_elsewhere_shows_in_the_error() -> None:
    assert tabulate([surrogate("step(x - 0.3)")]).errors[0] >= 0.99


def test_a_jump_at_zero_is_exact_on_both_sides() -> None:
    table = tabulate([surrogate("0.75 if x > 0 else -0.25 + 0*x")])
    x = torch.tensor([0.0, -0.0, 1.5e-45, -1.5e-45, 1e-30, 1e-3, -1e-3, 3e38, -3e38])
    assert look_up(table.cells, x).tolist() == [-0.25, -0.25, 0.75, -0.25, 0.75, 0.75, -0.25, 0.75, -0.25]


def test_values_at_zero_are_g_of_zero() -> None:
    g = surrogate("b_silu")
    assert look_up(tabulate([g]).cells, torch.zeros(1)).item() == np.float32(g.at_zero)


def test_non_finite_input_is_safe_in_every_member() -> None:
    cells = tabulate([surrogate("sigmoid(x)"), surrogate("2*sigmoid(x)")]).cells
    x = torch.tensor([[np.nan, np.inf, -np.inf]] * 2)
    assert torch.allclose(look_up(cells, x), torch.tensor([[0.5, 1.0, 0.0], [1.0, 2.0, 0.0]]))


def test_members_have_their_own_table() -> None:
    surrogates = [surrogate("b_silu", alpha=a) for a in (1.0, 1.67, 2.5)]
    x = torch.randn(3, 5, 4)
    got = look_up(tabulate(surrogates).cells, x)
    for member, g in enumerate(surrogates):
        np.testing.assert_allclose(got[member].numpy(), g(x[member].numpy()), atol=3e-6)


def test_any_function_of_arrays_can_be_tabulated() -> None:
    def cosine(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cos(np.clip(x, -3, 3))

    x = torch.linspace(-5, 5, 101)
    assert torch.allclose(look_up(tabulate([cosine]).cells, x), torch.cos(x.clamp(-3, 3)), atol=2e-3)


def test_float64_resolves_points_that_float32_cannot() -> None:
    cells = tabulate([surrogate("relu")]).cells
    assert look_up(cells, torch.tensor([1e-60, -1e-60], dtype=torch.float64)).tolist() == [1.0, 0.0]


def test_a_function_that_is_not_finite_is_refused_with_the_point() -> None:
    with pytest.raises(AdmissionError, match="not finite") as caught:
        tabulate([surrogate("1/x")])
    assert caught.value.point == 0.0
