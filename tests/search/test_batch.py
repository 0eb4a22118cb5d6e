"""What records are worth, and who is stopped at a rung; bookkeeping only, so records are made up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from sugarsearch.config.schema import PruningConfig, StudyConfig
from sugarsearch.evaluation.jobs import Job, Progress
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.runs.load import load_study
from sugarsearch.search.batch import Batch, Candidate, jobs_of, screening_row
from sugarsearch.search.pruning import BatchHalvingPruner
from sugarsearch.search.samplers import Proposal
from sugarsearch.symbolic.library import surrogate

optuna.logging.set_verbosity(optuna.logging.WARNING)
CHANCE = 0.1
EPOCHS = 4
CONFIG: StudyConfig = load_study(
    "quickstart", [f"recipe.epochs={EPOCHS}", "search.learning_rates=[0.1, 0.3]", "search.replicates=2"]
)


def record(job: Job, status: Status = Status.COMPLETED, scores: Sequence[float] = (), reason: str = "") -> Record:
    return Record(job, "recipe", "eager", "cpu", status, 10, 1.5, {}, tuple(scores), reason=reason)


def proposal(text: str = "b_silu") -> Proposal:
    return Proposal(surrogate(text), "random")


def batch_of(texts: Sequence[str], keep: float = 0.5) -> tuple[optuna.Study, Batch]:
    pruner = BatchHalvingPruner(PruningConfig(rungs=(1, 2), keep=keep))
    study = optuna.create_study(direction="maximize", pruner=pruner)
    return study, Batch([Candidate(study.ask(), proposal(text), jobs_of(proposal(text), CONFIG)) for text in texts])


def test_a_candidate_has_a_job_for_every_rate_and_replicate_on_seeds_common_to_all() -> None:
    first, second = jobs_of(proposal("relu"), CONFIG), jobs_of(proposal("gelu"), CONFIG)
    assert [(j.learning_rate, j.replicate) for j in first] == [(0.1, 0), (0.1, 1), (0.3, 0), (0.3, 1)]
    assert [j.seed for j in first] == [j.seed for j in second]
    assert first[0].seed == first[2].seed != first[1].seed
    assert {j.epochs for j in first} == {EPOCHS}


def test_the_score_is_the_best_rates_mean_over_replicates_at_the_last_epoch() -> None:
    ends = [0.9, 0.1, 0.6, 0.5]
    records = [
        record(job, scores=[0.2, 0.3, 0.4, end]) for job, end in zip(jobs_of(proposal(), CONFIG), ends, strict=True)
    ]
    row = screening_row(3, proposal(), records)
    assert row.score == pytest.approx(0.55)
    assert (row.best_learning_rate, row.status) == (0.3, "COMPLETED")
    assert row.scores_by_learning_rate == {"0.1": pytest.approx(0.5), "0.3": pytest.approx(0.55)}
    assert row.epochs_scores == pytest.approx([0.2, 0.3, 0.4, 0.55])
    assert (row.index, row.seconds) == (3, 6.0)


def test_a_diverged_replicate_counts_as_chance_and_does_not_hide_the_others() -> None:
    a, b, c, d = jobs_of(proposal(), CONFIG)
    diverged = record(d, Status.DIVERGED, [0.9, 0.9], "not finite")
    row = screening_row(
        0, proposal(), [record(a, scores=[0.3] * 4), record(b, scores=[0.3] * 4), record(c, scores=[0.8] * 4), diverged]
    )
    assert row.scores_by_learning_rate == {"0.1": pytest.approx(0.3), "0.3": pytest.approx((0.8 + CHANCE) / 2)}
    assert row.status == "COMPLETED"
    assert row.epochs_scores[:3] == pytest.approx([0.85, 0.85, 0.45])


@pytest.mark.parametrize("status", [Status.DIVERGED, Status.REJECTED, Status.CRASHED, Status.OUT_OF_MEMORY])
def test_failures_are_told_as_chance_with_their_reason(status: Status) -> None:
    study, batch = batch_of(["b_silu"])
    for job in batch.jobs:
        batch.collect(record(job, status, reason="because"))
    (row,) = batch.tell(study)
    assert (row.status, row.score, row.reason, row.best_learning_rate) == (status, CHANCE, "because", None)
    assert (study.trials[0].state, study.trials[0].value) == (TrialState.COMPLETE, CHANCE)


def test_out_of_time_is_told_as_the_last_score() -> None:
    study, batch = batch_of(["b_silu"])
    for job in batch.jobs:
        batch.collect(record(job, Status.TIMEOUT, [0.3, 0.45], "late"))
    (row,) = batch.tell(study)
    assert (row.status, row.finished, study.trials[0].value) == ("TIMEOUT", False, 0.45)


scores = st.floats(0, 1, allow_nan=False)


@st.composite
def endings(draw: st.DrawFn) -> tuple[Status, list[float]]:
    status = draw(st.sampled_from(Status))
    if status is Status.COMPLETED:
        return status, draw(st.lists(scores, min_size=EPOCHS, max_size=EPOCHS))
    if status is Status.REJECTED:
        return status, []
    return status, draw(st.lists(scores, min_size=1 if status is Status.PRUNED else 0, max_size=EPOCHS - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(endings(), min_size=4, max_size=4))
def test_whatever_the_records_a_finite_accuracy_is_told(ends: list[tuple[Status, list[float]]]) -> None:
    study, batch = batch_of(["b_silu"])
    for job, (status, values) in zip(batch.jobs, ends, strict=True):
        batch.collect(record(job, status, values))
    (row,) = batch.tell(study)
    trial = study.trials[0]
    assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert trial.value is not None
    assert math.isfinite(trial.value)
    assert 0 <= trial.value <= 1
    assert all(0 <= value <= 1 for value in trial.intermediate_values.values())
    assert trial.value == pytest.approx(row.score)


def rung(batch: Batch, values: Sequence[float], epoch: int = 1) -> list[Progress]:
    """All jobs of candidate i stand at values[i]."""
    pairs = zip(batch.candidates, values, strict=True)
    return [Progress(job.id, epoch, value) for candidate, value in pairs for job in candidate.jobs]


def test_all_jobs_of_the_losers_of_a_batch_are_stopped() -> None:
    _, batch = batch_of(["relu", "gelu", "silu", "mish"])
    stopped = batch.judge(rung(batch, [0.2, 0.5, 0.1, 0.4]))
    losers = {job.id for i in (0, 2) for job in batch.candidates[i].jobs}
    assert stopped == losers


def test_a_candidate_is_judged_by_its_best_rate() -> None:
    _, batch = batch_of(["relu", "gelu"])
    values = {0.1: (0.1, 0.6), 0.3: (0.9, 0.6)}  # relu fails at 0.1 and is best at 0.3
    progress = [
        Progress(job.id, 1, values[job.learning_rate][i]) for i, c in enumerate(batch.candidates) for job in c.jobs
    ]
    assert batch.judge(progress) == {job.id for job in batch.candidates[1].jobs}


def test_one_pruned_before_does_not_come_back_through_a_failed_job() -> None:
    study, batch = batch_of(["relu", "gelu"])
    loser = batch.candidates[1]
    assert batch.judge(rung(batch, [0.6, 0.5])) == {job.id for job in loser.jobs}
    batch.collect(record(loser.jobs[0], Status.DIVERGED, [0.5]))
    for job in loser.jobs[1:]:
        batch.collect(record(job, Status.PRUNED, [0.5]))
    later = [*rung(batch, [0.6, 0.5], epoch=2)[:4], Progress(loser.jobs[0].id, 2, CHANCE)]
    assert batch.judge(later) == set()
    for job in batch.candidates[0].jobs:
        batch.collect(record(job, scores=[0.6] * EPOCHS))
    rows = batch.tell(study)
    assert [row.status for row in rows] == ["COMPLETED", "PRUNED"]
    assert study.trials[1].intermediate_values == {1: 0.5}
    assert (study.trials[1].state, study.trials[1].value) == (TrialState.PRUNED, 0.5)


def test_asked_again_about_a_rung_the_judge_says_the_same() -> None:
    _, batch = batch_of(["relu", "gelu", "silu"])
    progress = rung(batch, [0.2, 0.5, 0.1])
    assert batch.judge(progress) == batch.judge(progress)


def test_asked_again_about_a_rung_after_a_later_one_the_judge_says_the_same() -> None:
    # As when a worker dies beyond the second rung and another one goes on from a checkpoint before the first.
    _, batch = batch_of(["relu", "gelu", "silu", "mish"])
    first = rung(batch, [0.2, 0.5, 0.1, 0.4])
    stopped = batch.judge(first)
    assert stopped == {job.id for i in (0, 2) for job in batch.candidates[i].jobs}
    second = [progress for progress in rung(batch, [0.2, 0.5, 0.1, 0.4], epoch=2) if progress.job_id not in stopped]
    assert batch.judge(second) == {job.id for job in batch.candidates[3].jobs}
    assert batch.judge(first) == stopped
