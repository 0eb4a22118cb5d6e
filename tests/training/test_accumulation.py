"""Several batches to a step: one large batch but for rounding, and how an epoch is divided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.device import DeviceArrays
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.batches import Part, divide
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import CutShortError, TrainingRun

CPU = torch.device("cpu")
Data = tuple[DeviceArrays, DeviceArrays]
MakeRecipe = Callable[..., Recipe]
MEMBERS = [Member(surrogate(text), seed) for text, seed in (("relu", 1), ("0.3 + sigmoid(x)", 2), ("b_silu", 3))]
OPTIMISERS = [
    OptimizerConfig(momentum=0.9, weight_decay=1e-3),
    OptimizerConfig(name="adamw", weight_decay=0.1, decay="matrices", final_weight_decay=0.5),
]


def trained(recipe: Recipe, data: Data, mode: str, ablation: Ablation = "") -> TrainingRun:
    """Three epochs, the second member of a population dropped after the first."""
    members = MEMBERS if mode == "population" else MEMBERS[1:2]
    run = TrainingRun(members, 0.02, recipe, 5, *data, CPU, mode, None, ablation)  # type: ignore[arg-type]
    run.advance()
    if mode == "population":
        run.drop([1])
    run.advance()
    return run


@pytest.mark.parametrize("optimizer", OPTIMISERS, ids=lambda config: str(config.name))
@pytest.mark.parametrize("mode", ["eager", "population"])
@pytest.mark.parametrize("ablation", ["", "grafted"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_accumulated_batches_are_one_batch_of_their_samples(
    make_recipe: MakeRecipe, vectors: Data, optimizer: OptimizerConfig, mode: str, ablation: Ablation, clip: float
) -> None:
    schedule = ScheduleConfig(name="cosine", warmup_epochs=1.0, warmup_fraction=0.3)
    settings = {"optimizer": optimizer, "schedule": schedule, "clip_gradient": clip}
    # 90 samples: a step of 16 + 16 + 16, and one of 16 + 16 + 10.
    small = trained(make_recipe(batch_size=16, accumulation=3, **settings), vectors, mode, ablation)
    large = trained(make_recipe(batch_size=48, **settings), vectors, mode, ablation)
    apart = trained(make_recipe(batch_size=16, **settings), vectors, mode, ablation)
    for member in small.alive:
        expected, other = large.state(member), apart.state(member)
        for name, value in small.state(member).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
        assert any((other[name] - expected[name]).abs().max() > 1e-3 for name in expected)
    for ours, theirs in zip(small.advance(), large.advance(), strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)


def test_batch_norm_sees_batches_not_steps(make_recipe: MakeRecipe, pictures: Data) -> None:
    recipe = make_recipe(ModelConfig(name="small_conv"), accumulation=2)
    run = TrainingRun(MEMBERS[:1], 0.02, recipe, 5, *pictures, CPU, "eager")
    run.advance()
    counts = [int(value) for name, value in run.state(0).items() if name.endswith("num_batches_tracked")]
    assert set(counts) == {3}, "40 pictures are 16 + 16 and 8"


def test_an_accumulating_run_is_cut_between_its_batches(make_recipe: MakeRecipe, vectors: Data) -> None:
    run = TrainingRun(MEMBERS[:1], 0.02, make_recipe(accumulation=4), 5, *vectors, CPU, "eager")
    asked = iter([False] * 5 + [True])
    with pytest.raises(CutShortError, match="in epoch 1, step 1 of 2"):
        run.advance(lambda: next(asked))


def test_an_epoch_is_divided_into_batches_and_steps() -> None:
    assert divide(90, 16, 4) == [
        Part(16, 0, 0.25, True, False),
        Part(16, 0, 0.25, False, False),
        Part(16, 0, 0.25, False, False),
        Part(16, 0, 0.25, False, True),
        Part(16, 1, 16 / 26, True, False),
        Part(10, 1, 10 / 26, False, True),
    ]
    assert divide(32, 16, 1) == [Part(16, 0, 1.0, True, True), Part(16, 1, 1.0, True, True)]
    assert divide(5, 16, 9) == [Part(5, 0, 1.0, True, True)]
