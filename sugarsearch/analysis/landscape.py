"""The loss on a plane through a network's weights, along two random directions (Li et al., 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sugarsearch.errors import UsageError

Batch = tuple[Tensor, Tensor]
"""Inputs and their labels, int64 [B], on the network's device."""

Normalise = Literal["layer", "filter"]
"""What of a direction gets the norm of the weights: each tensor as a whole, or each row of its first dimension."""

Direction = dict[str, Tensor]
"""By the name of a parameter: where it goes. Parameters without a name here stay as they are."""

_NORMALISING = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, eq=False)
class Landscape:
    """Loss and accuracy on a square grid; [i, j] is at weights + alphas[i] * first + betas[j] * second direction.

    Attributes:
        alphas: from -reach to reach, evenly; the one in the middle is 0, the network itself.
        betas: the same.
        losses: mean cross-entropy, float64 [points, points]; infinite or NaN where it overflowed.
        accuracies: share classified rightly, float64 [points, points].
    """

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]

    @property
    def centre(self) -> tuple[float, float]:
        """Loss and accuracy of the network itself."""
        middle = len(self.alphas) // 2, len(self.betas) // 2
        return float(self.losses[middle]), float(self.accuracies[middle])

    def to_json(self) -> dict[str, Any]:
        """Plain data; None for a loss that is not finite, which JSON does not have."""
        losses = [[loss if math.isfinite(loss) else None for loss in row] for row in self.losses.tolist()]
        axes = {"alphas": list(self.alphas), "betas": list(self.betas)}
        return {**axes, "losses": losses, "accuracies": self.accuracies.tolist()}


def landscape(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    points: int = 21,
    reach: float = 0.25,
    seed: int = 0,
    normalise: Normalise = "layer",
    progress: Callable[[int], None] = lambda rows: None,
) -> Landscape:
    """Evaluate `network` on a grid of weights around its own, in eval mode.

    Its weights are moved in place, each point anew from the originals, so memory is that of three more copies
    of them however fine the grid is. Afterwards, also after an exception, they are what they were, bit for bit.

    Args:
        network: a classifier; its running statistics are not touched.
        batches: gone through once for each point; a list, or what makes its batches anew each time.
        points: along each direction; odd, so that the network itself is one of them.
        reach: how far to go, in units of the directions: at 1 a step is as long as the weights.
        seed: of the directions; the same for all networks of one architecture but for the norms of their weights.
        normalise: see `Normalise`.
        progress: told after each row how many are done.

    Raises:
        UsageError: points, reach, normalise or batches are not allowed.
    """
    steps = _steps(points, reach)
    if isinstance(batches, Iterator):
        raise UsageError("batches can be gone through only once, and each point needs them; give a list of them.")
    losses, accuracies = np.empty((points, points)), np.empty((points, points))
    with _in_eval_mode(network), _movable(network, *directions(network, seed, normalise)) as move:
        for row, alpha in enumerate(steps):
            for column, beta in enumerate(steps):
                move(alpha, beta)
                losses[row, column], accuracies[row, column] = _score(network, batches)
            progress(row + 1)
    return Landscape(steps, steps, losses, accuracies)


def directions(network: nn.Module, seed: int, normalise: Normalise) -> tuple[Direction, Direction]:
    """Two Gaussian directions with the norms of the network's weights; torch's own random state is left alone.

    Biases, parameters of normalising layers and all others of less than two dimensions have no part in them:
    their norms say little of how far is far.

    Raises:
        UsageError: no such `normalise`.
    """
    if normalise not in get_args(Normalise):
        raise UsageError(f"normalise is {normalise!r}; allowed: {', '.join(get_args(Normalise))}.")
    # Drawn on the CPU: a network has the same directions on every device.
    generator = torch.Generator().manual_seed(seed)
    moving = _moving(network)
    first, second = (
        {name: _scaled(torch.randn(weight.shape, generator=generator), weight, normalise) for name, weight in moving}
        for _ in range(2)
    )
    return first, second


def _moving(network: nn.Module) -> list[tuple[str, Tensor]]:
    frozen = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, _NORMALISING)
        for parameter in module.parameters(recurse=False)
    }
    named = network.named_parameters()
    return [(name, weight.detach()) for name, weight in named if weight.ndim > 1 and id(weight) not in frozen]


def _scaled(direction: Tensor, weight: Tensor, normalise: Normalise) -> Tensor:
    inner = tuple(range(1 if normalise == "filter" else 0, weight.ndim))
    direction = direction.to(weight)
    length, wanted = (torch.linalg.vector_norm(each, dim=inner, keepdim=True) for each in (direction, weight))
    return direction.mul_(wanted / length)


def _steps(points: int, reach: float) -> tuple[float, ...]:
    if points < 3 or points % 2 == 0:
        raise UsageError(f"points is {points}; it must be odd, so that the network itself is a point, and at least 3.")
    if not 0 < reach < math.inf:
        raise UsageError(f"reach is {reach}; it must be a positive number.")
    half = points // 2
    # Not by steps added up: the middle is exactly 0, and both sides are alike.
    return tuple(reach * step / half for step in range(-half, half + 1))


@contextmanager
def _movable(network: nn.Module, first: Direction, second: Direction) -> Iterator[Callable[[float, float], None]]:
    """A function that puts the weights at a point of the plane; the originals come back at the end."""
    parameters = dict(network.named_parameters())
    originals = {name: parameters[name].detach().clone() for name in first}

    @torch.no_grad()
    def move(alpha: float, beta: float) -> None:
        for name, original in originals.items():
            parameters[name].copy_(original).add_(first[name], alpha=alpha).add_(second[name], alpha=beta)

    try:
        yield move
    finally:
        with torch.no_grad():
            for name, original in originals.items():
                parameters[name].copy_(original)


@contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def _score(network: nn.Module, batches: Iterable[Batch]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy; waits for the device once."""
    count, sums = 0, torch.zeros(2, dtype=torch.float64)
    for inputs, labels in batches:
        logits = network(inputs)
        losses = F.cross_entropy(logits, labels, reduction="none")
        right = logits.argmax(dim=1) == labels
        sums = sums.to(losses.device) + torch.stack([losses.sum(dtype=torch.float64), right.sum()])
        count += len(labels)
    if not count:
        raise UsageError("there are no batches; give one at least.")
    loss, accuracy = (sums / count).tolist()
    return loss, accuracy
