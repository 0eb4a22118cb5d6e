"""Jobs of all ablations in one evaluation: each gets its own training, in a mode that can do it."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import ExecutionConfig, OptimizerConfig, Recipe
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import training_split
from sugarsearch.errors import StoppedError
from sugarsearch.evaluation import bench
from sugarsearch.evaluation.executor import InlineExecutor, Workload
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.evaluation.stop import Stop
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import TrainingRun

MakeJobs = Callable[..., list[Job]]
ABLATIONS: tuple[Ablation, ...] = ("", "adam", "grafted")


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe(epochs=4).model_copy(update={"optimizer": OptimizerConfig(momentum=0.9)})


@pytest.fixture
def jobs(make_jobs: MakeJobs) -> list[Job]:
    """One of each ablation."""
    (plain,) = make_jobs(surrogates=("0.3 + sigmoid(x)",), rates=(0.03,), epochs=4)
    return [dataclasses.replace(plain, ablation=ablation) for ablation in ABLATIONS]


class StopAfter(Stop):
    """Asks to stop when it has been looked at so often: once before each step."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    @property
    def requested(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.signal = 15
        return super().requested


def run(
    log: RecordLog, recipe: Recipe, jobs: Sequence[Job], mode: str, stop: Stop | None = None, **asked: Any
) -> dict[Ablation, Record]:
    execution = ExecutionConfig.model_validate({"device": "cpu", "mode": mode, "checkpoint_seconds": 0})
    with InlineExecutor(Workload(recipe, execution), log, stop=stop) as executor:
        records = list(executor.evaluate(jobs, **asked))
    found = {record.job.ablation: record for record in records}
    assert len(found) == len(records) == len(jobs)
    return found


def alone(job: Job, recipe: Recipe) -> tuple[float, ...]:
    """Accuracy after each epoch of the run that the trainer makes of the job alone: the oracle."""
    split = training_split(recipe.data)
    constants, member = normalisation(split.train), Member(job.surrogate, job.seed)
    data = (DeviceArrays(split.train, constants), DeviceArrays(split.validation, constants), torch.device("cpu"))
    single = TrainingRun([member], job.learning_rate, recipe, job.epochs, *data, "eager", None, job.ablation)
    return tuple(single.advance()[0].accuracy for _ in range(job.epochs))


@pytest.mark.parametrize("mode", ["eager", "population"])
def test_each_ablation_is_trained_as_it_would_be_alone(
    log: RecordLog, recipe: Recipe, jobs: list[Job], mode: str
) -> None:
    found = run(log, recipe, jobs, mode)
    for job in jobs:
        record = found[job.ablation]
        assert (record.status, record.mode) == (Status.COMPLETED, mode)
        assert record.scores == pytest.approx(alone(job, recipe), abs=0 if mode == "eager" else 0.012)
    assert len({record.scores for record in found.values()}) == 3
    assert sorted(log.load(), key=lambda record: record.job.id) == sorted(found.values(), key=lambda r: r.job.id)


def test_ablations_do_not_make_a_crowd(log: RecordLog, recipe: Recipe, jobs: list[Job]) -> None:
    assert {record.mode for record in run(log, recipe, jobs, "auto").values()} == {"eager"}


@pytest.mark.parametrize("mode", ["eager", "population"])
def test_an_evaluation_stopped_in_each_ablation_equals_one_that_never_was(
    log: RecordLog, recipe: Recipe, jobs: list[Job], mode: str
) -> None:
    whole = run(RecordLog(log.path.with_name("whole")), recipe, jobs, mode)
    found = None
    for _ in range(12):
        # A job has 16 steps: without what was kept of the sitting before none would ever end.
        with suppress(StoppedError):
            found = run(log, recipe, jobs, mode, StopAfter(11))
    assert found is not None
    for ablation, record in found.items():
        assert (record.scores, record.dead_units) == (whole[ablation].scores, whole[ablation].dead_units)


def test_a_grafted_job_of_a_compiled_batch_is_eager_wherever_it_is_recorded(
    log: RecordLog, recipe: Recipe, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[object] = []
    monkeypatch.setattr(bench, "self_test", lambda mode, *_: tested.append(mode))
    late = run(log, recipe, jobs, "compiled", deadline=time.monotonic() - 1)
    assert [(late[ablation].mode, late[ablation].status) for ablation in ABLATIONS] == [
        ("compiled", Status.INTERRUPTED),
        ("compiled", Status.INTERRUPTED),
        ("eager", Status.INTERRUPTED),
    ]
    assert run(log, recipe, jobs[2:], "compiled")["grafted"].scores == alone(jobs[2], recipe)
    assert tested == ["eager"], "nothing is compiled for a grafted job"


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_batch_trains_its_grafted_job_eagerly(log: RecordLog, recipe: Recipe, jobs: list[Job]) -> None:
    found = run(log, recipe, jobs, "compiled")
    assert [found[ablation].mode for ablation in ABLATIONS] == ["compiled", "compiled", "eager"]
    assert found["grafted"].scores == alone(jobs[2], recipe)
    assert found["adam"].scores == pytest.approx(alone(jobs[1], recipe), abs=0.012)
