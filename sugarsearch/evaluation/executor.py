"""Executors: in this process, or in workers that die with it."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any, Final

import torch

from sugarsearch.data.arrays import Arrays
from sugarsearch.data.splits import Split
from sugarsearch.errors import (
    RunError,
    SelfTestError,
    SugarsearchError,
    SugarsearchWarning,
    SurgeryError,
    UsageError,
)
from sugarsearch.evaluation.bench import Bench
from sugarsearch.evaluation.jobs import Job, Judge, Progress, Workload
from sugarsearch.evaluation.logged import Executor, LoggedExecutor, Place, Round
from sugarsearch.evaluation.process import GRACE, WorkerProcess
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.evaluation.stop import Stop
from sugarsearch.training.network import Mode, ModelFactory

__all__ = ["Executor", "InlineExecutor", "Judge", "ProcessExecutor", "Progress", "Workload"]

STOPPING: Final = 5.0
"""Seconds that workers have to finish the step they are at when somebody asks to stop."""

_PATIENCE: Final = 0.2  # seconds between two looks at time limits and stop requests

FALSE_STARTS: Final = 10
"""How many workers in a row may be killed from outside before they have begun to train."""


class InlineExecutor(LoggedExecutor):
    """Trains in this process: for data and models that are objects of yours."""

    def __init__(
        self,
        workload: Workload,
        log: RecordLog,
        *,
        split: Split | None = None,
        scoring: Mapping[str, Arrays] | None = None,
        model_factory: ModelFactory | None = None,
        stop: Stop | None = None,
    ) -> None:
        """Open the log and the data.

        Args:
            workload: what all jobs have in common.
            log: where records go.
            split: training and validation data in place of the recipe's.
            scoring: further data that jobs of stage "final" may be scored on, by name.
            model_factory: makes the network in place of the recipe's; its activations are replaced.
            stop: where somebody may ask to stop.

        Raises:
            DataError, UsageError, RunError: data, device or log cannot be used.
        """
        super().__init__(workload, log, stop)
        self._is_users = model_factory is not None
        self._bench = Bench(
            workload,
            self._device,
            split=split,
            scoring=scoring,
            model_factory=model_factory,
            checkpoints=log.checkpoints,
            stop=self._stop,
        )

    def _train(self, task: Round) -> Iterator[Record]:
        with _threads(self._workload.execution.threads):
            for records in self._bench.train(task.batch(task.jobs), task.ask):
                self._log.append(records)
                yield from records

    def _place(self) -> Place:
        return Place(self._bench.classes, self._bench.fingerprint, self._bench.device_name)

    def _model_mode(self, crowd: int) -> Mode:
        return super()._model_mode(1 if self._is_users else crowd)


class ProcessExecutor(LoggedExecutor):
    """Trains in worker processes, one per GPU or as many as asked for.

    Workers get JSON only, and write their records before they report them. A worker that dies is replaced;
    the jobs it was working at get a record that says how it died, its others are run again.
    """

    def __init__(self, workload: Workload, log: RecordLog, stop: Stop | None = None) -> None:
        """Open the log; workers start when there is work.

        Args:
            workload: what all jobs have in common.
            log: where records go.
            stop: where somebody may ask to stop.

        Raises:
            UsageError, RunError: device or log cannot be used.
        """
        super().__init__(workload, log, stop)
        self._workers: list[WorkerProcess] = []
        self._inbox: Queue[tuple[WorkerProcess, Any]] = Queue()
        self._told: Place | None = None
        self._false_starts = 0
        self._bereaved = False

    def close(self) -> None:
        """Stop the workers; what they were training is lost, what they have recorded is not."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def _train(self, task: Round) -> Iterator[Record]:
        parts = deque(self._parts(task))
        asked_to_stop, self._bereaved = None, False
        try:
            while parts or self._busy:
                if task.late or self._stop.requested:
                    parts.clear()
                if self._stop.signal is not None and asked_to_stop is None:
                    asked_to_stop = time.monotonic()
                    self._ask_to_stop(self._stop.signal)
                self._staff(len(parts) + len(self._busy))
                for worker in self._workers:
                    if worker.idle and parts:
                        worker.assign(task.batch(parts.popleft()))
                yield from self._listen(task.mode)
                yield from self._stop_late(task, asked_to_stop)
                if self._bereaved and task.rungs:
                    yield from self._end_round()
                    return
                if not parts:
                    self._ask(task)
        finally:
            for worker in self._busy:
                self._workers.remove(worker)
                worker.close()

    def _ask_to_stop(self, signal: int) -> None:
        """Workers end after the step they are at; those that wait at a rung are at none, and would not hear."""
        for worker in self._busy:
            if worker.progress:
                self._workers.remove(worker)
                worker.kill()
            else:
                worker.ask_to_stop(signal)

    def _place(self) -> Place:
        while self._told is None:
            self._stop.check()
            self._staff(1)
            self._listen("eager")
        return self._told

    @property
    def _busy(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker.busy]

    def _parts(self, task: Round) -> list[Sequence[Job]]:
        """Jobs that meet at rungs, or train as one computation, are divided among all workers; others come singly."""
        if not (task.rungs or task.mode == "population"):
            return [[job] for job in task.pending]
        count = min(self._workload.execution.workers, len(task.jobs))
        parts = [task.jobs[start::count] for start in range(count)]
        return [part for part in parts if any(job.id not in task.done for job in part)]

    def _staff(self, count: int) -> None:
        """Have up to `count` workers."""
        wanted = min(count, self._workload.execution.workers)
        taken = {worker.number for worker in self._workers}
        for number in range(self._workload.execution.workers):
            if len(self._workers) < wanted and number not in taken:
                self._workers.append(WorkerProcess(number, self._workload, self._log.path, self._inbox))

    def _listen(self, mode: Mode) -> list[Record]:
        """Take one message; gives the records it brings."""
        try:
            worker, message = self._inbox.get(timeout=_PATIENCE)
        except Empty:
            return []
        if worker not in self._workers:
            return []
        if message is None:
            return self._bury(worker, mode)
        match message:
            case {"event": "ready"}:
                worker.ready = True
                self._welcome(Place(message["classes"], message["fingerprint"], message["device"]))
            case {"event": "active"}:
                self._false_starts = 0
                worker.begin(message["jobs"], message["seconds"])
            case {"event": "reached"}:
                worker.scores = message["scores"]
            case {"event": "progress"}:
                worker.progress = [Progress(*row) for row in message["progress"]]
            case {"event": "warning"}:
                warnings.warn(message["text"], SugarsearchWarning, stacklevel=2)
            case {"event": "done"}:
                worker.busy = False
                if worker.spent:
                    self._workers.remove(worker)
                    worker.close()
            case {"event": "refused"}:
                worker.busy = False
                raise _refusal(message)
            case {"event": "records"}:
                records = [Record.from_json(value) for value in message["records"]]
                worker.forget(records)
                # What filled the memory may still hang in the process.
                worker.spent = worker.spent or any(r.status is Status.OUT_OF_MEMORY for r in records)
                return records
        return []

    def _welcome(self, place: Place) -> None:
        """Of a worker that has opened its data: all must have the same.

        Raises:
            RunError: a folder has changed meanwhile, or a loader gives other data each time.
        """
        if self._told is not None and place.fingerprint != self._told.fingerprint:
            raise RunError(
                f"a worker has other training data ({place.fingerprint}) than those before it "
                f"({self._told.fingerprint}). Data must not change during a run: a loader of yours must give the same "
                "each time, with a seed of its own if it draws at random."
            )
        self._told = place

    def _ask(self, task: Round) -> None:
        """Once all workers wait at the rung, hear the judge and tell them who stops."""
        waiting = [worker for worker in self._busy if worker.progress]
        if not waiting or len(waiting) < len(self._busy) or task.ask is None:
            return
        stopped = task.ask([progress for worker in waiting for progress in worker.progress])
        for worker in waiting:
            worker.answer(stopped)

    def _bury(self, worker: WorkerProcess, mode: Mode) -> list[Record]:
        """Of a worker that has died: records it wrote without reporting, and those of the jobs it was working at."""
        self._workers.remove(worker)
        worker.close()
        status, reason = worker.obituary()
        self._count_false_start(worker, status, reason)
        self._bereaved = self._bereaved or worker.busy
        return self._unreported(worker) + self._fail(worker, mode, status, reason)

    def _unreported(self, worker: WorkerProcess) -> list[Record]:
        """The records that a worker which has ended wrote without reporting them."""
        records: list[Record] = []
        if not worker.jobs:
            return records
        seen = {name: len(self._known.get(name, [])) for name in worker.jobs}
        for record in self._log.load():
            name = record.job.id
            if name in seen and record.recipe == self._recipe:
                seen[name] -= 1
                if seen[name] < 0:
                    records.append(record)
        worker.forget(records)
        return records

    def _end_round(self) -> list[Record]:
        """End the workers that a dead one would have met at a rung; gives what they had not reported.

        Asked about the living alone, the judge would stop others than if it had heard of all. In the next round all go
        on from their checkpoints, and meet.
        """
        busy = self._busy
        for worker in busy:
            self._workers.remove(worker)
            worker.close()
        return [record for worker in busy for record in self._unreported(worker)]

    def _count_false_start(self, worker: WorkerProcess, status: Status, reason: str) -> None:
        """Nothing is to blame where no job was in work: another worker is started, but not for ever.

        Raises:
            RunError: the next one would end likewise.
        """
        if worker.active or self._stop.requested:
            return
        self._false_starts += 1
        if status is not Status.INTERRUPTED or self._false_starts >= FALSE_STARTS:
            raise RunError(f"a worker cannot start: {reason}")

    def _fail(
        self, worker: WorkerProcess, mode: Mode, status: Status, reason: str, seconds: float = 0.0
    ) -> list[Record]:
        """The same record for all jobs that `worker` was working at; none for those not begun, or waiting at a rung."""
        if worker.progress or self._stop.requested:
            return []
        records = [
            self._record(worker.jobs[name], mode, status, reason, scores=worker.scores.get(name, ()), seconds=seconds)
            for name in worker.active
            if name in worker.jobs
        ]
        if records:
            self._log.append(records)
        return records

    def _stop_late(self, task: Round, asked_to_stop: float | None) -> list[Record]:
        """Kill workers that have not kept a time limit, or do not stop when they are asked to."""
        records = []
        now = time.monotonic()
        end = float("inf") if task.deadline is None else task.deadline + GRACE
        if asked_to_stop is not None:
            end = min(end, asked_to_stop + STOPPING)
        for worker in self._busy:
            stuck = not worker.progress and now > worker.due
            if now > end or stuck:
                self._workers.remove(worker)
                worker.kill()
            if stuck:
                self._bereaved = True
                seconds = now - worker.since
                reason = f"did not stop by itself and was killed after {seconds:.1f} s"
                records += self._fail(worker, task.mode, Status.TIMEOUT, reason, seconds / len(worker.active))
        return records


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """torch's threads, as they were afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _refusal(message: Mapping[str, Any]) -> SugarsearchError:
    """The error that a worker met, of its class where that takes the text alone."""
    classes = {kind.__name__: kind for kind in (UsageError, SurgeryError, SelfTestError, RunError)}
    error = classes.get(message["error"], SugarsearchError)(message["text"])
    error.exit_code = message["exit_code"]
    return error
