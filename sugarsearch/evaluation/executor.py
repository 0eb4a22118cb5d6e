"""Executors: jobs in, records out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from sugarsearch.evaluation.jobs import Job, Judge, Progress, Workload
from sugarsearch.evaluation.records import Record

__all__ = ["Executor", "Judge", "Progress", "Workload"]


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
            judge: says which jobs stop at a rung.
            rungs: the epochs after which it is asked.
            deadline: a value of time.monotonic(). Jobs it cuts short are INTERRUPTED, not in the log, and run
                afresh when they are asked for again.

        Raises:
            SugarsearchError: what is asked cannot be run at all: data, model, device or mode.
        """
        ...
