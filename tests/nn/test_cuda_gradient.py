"""Which Triton kernel computes what, and what happens without one; the kernels run in Triton's interpreter."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sugarsearch.nn.kernels import cuda, triton_gradient
from sugarsearch.nn.kernels.cuda import cuda_gradient
from sugarsearch.nn.lowering import Lowered, lower
from sugarsearch.nn.table import tabulate
from sugarsearch.symbolic.library import surrogate

pytest.importorskip("triton", reason="Triton is not installed")

G = surrogate("0.5 + sigmoid(x) if x > 0 else 0.3*cos(x)/(1 + x**2) - 0.2")


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    caches = (triton_gradient._closed, triton_gradient._compiled, cuda._works, cuda._values)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for cache in caches:
        cache.cache_clear()
    with np.errstate(all="ignore"):  # the interpreter computes with numpy
        yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["closed", "table"])
def test_every_form_and_dtype_has_a_kernel(form: str, dtype: torch.dtype) -> None:
    derivative: Lowered | Tensor = lower(G) if form == "closed" else tabulate([G]).cells
    x, grad = torch.randn(3, 41).to(dtype), torch.randn(3, 41).to(dtype)
    got = cuda_gradient(grad, x, derivative)
    assert got is not None
    assert got.dtype == dtype
    wanted = grad.double().numpy() * G(x.double().numpy())
    np.testing.assert_allclose(got.double().numpy(), wanted, atol=5e-6, rtol=2 * torch.finfo(dtype).eps)


def test_float64_is_left_to_plain_torch() -> None:
    x = torch.randn(5, dtype=torch.float64)
    assert cuda_gradient(x, x, lower(G)) is None


def test_without_triton_it_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(triton_gradient, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert [cuda_gradient(x, x, lower(G)) for x in torch.randn(3, 5)] == [None] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "no Triton here: surrogates take several kernels each on cpu."
    ]


@pytest.mark.parametrize("fault", ["raises", "errs"])
def test_a_kernel_that_does_not_work_is_not_used(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(grad: Tensor, x: Tensor, cells: Tensor) -> Tensor:
        if fault == "raises":
            raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")
        return grad * (x > 0)  # ReLU's own

    monkeypatch.setattr(triton_gradient, "times_cells", broken)
    with caplog.at_level(logging.WARNING):
        assert [cuda_gradient(x, x, lower(G)) for x in torch.randn(3, 5)] == [None] * 3
    (line,) = (record.getMessage() for record in caplog.records)
    assert ("Failed to find C compiler" if fault == "raises" else "errs by") in line
    assert "plain torch is" in line
