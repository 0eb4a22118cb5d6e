"""The non-SUGAR arm's activation: f forward, and its true gradient."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck

from sugarsearch.errors import UsageError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.primitive import Primitive
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.surrogate import Surrogate

# Kinks lie at 0, +-1 (triangular) and +-2 (triangular of width 2).
OFF_THE_KINKS = (-7.1, -2.7, -1.3, -0.6, -0.2, 0.3, 0.7, 1.4, 2.6, 6.3)
# Other values than the defaults, of every parameter.
CHANGED = (
    "leaky_relu(alpha=0.3)",
    "prelu(alpha=0.1)",
    "elu(alpha=0.6)",
    "silu(beta=1.7)",
    "softplus(beta=0.4)",
    "b_silu(alpha=1.2)",
    "nelu(alpha=0.3)",
    "sigmoid_prime(slope=1.5)",
    "arctan(alpha=1.1)",
    "fast_sigmoid(slope=3)",
    "gaussian(sigma=1.3)",
    "triangular(width=2)",
)
TORCHS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x: F.prelu(x, torch.tensor(0.25, dtype=x.dtype)),
    "elu": F.elu,
    "elu(alpha=0.6)": lambda x: F.elu(x, alpha=0.6),
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softplus(beta=0.4)": lambda x: F.softplus(x, beta=0.4),
    "straight_through": torch.clone,
}
SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 1.5e-45, -1.5e-45, 3.0, -3.0, 6e4, -6e4, math.inf, -math.inf]


def points(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(OFF_THE_KINKS, dtype=dtype, requires_grad=True)


def gradient(activation: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(activation(x), x, grad)
    return result


@pytest.mark.parametrize("text", [*LIBRARY, *CHANGED])
def test_finite_differences_of_f_are_its_gradient_and_not_those_of_relu(text: str) -> None:
    g = surrogate(text)
    assert gradcheck(Primitive(g), points())
    assert gradcheck(Primitive(g.at_unit_gain()), points())
    if g.name != "relu":  # the one g that is the derivative of what SugarReLU computes
        assert not gradcheck(SugarReLU(g), points(), raise_exception=False)


@pytest.mark.parametrize("text", TORCHS)
def test_values_and_gradients_are_those_of_torchs_own_function(text: str) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        x = torch.randn(500, dtype=dtype) * 4
        grad = torch.randn_like(x)
        # torch takes softplus(x) for x from 20 on, which errs by 2e-9.
        loose = max(tolerance, 3e-9 / 0.4 if text.startswith("softplus") else 0)
        torch.testing.assert_close(Primitive(text)(x), TORCHS[text](x), rtol=tolerance, atol=loose)
        wanted = gradient(TORCHS[text], x, grad)
        torch.testing.assert_close(gradient(Primitive(text), x, grad), wanted, rtol=tolerance, atol=2 * loose)


@pytest.mark.parametrize("text", [*LIBRARY, *CHANGED])
def test_f_and_g_have_the_parameters_and_the_scale_in_common(text: str) -> None:
    g = surrogate(text).at_unit_gain()
    assert g.scale != 1 or g.name == "relu"
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    wanted = g.primitive_values(x.numpy())
    assert wanted is not None
    np.testing.assert_allclose(Primitive(g)(x).numpy(), wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient(Primitive(g), x, 3 + 0 * x).numpy(), 3 * g(x.numpy()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_of_relu_both_are_relus_bit_for_bit(dtype: torch.dtype) -> None:
    x = torch.cat([torch.randn(500) * 3, torch.randn(500) * 1e5, torch.tensor(SPECIAL)]).to(dtype)
    grad = torch.randn(x.shape).to(dtype)
    output = Primitive("relu")(x)
    assert output.dtype == dtype
    assert torch.equal(output.view(torch.uint8), F.relu(x).view(torch.uint8))
    assert torch.equal(gradient(Primitive("relu"), x, grad), gradient(F.relu, x, grad))
    assert Primitive("relu")(torch.full((3,), math.nan, dtype=dtype)).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_float32_rounded_once(dtype: torch.dtype) -> None:
    x, grad = (torch.randn(500) * 3).to(dtype), torch.randn(500).to(dtype)
    activation = Primitive("b_silu")
    assert torch.equal(activation(x), activation(x.float()).to(dtype))
    assert torch.equal(gradient(activation, x, grad), gradient(activation, x.float(), grad.float()).to(dtype))


def test_autocast_changes_nothing() -> None:
    x, grad = torch.randn(50), torch.randn(50)
    with torch.autocast("cpu", torch.bfloat16):
        output, slope = Primitive("softplus(beta=2)")(x), gradient(Primitive("gelu"), x, grad)
    assert torch.equal(output, Primitive("softplus(beta=2)")(x))
    assert torch.equal(slope, gradient(Primitive("gelu"), x, grad))


@pytest.mark.parametrize("text", ["b_silu", "elu", "straight_through", "triangular"])
def test_the_memory_format_of_x_is_kept(text: str) -> None:
    x = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last)
    grad = torch.randn(3, 4, 5, 6)
    output, slope = Primitive(text)(x), gradient(Primitive(text), x, grad)
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert slope.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, Primitive(text)(x.contiguous()))
    torch.testing.assert_close(slope, gradient(Primitive(text), x.contiguous(), grad))


def test_slices_scalars_and_nothing_at_all() -> None:
    activation, base = Primitive("silu"), torch.randn(6, 10)
    for x in (base.t(), base[::2, 1::3], torch.randn(1, 5).expand(4, 5), torch.randn(()), torch.empty(0, 3)):
        grad = torch.randn(x.shape)
        torch.testing.assert_close(activation(x), F.silu(x))
        torch.testing.assert_close(gradient(activation, x, grad), gradient(F.silu, x, grad))


def test_the_output_of_the_identity_is_not_x_itself() -> None:
    x = torch.randn(5, requires_grad=True)
    before = x.detach().clone()
    output = Primitive("straight_through")(x)
    output.add_(1)
    output.sum().backward()
    assert torch.equal(x, before)


def test_half_precision_numbers_are_no_limit_to_f() -> None:
    """g keeps its value beyond them; f, which would have no slope there, does not."""
    x = torch.tensor([-1e6, 70000.0, 1e6], dtype=torch.float64)
    torch.testing.assert_close(Primitive("silu")(x), F.silu(x))
    torch.testing.assert_close(Primitive("leaky_relu")(x), F.leaky_relu(x))
    assert gradcheck(Primitive("leaky_relu"), x.requires_grad_(), eps=1e-2)


def test_it_has_no_state_and_copies_are_equal() -> None:
    activation = Primitive("b_silu")
    assert activation.state_dict() == {}
    assert list(activation.parameters()) == list(activation.buffers()) == []
    x, grad = torch.randn(50), torch.randn(50)
    for twin in (copy.deepcopy(activation), pickle.loads(pickle.dumps(activation))):
        assert torch.equal(twin(x), activation(x))
        assert torch.equal(gradient(twin, x, grad), gradient(activation, x, grad))


def test_the_repr_shows_the_formula() -> None:
    assert repr(Primitive("silu(beta=2)")) == "Primitive(f(x) = x*sigmoid(2*x))"
    own = Surrogate.of(surrogate("2*x").expression, scale=0.5, primitive=surrogate("x**2").expression)
    assert repr(Primitive(own)) == "Primitive(f(x) = 0.5*x**2)"


def test_double_backward_is_refused() -> None:
    x = torch.randn(5, requires_grad=True)
    net = nn.Sequential(nn.Linear(5, 5), Primitive("b_silu"), nn.Linear(5, 1))
    (slope,) = torch.autograd.grad(net(x), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(slope.sum(), x)


def test_without_a_primitive_it_is_refused_and_those_that_have_one_are_named() -> None:
    with pytest.raises(UsageError, match=r"sigmoid\(3\*x\) has no known primitive; the non_sugar arm") as caught:
        Primitive("sigmoid(3*x)")
    assert all(name in str(caught.value) for name in LIBRARY)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the compiler's own
def test_compiled_it_is_one_graph_with_the_same_numbers() -> None:
    torch._dynamo.reset()
    for text in ("b_silu", "elu", "straight_through"):
        x, grad = torch.randn(64), torch.randn(64)
        compiled = torch.compile(Primitive(text), fullgraph=True)
        torch.testing.assert_close(compiled(x), Primitive(text)(x))
        torch.testing.assert_close(gradient(compiled, x, grad), gradient(Primitive(text), x, grad))
    torch._dynamo.reset()
