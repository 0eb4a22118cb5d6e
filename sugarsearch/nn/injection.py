"""The paper's two injections of a surrogate into autograd (equations 4 to 6 of Horuz et al., 2025), as references.

For checks and benchmarks; SugarReLU is what to use. It has the same gradient, keeps x alone for the backward pass, and
its output is relu(x) whatever g does. These make three tensors more, and where f(x) or x g(x) overflows, their output
is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Elementwise = Callable[[Tensor], Tensor]


def indirect(x: Tensor, f: Elementwise) -> Tensor:
    """f(x) - sg(f(x)) + sg(relu(x)): relu(x), with the gradient that autograd finds for f (equation 4).

    sg is detach. f keeps the dtype of x.
    """
    y = f(x)
    return y - y.detach() + torch.relu(x).detach()


def direct(x: Tensor, g: Elementwise) -> Tensor:
    """m - sg(m) + sg(relu(x)) with m = x sg(g(x)): relu(x), with the gradient grad * g(x) (equations 5 and 6).

    sg is detach. g keeps the dtype of x.
    """
    m = x * g(x).detach()
    return m - m.detach() + torch.relu(x).detach()
