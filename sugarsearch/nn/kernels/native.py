"""The named surrogates' gradients in as few of torch's own kernels as there are, for eager mode.

Where torch has the backward pass of an activation as one kernel (silu_backward, elu_backward, ...) that is grad * g(x)
itself. The others are written to pass over their data as seldom as possible. Computing the formula step by step takes
1.1 to 5 times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from sugarsearch.symbolic.surrogate import REACH

Native = Callable[..., object]
"""(grad, x, out, scratch, *values of the parameters sorted by name): writes grad * g(x) to `out`.

All tensors have one shape and dtype, float32 or float64; `out` and `scratch` are overwritten. x may be infinite.
"""

_aten = torch.ops.aten


def _relu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor) -> object:
    return _aten.threshold_backward.grad_input(grad, x, 0, grad_input=out)


def _leaky_relu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, alpha: float) -> object:
    return _aten.leaky_relu_backward.grad_input(grad, x, alpha, False, grad_input=out)


def _elu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, alpha: float) -> object:
    return _aten.elu_backward.grad_input(grad, alpha, 1, 1, False, x, grad_input=out)


def _selu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor) -> object:
    return _aten.elu_backward.grad_input(grad, 1.6732632423543772, 1.0507009873554805, 1, False, x, grad_input=out)


def _gelu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor) -> object:
    return _aten.gelu_backward.grad_input(grad, _finite(x, scratch), grad_input=out)


def _silu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, beta: float) -> object:
    scaled = _finite(x, scratch) if beta == 1 else _finite(x, scratch).mul_(beta)
    return _aten.silu_backward.grad_input(grad, scaled, grad_input=out)


def _mish(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor) -> object:
    return out.copy_(_aten.mish_backward(grad, _finite(x, scratch)))


def _softplus(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, beta: float) -> object:
    return torch.mul(torch.mul(x, beta, out=scratch).sigmoid_(), grad, out=out)


def _b_silu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, alpha: float) -> object:
    s = torch.sigmoid(x, out=out)
    shifted = torch.clamp(x, -REACH, REACH, out=scratch).add_(alpha)
    # (x + alpha) s (1 - s); 1 - s has lost its digits only where s, which is added, is 1.
    _aten.sigmoid_backward.grad_input(shifted, s, grad_input=shifted)
    return torch.mul(shifted.add_(s), grad, out=out)


def _nelu(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, alpha: float) -> object:
    below = torch.clamp(x, -REACH, 0, out=out)
    squares = torch.mul(below, below, out=scratch).add_(1).square_()
    torch.div(below, squares, out=scratch).mul_(grad)  # 0 for x > 0
    _aten.threshold_backward.grad_input(grad, x, 0, grad_input=out)
    return out.add_(scratch, alpha=2 * alpha)


def _straight_through(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor) -> object:
    return out.copy_(grad)


def _sigmoid_prime(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, slope: float) -> object:
    s = torch.abs(x, out=scratch).mul_(-abs(slope)).sigmoid_()  # of the side where 1 - s keeps its digits
    return _aten.sigmoid_backward.grad_input(grad, s, grad_input=out).mul_(slope)


def _arctan(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, alpha: float) -> object:
    torch.mul(x, math.pi / 2 * alpha, out=scratch).square_().add_(1)
    return torch.div(grad, scratch, out=out).mul_(alpha / 2)


def _fast_sigmoid(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, slope: float) -> object:
    torch.abs(x, out=scratch).mul_(slope).add_(1).square_()
    return torch.div(grad, scratch, out=out)


def _gaussian(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, sigma: float) -> object:
    height = torch.scalar_tensor(-math.log(abs(sigma) * math.sqrt(2 * math.pi)), dtype=x.dtype)
    torch.mul(x, x, out=scratch)
    torch.add(height, scratch, alpha=-0.5 / sigma**2, out=scratch).exp_()
    torch.mul(scratch, grad, out=out)
    return out if sigma > 0 else out.neg_()


def _triangular(grad: Tensor, x: Tensor, out: Tensor, scratch: Tensor, width: float) -> object:
    torch.abs(x, out=scratch).mul_(-1 / width).add_(1).clamp_(min=0)
    return torch.mul(scratch, grad, out=out)


def _finite(x: Tensor, scratch: Tensor) -> Tensor:
    """x without its infinities, which these kernels make NaN of."""
    return torch.clamp(x, -REACH, REACH, out=scratch)


NATIVE: Mapping[str, Native] = MappingProxyType(
    {
        "relu": _relu,
        "leaky_relu": _leaky_relu,
        "prelu": _leaky_relu,
        "elu": _elu,
        "selu": _selu,
        "gelu": _gelu,
        "silu": _silu,
        "mish": _mish,
        "softplus": _softplus,
        "b_silu": _b_silu,
        "nelu": _nelu,
        "straight_through": _straight_through,
        "sigmoid_prime": _sigmoid_prime,
        "arctan": _arctan,
        "fast_sigmoid": _fast_sigmoid,
        "gaussian": _gaussian,
        "triangular": _triangular,
    }
)
"""By the surrogate's name in the library."""
