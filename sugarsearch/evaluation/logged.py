"""What all executors share: the log, repeats after faults, and what judges are told."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from sugarsearch.evaluation.bench import Batch, mode_of, resolve_device, versions
from sugarsearch.evaluation.jobs import SCREENING, Job, Judge, Progress, Workload, recipe_hash
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record, RecordLog, Status
from sugarsearch.evaluation.stop import Stop
from sugarsearch.training.network import Mode
from sugarsearch.training.trainer import choose_mode

ATTEMPTS: Final = 3
"""How often a job is run in all where faults of the machine end it."""


class Executor(Protocol):
    """Runs jobs."""

    def evaluate(
        self, jobs: Sequence[Job], judge: Judge | None = None, rungs: Sequence[int] = (), deadline: float | None = None
    ) -> Iterator[Record]:
        """Exactly one record for each different job, in the order in which they end.

        A job that is in the log is not run again. One whose record is a fault of the machine is, at most
        twice; the last record then stands. Where the memory was too small the job runs alone the next time.

        Args:
            jobs: what to run; they pass the rungs side by side.
            judge: says which jobs stop at a rung. It may be asked about a rung again, where a worker died.
            rungs: the epochs after which it is asked, rising.
            deadline: a value of time.monotonic(). Jobs it cuts short are INTERRUPTED, not in the log, and run
                afresh when they are asked for again.

        Raises:
            StoppedError: somebody asked to stop. Jobs in work are not in the log, as after a deadline.
            SugarsearchError: what is asked cannot be run at all: data, model, device or mode.
        """
        ...

    def fingerprint(self) -> str:
        """Of the training and validation data; changes when they do.

        Raises:
            StoppedError: somebody asked to stop.
            SugarsearchError: the data cannot be used.
        """
        ...


@dataclass(frozen=True)
class Place:
    """Where jobs are trained: how many classes the data has, its fingerprint, the device's name."""

    classes: int
    fingerprint: str
    device: str


@dataclass(frozen=True)
class Round:
    """What is to be trained now.

    Attributes:
        jobs: all of the evaluation, or the one job that is to run alone.
        done: ids of those that are not to be trained now.
        mode, rungs, job_limit: as in `Batch`. They follow from all jobs of the evaluation, so that a resumed
            one trains as it would have.
        ask: the judge, who is also told of the jobs that have ended before.
        deadline: a value of time.monotonic().
    """

    jobs: Sequence[Job]
    done: frozenset[str]
    mode: Mode
    rungs: tuple[int, ...]
    job_limit: float | None
    ask: Judge | None
    deadline: float | None

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def pending(self) -> list[Job]:
        """The jobs to be trained."""
        return [job for job in self.jobs if job.id not in self.done]

    def batch(self, jobs: Sequence[Job]) -> Batch:
        """Some of the jobs, for one process."""
        left = None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)
        done = self.done & {job.id for job in jobs}
        return Batch(tuple(jobs), self.mode, done, self.rungs, self.job_limit, left)


class LoggedExecutor(ABC):
    """An executor but for the training itself; a context manager."""

    def __init__(self, workload: Workload, log: RecordLog, stop: Stop | None = None) -> None:
        self._workload, self._log, self._stop = workload, log, stop or Stop()
        self._recipe = recipe_hash(workload.recipe)
        self._device = resolve_device(workload.execution.device)
        self._known: dict[str, list[Record]] = {}
        for record in log.load():
            self._remember(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  there may be nothing to free
        """Free what the executor holds; it cannot be used afterwards."""

    def evaluate(
        self, jobs: Sequence[Job], judge: Judge | None = None, rungs: Sequence[int] = (), deadline: float | None = None
    ) -> Iterator[Record]:
        """See `Executor.evaluate`."""
        asked = {job.id: job for job in jobs}
        settled = {name: record for name in asked if (record := self._final(name)) is not None}
        yield from settled.values()
        ask = None if judge is None else _informed(judge, asked, settled)
        while len(settled) < len(asked):
            self._stop.check()
            task = self._round(asked, settled, ask, tuple(rungs) if judge else (), deadline)
            if task.late:
                reason = "the time limit came first"
                missing = (job for name, job in asked.items() if name not in settled)
                yield from (self._record(job, task.mode, Status.INTERRUPTED, reason) for job in missing)
                return
            for record in self._train(task):
                self._remember(record)
                if (final := self._final(record.job.id)) is not None:
                    settled[record.job.id] = final
                    yield final

    def fingerprint(self) -> str:
        """See `Executor.fingerprint`."""
        return self._place().fingerprint

    def _round(
        self,
        asked: Mapping[str, Job],
        settled: Mapping[str, Record],
        ask: Judge | None,
        rungs: tuple[int, ...],
        deadline: float | None,
    ) -> Round:
        """All jobs that are not settled; those that the memory was too small for come last, each alone."""
        large = [name for name in asked if name not in settled and self._ran_out_of_memory(name)]
        jobs, done = list(asked.values()), frozenset({*settled, *large})
        if large and len(done) == len(asked):
            jobs, done = [asked[large[0]]], frozenset()
        mode, job_limit = self._mode(asked.values()), self._job_limit(asked.values())
        return Round(jobs, done, mode, rungs, job_limit, ask, deadline)

    @abstractmethod
    def _train(self, task: Round) -> Iterator[Record]:
        """Train `task.pending` once; each gives at most one record, which is in the log already.

        At least one does, or the deadline has passed, or somebody has asked to stop.
        """

    @abstractmethod
    def _place(self) -> Place:
        """Where jobs are trained."""

    def _model_mode(self, crowd: int) -> Mode:
        execution = self._workload.execution
        return choose_mode(self._workload.recipe, self._device, crowd, execution.mode)

    def _mode(self, jobs: Iterable[Job]) -> Mode:
        """The mode for as many jobs as can train as one computation."""
        return self._model_mode(max(Counter(job.company for job in jobs).values()))

    def _job_limit(self, jobs: Iterable[Job]) -> float | None:
        """The time limit of a candidate of the screening, divided among its jobs."""
        per_candidate = Counter(job.surrogate for job in jobs if job.stage == SCREENING)
        limit = self._workload.trial_time_limit
        return limit / max(per_candidate.values()) if limit is not None and per_candidate else None

    def _remember(self, record: Record) -> None:
        if record.recipe == self._recipe:
            self._known.setdefault(record.job.id, []).append(record)

    def _final(self, job_id: str) -> Record | None:
        """The record that stands for a job; None if it is to be run (again)."""
        return standing(self._known.get(job_id, []))

    def _ran_out_of_memory(self, job_id: str) -> bool:
        return any(record.status is Status.OUT_OF_MEMORY for record in self._known.get(job_id, []))

    def _record(
        self,
        job: Job,
        mode: Mode,
        status: Status,
        reason: str,
        *,
        scores: Sequence[float] = (),
        seconds: float = 0.0,
    ) -> Record:
        """Of a job whose bench cannot tell any more."""
        place = self._place()
        return Record(
            job=job,
            recipe=self._recipe,
            mode=mode_of(job, mode),
            device=place.device,
            status=status,
            classes=place.classes,
            seconds=round(seconds, 3),
            versions=versions(),
            scores=tuple(scores),
            reason=reason,
        )


def standing(records: Sequence[Record]) -> Record | None:
    """Of all records of a job the one that counts; None if the job is to be run (again)."""
    for record in records:
        if record.status not in MACHINE_FAULTS:
            return record
    return records[-1] if len(records) >= ATTEMPTS else None


def _informed(judge: Judge, asked: Mapping[str, Job], settled: Mapping[str, Record]) -> Judge:
    """`judge`, told also of the jobs that have ended, in the order in which the jobs were asked for."""

    def ask(live: Sequence[Progress]) -> set[str]:
        rung = live[0].epoch
        known = {progress.job_id: progress for progress in live}
        for name, record in settled.items():
            score = record.at(rung)
            if score is not None:
                known[name] = Progress(name, rung, score)
        return set(judge([known[name] for name in asked if name in known]))

    return ask
