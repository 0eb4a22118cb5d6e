"""Optimisers and learning-rate schedules of a recipe, for single networks and for populations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import OptimizerConfig, Recipe
from sugarsearch.errors import UsageError


def optimizer_config(recipe: Recipe, ablation: Ablation) -> OptimizerConfig:
    """The recipe's optimiser; under the ablation "adam" Adam with torch's defaults and the recipe's weight decay.

    How weight decay moves is the `Schedule`'s.
    """
    given = recipe.optimizer
    if ablation == "adam":
        return OptimizerConfig(name="adam", weight_decay=given.weight_decay, decay=given.decay)
    return given


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    config: OptimizerConfig,
    learning_rate: float,
    *,
    stacked: bool = False,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """torch's own optimiser, fused.

    All of them work element by element, so the parameters of a population (`stacked`, [members, ...]) need nothing
    but that the member dimension is none of a matrix's two.

    capturable: a CUDA graph of its step can be made, which reads the learning rate from the device.
    """
    parameters = list(parameters)
    optimizer = _make_optimizer(parameters, config, learning_rate, stacked, capturable)
    if capturable:
        rate_on_device(optimizer, parameters[0].device)
        # torch would warn of each step that is not captured, such as an epoch's last.
        optimizer._warned_capturable_if_run_uncaptured = True
    return optimizer


def rate_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Have each group's learning rate in a tensor."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)


def _make_optimizer(
    parameters: Sequence[nn.Parameter], config: OptimizerConfig, learning_rate: float, stacked: bool, capturable: bool
) -> torch.optim.Optimizer:
    decay = config.weight_decay
    groups: Iterable[Any] = parameters if config.decay == "all" else _by_decay(parameters, stacked)
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=decay,
            fused=True,
        )
    adam: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return adam(groups, learning_rate, config.betas, config.eps, decay, fused=True, capturable=capturable)


def _by_decay(parameters: Iterable[nn.Parameter], stacked: bool) -> list[dict[str, Any]]:
    """Groups for torch: matrices and what has more dimensions; all others, without weight decay."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in parameters:
        (matrices if parameter.ndim - stacked >= 2 else others).append(parameter)
    return [group for group in ({"params": matrices}, {"params": others, "weight_decay": 0.0}) if group["params"]]


def keep_members(optimizer: torch.optim.Optimizer, indices: Tensor) -> None:
    """Cut stacked parameters [members, ...] and their optimiser state down to the members at `indices`, in place."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
            parameter.data = parameter.data[indices]
            state = optimizer.state[parameter]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.ndim:  # Adam's step count has no member dimension
                    state[name] = value[indices]


class Schedule:
    """The learning rate's factor and the weight decay at each step, defined over all the recipe's epochs.

    Warm-up rises linearly, step by step, from `warmup_fraction`, which no step has itself, to 1 at its last step.
    "milestones" multiplies by `factor` at the start of each milestone epoch; "cosine" falls, step by step, from 1 at
    the end of the warm-up to `final_fraction` at the end of the last epoch. Weight decay knows no warm-up.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self._config, self._optimizer = recipe.schedule, recipe.optimizer
        self._epochs = recipe.epochs
        self._steps_per_epoch = steps_per_epoch
        self._warmup_steps = round(self._config.warmup_epochs * steps_per_epoch)
        if self._warmup_steps >= recipe.epochs * steps_per_epoch:
            raise UsageError(
                f"schedule.warmup_epochs is {self._config.warmup_epochs:g}; it must be less than the recipe's "
                f"{recipe.epochs} epochs."
            )

    def factor(self, step: int) -> float:
        """For optimisation step `step`, counted from 0 at the start of training."""
        config = self._config
        if step < self._warmup_steps:
            return config.warmup_fraction + (1 - config.warmup_fraction) * ((step + 1) / self._warmup_steps)
        if config.name == "milestones":
            return float(config.factor ** sum(step // self._steps_per_epoch >= m for m in config.milestones))
        if config.name == "cosine":
            done = (step - self._warmup_steps) / (self._epochs * self._steps_per_epoch - self._warmup_steps)
            return config.final_fraction + (1 - config.final_fraction) * (1 + math.cos(math.pi * done)) / 2
        return 1.0

    def weight_decay(self, step: int) -> float | None:
        """For optimisation step `step`; None where it is constant."""
        start, end = self._optimizer.weight_decay, self._optimizer.final_weight_decay
        if end is None:
            return None
        done = step / (self._epochs * self._steps_per_epoch)
        return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

    def set(self, optimizer: torch.optim.Optimizer, learning_rate: float, step: int) -> None:
        """Give `optimizer` what step `step` has of the base rate, and the weight decay in groups that have any."""
        rate, decay = learning_rate * self.factor(step), self.weight_decay(step)
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # a launch, not a wait
            else:
                group["lr"] = rate
            if decay is not None and group["weight_decay"] > 0:
                group["weight_decay"] = decay


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float, stacked: bool) -> None:
    """Scale gradients so that the norm over all of a network's parameters is at most `limit`, in place.

    stacked: parameters are [members, ...], and each member is clipped by its own norm.
    """
    if not stacked:
        nn.utils.clip_grad_norm_(parameters, limit)
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    # The constant is that of torch.nn.utils.clip_grad_norm_, whose result this equals member by member.
    scale = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))


def graft_gradients(parameters: Sequence[nn.Parameter], directions: Sequence[Tensor | None], stacked: bool) -> None:
    """Turn each parameter's gradient into that direction, keeping its norm; 0 where the direction is.

    directions: for each parameter a gradient of any norm; None where the parameter has no gradient.
    stacked: parameters are [members, ...], and each member's part keeps its own norm.
    """
    for parameter, direction in zip(parameters, directions, strict=True):
        if direction is None or parameter.grad is None:
            continue
        wanted, given = _norms(parameter.grad, stacked), _norms(direction, stacked)
        scale = torch.where(given > 0, wanted / given, 0)
        parameter.grad = (direction.double() * scale).to(direction.dtype)


def _norms(gradient: Tensor, stacked: bool) -> Tensor:
    """Of each member, or of all, to broadcast; in double precision, where the squares of small values do not vanish."""
    rows = gradient.flatten(1) if stacked else gradient.flatten()
    norms: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)
    return norms.view(-1, *[1] * (gradient.ndim - 1)) if stacked else norms
