"""Ablations of the update: against networks and gradients that are made apart from the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.device import DeviceArrays
from sugarsearch.errors import UsageError
from sugarsearch.models.build import build_seeded
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import remove
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.network import Member
from sugarsearch.training.optim import graft_gradients
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")
Data = tuple[DeviceArrays, DeviceArrays]
MakeRecipe = Callable[..., Recipe]
CONV = ModelConfig(name="small_conv")
G = "0.3 + sigmoid(x)"


def start(
    recipe: Recipe, data: Data, ablation: Ablation, text: str = G, mode: str = "eager", rate: float = 0.02
) -> TrainingRun:
    member = Member(surrogate(text), 3)
    return TrainingRun([member], rate, recipe, 5, *data, CPU, mode, None, ablation)  # type: ignore[arg-type]


def states_equal(left: TrainingRun, right: TrainingRun) -> bool:
    ours, theirs = left.state(0), right.state(0)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def advance(run: TrainingRun, epochs: int = 3) -> TrainingRun:
    for _ in range(epochs):
        run.advance()
    return run


def first_gradients(recipe: Recipe, train: DeviceArrays, *, relu: bool) -> tuple[dict[str, Tensor], nn.Module]:
    """Of all the training data at once, from the weights that a run of seed 3 begins with."""
    network = build_seeded(recipe.model, train.shape, train.classes, 3, lambda: SugarReLU(G)).train()
    if relu:
        remove(network)
    torch.autograd.backward(F.cross_entropy(network(train.images), train.labels))
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}, network


@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_grafted_step_has_sugars_direction_and_relus_norm_in_every_parameter(
    make_recipe: MakeRecipe, vectors: Data, pictures: Data, kind: str, clip: float | None
) -> None:
    model, data = (CONV, pictures) if kind == "conv" else (None, vectors)
    recipe = make_recipe(model, batch_size=1000, clip_gradient=clip)
    run = advance(start(recipe, data, "grafted"), 1)
    sugar, _ = first_gradients(recipe, data[0], relu=False)
    relu, plain = first_gradients(recipe, data[0], relu=True)
    total = math.sqrt(sum(gradient.square().sum().item() for gradient in relu.values()))
    factor = 1.0 if clip is None else clip / total
    assert factor < 0.5 or clip is None
    got = {name: p.grad for name, p in run._network.module.named_parameters() if p.grad is not None}
    assert got.keys() == sugar.keys() == relu.keys()
    ratios = []
    for name, gradient in got.items():
        if relu[name].norm() < 1e-6:  # a bias before batch norm: its gradient is 0 but for rounding
            continue
        assert gradient.norm().item() == pytest.approx(relu[name].norm().item() * factor, rel=1e-3), name
        assert F.cosine_similarity(gradient.flatten(), sugar[name].flatten(), dim=0) > 0.99999, name
        ratios.append((sugar[name].norm() / relu[name].norm()).item())
    assert len(ratios) >= 4
    assert max(ratios) / min(ratios) > 1.05, "no one factor for all parameters does"
    for name, value in plain.named_buffers():  # of batch norm: one forward pass, not two
        torch.testing.assert_close(run.state(0)[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_relu_grafted_onto_relu_is_relu_bit_for_bit(
    make_recipe: MakeRecipe, vectors: Data, pictures: Data, kind: str
) -> None:
    model, data = (CONV, pictures) if kind == "conv" else (None, vectors)
    recipe = make_recipe(model, clip_gradient=0.5)
    plain = advance(start(recipe, data, "", "relu"))
    assert states_equal(advance(start(recipe, data, "grafted", "relu")), plain)
    other = advance(start(recipe, data, "grafted"))
    assert not states_equal(other, plain)
    assert not states_equal(other, advance(start(recipe, data, "")))


class Dropped(nn.Sequential):
    """A user's network with dropout and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        self.idle = nn.Parameter(torch.ones(2))


def test_grafting_draws_dropout_once_and_leaves_idle_parameters_alone(make_recipe: MakeRecipe, vectors: Data) -> None:
    def run(ablation: Ablation, text: str) -> TrainingRun:
        member = [Member(surrogate(text), 1)]
        return advance(TrainingRun(member, 0.05, make_recipe(), 5, *vectors, CPU, "eager", Dropped, ablation))

    grafted = run("grafted", "relu")
    assert states_equal(grafted, run("", "relu"))
    assert torch.equal(grafted.state(0)["idle"], torch.ones(2))
    assert not states_equal(grafted, run("grafted", G))


@pytest.mark.parametrize("ablation", ["adam", "grafted"])
@pytest.mark.parametrize("form", ["closed", "table"])
def test_members_equal_their_single_runs_also_after_a_drop(
    make_recipe: MakeRecipe, vectors: Data, ablation: Ablation, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sugarsearch.training.network.population_form", lambda surrogates, device: form)
    recipe = make_recipe(schedule=ScheduleConfig(name="cosine"), clip_gradient=1.0)
    members = [Member(surrogate(text), seed) for text, seed in (("relu", 1), (G, 2), ("b_silu", 3), ("relu", 2))]
    population = TrainingRun(members, 0.02, recipe, 5, *vectors, CPU, "population", None, ablation)
    singles = [TrainingRun([member], 0.02, recipe, 5, *vectors, CPU, "eager", None, ablation) for member in members]
    for epoch in range(4):
        if epoch == 2:
            population.drop([0])
        for report in population.advance():
            single = singles[report.member]
            assert report.train_loss == pytest.approx(single.advance()[0].train_loss, rel=1e-3)
            expected = single.state(0)
            for name, value in population.state(report.member).items():
                torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
    assert population.alive == [1, 2, 3]


def test_the_ablation_adam_is_a_recipe_of_adam_with_the_same_weight_decay(
    make_recipe: MakeRecipe, vectors: Data
) -> None:
    schedule = ScheduleConfig(name="cosine")
    sgd = make_recipe(optimizer=OptimizerConfig(momentum=0.9, nesterov=True, weight_decay=0.01), schedule=schedule)
    adam = make_recipe(optimizer=OptimizerConfig(name="adam", weight_decay=0.01), schedule=schedule)
    ablated = advance(start(sgd, vectors, "adam", rate=0.003))
    assert states_equal(ablated, advance(start(adam, vectors, "", rate=0.003)))
    assert not states_equal(ablated, advance(start(sgd, vectors, "", rate=0.003)))


@pytest.mark.parametrize("mode", ["eager", "population"])
def test_a_grafted_run_goes_on_from_its_snapshot_as_if_never_stopped(
    make_recipe: MakeRecipe, vectors: Data, mode: str
) -> None:
    first = advance(start(make_recipe(), vectors, "grafted", mode=mode), 2)
    again = start(make_recipe(), vectors, "grafted", mode=mode)
    again.restore(deepcopy(first.snapshot()))
    assert [again.advance(), again.advance()] == [first.advance(), first.advance()]
    assert states_equal(again, first)


def test_a_grafted_run_cannot_be_compiled(make_recipe: MakeRecipe, vectors: Data) -> None:
    with pytest.raises(UsageError, match="ablation 'grafted' cannot be compiled; use mode 'eager' or 'population'"):
        start(make_recipe(), vectors, "grafted", mode="compiled")


def grafted(direction: Tensor | None, gradient: Tensor | None, stacked: bool = False) -> Tensor | None:
    parameter = nn.Parameter(torch.zeros(() if gradient is None else gradient.shape))
    parameter.grad = gradient
    graft_gradients([parameter], [direction], stacked)
    return parameter.grad


@pytest.mark.parametrize(
    ("direction", "gradient", "expected"),
    [
        ([3.0, 4.0], [0.0, -10.0], [6.0, 8.0]),
        ([0.0, 0.0], [1.0, 2.0], [0.0, 0.0]),
        ([3.0, 4.0], [0.0, 0.0], [0.0, 0.0]),
        ([3e-30, 4e-30], [3e-28, 4e-28], [3e-28, 4e-28]),  # the squares are 0 in single precision
        ([3e30, 4e30], [3.0, 4.0], [3.0, 4.0]),  # the squares are infinite there
        ([3e-30, 4e-30], [3e30, 4e30], [3e30, 4e30]),  # and so is the ratio
    ],
)
def test_grafting_of_one_tensor(direction: list[float], gradient: list[float], expected: list[float]) -> None:
    result = grafted(torch.tensor(direction), torch.tensor(gradient))
    assert result is not None
    assert result.dtype == torch.float32
    assert result.tolist() == pytest.approx(expected, rel=1e-6, abs=0)


def test_grafting_of_stacked_numbers_scalars_and_nothing() -> None:
    stacked = grafted(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]), torch.full((3, 2), 5.0), stacked=True)
    assert stacked is not None
    root = 50**0.5
    torch.testing.assert_close(stacked, torch.tensor([[0.6 * root, 0.8 * root], [0.0, root], [0.0, 0.0]]))
    scalar = grafted(torch.tensor(-2.0), torch.tensor(3.0))
    assert scalar is not None
    assert (scalar.shape, scalar.item()) == ((), -3.0)
    assert grafted(None, None) is None


def test_what_is_not_finite_stays_so() -> None:
    for value in (float("nan"), float("inf")):
        for direction, gradient in (([value, 1.0], [1.0, 1.0]), ([1.0, 1.0], [value, 1.0])):
            result = grafted(torch.tensor(direction), torch.tensor(gradient))
            assert result is not None
            assert not result.isfinite().all()
