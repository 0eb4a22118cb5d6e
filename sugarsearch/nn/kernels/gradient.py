"""Which kernel computes grad * g(x) in eager mode."""

from __future__ import annotations

import torch
from torch import Tensor

from sugarsearch.nn.kernels import plain
from sugarsearch.nn.kernels.cuda import cuda_gradient
from sugarsearch.nn.kernels.fused import WORTHWHILE, Fused, kernel_of
from sugarsearch.nn.lowering import Lowered, LoweredMembers

Closed = Lowered | Fused | LoweredMembers
"""g in closed form, or those of a population."""

Derivative = Closed | Tensor
"""What gives g: its closed form, or a table's cells (of one member or more)."""


def gradient(grad: Tensor, x: Tensor, derivative: Derivative) -> Tensor:
    """grad * g(x): dtype of grad, shape and memory format of x.

    Args:
        grad: of any memory format.
        x: [members, ...] for the g's of more than one.
        derivative: what gives g.
    """
    if isinstance(derivative, LoweredMembers):
        result = torch.empty_like(x)
        for piece, g in derivative.pieces():
            result[piece] = gradient(grad[piece], x[piece], g)
        return result
    if torch.compiler.is_compiling():
        return plain.product(grad, x, _unfused(derivative))
    if x.device.type == "cuda" and x.numel():
        product = cuda_gradient(grad, x, _unfused(derivative))
        if product is not None:
            return product
    if isinstance(derivative, Tensor) and derivative.shape[1] > 1:
        return _by_member(grad, x, derivative)
    return _single(grad, x, derivative)


def _unfused(derivative: Lowered | Fused | Tensor) -> Lowered | Tensor:
    return derivative.closed if isinstance(derivative, Fused) else derivative


def _single(grad: Tensor, x: Tensor, derivative: Lowered | Fused | Tensor) -> Tensor:
    result = torch.empty_like(x)
    if result.stride() != x.stride():  # x has gaps: no kernel could walk through its storage
        x = torch.empty_like(x).copy_(x)
    if grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    if isinstance(derivative, Fused):
        large = x.device.type == "cpu" and x.numel() >= WORTHWHILE
        kernel = kernel_of(derivative.closed) if large else None
        if kernel is not None:
            kernel(_flat(grad), _flat(x), _flat(result))
            return result
        derivative = derivative.closed
    plain.write(_flat(grad), _flat(x), derivative, _flat(result))
    return result


def _flat(x: Tensor) -> Tensor:
    """A tensor without gaps as it lies in memory."""
    return x.as_strided((x.numel(),), (1,))


def _by_member(grad: Tensor, x: Tensor, cells: Tensor) -> Tensor:
    """With a table for each member, which says where in it to look by its place in x."""
    if x.numel() <= plain.CHUNK or x.device.type != "cpu":
        return plain.product(grad, x, cells)
    result = torch.empty_like(x)
    rows = max(1, plain.CHUNK * x.shape[0] // x.numel())
    for start in range(0, x.shape[0], rows):
        piece = slice(start, start + rows)
        result[piece] = plain.product(grad[piece], x[piece], cells[:, piece])
    return result
