"""Small data that can be learned, and recipes for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe
from sugarsearch.data.arrays import from_pairs
from sugarsearch.data.device import DeviceArrays

Data = tuple[DeviceArrays, DeviceArrays]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _arrays(shape: tuple[int, ...], train: int, scoring: int) -> Data:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(train + scoring, *shape, generator=generator)
    directions = torch.randn(3, inputs[0].numel(), generator=generator)
    labels = (inputs.flatten(1) @ directions.t()).argmax(1)
    pairs = from_pairs(
        {"train": (inputs[:train], labels[:train]), "scoring": (inputs[train:], labels[train:])}, name="three"
    )
    return DeviceArrays(pairs["train"], None), DeviceArrays(pairs["scoring"], None)


@pytest.fixture(scope="session")
def vectors() -> Data:
    """90 training and 40 scoring inputs [6] of 3 classes."""
    return _arrays((6,), 90, 40)


@pytest.fixture(scope="session")
def pictures() -> Data:
    """40 training and 16 scoring inputs [3, 16, 16] of 3 classes."""
    return _arrays((3, 16, 16), 40, 16)


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """A recipe of 5 epochs and batches of 16: five whole ones and a rest of 10 for `vectors`."""

    def make(model: ModelConfig | None = None, optimizer: OptimizerConfig | None = None, **settings: Any) -> Recipe:
        settings = {"epochs": 5, "batch_size": 16} | settings
        return Recipe(
            data=DataConfig(name="three"),
            model=model or ModelConfig(name="deep_narrow_mlp", options={"depth": 4, "width": 8}),
            optimizer=optimizer or OptimizerConfig(momentum=0.9),
            **settings,
        )

    return make
