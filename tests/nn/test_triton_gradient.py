"""The Triton kernels against g in float64. Without a GPU they run in Triton's interpreter, with `-m gpu` on the device.

The interpreter is chosen where a kernel is made, so nothing need be set before Triton is imported. It makes bfloat16 of
float32 by cutting off, which costs the last bit.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sugarsearch.config.schema import SearchSpace
from sugarsearch.errors import UsageError
from sugarsearch.nn.kernels import triton_gradient
from sugarsearch.nn.kernels.triton_gradient import TRITON, bit_values, times_bits, times_cells, times_closed
from sugarsearch.nn.lowering import TORCH, lower
from sugarsearch.nn.table import look_up, tabulate
from sugarsearch.symbolic.expression import Expression, X, call, constant
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.surrogate import Surrogate

pytest.importorskip("triton", reason="Triton is not installed")

GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)
ASYMMETRIC = "0.5 + sigmoid(x) if x > 0 else 0.3*cos(x)/(1 + x**2) - 0.2"
JUMPS = "2 if x >= 0.3 else (0.25 if x > 0 else -0.25 + 0*x)"
KINDS = [
    ("bits", torch.bfloat16),
    ("bits", torch.float16),
    ("cells", torch.float32),
    ("closed", torch.float32),
    ("cells", torch.bfloat16),
    ("closed", torch.float16),
]
HALVES = [torch.bfloat16, torch.float16]
LAST_BIT = {torch.float32: 1e-5, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
POINTS = torch.cat(
    [torch.linspace(-9, 9, 1201), torch.tensor([0, -0.0, 1e-30, -1e-30, 1e-44, -1e-44, 60, -60, 3e4, -3e4, 6e4, -6e4])]
)


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the kernels run; those made before or here are for this device only."""
    _forget_kernels()
    if request.param == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    else:
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with np.errstate(all="ignore"):  # the interpreter computes with numpy
        yield request.param
    _forget_kernels()


@pytest.fixture
def large_blocks(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes by blocks."""
    if device == "cpu":
        monkeypatch.setattr(triton_gradient, "_BLOCK", 2**15)


def _forget_kernels() -> None:
    triton_gradient._closed.cache_clear()
    triton_gradient._compiled.cache_clear()


def times(kind: str, grad: Tensor, x: Tensor, *surrogates: Surrogate) -> Tensor:
    if kind == "bits":
        return times_bits(grad, x, torch.stack([bit_values(lower(g), x.dtype) for g in surrogates]).to(x.device))
    if kind == "cells":
        return times_cells(grad, x, tabulate(surrogates).cells.to(x.device))
    (g,) = surrogates
    return times_closed(grad, x, lower(g))


def exact(x: Tensor, *surrogates: Surrogate) -> NDArray[np.float64]:
    values = x.double().cpu().numpy()
    if len(surrogates) == 1:
        return surrogates[0](values)
    return np.stack([g(own) for g, own in zip(surrogates, values, strict=True)])


def check(got: Tensor, grad: Tensor, x: Tensor, *surrogates: Surrogate) -> None:
    assert got.dtype == grad.dtype
    assert got.shape == x.shape
    assert got.device == x.device
    wanted = exact(x, *surrogates) * grad.double().cpu().numpy()
    np.testing.assert_allclose(got.double().cpu().numpy(), wanted, atol=5e-6, rtol=LAST_BIT[grad.dtype])


def patterns(dtype: torch.dtype, device: str) -> Tensor:
    return torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).to(device)


def ones_for(x: Tensor) -> Tensor:
    return torch.ones(x.shape, device=x.device)


def random_pair(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    return torch.randn(shape).to(device, dtype), (2 * torch.randn(shape)).to(device, dtype)


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("dtype", HALVES)
def test_every_bit_pattern_has_its_own_g(device: str, dtype: torch.dtype) -> None:
    x = patterns(dtype, device)
    number = ~x.isnan()
    for text in [*LIBRARY, ASYMMETRIC, JUMPS]:
        g = surrogate(text)
        values = bit_values(lower(g), dtype).to(device)
        got = times_bits(ones_for(x), x, values[None])
        assert torch.equal(got, values), text
        check(got[number], ones_for(x[number]), x[number], g)
        assert torch.allclose(got[~number], torch.tensor(g.at_zero, dtype=torch.float32, device=device)), text


@pytest.mark.parametrize("dtype", HALVES)
def test_the_product_of_16_bits_is_rounded_once(device: str, dtype: torch.dtype) -> None:
    grad, x = random_pair((5000,), dtype, device)
    values = bit_values(lower(surrogate(ASYMMETRIC)), dtype).to(device)
    wanted = (values[x.view(torch.int16).int() & 0xFFFF] * grad.float()).to(dtype)
    got = times_bits(grad, x, values[None])
    off = (got.view(torch.int16).int() - wanted.view(torch.int16).int()).abs().max().item()
    assert off <= (device == "cpu" and dtype == torch.bfloat16)


def test_any_function_gives_bit_values(device: str) -> None:
    values = bit_values(lambda x: torch.cos(x.clamp(-3, 3)), torch.bfloat16)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    grad, x = random_pair((77,), torch.bfloat16, device)
    wanted = torch.cos(x.float().clamp(-3, 3)) * grad.float()
    got = times_bits(grad, x, values[None].to(device))
    torch.testing.assert_close(got.float(), wanted, atol=1e-6, rtol=LAST_BIT[grad.dtype])


@pytest.mark.usefixtures("large_blocks")
def test_closed_forms_of_the_library(device: str) -> None:
    x = POINTS.to(device)
    for text in [*LIBRARY, ASYMMETRIC, JUMPS, "0.75 if x > 0 else -0.25", "sqrt(max(x, 1e-60)) + 1e-50*x"]:
        for g in (surrogate(text), surrogate(text).at_unit_gain()):
            check(times_closed(ones_for(x), x, lower(g)), ones_for(x), x, g)


def arguments(name: str) -> list[tuple[Expression, ...]]:
    """Every way of giving an operator x, another function of x, and numbers."""
    half, shifted = constant(0.5), call("sub", X, constant(0.25))
    if name == "pow":
        return [(X, constant(e)) for e in (0.0, 1.0, 2.0, 3.0, 8.0, -1.0, -2.0, 0.5, 2.5, -0.5, -7.3)]
    if OPERATORS[name].arity == 1:
        return [(X,)]
    if OPERATORS[name].arity == 2:
        return [(X, shifted), (X, half), (half, X)]
    return [(X, half, shifted), (X, shifted, constant(0.1)), (X, constant(0.1), constant(0.7)), (half, X, shifted)]


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("name", OPERATORS)
def test_each_operator_in_closed_form(device: str, name: str) -> None:
    x = POINTS.to(device)
    for given_arguments in arguments(name):
        g = Surrogate.of(call(name, *given_arguments))
        wanted = g(x.double().cpu().numpy())
        got = times_closed(ones_for(x), x, lower(g)).cpu().numpy()
        inside = ~(np.abs(wanted) > np.finfo(np.float32).max)  # NaN belongs to it, infinity does not
        np.testing.assert_allclose(got[inside], wanted[inside], atol=5e-6, rtol=1e-5, err_msg=str(g.expression))
        assert np.isinf(got[~inside]).all()


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("template", ["whole_line", "negative_side", "gate"])
def test_random_expressions_over_every_operator(device: str, template: Any) -> None:
    unary, binary = (tuple(name for name in OPERATORS if OPERATORS[name].arity == arity) for arity in (1, 2))
    grammar = Grammar(SearchSpace(name="all", template=template, unary=unary, binary=binary))
    x, unsound = POINTS.to(device), 0
    for seed in range(60):
        g = grammar.surrogate(grammar.sample(np.random.default_rng(seed)))
        wanted = g(POINTS.double().numpy())
        # Float32 has no answer to sin(x**8) or to the sign of x**2 - x**2, whoever computes it.
        others = [lower(g)(POINTS).numpy(), *(g(POINTS.double().numpy() * (1 + slip)) for slip in (-(2**-22), 2**-22))]
        sound = np.max(np.abs(np.stack(others) - wanted), axis=0) <= 1e-6 + 2e-6 * np.abs(wanted)
        got = times_closed(ones_for(x), x, lower(g)).cpu().numpy()
        np.testing.assert_allclose(got[sound], wanted[sound], atol=5e-6, rtol=1e-5, err_msg=str(g.bound))
        unsound += int(np.count_nonzero(~sound))
    assert unsound < 0.05 * 60 * POINTS.numel()


@pytest.mark.parametrize("text", ["softplus(x)", "normal_cdf(x)", "sigmoid(x)", "exp(x)", "tanh(exp(x))"])
def test_the_small_side_keeps_its_digits(device: str, text: str) -> None:
    x = torch.linspace(-10, 0, 501, device=device)
    got = times_closed(ones_for(x), x, lower(surrogate(text)))
    np.testing.assert_allclose(got.cpu().numpy(), surrogate(text)(x.double().cpu().numpy()), atol=0, rtol=5e-6)


@pytest.mark.parametrize("name", ["log1p_abs", "tanh", "atan", "erf", "sin", "softsign"])
def test_operators_keep_their_digits_beside_0(device: str, name: str) -> None:
    g, x = surrogate(f"{name}(x)/x"), torch.logspace(-12, 0, 601, device=device)
    got = times_closed(ones_for(x), x, lower(g))
    np.testing.assert_allclose(got.cpu().numpy(), g(x.double().cpu().numpy()), atol=0, rtol=2e-6)


def test_the_table_of_operators_is_complete() -> None:
    assert TRITON.keys() == TORCH.keys()


def test_programs_that_compare_equal_have_their_own_kernels(device: str) -> None:
    x = POINTS.to(device).clamp(-5, 5)
    twice, once = surrogate("exp(x)*exp(x)"), surrogate("exp(x)*1")
    assert lower(twice).steps == lower(once).steps  # (1, 1) and (1, 1.0)
    for g in (twice, once):
        check(times_closed(ones_for(x), x, lower(g)), ones_for(x), x, g)


@pytest.mark.usefixtures("large_blocks")
def test_cells_give_what_look_up_gives(device: str) -> None:
    special = torch.tensor([np.nan, np.inf, -np.inf, 3e38, -3e38, 1.4e-45, -1.4e-45])
    x = torch.cat([POINTS, special]).to(device)
    for text in [*LIBRARY, ASYMMETRIC, JUMPS, "log1p_abs(x)"]:
        cells = tabulate([surrogate(text)]).cells.to(device)
        got, wanted = times_cells(ones_for(x), x, cells), look_up(cells, x)
        steepest = cells[1].abs().max().item()  # a cell with a jump makes much of the last bit of its coordinate
        torch.testing.assert_close(got, wanted, atol=2e-6 + 1e-4 * steepest, rtol=2e-6, msg=text)


def test_a_jump_at_zero_is_exact_in_cells(device: str) -> None:
    x = torch.tensor([0.0, -0.0, 1.4e-45, -1.4e-45, 1e-30, -1e-30], device=device)
    got = times("cells", ones_for(x), x, surrogate("0.75 if x > 0 else -0.25 + 0*x"))
    assert got.tolist() == [-0.25, -0.25, 0.75, -0.25, 0.75, -0.25]


@pytest.mark.parametrize(("kind", "dtype"), [case for case in KINDS if case[0] != "cells"])
def test_infinite_x_counts_as_the_largest_half_precision_number(device: str, kind: str, dtype: torch.dtype) -> None:
    g = surrogate("log1p_abs(x) + step(x)")
    x = torch.tensor([np.inf, -np.inf], device=device, dtype=dtype)
    got = times(kind, ones_for(x), x, g).cpu().numpy()
    np.testing.assert_allclose(got, g(np.array([65504.0, -65504.0])), rtol=1e-5)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_relus_derivative_is_relu_bit_for_bit(device: str, kind: str, dtype: torch.dtype) -> None:
    grad, x = random_pair((3001,), dtype, device)
    x[:6] = torch.tensor([0.0, -0.0, 1e-7, -1e-7, np.inf, -np.inf])
    wanted = torch.ops.aten.threshold_backward(grad, x, 0)
    assert torch.equal(times(kind, grad, x, surrogate("relu")), wanted)
    assert not torch.equal(times(kind, grad, x, surrogate("leaky_relu")), wanted)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "with gaps": lambda x: torch.cat([x, x], 1)[:, ::2],
    "channels_last with gaps": lambda x: torch.cat([x, x], 1).to(memory_format=torch.channels_last)[:, ::2],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "not from the start": lambda x: torch.cat([x, x])[x.shape[0] :],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "dtype"), KINDS[1:4])
def test_memory_formats(device: str, kind: str, dtype: torch.dtype, layout: str) -> None:
    one, three = [surrogate(ASYMMETRIC)], [surrogate("b_silu", alpha=alpha) for alpha in (0.5, 1.0, 2.0)]
    for of_grad in LAYOUTS.values():
        grad, x = random_pair((3, 4, 5, 2), dtype, device)
        grad, x = of_grad(grad), LAYOUTS[layout](x)
        before = grad.clone(), x.clone()
        for own in [one] if kind == "closed" else [one, three]:
            got = times(kind, grad, x, *own)
            check(got, grad, x, *own)
            assert got.stride() == torch.ops.aten.threshold_backward(x, x, 0).stride()
        assert torch.equal(grad, before[0])
        assert torch.equal(x, before[1])


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_any_number_of_elements(device: str, kind: str, dtype: torch.dtype) -> None:
    shapes: list[tuple[int, ...]] = [(), (1,), (0,), (4, 0, 3), (1023,), (1024,), (1025,), (2, 3, 700)]
    for shape in shapes:
        grad, x = random_pair(shape, dtype, device)
        check(times(kind, grad, x, surrogate(ASYMMETRIC)), grad, x, surrogate(ASYMMETRIC))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 333), (4, 5, 128), (4, 3, 8, 16)])
@pytest.mark.parametrize(("kind", "dtype"), KINDS[:3])
def test_members_have_their_own_g(device: str, kind: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    grad, x = random_pair(shape, dtype, device)
    own = [surrogate(text) for text in ("0.25", "3", ASYMMETRIC, "relu")]
    check(times(kind, grad, x, *own), grad, x, *own)
    if x.dim() > 1:
        x = x.transpose(0, 1).contiguous().transpose(0, 1)  # the members are not the outermost in storage
        check(times(kind, grad, x, *own), grad, x, *own)


@pytest.mark.parametrize(("kind", "dtype"), KINDS[:4])
def test_a_wrong_g_would_be_seen(device: str, kind: str, dtype: torch.dtype) -> None:
    grad, x = random_pair((2, 600), dtype, device)
    g, other = surrogate("b_silu", alpha=1.67), surrogate("b_silu", alpha=1.75)
    got = times(kind, grad, x, g)
    check(got, grad, x, g)
    for wrong in (other, surrogate("relu"), surrogate("sigmoid(-x) - (x - 1.67)*sigmoid(x)*sigmoid(-x)")):
        with pytest.raises(AssertionError, match="Not equal"):
            check(got, grad, x, wrong)
    if kind != "closed":
        with pytest.raises(AssertionError, match="Not equal"):
            check(times(kind, grad, x, g, other), grad, x, other, g)


@pytest.mark.parametrize(("kind", "dtype"), KINDS[:4])
def test_wide_indices(device: str, kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    grad, x = random_pair((3, 700), dtype, device)
    own = [surrogate(ASYMMETRIC)] if kind == "closed" else [surrogate(t) for t in (ASYMMETRIC, "b_silu", "0.5")]
    monkeypatch.setattr(triton_gradient, "_WIDE_FROM", 0)
    check(times(kind, grad, x, *own), grad, x, *own)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_more_elements_than_32_bits_count() -> None:
    x = torch.ones(2**31 + 2**12, dtype=torch.bfloat16, device="cuda")
    x[2**31 :] = -1
    got = times("bits", x, x, surrogate("0.5 if x > 0 else -2 + 0*x"))
    assert got[: 2**31].min().item() == got[: 2**31].max().item() == 0.5
    assert got[2**31 :].min().item() == got[2**31 :].max().item() == 2
    got = times("closed", x, x, surrogate("0.5 if x > 0 else -2 + 0*x"))
    assert got[2**31 - 1 : 2**31 + 1].tolist() == [0.5, 2]


def test_what_the_kernels_do_not_compute_is_refused() -> None:
    g, x = surrogate("b_silu"), torch.randn(2, 3)
    with pytest.raises(UsageError, match=r"given torch\.float64"):
        times("cells", x.double(), x.double(), g)
    with pytest.raises(UsageError, match=r"given torch\.float64"):
        times("closed", x.double(), x.double(), g)
    with pytest.raises(UsageError, match=r"given torch\.float32"):
        times_bits(x, x, bit_values(lower(g), torch.bfloat16)[None])
    with pytest.raises(UsageError, match=r"3 members take x of shape \[3, \.\.\.\]; given \[2, 3\]"):
        times("cells", x, x, g, g, g)


def test_triton_is_imported_late_and_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from sugarsearch.nn.kernels.triton_gradient import is_available; "
        "assert 'triton' not in sys.modules; assert is_available(); assert 'triton' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    triton_gradient.is_available.cache_clear()
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "triton", None)
        assert not triton_gradient.is_available()
    triton_gradient.is_available.cache_clear()
    assert triton_gradient.is_available()
