"""Evaluations that are stopped at any step, again and again, end as if nobody had stopped them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from sugarsearch.config.schema import ExecutionConfig, Recipe
from sugarsearch.errors import StoppedError, SugarsearchWarning
from sugarsearch.evaluation import bench
from sugarsearch.evaluation.executor import InlineExecutor, Progress, Workload
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record, RecordLog, Status
from sugarsearch.evaluation.stop import Stop

MakeJobs = Callable[..., list[Job]]
MakeRecipe = Callable[..., Recipe]


class StopAfter(Stop):
    """Asks to stop when it has been looked at so often: once before each step."""

    def __init__(self, looks: float = float("inf")) -> None:
        super().__init__()
        self.looks, self.left = 0, looks

    @property
    def requested(self) -> bool:
        self.looks += 1
        if self.looks > self.left:
            self.signal = 15
        return super().requested


def worse_half(progress: Sequence[Progress]) -> set[str]:
    return {p.job_id for p in sorted(progress, key=lambda p: (p.score, p.job_id))[: len(progress) // 2]}


@pytest.fixture
def other_log(tmp_path: Path) -> RecordLog:
    """Of the evaluation that nobody stops."""
    (tmp_path / "whole").mkdir()
    return RecordLog(tmp_path / "whole" / "records.jsonl")


def evaluate(log: RecordLog, recipe: Recipe, jobs: Sequence[Job], stop: Stop, mode: str, **asked: Any) -> list[Record]:
    execution = ExecutionConfig.model_validate({"device": "cpu", "mode": mode, "checkpoint_seconds": 0})
    with InlineExecutor(Workload(recipe, execution), log, stop=stop) as executor:
        return list(executor.evaluate(jobs, **asked))


def outcome(records: Sequence[Record]) -> dict[str, Any]:
    return {record.job.id: (record.status, record.scores, record.reason, record.dead_units) for record in records}


@pytest.mark.parametrize("mode", ["eager", "population"])
@pytest.mark.parametrize("rungs", [(), (2, 4)], ids=["no judge", "judge"])
def test_an_evaluation_stopped_at_random_steps_until_it_is_done_equals_one_that_never_was(
    log: RecordLog,
    other_log: RecordLog,
    make_recipe: MakeRecipe,
    make_jobs: MakeJobs,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    rungs: tuple[int, ...],
) -> None:
    monkeypatch.setattr(bench, "POPULATION_LIMIT", 4)
    recipe = make_recipe(epochs=6)
    texts = ("relu", "sigmoid(4*x)", "1/x", "b_silu", "x")
    jobs = make_jobs(surrogates=texts, rates=(0.003, 0.03, 1e30), epochs=6)
    asked: dict[str, Any] = {"judge": worse_half, "rungs": rungs} if rungs else {}
    unhurried = StopAfter()
    whole = evaluate(other_log, recipe, jobs, unhurried, mode, **asked)
    assert {Status.COMPLETED, Status.REJECTED, Status.DIVERGED} <= {record.status for record in whole}
    moments, sittings, looks = random.Random(1), 0, 0
    while True:
        stop = StopAfter(moments.randrange(1, unhurried.looks // 5))
        sittings += 1
        try:
            records = evaluate(log, recipe, jobs, stop, mode, **asked)
            break
        except StoppedError:
            looks += stop.looks
    assert sittings > 4
    assert outcome(records) == outcome(whole)
    assert outcome(log.load()) == outcome(whole)
    assert set(Counter(record.job.id for record in log.load()).values()) == {1}
    # An epoch in work is lost at each stop, and what is trained when nothing has been kept yet; not more.
    assert looks + stop.looks < 2.5 * unhurried.looks
    assert list(log.checkpoints.iterdir()) == []


def test_a_checkpoint_that_does_not_fit_its_jobs_is_told_and_training_begins_anew(
    log: RecordLog, other_log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    recipe, jobs = make_recipe(epochs=4), make_jobs(rates=(0.003,), epochs=4)
    whole = evaluate(other_log, recipe, jobs, Stop(), "population")
    with pytest.raises(StoppedError):
        evaluate(log, recipe, jobs, StopAfter(12), "population")
    (kept,) = log.checkpoints.glob("*.pt")
    with pytest.raises(StoppedError):
        evaluate(log, make_recipe(epochs=4, width=9), jobs, StopAfter(12), "population")
    (other,) = set(log.checkpoints.glob("*.pt")) - {kept}
    other.replace(kept)
    for older in log.checkpoints.glob("*.previous"):
        older.unlink()
    with pytest.warns(SugarsearchWarning, match="does not fit its jobs"):
        assert outcome(evaluate(log, recipe, jobs, Stop(), "population")) == outcome(whole)


class Exiting(nn.Sequential):
    """A user's network that ends the program twice."""

    left = 2

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
        if Exiting.left:
            Exiting.left -= 1
            raise SystemExit(4)


def test_sys_exit_of_a_users_model_interrupts_its_job_alone(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    workload = Workload(make_recipe(), ExecutionConfig(device="cpu"))
    with InlineExecutor(workload, log, model_factory=Exiting) as executor:
        records = list(executor.evaluate(make_jobs()))
    assert [record.status for record in records] == [Status.COMPLETED] * 4
    failed = [record for record in log.load() if record.status in MACHINE_FAULTS]
    assert [(record.status, record.reason) for record in failed] == [
        (Status.INTERRUPTED, "the model or the data called sys.exit(4)")
    ] * 2


# 48 members of this width need some 300 MB with their gradients and Adam's state; 150 MB are there.
_SPLIT = """
import json, os, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from sugarsearch.config.schema import DataConfig, ExecutionConfig, ModelConfig, OptimizerConfig, Recipe
from sugarsearch.evaluation import bench
from sugarsearch.evaluation.executor import InlineExecutor, Workload
from sugarsearch.evaluation.jobs import Job, seed_of
from sugarsearch.evaluation.records import RecordLog
from sugarsearch.symbolic.library import surrogate

recipe = Recipe(
    data=DataConfig(name="digits", train_limit=100, validation=0.3),
    model=ModelConfig(name="deep_narrow_mlp", options={"depth": 2, "width": 600}),
    optimizer=OptimizerConfig(name="adam"), epochs=2, batch_size=16,
)
jobs = [Job(surrogate("relu"), 0.001, i, seed_of(0, "screening", i), 2, "screening") for i in range(48)]
sizes, original = [], bench.TrainingRun
def counting(members, *rest):
    sizes.append(len(members))
    return original(members, *rest)
bench.TrainingRun = counting
with InlineExecutor(Workload(recipe, ExecutionConfig(device="cpu")), RecordLog(sys.argv[1])) as executor:
    list(executor.evaluate(jobs[:2]))  # what libraries allocate once
    if len(sys.argv) > 2:
        used = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) << 10
        resource.setrlimit(resource.RLIMIT_DATA, (used + (150 << 20), resource.RLIM_INFINITY))
    records = list(executor.evaluate(jobs))
print(json.dumps([sizes, [[r.job.replicate, r.status, r.mode, r.scores, r.reason] for r in records]]))
"""


def test_a_population_too_large_for_the_memory_is_trained_in_smaller_ones(log: RecordLog) -> None:
    def run(*arguments: str) -> tuple[list[int], dict[int, Any]]:
        command = [sys.executable, "-c", _SPLIT, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        sizes, rows = json.loads(done.stdout)
        return sizes, {row[0]: row[1:] for row in rows}

    sizes, records = run(str(log.path), "limited")
    assert sizes[:3] == [2, 46, 23]
    assert sizes[-1] < 46
    assert len(records) == 48
    assert {(status, mode, reason) for status, mode, _, reason in records.values()} == {
        ("COMPLETED", "population", "")
    }  # fmt: skip
    whole_sizes, whole = run(str(log.path.with_name("whole.jsonl")))
    assert whole_sizes == [2, 46]
    for replicate, record in whole.items():
        assert records[replicate][2] == pytest.approx(record[2], abs=0.07)  # two of 30 images may tip over
