"""grad * g(x) in plain torch: what a compiler traces, and what runs where there is no better kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from sugarsearch.nn.kernels.native import NATIVE
from sugarsearch.nn.lowering import Lowered
from sugarsearch.nn.table import look_up

CHUNK = 2**16
"""Elements worked on at once on the CPU: 256 KiB a tensor, so that they stay in its cache."""

_NATIVE_CHUNK = 2**17  # likewise, of kernels that need no new memory for each operation: fewer calls, fewer waits


def product(grad: Tensor, x: Tensor, derivative: Lowered | Tensor) -> Tensor:
    """grad * g(x), in grad's dtype. derivative: g in closed form, or a table's cells."""
    slope = look_up(derivative, x) if isinstance(derivative, Tensor) else derivative(x)
    # In this order the product has the memory format of x, as F.relu's gradient has, whatever that of grad.
    return (slope * grad).to(grad.dtype)


def write(grad: Tensor, x: Tensor, derivative: Lowered | Tensor, out: Tensor) -> None:
    """Write grad * g(x) to `out`; all are one-dimensional. On the CPU in chunks."""
    if isinstance(derivative, Lowered) and derivative.name in NATIVE:
        _write_native(grad, x, derivative, out)
        return
    size = CHUNK if x.device.type == "cpu" else x.numel()
    for piece in _pieces(x.numel(), size):
        out[piece] = product(grad[piece], x[piece], derivative)


def _write_native(grad: Tensor, x: Tensor, derivative: Lowered, out: Tensor) -> None:
    native = NATIVE[derivative.name]
    size = _NATIVE_CHUNK * torch.get_num_threads() if x.device.type == "cpu" else x.numel()
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    scratch = torch.empty(min(size, x.numel()), dtype=dtype, device=x.device)
    for piece in _pieces(x.numel(), size):
        own = out[piece] if out.dtype == dtype else torch.empty_like(scratch[: out[piece].numel()])
        native(grad[piece].to(dtype), x[piece].to(dtype), own, scratch[: own.numel()], *derivative.parameters)
        if derivative.scale != 1:
            own.mul_(derivative.scale)
        if own.dtype != out.dtype:
            out[piece] = own


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
