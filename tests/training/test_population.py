"""A population's members equal their single runs, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.device import DeviceArrays
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.network import Member, population_form
from sugarsearch.training.trainer import EpochReport, TrainingRun

CPU = torch.device("cpu")
Data = tuple[DeviceArrays, DeviceArrays]
MakeRecipe = Callable[..., Recipe]
TEXTS = ("relu", "b_silu", "leaky_relu(alpha=0.3)", "sigmoid(4*x)")
OPTIMISERS = [OptimizerConfig(momentum=0.9), OptimizerConfig(name="adamw", weight_decay=0.1)]


def run_of(recipe: Recipe, data: Data, members: list[Member], mode: str, rate: float = 0.02) -> TrainingRun:
    return TrainingRun(members, rate, recipe, recipe.epochs, *data, CPU, mode)  # type: ignore[arg-type]


def assert_same(population: TrainingRun, member: int, single: TrainingRun) -> None:
    """Weights equal to rounding: float32, and 1e-6 of interpolation in the table of a smooth g."""
    expected = single.state(0)
    for name, value in population.state(member).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-5)


def assert_reports_agree(left: EpochReport, right: EpochReport) -> None:
    for name in ("loss", "train_loss", "accuracy", "sparsity", "dead_units"):
        assert getattr(left, name) == pytest.approx(getattr(right, name), rel=1e-3), name
    assert (left.epoch, left.finite) == (right.epoch, right.finite)


@pytest.mark.parametrize("optimizer", OPTIMISERS, ids=lambda config: str(config.name))
@pytest.mark.parametrize("form", ["closed", "table"])
@pytest.mark.parametrize("seeds", [(1, 2, 3, 1, 2, 6), (5, 5, 5, 5, 5, 5)], ids=["own seeds", "one seed"])
def test_members_equal_their_single_runs_also_after_a_drop(
    make_recipe: MakeRecipe,
    vectors: Data,
    optimizer: OptimizerConfig,
    seeds: tuple[int, ...],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sugarsearch.training.network.population_form", lambda surrogates, device: form)
    recipe = make_recipe(optimizer=optimizer, schedule=ScheduleConfig(name="cosine"), clip_gradient=1.0)
    texts = (*TEXTS, "relu", "b_silu")
    members = [Member(surrogate(text), seed) for text, seed in zip(texts, seeds, strict=True)]
    population = run_of(recipe, vectors, members, "population")
    singles = [run_of(recipe, vectors, [member], "eager") for member in members]
    dropped = {2: 1, 3: 0}  # member by epoch
    for epoch in range(recipe.epochs):
        if epoch in dropped:
            population.drop([dropped[epoch]])
        reports = population.advance()
        assert [report.member for report in reports] == population.alive
        for report in reports:
            assert_reports_agree(report, singles[report.member].advance()[0])
            assert_same(population, report.member, singles[report.member])
    assert population.alive == [2, 3, 4, 5]


def test_closed_forms_serve_few_surrogates_with_many_members_each() -> None:
    few = [surrogate("relu")] * 8 + [surrogate("b_silu")] * 8
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert population_form(few, cpu) == "closed"
    assert population_form(few, cuda) == "table"
    assert population_form([*few, surrogate("nelu")], cpu) == "table"


def test_the_order_of_members_does_not_matter(make_recipe: MakeRecipe, vectors: Data) -> None:
    members = [Member(surrogate(text), seed) for seed, text in enumerate(TEXTS)]
    forward = run_of(make_recipe(), vectors, members, "population")
    backward = run_of(make_recipe(), vectors, members[::-1], "population")
    forward.advance()
    backward.advance()
    for member in range(4):
        left, right = forward.state(member), backward.state(3 - member)
        assert all(torch.allclose(left[name], right[name], rtol=1e-4, atol=1e-6) for name in left)
    assert not torch.allclose(forward.state(0)["layers.0.weight"], forward.state(1)["layers.0.weight"])


def test_a_diverging_member_is_flagged_alone_and_touches_no_other(make_recipe: MakeRecipe, vectors: Data) -> None:
    steady = [Member(surrogate("relu"), 1), Member(surrogate("b_silu"), 2)]
    wild = Member(surrogate("1e6*exp(0*x)"), 1)
    mixed = run_of(make_recipe(), vectors, [steady[0], wild, steady[1]], "population")
    calm = run_of(make_recipe(), vectors, steady, "population")
    for _ in range(3):
        reports, expected = mixed.advance(), calm.advance()
    assert [report.finite for report in reports] == [True, False, True]
    for ours, theirs in ((reports[0], expected[0]), (reports[2], expected[1])):
        assert_reports_agree(ours, theirs)
    mixed.drop([1])
    assert [report.finite for report in mixed.advance()] == [True, True]


def test_a_population_augments_each_member_like_its_single_run(make_recipe: MakeRecipe, pictures: Data) -> None:
    model = ModelConfig(name="deep_narrow_mlp", options={"depth": 2, "width": 8})
    recipe = make_recipe(model, augmentation="crop_flip")
    for seeds in ((1, 2), (4, 4)):
        members = [Member(surrogate("relu"), seed) for seed in seeds]
        population = run_of(recipe, pictures, members, "population")
        singles = [run_of(recipe, pictures, [member], "eager") for member in members]
        population.advance()
        for member, single in enumerate(singles):
            single.advance()
            assert_same(population, member, single)
    plain = run_of(make_recipe(model), pictures, members[:1], "eager")
    plain.advance()
    assert not torch.allclose(plain.state(0)["layers.0.weight"], singles[0].state(0)["layers.0.weight"])


def test_dropping_nobody_or_somebody_twice_changes_nothing(make_recipe: MakeRecipe, vectors: Data) -> None:
    members = [Member(surrogate("relu"), seed) for seed in range(3)]
    run = run_of(make_recipe(), vectors, members, "population")
    run.drop([])
    run.drop([1])
    run.drop([1])
    assert run.alive == [0, 2]
    run.drop([0, 2])
    assert run.alive == []
