"""One training run outside of a study: its data, its epochs, and the weights it leaves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sugarsearch.config.schema import ExecutionConfig, Recipe
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import training_split
from sugarsearch.errors import NothingFinishedError
from sugarsearch.evaluation.bench import resolve_device
from sugarsearch.nn.selftest import self_test
from sugarsearch.runs.results import replacing
from sugarsearch.training.network import Member, ModelFactory
from sugarsearch.training.trainer import Cut, EpochReport, TrainingRun, choose_mode


@dataclass(frozen=True)
class Data:
    """What runs of a recipe train on and are scored on, on their device."""

    train: DeviceArrays
    validation: DeviceArrays
    device: torch.device


def open_data(recipe: Recipe, execution: ExecutionConfig) -> Data:
    """Open the recipe's data on the execution's device, and have torch use as many threads as that says.

    Raises:
        DataError: the data is missing or unfit.
        UsageError: no such device.
    """
    split = training_split(recipe.data)
    device = resolve_device(execution.device)
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    constants = normalisation(split.train, recipe.normalisation)
    train, validation = (DeviceArrays(part, constants, device) for part in (split.train, split.validation))
    return Data(train, validation, device)


def make_run(
    recipe: Recipe,
    learning_rate: float,
    member: Member,
    data: Data,
    mode: Literal["auto", "eager", "compiled", "population"] = "auto",
    factory: ModelFactory | None = None,
) -> TrainingRun:
    """The run of one member, in the mode that `choose_mode` makes of `mode`, which is proved right first.

    factory: makes the network in place of the recipe's model.

    Raises:
        UsageError: a mode or an arm that cannot be.
    """
    only = "eager" if mode == "auto" and member.arm == "non_sugar" else mode
    chosen = choose_mode(recipe, data.device, 1, only)
    self_test(chosen, data.device, "closed" if chosen == "eager" or data.device.type == "cpu" else "table")
    return TrainingRun(
        [member], learning_rate, recipe, recipe.epochs, data.train, data.validation, data.device, chosen, factory
    )


def epochs_of(run: TrainingRun, epochs: int, cut: Cut = lambda: False) -> Iterator[EpochReport]:
    """Train, a report after each epoch.

    Raises:
        NothingFinishedError: the run diverged.
        CutShortError: `cut`, asked before each batch, said so.
    """
    for _ in range(epochs):
        (report,) = run.advance(cut)
        if not report.finite:
            raise NothingFinishedError(
                f"the run diverged in epoch {report.epoch}: its loss is not finite. Lower the learning rate, or take "
                "a surrogate with a smaller gain (`sugarsearch show` states it)."
            )
        yield report


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state_dict for `torch.load(path, weights_only=True)`; killed half way, the old file is still there.

    Raises:
        RunError: it cannot be written.
    """
    content = io.BytesIO()  # of a disk that is full, torch itself says nothing that helps
    torch.save(state, content)
    with replacing(path) as file:
        file.write(content.getbuffer())
