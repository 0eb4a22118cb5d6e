"""ReLU forward, grad * g(x) backward: the autograd function of SUGAR (equations 5 and 6 of the paper).

Plain torch throughout, so that torch.compile traces and fuses it. torch.func's transforms are refused by torch: they
need setup_context, which costs 22 us more per call than `ctx` in forward, and under torch.compile(vmap(...)) torch 2.15
would silently put ReLU's own gradient in place of g. Many g's at once are the members of a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sugarsearch.nn.lowering import Lowered, LoweredMembers
from sugarsearch.nn.table import look_up

_CHUNK = 2**17  # elements worked on at once on the CPU, so that intermediate results stay in its cache

# A flag of the module, not of the thread: CUDA's backward passes run in threads of autograd's own.
_relus_own = False


@contextmanager
def relus_own_gradient() -> Iterator[None]:
    """Within it, backward passes take ReLU's own gradient in place of grad * g(x), bit for bit as F.relu's.

    In the whole process, in all threads; also of graphs made before. Not of compiled code, which keeps its g.
    """
    global _relus_own
    before, _relus_own = _relus_own, True
    try:
        yield
    finally:
        _relus_own = before


def sugar_relu(x: Tensor, derivative: Lowered | LoweredMembers | Tensor) -> Tensor:
    """torch.relu(x), bit for bit; its gradient is grad * g(x).

    derivative: g in closed form, or the cells of a table; with the forms or cells of more than one member
    x is [members, ...]. g is computed in float32 (float64 for float64 x), the gradient has the dtype of x.
    """
    closed, cells = (None, derivative) if isinstance(derivative, Tensor) else (derivative, None)
    output: Tensor = _SugarRelu.apply(x, closed, cells)
    return output


def _times_g(grad: Tensor, x: Tensor, closed: Any, cells: Any) -> Tensor:
    slope: Tensor = look_up(cells, x) if closed is None else closed(x)
    # In this order the product has the memory format of x, as F.relu's gradient has, whatever that of grad.
    return (slope * grad).to(grad.dtype)


def _chunked(grad: Tensor, x: Tensor, closed: Lowered | None, cells: Tensor | None) -> Tensor:
    if x.numel() <= _CHUNK or x.device.type != "cpu" or torch.compiler.is_compiling():
        return _times_g(grad, x, closed, cells)
    result = torch.empty_like(x)
    rows = max(1, _CHUNK * x.shape[0] // x.numel())
    for start in range(0, x.shape[0], rows):
        piece = slice(start, start + rows)
        own = cells if cells is None or cells.shape[1] == 1 else cells[:, piece]
        result[piece] = _times_g(grad[piece], x[piece], closed, own)
    return result


class _SugarRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, closed: Lowered | LoweredMembers | None, cells: Tensor | None) -> Tensor:
        ctx.closed = closed
        ctx.save_for_backward(x, cells)
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, cells = ctx.saved_tensors
        return _Gradient.apply(grad, x, ctx.closed, cells), None, None


class _Gradient(torch.autograd.Function):
    """grad * g(x), as a function of its own so that differentiating it is refused.

    torch's once_differentiable would refuse too, but torch.compile does not trace through it.
    """

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, closed: Lowered | LoweredMembers | None, cells: Tensor | None
    ) -> Tensor:
        # Compiling is asked first: a flag that is read while tracing would become a reason to compile again.
        if not torch.compiler.is_compiling() and _relus_own:
            own: Tensor = torch.ops.aten.threshold_backward(grad, x, 0)
            return own
        if not isinstance(closed, LoweredMembers):
            return _chunked(grad, x, closed, cells)
        result = torch.empty_like(x)
        for piece, g in closed.pieces():
            result[piece] = _chunked(grad[piece], x[piece], g, None)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise RuntimeError(
            "SugarReLU cannot be differentiated twice: its gradient is a chosen g, not the derivative of its output. "
            "Put plain ReLUs in for second derivatives: sugarsearch.remove(model)."
        )
