"""Jobs of both arms: their names, their company, and the mode in which each is trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import ExecutionConfig, Recipe
from sugarsearch.errors import UsageError
from sugarsearch.evaluation import bench
from sugarsearch.evaluation.executor import InlineExecutor, Workload
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.symbolic.library import surrogate

MakeJobs = Callable[..., list[Job]]
PLAIN = Job(surrogate("gelu"), 0.1, 0, 5, 4, "screening")


def non_sugar(jobs: Sequence[Job]) -> list[Job]:
    return [dataclasses.replace(job, arm="non_sugar") for job in jobs]


def run(log: RecordLog, recipe: Recipe, jobs: Sequence[Job], mode: str) -> dict[str, Record]:
    execution = ExecutionConfig.model_validate({"device": "cpu", "mode": mode})
    with InlineExecutor(Workload(recipe, execution), log) as executor:
        return {record.job.id: record for record in executor.evaluate(jobs)}


def test_jobs_of_sugar_keep_the_names_they_had_before_there_were_arms() -> None:
    final = Job(surrogate("silu(beta=2)"), 0.05, 2, 11, 3, "final", "a.b:test", "adam")
    tuning = Job(surrogate("elu").at_unit_gain(), 0.1, 0, 5, 4, "tuning", ablation="grafted")
    names = ["865fe8861633384c530e", "2d67a2db372d39c92cfb", "9b1c3388d42f8cda0a40"]
    assert [job.id for job in (PLAIN, final, tuning)] == names
    assert "arm" not in PLAIN.to_json()


def test_an_arm_survives_json_is_part_of_the_name_and_no_company_for_the_other() -> None:
    (job,) = non_sugar([PLAIN])
    again = Job.from_json(json.loads(json.dumps(job.to_json())))
    assert (again, again.arm, again.id) == (job, "non_sugar", job.id)
    assert job.id != PLAIN.id
    assert job.company != PLAIN.company
    assert job.company == non_sugar([dataclasses.replace(PLAIN, surrogate=surrogate("elu"))])[0].company


@pytest.mark.parametrize("arm", ["", "relu", None, ["sugar"]], ids=str)
def test_an_unknown_arm_is_refused(arm: Any) -> None:
    with pytest.raises(UsageError, match="is not known; allowed are 'sugar', 'non_sugar'"):
        dataclasses.replace(PLAIN, arm=arm)


@pytest.mark.parametrize(("ablation", "allowed"), [("", True), ("adam", True), ("grafted", False)])
def test_there_is_nothing_to_graft_without_sugar(ablation: Ablation, allowed: bool) -> None:
    if allowed:
        assert dataclasses.replace(PLAIN, ablation=ablation, arm="non_sugar").ablation == ablation
        return
    with pytest.raises(UsageError, match="'grafted' takes the direction from SUGAR's gradient, which arm 'non_sugar'"):
        dataclasses.replace(PLAIN, ablation=ablation, arm="non_sugar")


@pytest.mark.parametrize("mode", ["population", "eager", "auto"])
def test_both_arms_in_one_evaluation_are_trained_as_they_would_be_alone(
    log: RecordLog, make_recipe: Callable[..., Recipe], make_jobs: MakeJobs, mode: str
) -> None:
    sugar = make_jobs(surrogates=("silu", "relu"), rates=(0.03,), replicates=2)
    jobs = [job for pair in zip(sugar, non_sugar(sugar), strict=True) for job in pair]
    found = run(log, make_recipe(), jobs, mode)
    crowd = "eager" if mode == "eager" else "population"
    assert [found[job.id].mode for job in jobs] == [crowd, "eager"] * 4
    assert {record.status for record in found.values()} == {Status.COMPLETED}
    others = RecordLog(log.path.with_name("alone"))
    for job in non_sugar(sugar):
        record = found[job.id]
        (alone,) = run(others, make_recipe(), [job], "eager").values()
        assert (record.scores, record.dead_units, record.sparsity) == (alone.scores, alone.dead_units, alone.sparsity)
    again = {record.job.id: record for record in log.load()}
    assert again == found


def test_without_sugar_silu_is_another_network_and_relu_the_same(
    log: RecordLog, make_recipe: Callable[..., Recipe], make_jobs: MakeJobs
) -> None:
    sugar = make_jobs(surrogates=("silu", "relu"), rates=(0.03,))
    found = run(log, make_recipe(), [*sugar, *non_sugar(sugar)], "eager")
    silu, relu, plain_silu, plain_relu = (found[job.id] for job in (*sugar, *non_sugar(sugar)))
    assert (plain_relu.scores, plain_relu.sparsity) == (relu.scores, relu.sparsity)
    assert (plain_silu.scores, plain_silu.sparsity) != (silu.scores, silu.sparsity)


def test_nothing_is_compiled_for_the_arm(
    log: RecordLog, make_recipe: Callable[..., Recipe], make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[object] = []
    monkeypatch.setattr(bench, "self_test", lambda mode, *_: tested.append(mode))
    jobs = non_sugar(make_jobs(surrogates=("silu",), rates=(0.03,)))
    (record,) = run(log, make_recipe(), jobs, "compiled").values()
    assert (record.mode, record.status, tested) == ("eager", Status.COMPLETED, ["eager"])


def test_a_surrogate_without_a_primitive_is_refused_before_anything_is_trained(
    log: RecordLog, make_recipe: Callable[..., Recipe], make_jobs: MakeJobs
) -> None:
    good, bad = make_jobs(surrogates=("silu", "sigmoid(4*x)"), rates=(0.03,))
    with pytest.raises(UsageError, match="has no known primitive"):
        run(log, make_recipe(), [good, *non_sugar([bad])], "eager")
    assert log.load() == []
