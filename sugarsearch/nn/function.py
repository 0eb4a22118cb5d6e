"""ReLU forward, grad * g(x) backward: the autograd function of SUGAR (equations 5 and 6 of the paper).

Plain torch throughout, so that torch.compile traces and fuses it. Do not use it inside
torch.compile(torch.func.vmap(...)): torch 2.15 silently drops a custom backward there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sugarsearch.nn.lowering import Lowered
from sugarsearch.nn.table import look_up


def sugar_relu(x: Tensor, derivative: Lowered | Tensor) -> Tensor:
    """torch.relu(x), bit for bit; its gradient is grad * g(x).

    derivative: g in closed form, or the cells of a table; with the cells of more than one member
    x is [members, ...]. g is computed in float32 (float64 for float64 x), the gradient has the dtype of x.
    """
    closed, cells = (None, derivative) if isinstance(derivative, Tensor) else (derivative, None)
    output: Tensor = _SugarRelu.apply(x, closed, cells)
    return output


class _SugarRelu(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, closed: Any, cells: Any) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.closed, cells = inputs
        ctx.save_for_backward(x, cells)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, cells = ctx.saved_tensors
        return _Gradient.apply(grad, x, ctx.closed, cells), None, None


class _Gradient(torch.autograd.Function):
    """grad * g(x), as a function of its own so that differentiating it is refused.

    torch's once_differentiable would refuse too, but torch.compile does not trace through it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, x: Tensor, closed: Any, cells: Any) -> Tensor:
        slope: Tensor = look_up(cells, x) if closed is None else closed(x)
        return (grad * slope).to(grad.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise RuntimeError(
            "SugarReLU cannot be differentiated twice: its gradient is a chosen g, not the derivative of its output. "
            "Put plain ReLUs in for second derivatives: sugarsearch.remove(model)."
        )
