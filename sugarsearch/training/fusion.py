"""Whether a run is long enough for its g to get a kernel of its own."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.kernels.fused import WORTHWHILE

WORTH_A_KERNEL: Final = 3e9
"""Elements that activations must see. A kernel saves about 1 ns of each (2 CPU cores: b_silu 0.9, longer formulas more)
and compiles in 1 to 3 s."""


def fuse_where_it_pays(network: nn.Module, shape: tuple[int, ...], samples: int, batch_size: int) -> None:
    """Give the SugarReLUs of an eager network compiled kernels, if training is long enough.

    By what is asked for alone, not by the time it takes, so that a resumed run computes as it would have.

    Args:
        network: its activations are in closed form.
        shape: of an input.
        samples: how many are trained on in all, over all epochs.
        batch_size: of them to a step.
    """
    sites = [module for module in network.modules() if isinstance(module, SugarReLU)]
    sizes = _elements(network, sites, shape) if sites and samples else []
    if max(sizes, default=0) * batch_size < WORTHWHILE or sum(sizes) * samples < WORTH_A_KERNEL:
        return
    for site in sites:
        site.form = "fused"
        site.set_surrogate(site.surrogate)


@torch.no_grad()
def _elements(network: nn.Module, sites: list[SugarReLU], shape: tuple[int, ...]) -> list[int]:
    """Of each call of an activation, for one input."""
    sizes: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.numel())

    hooks = [site.register_forward_hook(count) for site in sites]
    training = network.training
    network.eval()
    try:
        network(torch.zeros(1, *shape))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return sizes
