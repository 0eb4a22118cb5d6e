"""Many deep narrow nets as one computation, the members in the last dimension.

With layers of two units there is nothing to multiply but numbers. So a layer is a few elementwise operations over all
members: at 1,000 members a step takes 11 (ReLU) and 19 ms (B-SiLU) of one core, by batched matrix products 30 and 40.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.reproduction.narrow.initialisation import Layer

LANES: Final = 64
"""Members come in multiples of this: else vector instructions leave a remainder to scalar ones, which round otherwise,
and a member's training would hang on how many train beside it."""


class NarrowNets(nn.Module):
    """`members` nets of one shape.

    Args:
        layers: of each member its layers.
        surrogate: g in text; None is plain ReLU.

    Attributes:
        weights, biases: of each layer [outputs, inputs, members] and [outputs, members].
    """

    def __init__(self, layers: Sequence[Sequence[Layer]], surrogate: str | None) -> None:
        super().__init__()
        stacked = [
            [np.stack(parts, axis=-1) for parts in zip(*same, strict=True)] for same in zip(*layers, strict=True)
        ]
        self.weights = nn.ParameterList(torch.from_numpy(weight).float() for weight, _ in stacked)
        self.biases = nn.ParameterList(torch.from_numpy(bias).float() for _, bias in stacked)
        self.activation = nn.ReLU() if surrogate is None else SugarReLU(surrogate)

    def forward(self, x: Tensor) -> Tensor:
        """x [inputs, B, members] to [outputs, B, members]."""
        return self.layers(x)[-1]

    def layers(self, x: Tensor) -> list[Tensor]:
        """What each hidden layer gives after its activation, and last the net's output."""
        *hidden, last = zip(self.weights, self.biases, strict=True)
        outputs = []
        for weight, bias in hidden:
            x = self.activation(linear(x, weight, bias))
            outputs.append(x)
        return [*outputs, linear(x, *last)]


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [inputs, B, members] through a layer of every member to [outputs, B, members]."""
    output: Tensor = _Linear.apply(x, weight, bias)
    return output


def padded(runs: Sequence[int]) -> list[int]:
    """`runs`, and the last of them again up to a multiple of `LANES`."""
    return [*runs, *itertools.repeat(runs[-1], -len(runs) % LANES)]


class _Linear(torch.autograd.Function):
    """The sum over inputs term by term; with autograd's own backward pass a ReLU net's step takes 1.5 times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        result = torch.addcmul(bias.unsqueeze(1), weight[:, 0, None], x[0])
        for index in range(1, len(x)):
            result.addcmul_(weight[:, index, None], x[index])
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        back = None
        if ctx.needs_input_grad[0]:
            back = weight[0].unsqueeze(1) * grad[0]
            for index in range(1, len(grad)):
                back.addcmul_(weight[index].unsqueeze(1), grad[index])
        return back, (grad.unsqueeze(1) * x).sum(2), grad.sum(1)
