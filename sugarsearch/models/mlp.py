"""The deep narrow network, alone and as a population.

Deep narrow ReLU networks without normalisation often collapse to a constant (Lu et al., 2019), which is
where the choice of a surrogate matters most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sugarsearch.models.resnet import Activation


class DeepNarrowMLP(nn.Module):
    """`depth` hidden layers of `width` units, each with an activation, and a linear head."""

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, width: int, activation: Activation) -> None:
        super().__init__()
        self.shape = shape
        sizes = [math.prod(shape), *[width] * depth, classes]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.activations = nn.ModuleList(activation() for _ in range(depth))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, classes] of inputs [B, *shape]."""
        x = inputs.flatten(1)
        *hidden, head = self.layers
        for layer, activation in zip(hidden, self.activations, strict=True):
            x = activation(layer(x))
        logits: Tensor = head(x)
        return logits


class MemberLinear(nn.Module):
    """One linear layer of every member: x [members, inputs, B] to [members, outputs, B].

    The batch comes last because the small matrices then multiply with long rows: on a CPU this is 1.3 to 2
    times as fast as [members, B, inputs].
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(members, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Also takes x [inputs, B], the same for all members: one product of all members' weights."""
        bias = self.bias.unsqueeze(2)
        if x.ndim == 2:
            return (self.weight.flatten(0, 1) @ x).view(*self.bias.shape, -1) + bias
        return torch.baddbmm(bias, self.weight, x)


class StackedMLP(nn.Module):
    """Members of one architecture as one network.

    Its parameters have the names of a single member's, with the members as first dimension. Activations
    see [members, units, B].
    """

    def __init__(self, models: Sequence[DeepNarrowMLP], activation: Activation) -> None:
        super().__init__()
        first = models[0]
        self.shape = first.shape
        linears = [layer for layer in first.layers if isinstance(layer, nn.Linear)]
        self.layers = nn.ModuleList(MemberLinear(len(models), one.in_features, one.out_features) for one in linears)
        self.activations = nn.ModuleList(activation() for _ in first.activations)
        states = [model.state_dict() for model in models]
        self.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [members, B, classes] of inputs [B, *shape], seen by all, or [members, B, *shape], each its own."""
        shared = inputs.ndim == len(self.shape) + 1
        x = inputs.flatten(1).t() if shared else inputs.flatten(2).transpose(1, 2)
        *hidden, head = self.layers
        for layer, activation in zip(hidden, self.activations, strict=True):
            x = activation(layer(x))
        logits: Tensor = head(x)
        return logits.transpose(1, 2)


def deep_narrow_mlp(
    shape: tuple[int, ...], classes: int, activation: Activation, *, depth: int, width: int
) -> DeepNarrowMLP:
    """He-normal weights, zero biases; `depth` sites."""
    return DeepNarrowMLP(shape, classes, depth, width, activation)


def stack(models: Sequence[DeepNarrowMLP], activation: Activation) -> StackedMLP:
    """A population of `models`, whose weights are copied; `activation` makes modules for all members."""
    return StackedMLP(models, activation)
