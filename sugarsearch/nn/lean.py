"""ReLU whose backward pass keeps a few bits of x in place of x: the lean form of sugarsearch.nn.function.

In eager mode F.relu keeps its output, which the next layer keeps anyhow; a surrogate that needs x < 0 keeps x beside
it, 4 bytes an element in float32. A codebook's codes take 1, 1/2 or 1/4 of a byte. Encoding and decoding take 2 ns an
element on one core. torch.compile traces through it, but chooses by itself what to keep and needs no lean form.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sugarsearch.nn.codes import Codebook, Layout, encode, levels_of
from sugarsearch.nn.function import refuse_to_differentiate, relus_own_is_asked


def lean_relu(x: Tensor, book: Codebook) -> Tensor:
    """torch.relu(x), bit for bit; its gradient is grad times the level of x's code, for one g on all of x.

    The codes alone are kept for the backward pass, and only where there will be one. The gradient has the dtype and
    memory format of x. Differentiating it raises RuntimeError.

    book: on the device of x.
    """
    output: Tensor = _LeanRelu.apply(x, book, torch.is_grad_enabled())[0]
    return output


class _LeanRelu(torch.autograd.Function):
    """Its second output is empty. Codes do not say what they were made of; this tells the gradient's graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, book: Codebook, differentiated: bool) -> tuple[Tensor, Tensor]:
        origin = x.new_empty(0)
        if differentiated and ctx.needs_input_grad[0]:
            ctx.book, ctx.layout = book, Layout.of(x)
            ctx.save_for_backward(encode(x, book), origin)
        return torch.relu(x), origin

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        packed, origin = ctx.saved_tensors
        return _LeanGradient.apply(grad, packed, origin, ctx.book, ctx.layout), None, None


class _LeanGradient(torch.autograd.Function):
    """A function of its own so that differentiating it is refused."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, packed: Tensor, origin: Tensor, book: Codebook, layout: Layout) -> Tensor:
        own = relus_own_is_asked()
        flat = layout.flat(grad)
        result = torch.empty_like(flat)
        for piece, levels in levels_of(packed, book.relus_own() if own else book, flat.numel()):
            if own:  # a product would give -0.0, and NaN for an infinite gradient
                result[piece] = torch.ops.aten.threshold_backward(flat[piece], levels.to(flat.dtype), 0)
            else:
                torch.mul(levels, flat[piece], out=result[piece])
        return layout.shaped(result)

    backward = staticmethod(refuse_to_differentiate)
