"""Weight decay of matrices alone, and on a cosine: against loops that set it by hand."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.device import DeviceArrays
from sugarsearch.models.build import build_seeded
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.network import Member
from sugarsearch.training.optim import make_optimizer
from sugarsearch.training.streams import Stream, generator
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")
Data = tuple[DeviceArrays, DeviceArrays]
MakeRecipe = Callable[..., Recipe]
SETTINGS: dict[str, Any] = {"weight_decay": 0.4, "decay": "matrices", "final_weight_decay": 2.0}
MEMBERS = [Member(surrogate(text), seed) for text, seed in (("relu", 3), ("b_silu", 4), ("nelu", 5))]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("decay", ["all", "matrices"])
@pytest.mark.parametrize("stacked", [False, True])
def test_weight_decay_moves_what_it_is_for(name: str, decay: str, stacked: bool) -> None:
    shapes = {"number": (), "bias": (3,), "matrix": (3, 2), "kernel": (3, 2, 2, 2), "row": (1, 3)}
    front = (5,) if stacked else ()
    parameters = {key: nn.Parameter(torch.ones((*front, *shape))) for key, shape in shapes.items()}
    config = OptimizerConfig(name=name, weight_decay=0.1, decay=decay)  # type: ignore[arg-type]
    optimizer = make_optimizer(parameters.values(), config, 0.1, stacked=stacked)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, parameter in parameters.items() if not torch.equal(parameter, torch.ones_like(parameter))}
    assert moved == (set(shapes) if decay == "all" else {"matrix", "kernel", "row"})


@pytest.mark.parametrize("shape", [(3,), (3, 2)], ids=["no matrix", "nothing else"])
def test_one_kind_of_parameters_is_one_group(shape: tuple[int, ...]) -> None:
    config = OptimizerConfig(weight_decay=0.1, decay="matrices")
    (group,) = make_optimizer([nn.Parameter(torch.ones(shape))], config, 0.1).param_groups
    assert group["weight_decay"] == (0.0 if len(shape) == 1 else 0.1)


def convnexts_cosine(start: float, end: float, steps: int) -> Iterator[float]:
    """utils.cosine_scheduler of ConvNeXt's code, without warm-up."""
    return iter((end + 0.5 * (start - end) * (1 + np.cos(np.pi * np.arange(steps) / steps))).tolist())


def by_hand(recipe: Recipe, train: DeviceArrays, epochs: int) -> nn.Module:
    """AdamW with a group of matrices, its weight decay set before each step."""
    network = build_seeded(recipe.model, train.shape, train.classes, 3, nn.ReLU)
    matrices = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    others = [parameter for name, parameter in network.named_parameters() if name.endswith("bias")]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, 0.02, weight_decay=0.4)
    decays = convnexts_cosine(0.4, 2.0, recipe.epochs * 6)
    for epoch in range(epochs):
        order = torch.randperm(len(train), generator=generator(3, epoch, Stream.ORDER, CPU))
        for indices in torch.split(order, recipe.batch_size):
            optimizer.param_groups[0]["weight_decay"] = next(decays)
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(network(train.images[indices]), train.labels[indices]))
            optimizer.step()
    return network


def start(recipe: Recipe, data: Data, mode: str, ablation: Ablation = "") -> TrainingRun:
    members = MEMBERS if mode == "population" else MEMBERS[:1]
    return TrainingRun(members, 0.02, recipe, 5, *data, CPU, mode, None, ablation)  # type: ignore[arg-type]


def assert_states_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["eager", "population"])
def test_a_run_decays_its_matrices_along_convnexts_cosine(make_recipe: MakeRecipe, vectors: Data, mode: str) -> None:
    recipe = make_recipe(optimizer=OptimizerConfig(name="adamw", **SETTINGS))
    run = start(recipe, vectors, mode)
    run.advance()
    run.drop([1] if mode == "population" else [])
    run.advance()
    run.advance()
    assert_states_close(run.state(0), by_hand(recipe, vectors[0], 3).state_dict())
    decays = list(convnexts_cosine(0.4, 2.0, 30))
    assert sorted(group["weight_decay"] for group in run._optimizer.param_groups) == [0.0, pytest.approx(decays[17])]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_members_of_a_population_decay_as_alone(make_recipe: MakeRecipe, vectors: Data, name: str) -> None:
    settings = SETTINGS if name == "adam" else {**SETTINGS, "momentum": 0.9}
    recipe = make_recipe(optimizer=OptimizerConfig(name=name, **settings))  # type: ignore[arg-type]
    population, single = start(recipe, vectors, "population"), start(recipe, vectors, "eager")
    for _ in range(2):
        population.advance()
        single.advance()
    assert_states_close(population.state(0), single.state(0))


def test_the_ablation_adam_decays_as_the_recipe_says(make_recipe: MakeRecipe, vectors: Data) -> None:
    states = []
    for optimizer, ablation in ((OptimizerConfig(momentum=0.9, **SETTINGS), "adam"), (None, "")):
        recipe = make_recipe(optimizer=optimizer or OptimizerConfig(name="adam", **SETTINGS))
        run = start(recipe, vectors, "eager", ablation)  # type: ignore[arg-type]
        run.advance()
        states.append(run.state(0))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("mode", ["eager", "population"])
@pytest.mark.parametrize("end", [0.0, 2.0])
def test_a_run_goes_on_from_its_snapshot_as_if_never_stopped(
    make_recipe: MakeRecipe, vectors: Data, mode: str, end: float
) -> None:
    settings = {**SETTINGS, "final_weight_decay": end}
    recipe = make_recipe(
        optimizer=OptimizerConfig(name="adamw", **settings), schedule=ScheduleConfig(name="cosine"), accumulation=2
    )
    first = start(recipe, vectors, mode)
    first.advance()
    first.drop([1] if mode == "population" else [])
    first.advance()
    file = io.BytesIO()
    torch.save(first.snapshot(), file)
    file.seek(0)
    again = start(recipe, vectors, mode)
    again.restore(torch.load(file, weights_only=True))
    assert [again.advance() for _ in range(3)] == [first.advance() for _ in range(3)]
    for member in first.alive:
        assert all(torch.equal(value, again.state(member)[name]) for name, value in first.state(member).items())
