"""What all executors share: the log, repeats after faults, and what judges are told."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from sugarsearch.evaluation.bench import Batch, resolve_device, versions
from sugarsearch.evaluation.jobs import SCREENING, Job, Judge, Progress, Workload, recipe_hash
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record, RecordLog, Status
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
        twice; the last record then stands.

        Args:
            jobs: what to run; they pass the rungs side by side.
            judge: says which jobs stop at a rung. It may be asked about a rung again, where a worker died.
            rungs: the epochs after which it is asked, rising.
            deadline: a value of time.monotonic(). Jobs it cuts short are INTERRUPTED, not in the log, and run
                afresh when they are asked for again.

        Raises:
            SugarsearchError: what is asked cannot be run at all: data, model, device or mode.
        """
        ...


@dataclass(frozen=True)
class Round:
    """What is to be trained now.

    Attributes:
        jobs: those without a final record.
        mode, rungs, job_limit: as in `Batch`. They follow from all jobs of the evaluation, so that a resumed
            one trains as it would have.
        ask: the judge, who is also told of the jobs that have ended before.
        deadline: a value of time.monotonic().
    """

    jobs: Sequence[Job]
    mode: Mode
    rungs: tuple[int, ...]
    job_limit: float | None
    ask: Judge | None
    deadline: float | None

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def batch(self, jobs: Sequence[Job]) -> Batch:
        """Some of the jobs, for one process."""
        left = None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)
        return Batch(tuple(jobs), self.mode, self.rungs, self.job_limit, left)


class LoggedExecutor(ABC):
    """An executor but for the training itself; a context manager."""

    def __init__(self, workload: Workload, log: RecordLog) -> None:
        self._workload, self._log = workload, log
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
        while pending := [job for name, job in asked.items() if name not in settled]:
            task = Round(
                pending,
                self._mode(asked.values()),
                tuple(rungs) if judge else (),
                self._job_limit(asked.values()),
                ask,
                deadline,
            )
            if task.late:
                reason = "the time limit came first"
                yield from (self._record(job, task.mode, Status.INTERRUPTED, reason) for job in pending)
                return
            for record in self._train(task):
                self._remember(record)
                if (final := self._final(record.job.id)) is not None:
                    settled[record.job.id] = final
                    yield final

    @abstractmethod
    def _train(self, task: Round) -> Iterator[Record]:
        """Train `task.jobs` once; each gives at most one record, which is in the log already.

        At least one does, or the deadline has passed.
        """

    @abstractmethod
    def _place(self) -> tuple[int, str]:
        """How many classes the data has, and the device's name."""

    def _model_mode(self, crowd: int) -> Mode:
        execution = self._workload.execution
        return choose_mode(self._workload.recipe, self._device, crowd, execution.mode)

    def _mode(self, jobs: Iterable[Job]) -> Mode:
        """The mode for as many jobs as can train as one computation."""
        return self._model_mode(max(Counter((job.learning_rate, job.epochs, job.scoring) for job in jobs).values()))

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
        records = self._known.get(job_id, [])
        for record in records:
            if record.status not in MACHINE_FAULTS:
                return record
        return records[-1] if len(records) >= ATTEMPTS else None

    def _record(self, job: Job, mode: Mode, status: Status, reason: str) -> Record:
        """Of a job whose bench cannot tell any more."""
        classes, device = self._place()
        return Record(
            job=job,
            recipe=self._recipe,
            mode=mode,
            device=device,
            status=status,
            classes=classes,
            seconds=0.0,
            versions=versions(),
            reason=reason,
        )


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
