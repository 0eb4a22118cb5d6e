"""The compiled mode: the eager numbers, and one compilation for every network of a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch._dynamo.utils import counters

from sugarsearch.config.schema import Recipe
from sugarsearch.data.device import DeviceArrays
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_runs_equal_eager_ones_and_share_one_compilation(
    make_recipe: Callable[..., Recipe], vectors: tuple[DeviceArrays, DeviceArrays]
) -> None:
    recipe = make_recipe()

    def run(text: str, seed: int, mode: str) -> TrainingRun:
        member = Member(surrogate(text), seed)
        return TrainingRun([member], 0.02, recipe, 2, *vectors, CPU, mode)  # type: ignore[arg-type]

    counters.clear()
    for text, seed in (("b_silu", 1), ("sigmoid(4*x)", 2), ("leaky_relu(alpha=0.3)", 3)):
        compiled, eager = run(text, seed, "compiled"), run(text, seed, "eager")
        for _ in range(2):
            ours, theirs = compiled.advance()[0], eager.advance()[0]
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
        for name, value in compiled.state(0).items():
            torch.testing.assert_close(value, eager.state(0)[name], rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
