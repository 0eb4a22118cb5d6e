"""One network: against a plain torch loop with F.relu; its reports; what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.device import DeviceArrays
from sugarsearch.errors import UsageError
from sugarsearch.models.build import build_seeded
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import CutShortError, TrainingRun, choose_mode

CPU = torch.device("cpu")
Data = tuple[DeviceArrays, DeviceArrays]
MakeRecipe = Callable[..., Recipe]
OPTIMISERS = [
    OptimizerConfig(momentum=0.9, weight_decay=1e-3),
    OptimizerConfig(name="adam"),
    OptimizerConfig(name="adamw", weight_decay=0.1),
]


def start(recipe: Recipe, data: Data, text: str = "relu", seed: int = 3, rate: float = 0.02) -> TrainingRun:
    return TrainingRun([Member(surrogate(text), seed)], rate, recipe, recipe.epochs, *data, CPU, "eager")


def states_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class PlainReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


def plain_loop(recipe: Recipe, train: DeviceArrays, orders: Sequence[Tensor], seed: int, rate: float) -> nn.Module:
    """What anyone would write; batches in the order the run used."""
    network = build_seeded(recipe.model, train.shape, train.classes, seed, PlainReLU).train()
    network = network.to(memory_format=torch.channels_last)
    config = recipe.optimizer
    optimizer: torch.optim.Optimizer
    if config.name == "sgd":
        optimizer = torch.optim.SGD(
            network.parameters(), rate, config.momentum, weight_decay=config.weight_decay, fused=True
        )
    else:
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        optimizer = kind(network.parameters(), rate, config.betas, config.eps, config.weight_decay, fused=True)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, recipe.schedule.milestones, gamma=recipe.schedule.factor
    )
    for order in orders:
        for indices in torch.split(order, recipe.batch_size):
            optimizer.zero_grad()
            inputs = train.images[indices]
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(inputs), train.labels[indices])
            torch.autograd.backward(loss)
            if recipe.clip_gradient is not None:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_gradient)
            optimizer.step()
        scheduler.step()
    return network


def orders_of(run: TrainingRun, train: DeviceArrays, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The run's epochs, advanced to the end, as the order in which each visited the training data."""
    seen: list[Tensor] = []
    batch = DeviceArrays.batch

    def recording(arrays: DeviceArrays, indices: Tensor, augment: torch.Generator | None = None) -> Tensor:
        if arrays is train:
            seen.append(indices)
        return batch(arrays, indices, augment)

    monkeypatch.setattr(DeviceArrays, "batch", recording)
    epochs = []
    for _ in range(5):
        seen.clear()
        run.advance()
        epochs.append(torch.cat(seen))
    return epochs


@pytest.mark.parametrize("optimizer", OPTIMISERS, ids=lambda config: str(config.name))
@pytest.mark.parametrize("clip", [None, 0.5])
def test_relus_own_derivative_trains_bit_for_bit_like_a_plain_loop(
    make_recipe: MakeRecipe,
    vectors: Data,
    optimizer: OptimizerConfig,
    clip: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schedule = ScheduleConfig(name="milestones", milestones=(2, 4), factor=0.3)
    recipe = make_recipe(optimizer=optimizer, schedule=schedule, clip_gradient=clip)
    run = start(recipe, vectors)
    orders = orders_of(run, vectors[0], monkeypatch)
    expected = plain_loop(recipe, vectors[0], orders, 3, 0.02)
    assert states_equal(run.state(0), expected.state_dict())
    assert all(torch.equal(order.sort().values, torch.arange(90)) for order in orders), "an epoch is one pass"
    assert not torch.equal(orders[0], orders[1])
    other = start(recipe, vectors, "leaky_relu(alpha=0.3)")
    orders_of(other, vectors[0], monkeypatch)
    assert not states_equal(other.state(0), expected.state_dict())


def test_a_network_with_batch_norm_trains_bit_for_bit_like_a_plain_loop(
    make_recipe: MakeRecipe, pictures: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(ModelConfig(name="small_conv"), schedule=ScheduleConfig(name="milestones", milestones=(2,)))
    run = start(recipe, pictures)
    orders = orders_of(run, pictures[0], monkeypatch)
    assert states_equal(run.state(0), plain_loop(recipe, pictures[0], orders, 3, 0.02).state_dict())


def test_the_report_is_what_the_plain_network_of_the_state_does(make_recipe: MakeRecipe, vectors: Data) -> None:
    recipe, (_, scoring) = make_recipe(), vectors
    run = start(recipe, vectors, "b_silu")
    reports = [run.advance()[0] for _ in range(5)]
    network = build_seeded(recipe.model, scoring.shape, scoring.classes, 0, nn.ReLU)
    network.load_state_dict(run.state(0))
    zero: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, output: zero.append(output == 0))
    logits = network(scoring.images)
    last = reports[-1]
    assert last.accuracy == pytest.approx((logits.argmax(1) == scoring.labels).float().mean().item())
    assert last.loss == pytest.approx(F.cross_entropy(logits, scoring.labels).item(), rel=1e-5)
    outputs = torch.cat(zero, dim=1)
    assert last.sparsity == pytest.approx(outputs.float().mean().item())
    assert last.dead_units == pytest.approx(outputs.all(0).float().mean().item())
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5]
    assert all(report.finite for report in reports)
    assert reports[-1].train_loss < reports[0].train_loss


def test_scoring_in_several_batches_adds_up(
    make_recipe: MakeRecipe, vectors: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(make_recipe(), vectors).advance()[0]
    monkeypatch.setattr("sugarsearch.training.trainer.SCORING_BATCH", 16)
    parts = start(make_recipe(), vectors).advance()[0]
    assert (parts.accuracy, parts.train_loss) == (whole.accuracy, whole.train_loss)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)


def test_same_seed_same_numbers_whatever_runs_beside(make_recipe: MakeRecipe, vectors: Data) -> None:
    recipe = make_recipe(optimizer=OPTIMISERS[1])
    alone = start(recipe, vectors)
    first = [alone.advance() for _ in range(3)]
    before = torch.get_rng_state()
    run, beside = start(recipe, vectors), start(recipe, vectors, "nelu", seed=8)
    again = []
    for _ in range(3):
        again.append(run.advance())
        beside.advance()
        assert torch.equal(torch.get_rng_state(), before), "the caller's random state is the caller's"
        torch.rand(5)
        before = torch.get_rng_state()
    assert again == first
    assert states_equal(run.state(0), alone.state(0))
    assert not states_equal(run.state(0), beside.state(0))


def test_fidelity_runs_fewer_epochs_of_the_same_schedule(make_recipe: MakeRecipe, vectors: Data) -> None:
    recipe = make_recipe(schedule=ScheduleConfig(name="cosine"))
    member = [Member(surrogate("relu"), 3)]
    short = TrainingRun(member, 0.02, recipe, 2, *vectors, CPU, "eager")
    full = start(recipe, vectors)
    assert [short.advance(), short.advance()] == [full.advance(), full.advance()]
    with pytest.raises(UsageError, match="epoch 2 of 2"):
        short.advance()


def test_divergence_is_flagged(make_recipe: MakeRecipe, vectors: Data) -> None:
    run = start(make_recipe(), vectors, rate=1e9)
    assert not run.advance()[0].finite
    run.drop([0])
    assert run.alive == []
    with pytest.raises(UsageError, match="0 members left"):
        run.advance()


@pytest.mark.parametrize(("steps", "place"), [(0, "in epoch 2, step 0 of 6"), (4, "in epoch 2, step 4 of 6")])
def test_a_run_is_cut_within_the_epoch(make_recipe: MakeRecipe, vectors: Data, steps: int, place: str) -> None:
    run = start(make_recipe(), vectors)
    run.advance(lambda: False)
    asked = iter([False] * steps + [True])
    with pytest.raises(CutShortError, match=place):
        run.advance(lambda: next(asked))


def test_a_run_is_cut_while_it_is_scored(
    make_recipe: MakeRecipe, vectors: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sugarsearch.training.trainer.SCORING_BATCH", 16)
    asked = iter([False] * 6 + [True])
    with pytest.raises(CutShortError, match="while epoch 1 was scored"):
        start(make_recipe(), vectors).advance(lambda: next(asked))


class Dropped(nn.Sequential):
    """A user's network: dropout, and a ReLU that surgery has to find."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def test_a_users_network_gets_the_surrogate_and_repeats_itself_with_dropout(
    make_recipe: MakeRecipe, vectors: Data
) -> None:
    def run(text: str, seed: int) -> dict[str, Tensor]:
        made = TrainingRun([Member(surrogate(text), seed)], 0.05, make_recipe(), 2, *vectors, CPU, "eager", Dropped)
        torch.rand(1)
        made.advance()
        made.advance()
        return made.state(0)

    first = run("b_silu", 1)
    assert first.keys() == Dropped().state_dict().keys()
    assert states_equal(first, run("b_silu", 1))
    assert not states_equal(first, run("relu", 1))
    assert not states_equal(first, run("b_silu", 2))


def test_what_is_refused(make_recipe: MakeRecipe, vectors: Data) -> None:
    one = Member(surrogate("relu"), 0)

    def run(recipe: Recipe, members: list[Member], epochs: int = 1, **more: object) -> TrainingRun:
        arguments = {"device": CPU, "mode": "eager"} | more
        return TrainingRun(members, 0.1, recipe, epochs, *vectors, **arguments)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="'bf16' is for CUDA"):
        run(make_recipe(precision="bf16"), [one])
    with pytest.raises(UsageError, match="'eager' trains one member"):
        run(make_recipe(), [one, one])
    with pytest.raises(UsageError, match="at least one; given 0"):
        run(make_recipe(), [], mode="population")
    with pytest.raises(UsageError, match="epochs is 6; the recipe's schedule allows 1 to 5"):
        run(make_recipe(), [one], epochs=6)
    with pytest.raises(UsageError, match="a model factory cannot"):
        run(make_recipe(), [one], mode="population", model_factory=Dropped)


def test_the_mode_is_chosen_by_rule(make_recipe: MakeRecipe) -> None:
    mlp, conv = make_recipe(), make_recipe(ModelConfig(name="small_conv"))
    cuda = torch.device("cuda")
    assert choose_mode(mlp, CPU, 8) == choose_mode(mlp, cuda, 8) == "population"
    assert choose_mode(mlp, CPU, 1) == choose_mode(conv, CPU, 8) == "eager"
    assert choose_mode(conv, cuda, 8) == "compiled"
    assert choose_mode(mlp, CPU, 8, "eager") == "eager"
    with pytest.raises(UsageError, match="a model that can train as one: deep_narrow_mlp; the model is small_conv"):
        choose_mode(conv, CPU, 8, "population")
