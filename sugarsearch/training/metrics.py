"""What the units of a network do: which are dead, how sparse they are, how strong their backward signal is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.primitive import Primitive


@dataclass
class Activity:
    """Counts over one batch, for each call of an activation in the order of the forward pass.

    A unit is a channel of [B, C, H, W], else an entry of the last dimension; it is dead if it is 0 for
    every sample at every position. Tensors stay on the device, so that watching waits for nothing.

    Attributes:
        dead: dead units of each layer, int64 [members].
        zeros: outputs that are 0, as a share of the layer's outputs, float32 [members].
        units: how many units each layer has.
    """

    dead: list[Tensor] = field(default_factory=list)
    zeros: list[Tensor] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def dead_share(self) -> Tensor:
        """Dead units as a share of all units, float32 [members]."""
        return torch.stack(self.dead).sum(0).float() / sum(self.units)

    def sparsity(self) -> Tensor:
        """Outputs that are 0 as a share of all outputs, float32 [members]."""
        weights = torch.tensor(self.outputs, dtype=torch.float32, device=self.zeros[0].device)
        return (torch.stack(self.zeros) * weights.unsqueeze(1)).sum(0) / weights.sum()

    def add(self, fired: Tensor, places: int) -> None:
        """Count one layer.

        Args:
            fired: at how many of its places, in all samples, each unit is above 0, int64 [members, units].
            places: how many a unit has.
        """
        units = fired.shape[1]
        self.dead.append((fired == 0).sum(1))
        self.zeros.append(1 - fired.sum(1).float() / (units * places))
        self.units.append(units)
        self.outputs.append(units * places)


@contextmanager
def watch(
    network: nn.Module, *, stacked: bool = False, kinds: tuple[type[nn.Module], ...] = (SugarReLU, Primitive)
) -> Iterator[Activity]:
    """Count what the activations of `network` do in the forward passes made inside.

    Of a Primitive, whose outputs may be negative, a unit is dead if its output is never above 0, and sparsity is the
    share of outputs that are not; of SugarReLU, whose outputs are ReLU's, that is the same as being 0.

    stacked: the network is a population, whose activations see [members, units, B].
    kinds: which modules are activations.
    """
    activity = Activity()

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        above = output > 0
        if stacked:
            fired = above.sum(2)
        else:  # a unit is a channel of an image, else an entry of the last dimension
            fired = above.sum((0, 2, 3) if output.ndim == 4 else tuple(range(output.ndim - 1))).unsqueeze(0)
        activity.add(fired, output.numel() // fired.numel())

    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, kinds)]
    try:
        yield activity
    finally:
        for hook in hooks:
            hook.remove()


def measured_gain(network: nn.Module, inputs: Tensor) -> list[float]:
    """sqrt(E[g(z)^2] / 0.5) for each SugarReLU call, over the pre-activations z that `inputs` [B, ...] give.

    On a network as initialised this is what gain is for z ~ N(0, 1); without batch norm z is not N(0, 1).
    The network is run as it stands, in its present mode.
    """
    with watch_gain(network) as gains, torch.no_grad():
        network(inputs)
    return gains


@contextmanager
def watch_gain(network: nn.Module) -> Iterator[list[float]]:
    """The measured gain of each SugarReLU call in the forward passes made inside, in their order."""
    gains: list[float] = []

    def measure(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(module, SugarReLU)
        z = arguments[0].detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(module.forward(z).sum(), z)
        gains.append(float((slope.double().square().mean() / 0.5).sqrt()))

    sites = [module for module in network.modules() if isinstance(module, SugarReLU)]
    hooks = [site.register_forward_pre_hook(measure) for site in sites]
    try:
        yield gains
    finally:
        for hook in hooks:
            hook.remove()
