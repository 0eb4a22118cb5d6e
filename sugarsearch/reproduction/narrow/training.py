"""Trains the runs of a cell as one computation, and says how they ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sugarsearch.config.narrow_nets import Arm
from sugarsearch.config.narrow_nets import NarrowNets as Settings
from sugarsearch.reproduction.narrow.initialisation import initial
from sugarsearch.reproduction.narrow.nets import NarrowNets, padded
from sugarsearch.reproduction.narrow.seeds import ORDER, generator
from sugarsearch.reproduction.narrow.targets import REACH, Function, sample

WATCHED: Final = 256  # samples of a run that tell how often its units are active: costs 3 % of the training
GRID: Final = 121  # points of a drawn prediction
BESIDE: Final = 0.5  # where a second input is held in it

OnEpoch = Callable[[int], None]


@dataclass(frozen=True)
class Trained:
    """How runs ended, in their order.

    Attributes:
        losses: final losses over a run's samples; None where it did not stay finite.
        born_dead: whether in some layer no unit was active for any sample before training.
        epochs: after how many epochs activity was looked at.
        activity: by those epochs, by layer, the share of units and samples with an output above 0, over all runs.
        predictions: [runs, outputs, GRID], see `grid`.
    """

    losses: list[float | None]
    born_dead: list[bool]
    epochs: list[int]
    activity: list[list[float]]
    predictions: Tensor


def grid(inputs: int) -> Tensor:
    """Where predictions are drawn, [inputs, GRID]: the first input over its range, any other held at BESIDE."""
    points = torch.full((inputs, GRID), BESIDE)
    points[0] = torch.linspace(-REACH, REACH, GRID)
    return points


def train(
    settings: Settings,
    function: Function,
    arm: Arm,
    runs: Sequence[int],
    device: torch.device,
    on_epoch: OnEpoch = lambda done: None,
) -> Trained:
    """Train the nets of `runs`; a run's result is the same whatever others are trained with it.

    on_epoch: called with how many epochs are done; what it raises ends the training.
    """
    members = padded(runs)
    nets, x = prepare(settings, function, arm, members, device)
    y = function.values(x)
    optimizer = torch.optim.Adam(nets.parameters(), lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, settings.milestones, settings.factor)
    born_dead = _dead(nets, x)
    watched = range(0, settings.epochs + 1, max(1, settings.epochs // 50))
    activity = [_activity(nets, x, len(runs))]
    for epoch in range(settings.epochs):
        order = torch.from_numpy(generator(ORDER, epoch).permutation(settings.samples)).to(device)
        pieces = (torch.split(part.index_select(1, order), settings.batch_size, dim=1) for part in (x, y))
        for inputs, wanted in zip(*pieces, strict=True):
            optimizer.zero_grad()
            (nets(inputs) - wanted).square().sum().backward()
            optimizer.step()
        schedule.step()
        if epoch + 1 in watched:
            activity.append(_activity(nets, x, len(runs)))
        on_epoch(epoch + 1)
    kept = slice(len(runs))
    losses = _losses(nets, x, y, settings.loss_samples)[kept].tolist()
    return Trained(
        [loss if np.isfinite(loss) else None for loss in losses],
        born_dead[kept].tolist(),
        list(watched),
        activity,
        _predictions(nets, function.inputs)[kept],
    )


def prepare(
    settings: Settings, function: Function, arm: Arm, runs: Sequence[int], device: torch.device
) -> tuple[NarrowNets, Tensor]:
    """The nets of `runs` before training, and their inputs [inputs, samples, runs]."""
    sizes = [function.inputs, *[settings.width] * settings.hidden_layers, function.outputs]
    nets = NarrowNets([initial(arm.initialisation, run, sizes) for run in runs], arm.surrogate)
    x = torch.stack([sample(run, function.inputs, settings.samples) for run in runs], dim=-1)
    return nets.to(device), x.to(device)


@torch.no_grad()
def _dead(nets: NarrowNets, x: Tensor) -> Tensor:
    *hidden, _ = nets.layers(x)
    return torch.stack([(outputs <= 0).all(dim=0).all(dim=0) for outputs in hidden]).any(dim=0)


@torch.no_grad()
def _activity(nets: NarrowNets, x: Tensor, runs: int) -> list[float]:
    *hidden, _ = nets.layers(x[:, :WATCHED])
    return [float((outputs[..., :runs] > 0).double().mean()) for outputs in hidden]


@torch.no_grad()
def _losses(nets: NarrowNets, x: Tensor, y: Tensor, samples: int) -> Tensor:
    losses: Tensor = (nets(x) - y).double().square().sum(dim=0).mean(dim=0) * samples
    return losses


@torch.no_grad()
def _predictions(nets: NarrowNets, inputs: int) -> Tensor:
    points = grid(inputs).to(nets.biases[0].device)
    members = nets.biases[0].shape[-1]
    predicted: Tensor = nets(points.unsqueeze(-1).expand(-1, -1, members))
    return predicted.permute(2, 0, 1).cpu()
