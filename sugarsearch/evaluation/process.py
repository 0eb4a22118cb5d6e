"""A worker process as its controller sees it: JSON lines in and out, and how it died."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any, Final

from sugarsearch.evaluation.bench import Batch
from sugarsearch.evaluation.jobs import Job, Progress, Workload
from sugarsearch.evaluation.records import Record, Status

# Deaf from the start to what a keyboard, a closing terminal or a batch system sends to all processes of a job: the
# controller decides what becomes of them. It takes this one with it, even out of a call that never returns: Linux kills
# a process at its parent's death that asked for it (PR_SET_PDEATHSIG is 1); elsewhere a thread looks after that.
# The import path is the controller's own, so that users' modules are found as they are here; `-m` would put the current
# folder first.
_START: Final = """
import ctypes, json, os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
given = json.loads(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != given["controller"]:
    sys.exit()
sys.path[:] = given["path"]
from sugarsearch.evaluation.worker import main
main()
"""

_OUTSIDE: Final = {signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT}
"""Signals that come from outside; the others a process brings upon itself."""

GRACE: Final = 1.0
"""Seconds past a time limit after which a worker that has not stopped by itself is killed."""


class WorkerProcess:
    """A started worker.

    Attributes:
        number: counts the workers of an executor; it decides the GPU.
        ready: whether it has its data and takes batches.
        busy: whether it has a batch.
        spent: whether it is to be replaced after its batch.
        jobs: those of the batch that have no record yet, by id.
        active: ids of the jobs it is working at.
        since: when it began with them, and `due` when it is to be killed for it.
        scores: accuracies so far of those jobs, where they have a time limit.
        progress: what it waits for a judgement on; empty while it works.
    """

    def __init__(self, number: int, workload: Workload, log: Path, inbox: Queue[tuple[WorkerProcess, Any]]) -> None:
        """Start it; its messages arrive in `inbox`, and None when it has died."""
        self.number = number
        self.ready = self.busy = self.spent = False
        self.jobs: dict[str, Job] = {}
        self._rest()
        self._last_words = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  kept for the obituary, until close
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps({"controller": os.getpid(), "path": sys.path})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # so that what it starts (a compiler, a data loader) can be killed with it
        )
        self._listener = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()
        self._send({"workload": workload.to_json(), "log": str(log), "number": number})

    def _rest(self) -> None:
        """It works at nothing."""
        self.active: Sequence[str] = ()
        self.since, self.due = 0.0, math.inf
        self.scores: Mapping[str, Sequence[float]] = {}
        self.progress: list[Progress] = []

    @property
    def idle(self) -> bool:
        """Whether it can be given a batch."""
        return self.ready and not self.busy

    def assign(self, batch: Batch) -> None:
        """Give it a batch."""
        self.busy = True
        self.jobs = {job.id: job for job in batch.jobs if job.id not in batch.done}
        self._rest()
        self._send({"batch": batch.to_json()})

    def begin(self, active: Sequence[str], seconds: float | None) -> None:
        """It works at the jobs of these ids from now on, for at most so many seconds."""
        self.active, self.scores, self.since = active, {}, time.monotonic()
        self.due = math.inf if seconds is None else self.since + seconds + GRACE

    def ask_to_stop(self, signal: int) -> None:
        """Ask it to give up its batch after the step it is at."""
        self._send({"stop": signal})

    def answer(self, stopped: Collection[str]) -> None:
        """Tell it which of its jobs stop at the rung."""
        self._rest()
        self._send({"stopped": sorted(set(stopped) & self.jobs.keys())})

    def forget(self, records: Sequence[Record]) -> None:
        """These jobs of its have their records."""
        for record in records:
            self.jobs.pop(record.job.id, None)

    def obituary(self) -> tuple[Status, str]:
        """How it died, with its last words."""
        code = self._process.wait()
        if code >= 0:
            return Status.CRASHED, f"the worker process ended with exit code {code}{self._last_words}"
        name = signal.Signals(-code).name
        hint = "; perhaps the machine ran out of memory" if -code == signal.SIGKILL else ""
        status = Status.INTERRUPTED if -code in _OUTSIDE else Status.CRASHED
        return status, f"the worker process was ended by {name}{hint}{self._last_words}"

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """End it; a record being written is finished first."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            # One that is still starting does not listen yet, and has nothing to finish.
            self._process.wait(timeout=5 if self.ready else 0)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(timeout=5)
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()
        self._last_words = f": {words[-500:]}" if words else "."
        self._errors.close()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # of one that is dead the listener will say so
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self, inbox: Queue[tuple[WorkerProcess, Any]]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    inbox.put((self, json.loads(line)))
        inbox.put((self, None))
