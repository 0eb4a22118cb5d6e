"""The final table: which jobs it asks for, and what it makes of their records.

The trainer is replaced by a formula, so that sweeps have their best rate where the test puts it. That real
training gives such records is tested with the executors and with the search.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sugarsearch.config.schema import (
    DataConfig,
    FinalConfig,
    ModelConfig,
    Recipe,
    SearchConfig,
    SearchSpace,
    StudyConfig,
)
from sugarsearch.errors import DataError, NothingFinishedError
from sugarsearch.evaluation.jobs import Job, seed_of
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.symbolic.library import surrogate
from sugarsearch.verdict import test_data
from sugarsearch.verdict.final import FinalTable, collapse_limit, final_table

FINALIST = surrogate("sigmoid(4*x)")


def study(**final: object) -> StudyConfig:
    settings = {"learning_rates": (0.01, 0.03, 0.1), "tuning_replicates": 2, "replicates": 6, **final}
    return StudyConfig(
        name="s",
        space=SearchSpace(name="p", template="whole_line", unary=("exp",)),
        recipe=Recipe(data=DataConfig(name="digits"), model=ModelConfig(name="small"), epochs=3),
        search=SearchConfig(candidates=1, learning_rates=(0.01,), seed=5),
        final=FinalConfig.model_validate(settings),
    )


class Trainer:
    """Accuracy falls with the distance of the rate from `peak[label]`; sigmoid(4*x) is 0.1 better than the rest."""

    def __init__(self, peak: dict[str, float], status: dict[tuple[str, str, int], Status] | None = None) -> None:
        self.peak, self.status, self.jobs = peak, status or {}, list[Job]()

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Record]:
        for job in reversed(jobs):  # records come in any order
            self.jobs.append(job)
            label = job.surrogate.label
            noise = np.random.default_rng(job.seed).normal(0, 0.02)
            best = 0.7 if label == FINALIST.label else 0.6
            score = best + noise - 0.1 * abs(np.log(job.learning_rate / self.peak.get(label, 0.03)))
            status = self.status.get((label, job.stage, job.replicate), Status.COMPLETED)
            scores = (0.1, score) if status == Status.COMPLETED else ()
            yield Record(
                job=job,
                recipe="r",
                mode="eager",
                device="cpu",
                status=status,
                classes=10,
                seconds=1.0,
                versions={},
                scores=scores,
            )

    def rates(self, label: str) -> list[float]:
        return sorted(
            {job.learning_rate for job in self.jobs if job.stage == "tuning" and job.surrogate.label == label}
        )


def test_each_arm_has_its_own_best_rate_and_sweeps_grow_while_the_best_lies_at_an_end() -> None:
    trainer = Trainer({"relu": 0.03, "b_silu(alpha=1.67)": 0.0012, FINALIST.label: 5.0})
    table = final_table(trainer, [FINALIST], study(), scoring=None)
    best = {row.label: row.learning_rate for row in table.rows}
    assert trainer.rates("relu") == [0.01, 0.03, 0.1]
    assert best["relu"] == 0.03
    assert trainer.rates("b_silu(alpha=1.67)") == [0.0011, 0.0033, 0.01, 0.03, 0.1]
    assert best["b_silu(alpha=1.67)"] == 0.0011
    assert trainer.rates(FINALIST.label) == [0.01, 0.03, 0.1, 0.33, 1.1]  # two extensions, no more
    assert best[FINALIST.label] == 1.1


def test_seeds_are_fresh_paired_and_none_is_shared_between_stages() -> None:
    trainer = Trainer({})
    final_table(trainer, [FINALIST], study(), scoring=None)
    seeds: dict[str, dict[str, list[int]]] = {"tuning": {}, "final": {}}
    for job in trainer.jobs:
        seeds[job.stage].setdefault(job.surrogate.label, []).append(job.seed)
    for by_label in seeds.values():
        assert len({frozenset(used) for used in by_label.values()}) == 1, "arms must share their seeds"
    tuning, final = ({seed for used in seeds[stage].values() for seed in used} for stage in ("tuning", "final"))
    screening = {seed_of(5, "screening", replicate) for replicate in range(100)}
    assert len(tuning) == 2
    assert len(final) == 6
    assert not tuning & final
    assert not (tuning | final) & screening


def test_the_rows_state_what_was_measured() -> None:
    table = final_table(Trainer({}), [FINALIST], study(collapse_below=0.6), scoring=test_data.OPEN)
    first, *others = table.rows
    assert first.label == FINALIST.label
    assert first.role == "finalist"
    assert {row.label for row in others} == {"relu", "b_silu(alpha=1.67)"}
    noise = [np.random.default_rng(seed_of(5, "final", r)).normal(0, 0.02) for r in range(6)]
    assert first.summary.mean == pytest.approx(0.7 + np.mean(noise))
    assert first.summary.sd == pytest.approx(np.std(noise, ddof=1))
    assert first.difference is not None
    assert first.difference.mean == pytest.approx(0.1)
    relu = next(row for row in others if row.label == "relu")
    assert relu.difference is None
    assert relu.summary.collapse_share == np.mean([0.6 + n <= 0.6 for n in noise])
    assert relu.gain == pytest.approx(1.0)
    assert relu.at_zero == 0.0
    assert table.scored_on == "test"
    assert table.winner.startswith(f"{FINALIST.label} wins: ")
    assert FinalTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_only_final_jobs_are_scored_on_test_data() -> None:
    trainer = Trainer({})
    final_table(trainer, [FINALIST], study(), scoring=test_data.OPEN)
    assert {(job.stage, job.scoring) for job in trainer.jobs} == {("tuning", "validation"), ("final", test_data.OPEN)}


def test_the_door_opens_the_test_split() -> None:
    arrays = test_data.open_scoring(DataConfig(name="digits"))
    assert len(arrays) == 359
    assert test_data.OPEN == "sugarsearch.verdict.test_data:open_scoring"


def test_a_data_set_without_test_split_is_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / "train" / label / f"{number}.png")
    test_data.require(DataConfig(name="digits"))
    with pytest.raises(DataError, match="test"):
        test_data.require(DataConfig(name=str(tmp_path)))


def test_failures_of_a_candidate_count_as_chance_and_faults_of_the_machine_are_left_out() -> None:
    status = {
        ("relu", "final", 0): Status.DIVERGED,
        (FINALIST.label, "final", 1): Status.CRASHED,
    }
    table = final_table(Trainer({}, status), [FINALIST], study(controls=("relu",)), scoring=None)
    rows = {row.label: row for row in table.rows}
    assert rows["relu"].scores["0"] == 0.1
    assert rows["relu"].summary.n == 6
    assert rows["relu"].summary.collapse_share == pytest.approx(1 / 6)  # below twice chance
    assert rows[FINALIST.label].summary.n == 5
    assert rows[FINALIST.label].faults == 1

    difference = rows[FINALIST.label].difference
    assert difference is not None
    assert difference.pairs == 5


def test_an_arm_stands_once_and_scaled_shapes_are_told_apart() -> None:
    b_silu = surrogate("b_silu")
    table = final_table(Trainer({}), [surrogate("step(x)"), b_silu.at_unit_gain()], study(), scoring=None)
    assert [row.role for row in table.rows if row.label == "step(x)"] == ["finalist"]
    assert {row.label for row in table.rows} == {"step(x)", "b_silu(alpha=1.67) at unit gain", "b_silu(alpha=1.67)"}


def test_when_nothing_finishes_it_says_so() -> None:
    status = {(label, "final", r): Status.CRASHED for label in ("relu", FINALIST.label) for r in range(6)}
    with pytest.raises(NothingFinishedError):
        final_table(Trainer({}, status), [FINALIST], study(controls=("relu",)), scoring=None)


@pytest.mark.parametrize(("classes", "limit"), [(2, 0.75), (3, 2 / 3), (4, 0.5), (10, 0.2), (100, 0.02)])
def test_collapse_is_near_chance_and_never_all(classes: int, limit: float) -> None:
    assert collapse_limit(1 / classes) == pytest.approx(limit)


def test_a_sweep_is_not_spoilt_by_the_machine() -> None:
    status = {("relu", "tuning", 0): Status.CRASHED}
    table = final_table(Trainer({}, status), [FINALIST], study(controls=("relu",)), scoring=None)
    relu = next(row for row in table.rows if row.label == "relu")
    expected = 0.6 + np.random.default_rng(seed_of(5, "tuning", 1)).normal(0, 0.02)
    assert relu.tuning["0.03"] == pytest.approx(expected)
