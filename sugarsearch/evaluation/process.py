"""A worker process as its controller sees it: JSON lines in and out, and how it died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any, Final

from sugarsearch.evaluation.bench import Batch
from sugarsearch.evaluation.jobs import Job, Progress, Workload
from sugarsearch.evaluation.records import Record, Status

# Deaf to the keyboard from the start. The import path is the controller's own, so that users' modules are found as
# they are here; `-m` would put the current folder first.
_START: Final = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = json.loads(sys.argv[1])
from sugarsearch.evaluation.worker import main
main()
"""

_OUTSIDE: Final = {signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT}
"""Signals that come from outside; the others a process brings upon itself."""


class WorkerProcess:
    """A started worker.

    Attributes:
        number: counts the workers of an executor; it decides the GPU.
        ready: whether it has its data and takes batches.
        busy: whether it has a batch.
        jobs: those of the batch that have no record yet, by id.
        active: ids of the jobs it is working at.
        since: when it began with them.
        progress: what it waits for a judgement on; empty while it works.
    """

    def __init__(self, number: int, workload: Workload, log: Path, inbox: Queue[tuple[WorkerProcess, Any]]) -> None:
        """Start it; its messages arrive in `inbox`, and None when it has died."""
        self.number = number
        self.ready = self.busy = False
        self.jobs: dict[str, Job] = {}
        self.active: Sequence[str] = ()
        self.since = 0.0
        self._last_words = ""
        self.progress: list[Progress] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  kept for the obituary, until close
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._listener = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()
        start = {"workload": workload.to_json(), "log": str(log), "number": number, "controller": os.getpid()}
        self._send(start)

    @property
    def idle(self) -> bool:
        """Whether it can be given a batch."""
        return self.ready and not self.busy

    def assign(self, batch: Batch) -> None:
        """Give it a batch."""
        self.busy = True
        self.jobs = {job.id: job for job in batch.jobs}
        self.active, self.progress = (), []
        self._send({"batch": batch.to_json()})

    def begin(self, active: Sequence[str]) -> None:
        """It works at the jobs of these ids from now on."""
        self.active, self.since = active, time.monotonic()

    def answer(self, stopped: Collection[str]) -> None:
        """Tell it which of its jobs stop at the rung."""
        self.progress = []
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
        """End it at once."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End it; a record being written is finished first."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
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
