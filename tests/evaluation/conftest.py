"""Tiny jobs on digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe
from sugarsearch.evaluation.jobs import Job, seed_of
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.symbolic.library import surrogate


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def log(tmp_path: Path) -> RecordLog:
    return RecordLog(tmp_path / "records.jsonl")


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., Recipe]:
    """Of 300 digits, so that an epoch takes milliseconds."""

    def make(model: str = "deep_narrow_mlp", epochs: int = 2, **options: bool | int | float | str) -> Recipe:
        if model == "deep_narrow_mlp":
            options = {"depth": 2, "width": 8} | options
        return Recipe(
            data=DataConfig(name="digits", train_limit=300, validation=0.3),
            model=ModelConfig(name=model, options=options),
            optimizer=OptimizerConfig(name="adam"),
            epochs=epochs,
            batch_size=64,
        )

    return make


@pytest.fixture(scope="session")
def make_jobs() -> Callable[..., list[Job]]:
    """Every combination, candidate by candidate."""

    def make(
        surrogates: Sequence[str] = ("relu", "sigmoid(4*x)"),
        rates: Sequence[float] = (0.003, 0.03),
        replicates: int = 1,
        epochs: int = 2,
        stage: str = "screening",
        scoring: str = "validation",
    ) -> list[Job]:
        return [
            Job(surrogate(text), rate, replicate, seed_of(0, stage, replicate), epochs, stage, scoring)
            for text in surrogates
            for rate in rates
            for replicate in range(replicates)
        ]

    return make


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A record of two epochs, as if it had been trained."""

    def make(job: Job, status: Status = Status.COMPLETED, scores: Sequence[float] = (0.25, 0.5)) -> Record:
        shares = (0.125,) * len(scores)
        return Record(job, "recipe", "eager", "cpu", status, 10, 1.5, {"torch": "2"}, tuple(scores), shares, shares, "")

    return make
