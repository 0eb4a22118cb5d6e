"""A group: jobs trained as one computation, and how each of them fares."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch

from sugarsearch.errors import SugarsearchError, SugarsearchWarning
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import Status
from sugarsearch.training.checkpoint import CheckpointFile
from sugarsearch.training.trainer import Cut, CutShortError, EpochReport, TrainingRun

T = TypeVar("T")


@dataclass
class Course:
    """How a job fares, by epoch as far as its run is finite, and in seconds of training; status None while it goes on.

    Accuracies are exact; dead units and sparsity are shares to 4 digits, for records keep them of every epoch.
    """

    job: Job
    scores: list[float] = field(default_factory=list)
    dead_units: list[float] = field(default_factory=list)
    sparsity: list[float] = field(default_factory=list)
    seconds: float = 0.0
    status: Status | None = None
    reason: str = ""

    def end(self, status: Status, reason: str = "") -> None:
        """The job ends, for `reason`."""
        self.status, self.reason = status, reason

    def add(self, report: EpochReport) -> None:
        """The job has trained one more epoch."""
        self.scores.append(report.accuracy)
        self.dead_units.append(round(report.dead_units, 4))
        self.sparsity.append(round(report.sparsity, 4))

    def go_back(self, epoch: int) -> None:
        """Be what the course was after `epoch` epochs."""
        for values in (self.scores, self.dead_units, self.sparsity):
            del values[epoch:]

    def snapshot(self) -> dict[str, Any]:
        """Plain values for `restore`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "job"}
        return {**values, "status": None if self.status is None else str(self.status)}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Be as far as the course was when `snapshot` was taken."""
        self.scores, self.seconds, self.reason = list(snapshot["scores"]), snapshot["seconds"], snapshot["reason"]
        self.dead_units, self.sparsity = list(snapshot["dead_units"]), list(snapshot["sparsity"])
        self.status = None if snapshot["status"] is None else Status(snapshot["status"])


@dataclass(frozen=True)
class Checkpointing:
    """Where a group keeps its state, and after how many seconds of training it does so again."""

    file: CheckpointFile
    seconds: float


class TooLargeError(Exception):
    """A computation of several jobs does not fit into the memory; smaller ones may."""


class Group:
    """Jobs of one learning rate, trained as one computation that is made when it is first advanced.

    Attributes:
        courses: one for each job.
        epochs: how many its jobs run.
    """

    def __init__(
        self, jobs: Sequence[Job], make: Callable[[], TrainingRun], checkpointing: Checkpointing | None = None
    ) -> None:
        self.courses = [Course(job) for job in jobs]
        self.epochs = jobs[0].epochs
        self._make, self._checkpointing = make, checkpointing
        self._run: TrainingRun | None = None
        self._saved = time.monotonic()

    @property
    def living(self) -> list[Job]:
        """The jobs that have not ended."""
        return [course.job for course in self.courses if course.status is None]

    @property
    def ended(self) -> bool:
        """Whether all jobs have."""
        return not self.living

    @property
    def scores(self) -> dict[str, list[float]]:
        """Accuracies so far of the jobs that have not ended, by id."""
        return {course.job.id: course.scores for course in self.courses if course.status is None}

    def seconds_left(self, job_limit: float) -> float:
        """How long the living may go on together; they share the time, and have trained side by side all along."""
        living = [course for course in self.courses if course.status is None]
        return sum(job_limit - course.seconds for course in living)

    def advance(
        self,
        stop: int,
        job_limit: float | None,
        cut: Cut = lambda: False,
        on_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        """Train until `stop` epochs are done, or all; what goes wrong with the computation ends its jobs.

        Args:
            stop: epochs since the beginning.
            job_limit: seconds that each job may take in all, making its network included.
            cut: asked before each step whether to give up all work in hand.
            on_epoch: called after each epoch.

        Raises:
            CutShortError: `cut` said so.
            TooLargeError: the memory is too small for all jobs at once.
            SugarsearchError: what is asked cannot be run at all.
        """
        full = False
        try:
            self._advance(stop, job_limit, cut, on_epoch)
        except SugarsearchError:
            raise
        except CutShortError as error:
            if cut():
                raise
            self._end_all(Status.TIMEOUT, f"its {job_limit:g} s were over: {error}")
        except SystemExit as error:
            self._end_all(Status.INTERRUPTED, f"the model or the data called sys.exit({error.code!r})")
        except Exception as error:  # a user's model, a driver, a compiler may raise anything
            status, reason = _fault(error)
            full = status is Status.OUT_OF_MEMORY and len(self.living) > 1
            if not full:
                self._end_all(status, reason)
        if full:  # outside of the handler, whose traceback keeps tensors alive
            self._run = None
            raise TooLargeError
        if self._run is not None and self._run.epoch >= self.epochs:
            self._end_all(Status.COMPLETED)
        self._release()

    def prune(self, ids: Collection[str], rung: int) -> None:
        """End the jobs of these ids at a rung; those that a checkpoint has carried beyond it go back there."""
        dropped = [i for i, course in enumerate(self.courses) if course.job.id in ids and course.status is None]
        for index in dropped:
            self.courses[index].go_back(rung)
        self._drop(dropped, Status.PRUNED)
        self._release()

    def forget(self) -> None:
        """The jobs have their records: the checkpoint is of no use any more."""
        if self._checkpointing is not None:
            self._checkpointing.file.remove()

    def _advance(self, stop: int, job_limit: float | None, cut: Cut, on_epoch: Callable[[], None]) -> None:
        run = self._run or self._charged(self._started)
        while not self.ended and run.epoch < min(stop, self.epochs):
            late = cut if job_limit is None else _or_after(cut, time.monotonic() + self.seconds_left(job_limit))
            self._take(self._charged(partial(run.advance, late)), run)
            on_epoch()
            self._save(run)

    def _charged(self, work: Callable[[], T]) -> T:
        """Do `work`; the living jobs share the time it takes."""
        started, living = time.monotonic(), [course for course in self.courses if course.status is None]
        try:
            return work()
        finally:
            for course in living:
                course.seconds += (time.monotonic() - started) / len(living)

    def _started(self) -> TrainingRun:
        """The run, as far as its checkpoint has come."""
        self._run = self._make()
        state = None if self._checkpointing is None else self._checkpointing.file.load()
        if state is not None:
            try:
                self._run.restore(state["run"])
            except (KeyError, RuntimeError, ValueError) as error:
                text = f"a checkpoint does not fit its jobs ({error}); they begin anew."
                warnings.warn(text, SugarsearchWarning, stacklevel=2)
                self._run = self._make()
            else:
                for course, known in zip(self.courses, state["courses"], strict=True):
                    course.restore(known)
        self._saved = time.monotonic()
        return self._run

    def _save(self, run: TrainingRun) -> None:
        keeping = self._checkpointing
        if keeping is None or self.ended or run.epoch >= self.epochs:
            return
        if time.monotonic() - self._saved >= keeping.seconds:
            keeping.file.save({"run": run.snapshot(), "courses": [course.snapshot() for course in self.courses]})
            self._saved = time.monotonic()

    def _take(self, reports: Sequence[EpochReport], run: TrainingRun) -> None:
        for report in reports:
            if report.finite:
                self.courses[report.member].add(report)
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


def _or_after(cut: Cut, end: float) -> Cut:
    """`cut`, or that time.monotonic() has come to `end`."""
    return lambda: cut() or time.monotonic() >= end


def _fault(error: Exception) -> tuple[Status, str]:
    reason = f"{type(error).__name__}: {error}"
    full = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in reason for words in _FULL)
    return (Status.OUT_OF_MEMORY if full else Status.CRASHED), reason


_FULL = ("can't allocate memory", "std::bad_alloc", "Cannot allocate memory")
"""What errors of other types say when the memory is full: torch's allocator on the CPU, C++, the kernel."""
