"""The compiled mode: the eager numbers, and one compilation for every network of a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch._dynamo.utils import counters

from sugarsearch.config.schema import Recipe
from sugarsearch.data.device import DeviceArrays
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.engine import Engines
from sugarsearch.training.network import Member, Mode
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")


COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
COMPILES = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@COMPILER
@COMPILES
def test_compiled_runs_equal_eager_ones_and_share_one_compilation(
    make_recipe: Callable[..., Recipe], vectors: tuple[DeviceArrays, DeviceArrays]
) -> None:
    recipe = make_recipe()

    engines = Engines()

    def run(text: str, seed: int, mode: Mode) -> TrainingRun:
        return TrainingRun([Member(surrogate(text), seed)], 0.02, recipe, 2, *vectors, CPU, mode, engines=engines)

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


@COMPILER
@COMPILES
def test_a_compiled_run_on_its_own_has_the_formula_in_its_code(
    make_recipe: Callable[..., Recipe], vectors: tuple[DeviceArrays, DeviceArrays]
) -> None:
    def run(mode: Mode) -> TrainingRun:
        return TrainingRun([Member(surrogate("b_silu"), 1)], 0.02, make_recipe(), 2, *vectors, CPU, mode)

    compiled, eager = run("compiled"), run("eager")
    sites = [module for module in compiled._network.module.modules() if isinstance(module, SugarReLU)]
    assert {site.form for site in sites} == {"closed"}
    for _ in range(2):
        assert compiled.advance()[0].train_loss == pytest.approx(eager.advance()[0].train_loss, rel=1e-4)
    for name, value in compiled.state(0).items():
        torch.testing.assert_close(value, eager.state(0)[name], rtol=1e-3, atol=1e-4)
