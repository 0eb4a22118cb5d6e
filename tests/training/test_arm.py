"""The non-SUGAR arm of a run: against ordinary networks, trained by torch alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sugarsearch.config.arm import TrainingArm
from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe
from sugarsearch.data.device import DeviceArrays
from sugarsearch.errors import UsageError
from sugarsearch.models.build import build_seeded
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.primitive import Primitive
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.metrics import watch
from sugarsearch.training.network import Member, Mode, ModelFactory
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")
Data = tuple[DeviceArrays, DeviceArrays]
MakeRecipe = Callable[..., Recipe]
CONV = ModelConfig(name="small_conv")
MLP = ModelConfig(name="deep_narrow_mlp", options={"depth": 4, "width": 8})


def start(
    recipe: Recipe,
    data: Data,
    text: str,
    arm: TrainingArm = "non_sugar",
    mode: Mode = "eager",
    factory: ModelFactory | None = None,
) -> TrainingRun:
    member = Member(surrogate(text), 3, arm)
    return TrainingRun([member], 0.1, recipe, recipe.epochs, *data, CPU, mode, factory)


@pytest.mark.parametrize(("model", "text", "activation"), [(CONV, "silu", nn.SiLU), (MLP, "elu", nn.ELU)])
def test_a_step_is_that_of_the_ordinary_network(
    make_recipe: MakeRecipe, vectors: Data, pictures: Data, model: ModelConfig, text: str, activation: type[nn.Module]
) -> None:
    data = pictures if model is CONV else vectors
    train, _ = data
    recipe = make_recipe(model, OptimizerConfig(momentum=0.0), epochs=1, batch_size=1000)
    plain = build_seeded(model, train.shape, train.classes, 3, activation).train()
    assert any(isinstance(part, activation) for part in plain.modules())
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    torch.autograd.backward(F.cross_entropy(plain(train.images), train.labels))
    optimizer.step()

    run = start(recipe, data, text)
    run.advance()
    state = run.state(0)
    assert state.keys() == before.keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6)
    weights = [name for name in before if name.endswith("weight")]
    assert all((state[name] - before[name]).abs().max() > 1e-4 for name in weights), "a step that can be seen"

    other = start(recipe, data, text, "sugar")
    other.advance()
    assert max((other.state(0)[name] - state[name]).abs().max().item() for name in weights) > 1e-3


@pytest.mark.parametrize("model", [CONV, MLP], ids=lambda model: str(model.name))
def test_of_relu_both_arms_are_one_to_the_bit(
    make_recipe: MakeRecipe, vectors: Data, pictures: Data, model: ModelConfig
) -> None:
    data = pictures if model is CONV else vectors
    recipe = make_recipe(model, epochs=2)
    runs = [start(recipe, data, "relu", arm) for arm in ("sugar", "non_sugar")]
    reports = [[run.advance(), run.advance()] for run in runs]
    assert reports[0] == reports[1]
    states = [run.state(0) for run in runs]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    kinds = [{type(part) for part in run._network.module.modules()} & {SugarReLU, Primitive} for run in runs]
    assert kinds == [{SugarReLU}, {Primitive}]


def test_a_unit_of_a_primitive_is_dead_if_it_never_rises_above_zero() -> None:
    # ELU is below 0 for x < 0: the second unit of three is never 0, and never above it.
    values = torch.tensor([[1.0, -1.0, 0.0], [-2.0, -0.5, 0.0], [-3.0, -4.0, 2.0], [0.5, -1.0, 0.0]])
    with watch(network := nn.Sequential(Primitive("elu"))) as activity:
        network(values)
    assert (activity.units, activity.dead[0].tolist()) == ([3], [1])
    assert activity.dead_share().tolist() == pytest.approx([1 / 3])
    assert activity.sparsity().tolist() == pytest.approx([9 / 12])


def test_reports_of_the_arm_have_dead_units_and_sparsity(make_recipe: MakeRecipe, vectors: Data) -> None:
    run = start(make_recipe(MLP, epochs=1), vectors, "silu")
    (report,) = run.advance()
    with watch(module := run._network.module.eval()) as activity, torch.no_grad():
        module(vectors[1].images)
    assert (report.dead_units, report.sparsity) == (activity.dead_share().item(), activity.sparsity().item())
    assert 0 < report.sparsity < 1


@pytest.mark.parametrize("mode", ["compiled", "population"])
def test_the_arm_is_eager_alone(make_recipe: MakeRecipe, vectors: Data, mode: Mode) -> None:
    with pytest.raises(UsageError, match=f"in mode 'eager' alone; given mode '{mode}'"):
        start(make_recipe(MLP), vectors, "silu", mode=mode)


def own_network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def test_networks_of_the_users_own_are_refused(make_recipe: MakeRecipe, vectors: Data) -> None:
    with pytest.raises(UsageError, match="models of the catalogue alone; given what a model factory makes"):
        start(make_recipe(MLP), vectors, "silu", factory=own_network)
    named = make_recipe(ModelConfig(name="somewhere.models:make"))
    with pytest.raises(UsageError, match=r"models of the catalogue alone; given somewhere\.models:make"):
        start(named, vectors, "silu")


def test_a_surrogate_without_a_primitive_is_refused(make_recipe: MakeRecipe, vectors: Data) -> None:
    with pytest.raises(UsageError, match=r"sigmoid\(3\*x\) has no known primitive; the non_sugar arm needs one"):
        start(make_recipe(MLP), vectors, "sigmoid(3*x)")


def test_grafting_has_no_meaning_there(make_recipe: MakeRecipe, vectors: Data) -> None:
    recipe = make_recipe(MLP, epochs=1)
    with pytest.raises(UsageError, match="train the arm 'sugar'"):
        TrainingRun([Member(surrogate("elu"), 3, "non_sugar")], 0.1, recipe, 1, *vectors, CPU, "eager", None, "grafted")
