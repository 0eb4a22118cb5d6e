"""A run that takes over another's network, and what a captured step must leave as it was."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe
from sugarsearch.data.arrays import from_pairs
from sugarsearch.data.device import DeviceArrays
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.kernels import fused
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training import fusion, trainer
from sugarsearch.training.engine import Engines
from sugarsearch.training.fusion import fuse_where_it_pays
from sugarsearch.training.graph import unchanged
from sugarsearch.training.network import Member, Mode
from sugarsearch.training.optim import make_optimizer
from sugarsearch.training.trainer import TrainingRun, can_be_captured

CPU = torch.device("cpu")
MakeRecipe = Callable[..., Recipe]
Vectors = tuple[DeviceArrays, DeviceArrays]
OPTIMIZERS = [
    OptimizerConfig(momentum=0.9, nesterov=True, weight_decay=0.01),
    OptimizerConfig(name="adam"),
    OptimizerConfig(name="adamw", weight_decay=0.05, decay="matrices", final_weight_decay=0.2),
]


@pytest.fixture
def _not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is compiled's, in which runs take over; the compiler has no part in what is tested here."""
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)


def trained(recipe: Recipe, data: Vectors, text: str, seed: int, rate: float, engines: Engines) -> TrainingRun:
    run = TrainingRun([Member(surrogate(text), seed)], rate, recipe, 2, *data, CPU, "compiled", engines=engines)
    for _ in range(2):
        run.advance()
    return run


@pytest.mark.usefixtures("_not_compiled")
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda config: config.name)
def test_a_run_that_takes_over_equals_a_fresh_one_bit_for_bit(
    make_recipe: MakeRecipe, vectors: Vectors, optimizer: OptimizerConfig
) -> None:
    recipe, engines = make_recipe(optimizer=optimizer), Engines()
    first = trained(recipe, vectors, "b_silu", 1, 0.02, engines)
    network = first._network.module
    del first
    gc.collect()
    for text, seed, rate in (("sigmoid(4*x)", 2, 0.03), ("b_silu", 1, 0.02)):
        run, fresh = (trained(recipe, vectors, text, seed, rate, one) for one in (engines, Engines()))
        assert run._network.module is network
        for name, value in fresh.state(0).items():
            assert torch.equal(run.state(0)[name], value), name
        del run, fresh
        gc.collect()


@pytest.mark.usefixtures("_not_compiled")
def test_runs_side_by_side_have_networks_of_their_own(make_recipe: MakeRecipe, vectors: Vectors) -> None:
    engines = Engines()
    runs = [trained(make_recipe(), vectors, "b_silu", seed, 0.02, engines) for seed in (1, 2)]
    assert runs[0]._network.module is not runs[1]._network.module
    for run, seed in zip(runs, (1, 2), strict=True):
        fresh = trained(make_recipe(), vectors, "b_silu", seed, 0.02, Engines())
        assert all(torch.equal(run.state(0)[name], value) for name, value in fresh.state(0).items())
    kept = runs.pop()
    del runs, run
    gc.collect()
    engines.clear()
    again = trained(make_recipe(), vectors, "b_silu", 3, 0.02, engines)
    assert again._network.module is not kept._network.module


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda config: config.name)
def test_steps_taken_to_warm_up_leave_no_trace(optimizer: OptimizerConfig) -> None:
    def weights(*, warm_up: bool) -> list[Tensor]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), SugarReLU("b_silu"), nn.Linear(8, 1))
        update = make_optimizer(network.parameters(), optimizer, 0.1)

        def step() -> None:
            update.zero_grad()
            network(x).square().mean().backward()
            update.step()

        def state() -> list[Tensor]:
            moments = (value for values in update.state.values() for value in values.values() if value is not None)
            return [*network.parameters(), *network.buffers(), *moments]

        x = torch.randn(16, 4)
        if warm_up:
            with unchanged(state):
                for _ in range(3):
                    step()
        for _ in range(4):
            step()
        return [*network.parameters(), *network.buffers()]

    for got, wanted in zip(weights(warm_up=True), weights(warm_up=False), strict=True):
        assert torch.equal(got, wanted)


def test_steps_that_fail_leave_no_trace_either() -> None:
    weight = torch.ones(3)
    made: list[Tensor] = []

    def fail() -> None:
        with unchanged(lambda: [weight, *made]):
            weight.mul_(2)
            made.append(torch.ones(2))
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert weight.tolist() == [1, 1, 1]
    assert made[0].tolist() == [0, 0]


def test_what_can_be_captured(make_recipe: MakeRecipe) -> None:
    cuda = torch.device("cuda")
    assert can_be_captured(make_recipe(), cuda, "compiled")
    assert can_be_captured(make_recipe(), cuda, "population")
    assert not can_be_captured(make_recipe(), cuda, "eager")
    assert not can_be_captured(make_recipe(), CPU, "compiled")
    assert not can_be_captured(make_recipe(accumulation=2), cuda, "compiled")
    assert not can_be_captured(make_recipe(ModelConfig(name="package.module:factory")), cuda, "compiled")
    assert not can_be_captured(make_recipe(optimizer=OPTIMIZERS[2]), cuda, "compiled")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), SugarReLU("b_silu"), nn.Flatten(), nn.Linear(144, 2))


@pytest.mark.parametrize(
    ("samples", "batch_size", "form"), [(10_000, 512, "fused"), (9_000, 512, "closed"), (10_000, 64, "closed")]
)
def test_long_runs_of_large_batches_get_a_kernel(
    samples: int, batch_size: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "WORTH_A_KERNEL", 144 * 9_500)
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fuse_where_it_pays(net, (1, 8, 8), samples, batch_size)
    (site,) = (module for module in net if isinstance(module, SugarReLU))
    assert site.form == form
    assert isinstance(site.derivative, fused.Fused) == (form == "fused")
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_without_surrogates_is_left_alone() -> None:
    net = nn.Sequential(nn.Linear(4, 2))
    fuse_where_it_pays(net, (5,), 10**9, 128)  # would not even take such inputs


def test_a_users_own_network_is_not_run_before_training(make_recipe: MakeRecipe, vectors: Vectors) -> None:
    calls: list[int] = []

    class Counting(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            result: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return result

    def make() -> nn.Module:
        return Counting(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    members = [Member(surrogate("b_silu"), 1)]
    TrainingRun(members, 0.02, make_recipe(), 2, *vectors, CPU, "eager", make)
    assert calls == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", r"ignore::UserWarning:torch\..*")
@pytest.mark.parametrize(("model", "mode"), [("small_conv", "compiled"), ("deep_narrow_mlp", "population")])
@pytest.mark.parametrize("optimizer", OPTIMIZERS[:2], ids=lambda config: config.name)
def test_captured_steps_train_as_launched_ones(
    make_recipe: MakeRecipe, optimizer: OptimizerConfig, model: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda")
    inputs = torch.randn(40, 3, 16, 16)
    arrays = from_pairs({"train": (inputs, (inputs.mean((1, 2, 3)) > 0).long())}, name="bright")["train"]
    data = DeviceArrays(arrays, None, device)
    recipe = make_recipe(ModelConfig(name=model), optimizer, clip_gradient=1.0)

    def weights(text: str, engines: Engines | None) -> dict[str, Tensor]:
        monkeypatch.setattr(trainer, "can_be_captured", lambda *_: engines is not None)
        members = [Member(surrogate(text), 3)]
        run = TrainingRun(members, 0.01, recipe, 2, data, data, device, mode, engines=engines)
        for _ in range(2):
            run.advance()
        assert (run._engine.graph is not None) == (engines is not None)
        return run.state(0)

    engines = Engines()
    for text in ("b_silu", "sigmoid(4*x)"):  # compiled, the second takes over the first one's graph
        captured, launched = weights(text, engines), weights(text, None)
        for name, value in launched.items():
            torch.testing.assert_close(captured[name], value, rtol=2e-2, atol=2e-3)
