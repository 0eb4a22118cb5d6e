"""What reaches Optuna: a finite accuracy for every candidate, whatever its function is and however its jobs ended."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import fmean

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from sugarsearch.config.schema import PruningConfig, StudyConfig
from sugarsearch.evaluation.jobs import Job, Progress
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.runs.load import load_study
from sugarsearch.search.batch import Batch, Candidate, jobs_of
from sugarsearch.search.pruning import BatchHalvingPruner
from sugarsearch.search.samplers import Proposal
from sugarsearch.search.trials import DESCRIPTORS, described
from sugarsearch.symbolic.library import surrogate

optuna.logging.set_verbosity(optuna.logging.WARNING)
EPOCHS, CLASSES = 3, 10
CONFIG: StudyConfig = load_study(
    "quickstart", [f"recipe.epochs={EPOCHS}", "search.learning_rates=[0.1, 0.3]", "search.replicates=2"]
)
# Values, gains and limits that are infinite, undefined, huge or nothing.
STRANGE = ("1/x", "exp(exp(x))", "1/(x-x)", "0*x", "x/abs(x)", "sqrt(x)", "exp(square(x))", "-1e6*exp(x)")
SCORED = (Status.COMPLETED, Status.PRUNED, Status.TIMEOUT)

any_scores = st.lists(st.floats(0, 1) | st.floats() | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=EPOCHS)


class Listening(optuna.Study):
    """A study that notes each number it is told."""

    heard: list[tuple[str, float]]

    def tell(self, trial, values=None, state=None, skip_if_finished=False):
        if values is not None:
            self.heard.append(("tell", values))
        return super().tell(trial, values, state, skip_if_finished)


class ListeningTrial(optuna.Trial):
    """A trial that notes each number it is told."""

    def report(self, value: float, step: int) -> None:
        assert isinstance(self.study, Listening)
        self.study.heard.append(("report", value))
        super().report(value, step)


def listening_study() -> Listening:
    study = optuna.create_study(direction="maximize", pruner=BatchHalvingPruner(PruningConfig(rungs=(1, 2), keep=0.5)))
    study.__class__ = Listening
    assert isinstance(study, Listening)
    study.heard = []
    return study


def record_of(job: Job, status: Status, scores: Sequence[float]) -> Record:
    """The record of a job that ended so; where there is no such record, of one that diverged at once."""
    try:
        return Record(job, "recipe", "eager", "cpu", status, CLASSES, 1.5, {}, tuple(scores), reason="because")
    except ValueError:
        ended_well = status in (Status.COMPLETED, Status.PRUNED)
        assert not all(0 <= score <= 1 for score in scores) or (ended_well and not scores)
        return record_of(job, Status.DIVERGED, ())


def worth(records: Sequence[Record]) -> float:
    """A candidate's score by the definition: the best learning rate's mean, where faults count as chance."""
    ends: dict[float, list[float]] = {}
    for record in records:
        scored = record.status in SCORED and record.scores
        ends.setdefault(record.job.learning_rate, []).append(record.scores[-1] if scored else 1 / CLASSES)
    return max(map(fmean, ends.values()))


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(), texts=st.lists(st.sampled_from(["relu", "b_silu", *STRANGE]), min_size=1, max_size=4, unique=True)
)
def test_whatever_the_records_optuna_hears_finite_accuracies_only(data: st.DataObject, texts: list[str]) -> None:
    study = listening_study()
    candidates = []
    for text in texts:
        proposal, trial = Proposal(surrogate(text), "queue"), study.ask()
        trial.__class__ = ListeningTrial
        candidates.append(Candidate(trial, proposal, jobs_of(proposal, CONFIG)))
    batch = Batch(candidates)
    if data.draw(st.booleans(), label="a rung is reached"):
        batch.judge([Progress(job.id, 1, data.draw(st.floats(0, 1))) for job in batch.jobs])
    for job in batch.jobs:
        batch.collect(record_of(job, data.draw(st.sampled_from(Status)), data.draw(any_scores)))
    rows = batch.tell(study)
    assert study.heard
    assert all(type(value) is float and 0 <= value <= 1 for _, value in study.heard)
    for row, told, candidate in zip(rows, study.trials, candidates, strict=True):
        json.dumps(told.user_attrs, allow_nan=False)
        assert all(0 <= value <= 1 for value in told.intermediate_values.values())
        if row.status == Status.PRUNED:
            assert told.state == TrialState.PRUNED
        else:
            assert (told.state, told.value) == (TrialState.COMPLETE, row.score)
            assert row.score == pytest.approx(worth(candidate.records), rel=1e-12)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("scores", [(), (0.25,), (0.25, 0.75)])
def test_one_job_is_told_as_its_status_says(status: Status, scores: tuple[float, ...]) -> None:
    study = listening_study()
    proposal = Proposal(surrogate("b_silu"), "random")
    job = jobs_of(proposal, CONFIG)[0]
    batch = Batch([Candidate(study.ask(), proposal, [job])])
    record = record_of(job, status, scores)
    batch.collect(record)
    batch.tell(study)
    assert record.status == (status if scores or status not in SCORED[:2] else Status.DIVERGED)
    assert study.trials[0].value == (scores[-1] if scores and status in SCORED else 1 / CLASSES)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-9, 1 + 1e-9])
def test_there_is_no_record_of_what_is_no_accuracy(bad: float) -> None:
    job = jobs_of(Proposal(surrogate("relu"), "queue"), CONFIG)[0]
    for status in Status:
        with pytest.raises(ValueError, match="from 0 to 1"):
            Record(job, "recipe", "eager", "cpu", status, CLASSES, 1.5, {}, (0.5, bad))


@pytest.mark.parametrize("text", STRANGE)
def test_what_describes_a_strange_function_to_the_sampler_is_finite_and_in_range(text: str) -> None:
    described_as = described(surrogate(text), "queue", CONFIG.space)
    assert described_as.keys() == DESCRIPTORS.keys()
    for name, (value, distribution) in described_as.items():
        assert distribution._contains(distribution.to_internal_repr(value)), name
