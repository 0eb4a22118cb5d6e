"""The final table of networks that are really trained, on digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sugarsearch.config.schema import (
    DataConfig,
    ExecutionConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    SearchConfig,
    SearchSpace,
    StudyConfig,
)
from sugarsearch.config.verdict import FinalConfig, RerunConfig
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import training_split
from sugarsearch.data.test_split import open_test
from sugarsearch.evaluation.executor import InlineExecutor, Workload
from sugarsearch.evaluation.jobs import seed_of
from sugarsearch.evaluation.records import RecordLog
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import TrainingRun
from sugarsearch.verdict import test_data
from sugarsearch.verdict.arms import Screened
from sugarsearch.verdict.final import final_table

RECIPE = Recipe(
    data=DataConfig(name="digits", train_limit=500),
    model=ModelConfig(name="deep_narrow_mlp", options={"depth": 2, "width": 12}),
    optimizer=OptimizerConfig(name="adam"),
    epochs=2,
    batch_size=32,
)
STUDY = StudyConfig(
    name="s",
    space=SearchSpace(name="p", template="gate", unary=("sigmoid", "tanh")),
    recipe=RECIPE,
    search=SearchConfig(candidates=1, learning_rates=(0.01,)),
    final=FinalConfig(
        rerun=RerunConfig(candidates=1, replicates=2),
        learning_rates=(0.0001, 0.001),
        replicates=7,
    ),
)


FOUND = surrogate("sigmoid(4*x)").at_unit_gain()


def on_test_split(g: Surrogate, rate: float, seed: int) -> float:
    """Test accuracy of one run, made by the trainer alone."""
    train = training_split(RECIPE.data).train
    constants = normalisation(train)
    data, scoring = DeviceArrays(train, constants), DeviceArrays(open_test(RECIPE.data), constants)
    member = Member(g, seed)
    run = TrainingRun([member], rate, RECIPE, RECIPE.epochs, data, scoring, torch.device("cpu"), "eager")
    return [run.advance()[0].accuracy for _ in range(RECIPE.epochs)][-1]


def test_arms_are_tuned_on_validation_and_scored_on_the_test_split(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    stages: list[tuple[str, int, int]] = []
    log = RecordLog(tmp_path / "records.jsonl")
    with InlineExecutor(Workload(RECIPE, ExecutionConfig(device="cpu")), log) as executor:
        table = final_table(
            executor.evaluate,
            [Screened(FOUND, 0.001, 0.5)],
            STUDY,
            scoring=test_data.OPEN,
            on_stage=lambda *stage: stages.append(stage),
        )
    assert table.scored_on == "test"
    assert table.collapse_below == 0.2
    for row in table.rows:
        assert row.learning_rate > 0.001, "the sweep must have gone on beyond the given rates"
        assert row.learning_rate == float(max(row.tuning, key=lambda rate: row.tuning[rate]))
        rate, seed = row.learning_rate, seed_of(STUDY.search.seed, "final", 3)
        assert row.scores["3"] == pytest.approx(
            on_test_split(Surrogate.from_json(row.surrogate), rate, seed), abs=0.009
        )  # 3 of 359 images
        assert row.summary.mean == pytest.approx(np.mean(list(row.scores.values())))
        assert row.summary.n == 7
        assert row.summary.mean > 0.5
    assert stages[0] == ("rerun", 0, 4)
    assert ("tuning", 24, 24) in stages
    assert ("final", 42, 42) in stages
    scored = {(record.job.stage, record.job.scoring) for record in log.load()}
    assert scored == {("rerun", "validation"), ("tuning", "validation"), ("final", test_data.OPEN)}
