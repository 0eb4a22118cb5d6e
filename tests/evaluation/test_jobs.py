"""Jobs: names that hold in every process, seeds, and what may not be asked."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sugarsearch.config.schema import ExecutionConfig, Recipe
from sugarsearch.errors import UsageError
from sugarsearch.evaluation.jobs import Ablation, Job, Workload, recipe_hash, seed_of
from sugarsearch.symbolic.library import surrogate

MakeJobs = Callable[..., list[Job]]


def test_a_job_survives_json_and_keeps_its_name(make_jobs: MakeJobs) -> None:
    for job in make_jobs(surrogates=("b_silu(alpha=1.1)", "0.1*x if x > 0 else tanh(x)/3")):
        again = Job.from_json(json.loads(json.dumps(job.to_json())))
        assert again == job
        assert again.id == job.id


@pytest.mark.parametrize(
    "change",
    [
        {"surrogate": surrogate("b_silu(alpha=1.6700000000000002)")},
        {"surrogate": surrogate("b_silu").at_unit_gain()},
        {"learning_rate": 0.1 + 1e-17 + 0.2},
        {"replicate": 1},
        {"seed": 4},
        {"epochs": 3},
        {"stage": "tuning"},
        {"stage": "final", "scoring": "a.b:c"},
        {"ablation": "adam"},
        {"ablation": "grafted"},
    ],
    ids=str,
)
def test_every_field_is_part_of_the_name(change: dict[str, object]) -> None:
    job = Job(surrogate("b_silu"), 0.3, 0, 3, 2, "screening")
    assert dataclasses.replace(job, **change).id != job.id  # type: ignore[arg-type]


def test_jobs_without_an_ablation_keep_the_names_they_had_before_there_were_any() -> None:
    screened = Job(surrogate("b_silu"), 0.3, 0, 3, 2, "screening")
    final = Job(surrogate("b_silu").at_unit_gain(), 0.01, 1, 7, 20, "final", "a.b:test")
    assert [screened.id, final.id] == ["3f8c07878326dd9b76bf", "049d4c5d2ae7c9e67d9f"]


@pytest.mark.parametrize("ablation", ["", "adam", "grafted"])
def test_an_ablation_survives_json_and_is_no_company_for_others(ablation: Ablation) -> None:
    plain = Job(surrogate("b_silu"), 0.3, 0, 3, 2, "screening")
    job = dataclasses.replace(plain, ablation=ablation)
    again = Job.from_json(json.loads(json.dumps(job.to_json())))
    assert (again, again.id) == (job, job.id)
    assert (job.company == plain.company) == (ablation == "")


@pytest.mark.parametrize("ablation", ["Adam", None, ["adam"]], ids=str)
def test_an_unknown_ablation_is_refused(ablation: Any) -> None:
    with pytest.raises(UsageError, match="is not known; allowed are '', 'adam', 'grafted'"):
        Job(surrogate("b_silu"), 0.3, 0, 3, 2, "screening", ablation=ablation)


def test_the_name_does_not_hang_on_the_process(make_jobs: MakeJobs) -> None:
    job = make_jobs()[1]
    code = (
        "import json, sys; from sugarsearch.evaluation.jobs import Job, seed_of; "
        "print(Job.from_json(json.loads(sys.argv[1])).id, seed_of(7, 'final', 2))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", code, json.dumps(job.to_json())]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert output.split() == [job.id, str(seed_of(7, "final", 2))]


@pytest.mark.parametrize("stage", ["screening", "tuning", "train"])
def test_only_the_final_stage_may_see_other_data(stage: str) -> None:
    with pytest.raises(UsageError, match=f"'{stage}'.*'a.b:test'.*only stage 'final'"):
        Job(surrogate("relu"), 0.1, 0, 0, 1, stage, "a.b:test")


def test_seeds_differ_by_study_stage_and_replicate_and_fit_json() -> None:
    seeds = {seed_of(s, stage, r) for s in range(5) for stage in ("screening", "tuning", "final") for r in range(100)}
    assert len(seeds) == 1500
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert seed_of(3, "final", 1) == seed_of(3, "final", 1)


def test_a_recipe_is_named_by_what_it_asks_not_by_where_the_data_lies(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe()
    moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": "/elsewhere"})})
    assert recipe_hash(moved) == recipe_hash(recipe)
    other_split = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split_seed": 1})})
    others = [other_split, make_recipe(epochs=3), make_recipe(width=9), make_recipe(model="small_conv")]
    assert len({recipe_hash(other) for other in [recipe, *others]}) == 5


def test_a_workload_survives_json(make_recipe: Callable[..., Recipe]) -> None:
    workload = Workload(make_recipe(), ExecutionConfig(workers=3, mode="eager"), 2.5)
    assert Workload.from_json(json.loads(json.dumps(workload.to_json()))) == workload
