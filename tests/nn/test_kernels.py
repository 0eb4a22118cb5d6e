"""The kernels of eager mode: each gives grad * g(x), against float64 and at the edges of the line."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.kernels import fused, plain
from sugarsearch.nn.kernels.native import NATIVE
from sugarsearch.nn.kernels.sigmoids import share_exponentials
from sugarsearch.nn.lowering import Lowered, lower
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.surrogate import Surrogate

VARIANTS = (
    "silu(beta=2)", "silu(beta=-0.7)", "b_silu(alpha=-3)", "nelu(alpha=-1)", "gaussian(sigma=-0.5)", "elu(alpha=0.3)",
    "sigmoid_prime(slope=-2)", "softplus(beta=3)", "leaky_relu(alpha=-0.2)", "triangular(width=2)",
)  # fmt: skip
TREE = "3.11*sigmoid(2.99*x)*softsign(sigmoid(softsign(sech2(x))))"
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
COMPILES = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def line(dtype: torch.dtype = torch.float32) -> Tensor:
    edges = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 6e4, -6e4, torch.inf, -torch.inf], dtype=torch.float64)
    return torch.cat([torch.linspace(-30, 30, 30_001, dtype=torch.float64), edges]).to(dtype)


def gradient(activation: SugarReLU, x: Tensor, grad: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(activation(x), x, grad)
    return result


def test_every_named_surrogate_has_a_kernel() -> None:
    assert NATIVE.keys() == LIBRARY.keys()
    assert all(lower(surrogate(name)).name == name for name in LIBRARY)
    assert lower(surrogate("b_silu(alpha=0)")).name == "", "a zero parameter is left to the steps"


@pytest.mark.parametrize("text", [*LIBRARY, *VARIANTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_native_kernels_are_grad_times_g(text: str, dtype: torch.dtype) -> None:
    tolerance = 1e-10 if dtype == torch.float64 else 5e-6
    for g in (surrogate(text), surrogate(text).at_unit_gain()):
        x = line(dtype)
        grad = torch.linspace(-2, 2, x.numel(), dtype=dtype)
        got = gradient(SugarReLU(g), x, grad)
        wanted = grad.double().numpy() * g(x.double().numpy())
        np.testing.assert_allclose(got.double().numpy(), wanted, atol=tolerance, rtol=tolerance)


def test_the_tail_of_sigmoids_derivative_keeps_its_digits() -> None:
    g, x = surrogate("sigmoid_prime"), torch.tensor([-15.0, 15.0])
    np.testing.assert_allclose(gradient(SugarReLU(g), x, torch.ones(2)).numpy(), g(x.numpy()), rtol=1e-5)


@pytest.mark.parametrize("name", ["b_silu", "nelu", "mish", TREE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["channels_last", "gaps", "other grad", "expanded grad", "odd"])
def test_any_memory_layout_and_many_chunks(
    name: str, dtype: torch.dtype, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "CHUNK", 7)
    monkeypatch.setattr(plain, "_NATIVE_CHUNK", 7)
    x, grad = torch.randn(2, 3, 5, 4).to(dtype), torch.randn(2, 3, 5, 4).to(dtype)
    if layout == "channels_last":
        x, grad = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, grad))
    elif layout == "gaps":
        x = torch.randn(2, 3, 5, 8).to(dtype)[..., ::2]
    elif layout == "other grad":
        grad = grad.contiguous(memory_format=torch.channels_last)
    elif layout == "expanded grad":
        grad = torch.tensor(1.5, dtype=dtype).expand(2, 3, 5, 4)
    else:
        x, grad = x.flatten()[:59], grad.flatten()[:59]
    got = gradient(SugarReLU(name), x, grad)
    relus = torch.autograd.grad(torch.relu(z := x.detach().requires_grad_()), z, grad)[0]
    assert (got.dtype, got.shape, got.stride()) == (dtype, x.shape, relus.stride())
    wanted = grad.double().numpy() * surrogate(name)(x.double().numpy())
    np.testing.assert_allclose(got.double().numpy(), wanted, atol=5e-6, rtol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("text", ["b_silu", "silu", "silu(beta=2)", "sigmoid_prime", "sigmoid(x) - sigmoid(-x)/2"])
def test_two_sigmoids_share_their_exponential(text: str) -> None:
    program = lower(surrogate(text))
    shared = share_exponentials(program)
    names = [name for name, _ in shared.steps]
    assert (names.count("sigmoid"), names.count("exp")) == (0, 1)
    x = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    torch.testing.assert_close(shared(x), program(x), atol=1e-14, rtol=1e-6)
    torch.testing.assert_close(shared(x.float()).double(), program(x), atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize("text", ["relu", "sigmoid(x)", "sigmoid(x)*sigmoid(-2*x)", "sigmoid(x)*tanh(-x)"])
def test_a_sigmoid_without_a_partner_is_left_alone(text: str) -> None:
    program = lower(surrogate(text))
    assert share_exponentials(program) is program


@pytest.fixture
def _no_kernels() -> Iterator[None]:
    """Nothing compiled before, nor afterwards."""
    caches = (fused.kernel_of, fused._compiles)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@COMPILER
@COMPILES
def test_fused_kernels_are_grad_times_g_for_more_gs_than_dynamo_compiles_one_function_for() -> None:
    x = torch.cat([line()[::2], torch.randn(2**14)])
    grad = torch.linspace(-2, 2, x.numel())
    texts = ["b_silu", "nelu", "selu", TREE, *(f"sigmoid({k}*x)" for k in range(1, 9))]
    for text in texts:
        g = surrogate(text)
        assert fused.kernel_of(lower(g)) is not None
        got = gradient(SugarReLU(g, form="fused"), x, grad)
        np.testing.assert_allclose(got.numpy(), grad.numpy() * g(x.numpy()), atol=5e-6, rtol=1e-5, err_msg=text)


@COMPILER
@COMPILES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_fused_kernels_keep_dtype_and_layout(dtype: torch.dtype) -> None:
    x = torch.randn(16, 8, 16, 16).to(dtype).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(16, 8, 16, 16).to(dtype)
    got = gradient(SugarReLU(TREE, form="fused"), x, grad)
    assert got.dtype == dtype
    assert got.stride() == x.stride()
    wanted = gradient(SugarReLU(TREE), x, grad)
    torch.testing.assert_close(got, wanted, atol=5e-6, rtol=2 * torch.finfo(dtype).eps)


@pytest.mark.usefixtures("_no_kernels")
def test_without_a_compiler_plain_torch_is_used_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")

    monkeypatch.setattr(torch, "compile", broken)
    x, grad = torch.randn(2**15), torch.randn(2**15)
    with caplog.at_level(logging.WARNING):
        for text in ("b_silu", "sigmoid(3*x)"):
            wanted = gradient(SugarReLU(text), x, grad)
            assert torch.equal(gradient(SugarReLU(text, form="fused"), x, grad), wanted)
    (line,) = (record.getMessage() for record in caplog.records if record.name.startswith("sugarsearch"))
    assert "no working C++ compiler" in line
    assert "plain torch is used" in line


@pytest.mark.usefixtures("_no_kernels")
def test_a_kernel_that_gives_another_gradient_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As compilers have been seen to do: ReLU's own in place of g."""

    def relus_own(*tensors: Tensor) -> None:
        if len(tensors) == 3:
            tensors[2].copy_(tensors[0] * (tensors[1] > 0))

    monkeypatch.setattr(torch, "compile", lambda function, **options: relus_own)
    x, grad = torch.randn(2**15), torch.randn(2**15)
    with caplog.at_level(logging.WARNING):
        got = gradient(SugarReLU("b_silu", form="fused"), x, grad)
    assert torch.equal(got, gradient(SugarReLU("b_silu"), x, grad))
    assert "errs by" in caplog.text


def test_the_steps_give_what_the_native_kernel_gives() -> None:
    def steps(g: Surrogate) -> Lowered:
        return dataclasses.replace(lower(g), name="")

    x, grad = torch.randn(1000), torch.randn(1000)
    for name in LIBRARY:
        activation = SugarReLU(name)
        native = gradient(activation, x, grad)
        activation.derivative = steps(surrogate(name))
        torch.testing.assert_close(gradient(activation, x, grad), native, atol=2e-6, rtol=1e-5)
