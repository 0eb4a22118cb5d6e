"""SugarReLU against the paper's two injections, which autograd differentiates by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.injection import direct, indirect
from sugarsearch.nn.lowering import lower
from sugarsearch.nn.primitive import Primitive, primitive_of
from sugarsearch.symbolic.library import LIBRARY, surrogate

PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(function(x), x, grad)
    return result


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("name", LIBRARY)
def test_both_injections_have_the_gradient_and_the_output_of_sugar_relu(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    g = surrogate(name).at_unit_gain()
    f = lower(primitive_of(g))  # its own gradient is autograd's, which knows nothing of g
    x, grad = torch.randn(1000, dtype=dtype) * 3, torch.randn(1000, dtype=dtype)
    wanted = gradient(SugarReLU(g), x, grad)
    injections: list[Callable[[Tensor], Tensor]] = [
        lambda x: indirect(x, f),
        lambda x: indirect(x, Primitive(g)),
        lambda x: direct(x, lower(g)),
    ]
    for injected in injections:
        assert torch.equal(injected(x), torch.relu(x))
        torch.testing.assert_close(gradient(injected, x, grad), wanted, rtol=tolerance, atol=tolerance)


def test_at_the_jump_of_g_the_direct_one_is_sugar_relu_too() -> None:
    x, grad = torch.tensor([0.0, -0.0, 1e-30, -1e-30]), torch.ones(4)
    g = surrogate("0.5 + x if x > 0 else 0.25")
    assert gradient(lambda x: direct(x, lower(g)), x, grad).tolist() == [0.25, 0.25, 0.5, 0.25]
    assert gradient(SugarReLU(g), x, grad).tolist() == [0.25, 0.25, 0.5, 0.25]


def test_where_they_overflow_the_injections_give_nan_and_sugar_relu_does_not() -> None:
    x = torch.tensor([3e38])
    assert direct(x, lower(surrogate("2"))).isnan().all()
    assert indirect(x, lambda x: 2 * x).isnan().all()
    assert torch.equal(SugarReLU("2")(x), x)
