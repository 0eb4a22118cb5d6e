"""ReLU forward, grad * g(x) backward: the autograd function of SUGAR (equations 5 and 6 of the paper).

torch.compile traces through it and fuses it. torch.func's transforms are refused: by torch in eager mode, where they
need setup_context, which costs 22 us more per call than `ctx` in forward; and here where they are compiled, for torch
would silently put ReLU's own gradient in place of g. Many g's at once are the members of a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sugarsearch.nn.kernels.gradient import Closed, Derivative, gradient

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


def relus_own_is_asked() -> bool:
    """Whether a backward pass is within `relus_own_gradient`; never of compiled code."""
    # Compiling is asked first: a flag that is read while tracing would become a reason to compile again.
    return not torch.compiler.is_compiling() and _relus_own


def refuse_to_differentiate(ctx: Any, grad: Tensor) -> None:
    """The backward pass of what computes a gradient."""
    raise RuntimeError(
        "SugarReLU cannot be differentiated twice: its gradient is a chosen g, not the derivative of its output. "
        "Put plain ReLUs in for second derivatives: sugarsearch.remove(model)."
    )


def sugar_relu(x: Tensor, derivative: Derivative) -> Tensor:
    """torch.relu(x), bit for bit; its gradient is grad * g(x).

    derivative: what gives g; with the g's of more than one member x is [members, ...]. g is computed in float32
    (float64 for float64 x), the gradient has the dtype of x.
    """
    # torch 2.13 and 2.14 trace a transform's backward pass past any autograd.Function, without a word.
    if torch.compiler.is_compiling() and torch._C._functorch.maybe_current_level() is not None:
        raise RuntimeError(
            "SugarReLU does not work under torch.func's transforms (grad, vjp, vmap): torch.compile would put ReLU's "
            "own gradient in place of g. Use loss.backward()."
        )
    closed, cells = (None, derivative) if isinstance(derivative, Tensor) else (derivative, None)
    output: Tensor = _SugarRelu.apply(x, closed, cells)
    return output


class _SugarRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, closed: Closed | None, cells: Tensor | None) -> Tensor:
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
    def forward(ctx: Any, grad: Tensor, x: Tensor, closed: Closed | None, cells: Tensor | None) -> Tensor:
        if relus_own_is_asked():
            own: Tensor = torch.ops.aten.threshold_backward(grad, x, 0)
            return own
        derivative = cells if closed is None else closed
        assert derivative is not None
        return gradient(grad, x, derivative)

    backward = staticmethod(refuse_to_differentiate)
