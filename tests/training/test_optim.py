"""Schedules against torch's schedulers, clipping and dropping against torch's own on each member alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.errors import UsageError
from sugarsearch.training.optim import Schedule, clip_gradients, keep_members, make_optimizer

EPOCHS, STEPS = 12, 7


def schedule(**settings: Any) -> Schedule:
    recipe = Recipe(
        data=DataConfig(name="digits"),
        model=ModelConfig(name="deep_narrow_mlp"),
        schedule=ScheduleConfig(**settings),
        epochs=EPOCHS,
    )
    return Schedule(recipe, STEPS)


def torch_factors(make: Any, steps: int, per_epoch: bool = False) -> list[float]:
    """The factors a torch scheduler gives, stepped after each step or each epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, factors = make(optimizer), []
    for step in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not per_epoch or (step + 1) % STEPS == 0:
            scheduler.step()
    return factors


def factors(given: Schedule, steps: int = EPOCHS * STEPS) -> list[float]:
    return [given.factor(step) for step in range(steps)]


def test_milestones_are_multi_step_lr() -> None:
    oracle = torch_factors(
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7], gamma=0.2), EPOCHS * STEPS, True
    )
    assert factors(schedule(name="milestones", milestones=(3, 7), factor=0.2)) == pytest.approx(oracle, rel=1e-12)
    assert sorted(set(oracle)) == pytest.approx([0.04, 0.2, 1.0])


def test_cosine_is_cosine_annealing_lr_over_all_steps() -> None:
    oracle = torch_factors(
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS, eta_min=0.01),
        EPOCHS * STEPS,
    )
    assert factors(schedule(name="cosine", final_fraction=0.01)) == pytest.approx(oracle, rel=1e-9)


def test_warm_up_rises_to_one_and_hands_over_to_the_cosine() -> None:
    warm = 14

    def make(optimizer: torch.optim.Optimizer) -> Any:
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, 1.0, total_iters=warm - 1)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS - warm)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [warm])

    ours = factors(schedule(name="cosine", warmup_epochs=2.0))
    assert ours == pytest.approx(torch_factors(make, EPOCHS * STEPS), rel=1e-9)
    assert ours[0] == pytest.approx(1 / warm)
    assert ours[warm - 1] == ours[warm] == 1.0


@pytest.mark.parametrize("fraction", [0.001, 0.4])
def test_warm_up_begins_at_a_fraction(fraction: float) -> None:
    warm = 14

    def make(optimizer: torch.optim.Optimizer) -> Any:
        first = fraction + (1 - fraction) / warm
        return torch.optim.lr_scheduler.LinearLR(optimizer, first, 1.0, total_iters=warm - 1)

    ours = factors(schedule(warmup_epochs=2.0, warmup_fraction=fraction))
    assert ours == pytest.approx(torch_factors(make, EPOCHS * STEPS), rel=1e-9)
    assert ours[0] > fraction
    assert ours[warm - 1] == pytest.approx(1.0, rel=1e-15)


def test_warm_up_from_nothing_is_the_share_of_its_steps_to_the_bit() -> None:
    for epochs in (1.0, 3.0, 11.0):
        warm = round(epochs * STEPS)
        assert factors(schedule(warmup_epochs=epochs), warm) == [(step + 1) / warm for step in range(warm)]


def test_constant_is_constant_after_the_warm_up_and_a_warm_up_must_end() -> None:
    assert factors(schedule(warmup_epochs=0.5)) == [0.25, 0.5, 0.75] + [1.0] * (EPOCHS * STEPS - 3)
    assert set(factors(schedule())) == {1.0}
    with pytest.raises(UsageError, match="warmup_epochs is 12; it must be less than the recipe's 12 epochs"):
        schedule(warmup_epochs=12.0)


def test_optimisers_are_torchs_with_every_setting() -> None:
    parameter = [nn.Parameter(torch.zeros(1))]
    sgd = make_optimizer(parameter, OptimizerConfig(momentum=0.9, nesterov=True, weight_decay=0.01), 0.1)
    expected = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    assert type(sgd) is torch.optim.SGD
    assert expected.items() <= sgd.param_groups[0].items()
    settings: dict[str, Any] = {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.02}
    for config, kind in (
        (OptimizerConfig(name="adam", **settings), torch.optim.Adam),
        (OptimizerConfig(name="adamw", **settings), torch.optim.AdamW),
    ):
        adam = make_optimizer(parameter, config, 0.3)
        assert type(adam) is kind
        assert ({"lr": 0.3} | settings).items() <= adam.param_groups[0].items()


def test_clipping_a_population_clips_each_member_by_its_own_norm() -> None:
    scales = torch.tensor([0.01, 1.0, 100.0])
    gradients = [torch.randn(3, 4, 5) * scales.view(3, 1, 1), torch.randn(3, 4) * scales.view(3, 1)]
    stacked = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(stacked, gradients, strict=True):
        parameter.grad = gradient.clone()
    clip_gradients(stacked, 1.0, stacked=True)
    for member in range(3):
        alone = [nn.Parameter(torch.zeros_like(gradient[member])) for gradient in gradients]
        for parameter, gradient in zip(alone, gradients, strict=True):
            parameter.grad = gradient[member].clone()
        clip_gradients(alone, 1.0, stacked=False)
        for parameter, single in zip(stacked, alone, strict=True):
            assert parameter.grad is not None
            assert single.grad is not None
            torch.testing.assert_close(parameter.grad[member], single.grad)
    total = math.sqrt(sum(float(p.grad[2].square().sum()) for p in stacked if p.grad is not None))
    assert total == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(stacked[0].grad[0], gradients[0][0]) if stacked[0].grad is not None else False


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig(momentum=0.9),
        OptimizerConfig(name="adamw", weight_decay=0.1),
        OptimizerConfig(name="adamw", weight_decay=0.1, decay="matrices"),
    ],
)
def test_keeping_members_keeps_their_parameters_and_optimiser_state(config: OptimizerConfig) -> None:
    def run(rows: list[int], keep: list[int]) -> torch.Tensor:
        start = torch.arange(12.0).view(4, 3)
        parameter, matrix = nn.Parameter(start[rows].clone()), nn.Parameter(start.view(4, 3, 1)[rows].clone())
        optimizer = make_optimizer([parameter, matrix], config, 0.1, stacked=True)
        for step in range(6):
            if step == 3:
                keep_members(optimizer, torch.tensor(keep))
            optimizer.zero_grad()
            torch.autograd.backward(((parameter**2).sum() + (matrix**3).sum()) * (step + 1))
            optimizer.step()
        return torch.cat([parameter.detach(), matrix.detach().flatten(1)], dim=1)

    torch.testing.assert_close(run([0, 1, 2, 3], [1, 3]), run([1, 3], [0, 1]))
