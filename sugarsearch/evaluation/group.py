"""A group: jobs trained as one computation, and how each of them fares."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch

from sugarsearch.errors import SugarsearchError
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import Status
from sugarsearch.training.trainer import DeadlineError, EpochReport, TrainingRun


@dataclass
class Course:
    """How a job fares: accuracies so far, the last finite report, seconds of training; status None while it goes on."""

    job: Job
    scores: list[float] = field(default_factory=list)
    last: EpochReport | None = None
    seconds: float = 0.0
    status: Status | None = None
    reason: str = ""

    def end(self, status: Status, reason: str = "") -> None:
        """The job ends, for `reason`."""
        self.status, self.reason = status, reason


class Group:
    """Jobs of one learning rate, trained as one computation that is made when it is first advanced.

    Attributes:
        courses: one for each job.
        epochs: how many its jobs run.
    """

    def __init__(self, jobs: Sequence[Job], make: Callable[[], TrainingRun]) -> None:
        self.courses = [Course(job) for job in jobs]
        self.epochs = jobs[0].epochs
        self._make = make
        self._run: TrainingRun | None = None

    @property
    def living(self) -> list[Job]:
        """The jobs that have not ended."""
        return [course.job for course in self.courses if course.status is None]

    @property
    def ended(self) -> bool:
        """Whether all jobs have."""
        return not self.living

    def advance(self, stop: int, job_limit: float | None, deadline: float | None) -> None:
        """Train until `stop` epochs are done, or all; what goes wrong with the computation ends its jobs.

        Args:
            stop: epochs since the beginning.
            job_limit: seconds of training that each job may take in all; jobs that train together share the time.
            deadline: a value of time.monotonic().

        Raises:
            DeadlineError: the deadline has passed.
            SugarsearchError: what is asked cannot be run at all.
        """
        try:
            self._run = self._run or self._make()
            while not self.ended and self._run.epoch < min(stop, self.epochs):
                self._epoch(self._run, job_limit, deadline)
        except SugarsearchError:
            raise
        except DeadlineError as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise
            self._end_all(Status.TIMEOUT, f"its {job_limit:g} s were over: {error}")
        except Exception as error:  # a user's model, a driver, a compiler may raise anything
            self._end_all(*_fault(error))
        if self._run is not None and self._run.epoch >= self.epochs:
            self._end_all(Status.COMPLETED)
        self._release()

    def prune(self, ids: Collection[str]) -> None:
        """End the jobs of these ids."""
        self._drop([i for i, course in enumerate(self.courses) if course.job.id in ids], Status.PRUNED)
        self._release()

    def _epoch(self, run: TrainingRun, job_limit: float | None, deadline: float | None) -> None:
        started, alive = time.monotonic(), list(run.alive)
        ends = [] if deadline is None else [deadline]
        if job_limit is not None:
            # The living have trained side by side all the time, so each has taken as long as the first.
            ends.append(started + (job_limit - self.courses[alive[0]].seconds) * len(alive))
        try:
            reports = run.advance(min(ends, default=None))
        finally:
            for member in alive:
                self.courses[member].seconds += (time.monotonic() - started) / len(alive)
        for report in reports:
            if report.finite:
                self.courses[report.member].scores.append(report.accuracy)
                self.courses[report.member].last = report
        lost = [report.member for report in reports if not report.finite]
        self._drop(lost, Status.DIVERGED, f"the loss is not finite after epoch {run.epoch}")

    def _drop(self, members: Sequence[int], status: Status, reason: str = "") -> None:
        for member in members:
            if self.courses[member].status is None:
                self.courses[member].end(status, reason)
        if self._run is not None and members:
            self._run.drop(members)

    def _end_all(self, status: Status, reason: str = "") -> None:
        for course in self.courses:
            if course.status is None:
                course.end(status, reason)

    def _release(self) -> None:
        """An ended computation's networks leave the memory before the next one's enter it."""
        if self.ended:
            self._run = None


def _fault(error: Exception) -> tuple[Status, str]:
    reason = f"{type(error).__name__}: {error}"
    full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in reason
    return (Status.OUT_OF_MEMORY if full else Status.CRASHED), reason
