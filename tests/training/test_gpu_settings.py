"""What the paper's recipes need, on a GPU: the other arm, accumulation, timm's images, the large networks, grafting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.arm import TrainingArm
from sugarsearch.config.schema import DataConfig, ExecutionConfig, ModelConfig, OptimizerConfig, Recipe
from sugarsearch.data.arrays import Arrays, from_pairs
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.evaluation.jobs import SCREENING, Job, Workload
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.augmentation import TimmBatches
from sugarsearch.training.network import Member, Mode
from sugarsearch.training.trainer import EpochReport, TrainingRun

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
# What torch's compiler says of its own choices, such as not to use TF32.
COMPILES = pytest.mark.filterwarnings("ignore::DeprecationWarning", r"ignore::UserWarning:torch\..*")
GPU: Final = torch.device("cuda")
CPU: Final = torch.device("cpu")
MakeRecipe = Callable[..., Recipe]
MLP = ModelConfig(name="deep_narrow_mlp", options={"depth": 3, "width": 16})


def images(count: int, size: int) -> Arrays:
    rng = np.random.default_rng(count)
    pixels = rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return from_pairs({"train": (pixels, np.arange(count) % 3)})["train"]


def on(device: torch.device, arrays: Arrays) -> DeviceArrays:
    return DeviceArrays(arrays, normalisation(arrays), device)


def start(
    recipe: Recipe,
    data: DeviceArrays,
    text: str,
    device: torch.device,
    mode: Mode = "eager",
    arm: TrainingArm = "sugar",
    rate: float = 0.02,
) -> TrainingRun:
    """A run that is scored on the data that it is trained with."""
    return TrainingRun([Member(surrogate(text), 3, arm)], rate, recipe, recipe.epochs, data, data, device, mode)


def flat(run: TrainingRun) -> Tensor:
    """All weights and biases, without batch norm's statistics."""
    state = run.state(0).items()
    return torch.cat([value.double().flatten() for name, value in state if name.endswith(("weight", "bias"))])


def step(recipe: Recipe, text: str, device: torch.device, arm: TrainingArm) -> Tensor:
    """What one step adds to all weights and biases."""
    run = start(recipe, on(device, images(48, 16)), text, device, arm=arm, rate=0.1)
    before = flat(run)
    run.advance()
    return flat(run) - before


@pytest.mark.parametrize("text", ["silu", "elu", "b_silu", "mish"])
def test_a_step_of_the_non_sugar_arm_is_the_cpus(make_recipe: MakeRecipe, text: str) -> None:
    recipe = make_recipe(ModelConfig(name="small_conv"), OptimizerConfig(momentum=0.0), epochs=1, batch_size=48)
    ours, wanted = (step(recipe, text, device, "non_sugar") for device in (GPU, CPU))
    # cuDNN's convolutions may round to TF32, 10 bits: no single weight can be held to float32.
    assert (ours - wanted).norm() < 0.01 * wanted.norm()
    assert (step(recipe, text, GPU, "sugar") - wanted).norm() > 0.2 * wanted.norm(), "the other arm would be seen"


@COMPILES
@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_accumulated_batches_are_one_batch_of_their_samples(make_recipe: MakeRecipe, mode: Mode) -> None:
    data = on(GPU, images(96, 8))

    def trained(size: int, accumulation: int) -> dict[str, Tensor]:
        recipe = make_recipe(MLP, batch_size=size, accumulation=accumulation, clip_gradient=0.5)
        run = start(recipe, data, "b_silu", GPU, mode)
        for _ in range(2):
            run.advance()
        return run.state(0)

    small, large, apart = trained(16, 3), trained(48, 1), trained(16, 1)
    for name, value in small.items():
        torch.testing.assert_close(value, large[name], rtol=1e-3, atol=1e-4)
    assert max((apart[name] - large[name]).abs().max() for name in large) > 1e-3


# From Python 3.12 on: torch's threads do nothing that a forked process would miss.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_timms_batches_are_the_cpus(workers: int) -> None:
    pytest.importorskip("timm")
    arrays = images(24, 16)
    ours, wanted = (list(TimmBatches(on(device, arrays), 8, workers).epoch([5], 1)) for device in (GPU, CPU))
    assert [len(inputs) for inputs, _ in ours] == [8, 8, 8]
    for (inputs, targets), (other, probabilities) in zip(ours, wanted, strict=True):
        assert inputs.device.type == targets.device.type == GPU.type
        torch.testing.assert_close(inputs.cpu(), other, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(targets.cpu(), probabilities, rtol=1e-5, atol=1e-6)


@COMPILES
@pytest.mark.parametrize(("name", "size"), [("conv2next", 32), ("swin_t", 64)])
def test_large_networks_train_a_step_compiled_in_bf16(make_recipe: MakeRecipe, name: str, size: int) -> None:
    pytest.importorskip("timm")
    data = on(GPU, images(16, size))

    def trained(mode: Mode, **settings: Any) -> tuple[TrainingRun, Tensor, EpochReport]:
        optimizer = OptimizerConfig(name="adamw", weight_decay=0.05, decay="matrices")
        recipe = make_recipe(
            ModelConfig(name=name),
            optimizer,
            batch_size=8,
            accumulation=2,
            clip_gradient=5.0,
            augmentation="timm",
            **settings,
        )
        run = start(recipe, data, "b_silu", GPU, mode, rate=1e-3)
        before = flat(run)
        (report,) = run.advance()
        return run, flat(run) - before, report

    run, change, got = trained("compiled", precision="bf16")
    _, _, wanted = trained("eager")
    assert got.finite
    assert 0 < change.norm() < float("inf")
    assert {value.dtype for value in run.state(0).values() if value.is_floating_point()} == {torch.float32}
    # Of the network as it begins, for there is one step; stochastic depth draws other numbers in compiled code.
    assert got.train_loss == pytest.approx(wanted.train_loss, rel=0.1)


def record_of(records: list[Record], text: str, ablation: Ablation, arm: TrainingArm) -> Record:
    (found,) = [
        record
        for record in records
        if (record.job.surrogate, record.job.ablation, record.job.arm) == (surrogate(text), ablation, arm)
    ]
    return found


@COMPILES
def test_grafted_and_non_sugar_jobs_are_eager_beside_compiled_ones(tmp_path: Path) -> None:
    data = DataConfig(name="digits", train_limit=400, test_limit=100)
    recipe = Recipe(data=data, model=MLP, optimizer=OptimizerConfig(momentum=0.9), epochs=3, batch_size=40)
    asked: list[tuple[str, Ablation, TrainingArm]] = [
        ("relu", "", "sugar"),
        ("relu", "grafted", "sugar"),
        ("b_silu", "grafted", "sugar"),
        ("b_silu", "", "non_sugar"),
    ]
    jobs = [Job(surrogate(text), 0.05, 0, 7, 3, SCREENING, ablation=how, arm=arm) for text, how, arm in asked]

    def records(mode: Mode) -> list[Record]:
        workload = Workload(recipe, ExecutionConfig(device=GPU.type, mode=mode))
        with InlineExecutor(workload, RecordLog(tmp_path / f"{mode}.jsonl")) as executor:
            return list(executor.evaluate(jobs))

    ours, alone = records("compiled"), records("eager")
    found, wanted = ([record_of(each, *one) for one in asked] for each in (ours, alone))
    assert [record.status for record in found] == [Status.COMPLETED] * 4, [record.reason for record in found]
    assert [record.mode for record in found] == ["compiled", "eager", "eager", "eager"]
    for record, other in zip(found, wanted, strict=True):
        # A GPU's sums come in no fixed order: a few of 40 images may fall otherwise.
        assert record.scores == pytest.approx(other.scores, abs=0.1)
    assert found[1].scores == pytest.approx(found[0].scores, abs=0.1), "grafting ReLU's own gradient changes nothing"
    assert found[0].score is not None
    assert found[0].score > 0.3, "and there was something to learn"
