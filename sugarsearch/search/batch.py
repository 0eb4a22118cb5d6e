"""A batch of candidates: its jobs, its pruning at the rungs, and what its records are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from optuna import Study, Trial
from optuna.trial import TrialState

from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import RunError
from sugarsearch.evaluation.jobs import SCREENING, Job, Progress, recipe_hash, seed_of
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record, RecordLog, Status
from sugarsearch.runs.results import ScreeningRow
from sugarsearch.search import trials
from sugarsearch.search.samplers import Proposal


@dataclass
class Candidate:
    """A candidate under evaluation: its trial, its jobs, the records that have come, the epochs reported so far.

    stopped: by rung, whether the pruner stopped it there.
    """

    trial: Trial
    proposal: Proposal
    jobs: list[Job]
    records: list[Record] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)
    stopped: dict[int, bool] = field(default_factory=dict)

    def report(self, score: float, epoch: int) -> None:
        """Report the score after `epoch` epochs to Optuna, once."""
        if epoch not in self.reported:
            self.trial.report(score, epoch)
            self.reported.add(epoch)

    def stops(self, rung: int) -> bool:
        """Whether the pruner stops it at `rung`, to which it has just reported; asked again, it says the same.

        After a worker's death a rung is asked about once more. The trial may have reported to a later one meanwhile,
        which is what Optuna would judge it by.
        """
        if rung not in self.stopped:
            self.stopped[rung] = self.trial.should_prune()
        return self.stopped[rung]


class Batch:
    """The candidates that are evaluated together."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.jobs = [job for candidate in candidates for job in candidate.jobs]
        self._owners = {job.id: candidate for candidate in candidates for job in candidate.jobs}

    def collect(self, record: Record) -> None:
        """Take in the record of one of the jobs."""
        self._owners[record.job.id].records.append(record)

    def judge(self, progress: Sequence[Progress]) -> set[str]:
        """The jobs to stop at a rung: all those of the candidates that Optuna's pruner stops.

        All candidates that got there report before the first is judged. One pruned at an earlier rung is
        out, even if a failed job of it still counts as having reached this one.
        """
        stopped: set[str] = set()
        for epoch in sorted({p.epoch for p in progress}):
            reached = {p.job_id: p.score for p in progress if p.epoch == epoch}
            racing = [
                candidate
                for candidate in self.candidates
                if any(job.id in reached for job in candidate.jobs)
                and not any(r.status is Status.PRUNED and len(r.scores) < epoch for r in candidate.records)
            ]
            for candidate in racing:
                known = {record.job.id: _at(record, epoch) for record in candidate.records} | reached
                candidate.report(score_of(candidate.jobs, known), epoch)
            stopped |= {job.id for c in racing if c.stops(epoch) for job in c.jobs}
        return stopped

    def tell(self, study: Study) -> list[ScreeningRow]:
        """Tell Optuna every candidate's outcome; gives their rows, which the trials keep as attributes."""
        return [self._tell(study, candidate) for candidate in self.candidates]

    def _tell(self, study: Study, candidate: Candidate) -> ScreeningRow:
        row = screening_row(candidate.trial.number, candidate.proposal, candidate.records)
        for epoch, score in enumerate(row.epochs_scores, start=1):
            candidate.report(score, epoch)
        trials.attach(candidate.trial, row)
        if row.status == Status.PRUNED:
            study.tell(candidate.trial, state=TrialState.PRUNED)  # Optuna takes the last report as its value
        else:
            study.tell(candidate.trial, row.score)
        return row


def jobs_of(proposal: Proposal, config: StudyConfig) -> list[Job]:
    """A candidate's screening: every learning rate with every replicate, over the recipe's epochs."""
    search = config.search
    seeds = [seed_of(search.seed, SCREENING, replicate) for replicate in range(search.replicates)]
    return [
        Job(proposal.surrogate, rate, replicate, seed, config.recipe.epochs, SCREENING)
        for rate in search.learning_rates
        for replicate, seed in enumerate(seeds)
    ]


def screening_row(index: int, proposal: Proposal, records: Sequence[Record]) -> ScreeningRow:
    """The row of candidate `index` from the records of all its jobs.

    A job is worth what `Record.value` says (a failed one: chance), a learning rate the mean of its
    replicates, the candidate the best of its rates. It is COMPLETED if any job is, else PRUNED if any is,
    else it failed as most of its jobs did.
    """
    g, status = proposal.surrogate, _status(records)
    jobs = [record.job for record in records]
    epochs = max(len(record.scores) for record in records)
    by_epoch = [score_of(jobs, {r.job.id: _at(r, epoch) for r in records}) for epoch in range(1, epochs + 1)]
    # Where a candidate was pruned all its jobs stood at the same rung; elsewhere each has its own end.
    ends = {r.job.id: _at(r, epochs) if status is Status.PRUNED else r.value for r in records}
    rates = rate_scores(jobs, ends)
    return ScreeningRow(
        index=index,
        label=g.label,
        surrogate=g.to_json(),
        origin=proposal.origin,
        status=str(status),
        score=score_of(jobs, ends),
        best_learning_rate=max(rates, key=lambda rate: rates[rate]) if any(r.scores for r in records) else None,
        scores_by_learning_rate={f"{rate:g}": score for rate, score in rates.items()},
        epochs_scores=by_epoch,
        gain=_finite(g.gain),
        at_zero=_finite(g.at_zero),
        reason=next((record.reason for record in records if record.status is status and record.reason), ""),
        seconds=sum(record.seconds for record in records),
    )


def confirm(rows: Sequence[ScreeningRow], config: StudyConfig, log: RecordLog) -> None:
    """Set rows that a database holds against the records.

    Raises:
        ValueError: a row says other than its records, so the database is wrong.
        RunError: rows whose records are missing, so records were lost; or the records cannot be read.
    """
    known: dict[str, list[Record]] = {}
    recipe = recipe_hash(config.recipe)
    for record in log.load() if rows else ():
        if record.recipe == recipe:
            known.setdefault(record.job.id, []).append(record)
    lost, wrong = [], []
    for row in rows:
        proposal = Proposal(row.restore(), row.origin)
        jobs = jobs_of(proposal, config)
        if not all(job.id in known for job in jobs):
            lost.append(row)
            continue
        found = screening_row(row.index, proposal, [_standing(known[job.id]) for job in jobs])
        if (row.score, row.epochs_scores) != (found.score, found.epochs_scores):
            wrong.append(row)
    if lost:
        raise RunError(
            f"{log.path} lacks records of {len(lost)} of the {len(rows)} candidates that the run's database knows,\n"
            f"the first of them candidate {lost[0].index}, {lost[0].label}. Restore the file, and resume. If they are\n"
            "lost for good, delete study.db: the study is made again from the records that are left."
        )
    if wrong:
        raise ValueError(f"its candidate {wrong[0].index} has another score than the records say")


def _standing(records: Sequence[Record]) -> Record:
    """Of the records of a settled job, that which counts: faults of the machine are tried again."""
    return next((record for record in records if record.status not in MACHINE_FAULTS), records[-1])


def rate_scores(jobs: Sequence[Job], values: Mapping[str, float]) -> dict[float, float]:
    """The mean of the known values, by learning rate; a rate of which none is known is left out."""
    groups: dict[float, list[float]] = {}
    for job in jobs:
        if job.id in values:
            groups.setdefault(job.learning_rate, []).append(values[job.id])
    return {rate: fmean(group) for rate, group in sorted(groups.items())}


def score_of(jobs: Sequence[Job], values: Mapping[str, float]) -> float:
    """The best learning rate's mean: the score of a candidate, in the end as at a rung."""
    return max(rate_scores(jobs, values).values())


def _at(record: Record, epoch: int) -> float:
    """A job's value at a rung; one that ended before without a say of its own keeps the value it ended with."""
    score = record.at(epoch)
    return record.value if score is None else score


def _status(records: Sequence[Record]) -> Status:
    statuses = [record.status for record in records]
    for decisive in (Status.COMPLETED, Status.PRUNED):
        if decisive in statuses:
            return decisive
    return max(statuses, key=statuses.count)


def _finite(value: float) -> float:
    """A refused g may have no finite gain; JSON has no NaN."""
    return float(np.nan_to_num(value, posinf=1e300, neginf=-1e300))
