"""The worker process: batches of jobs in, records out, as JSON lines over pipes.

It ends when its controller does, whatever ends that: its standard input then reaches its end.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any, Final

import torch

from sugarsearch.errors import SugarsearchError, SugarsearchWarning
from sugarsearch.evaluation.bench import Batch, Bench, Watcher, resolve_device
from sugarsearch.evaluation.jobs import Job, Progress, Workload
from sugarsearch.evaluation.records import RecordLog
from sugarsearch.evaluation.stop import Stop

_WATCH_SECONDS: Final = 1.0


class _Channel:
    """The line to the controller.

    Attributes:
        writing: held while records are written, so that the end of the controller does not tear them.
        stop: asked for by the controller.
    """

    def __init__(self) -> None:
        self.writing = threading.Lock()
        self.stop = Stop()
        self._inbox: Queue[Any] = Queue()
        # What users' code prints must not get among the messages.
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._controller = os.getppid()
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Any:
        """The next message; waits for it."""
        return self._inbox.get()

    def send(self, event: str, **content: Any) -> None:
        """Tell the controller."""
        self._out.write(json.dumps({"event": event, **content}) + "\n")
        self._out.flush()

    def _listen(self) -> None:
        """Collect messages until the controller has gone, and then end this process, whatever it is doing."""
        rest = b""
        # A process forked off the controller may hold the pipe open after its death: look for that too.
        while os.getppid() == self._controller:
            if not select.select([0], [], [], _WATCH_SECONDS)[0]:
                continue
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "stop" in message:
                    self.stop.signal = message["stop"]
                else:
                    self._inbox.put(message)
        with self.writing:
            os._exit(0)


class _Reporter(Watcher):
    """Tells the controller how a batch goes."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def begin(self, jobs: Sequence[Job], seconds: float | None) -> None:
        self._channel.send("active", jobs=[job.id for job in jobs], seconds=seconds)

    def reached(self, scores: Mapping[str, Sequence[float]]) -> None:
        self._channel.send("reached", scores=scores)


def main() -> None:
    """Serve one controller until it goes."""
    channel = _Channel()
    start = channel.receive()
    workload, log = Workload.from_json(start["workload"]), RecordLog(Path(start["log"]))
    execution = workload.execution
    _forward_warnings(channel)
    try:
        torch.set_num_threads(execution.threads or max(1, torch.get_num_threads() // execution.workers))
        device = resolve_device(execution.device, start["number"])
        if device.type == "cpu":
            # Kernels for a CPU come one at a time, and a pool of processes for them could outlive a kill of this one.
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        bench = Bench(workload, device, checkpoints=log.checkpoints, stop=channel.stop)
    except SugarsearchError as error:
        _refuse(channel, error)
        return
    channel.send("ready", classes=bench.classes, fingerprint=bench.fingerprint, device=bench.device_name)
    while True:
        try:
            _work(channel, bench, log, Batch.from_json(channel.receive()["batch"]))
        except SugarsearchError as error:
            _refuse(channel, error)


def _work(channel: _Channel, bench: Bench, log: RecordLog, batch: Batch) -> None:
    def judge(progress: Sequence[Progress]) -> Sequence[str]:
        channel.send("progress", progress=[[p.job_id, p.epoch, p.score] for p in progress])
        stopped: Sequence[str] = channel.receive()["stopped"]
        return stopped

    for records in bench.train(batch, judge, _Reporter(channel)):
        with channel.writing:
            log.append(records)
        channel.send("records", records=[record.to_json() for record in records])
    channel.send("done")


def _forward_warnings(channel: _Channel) -> None:
    """Users' warnings go to the controller, which is where users look; all others to stderr as ever."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
        if issubclass(category, SugarsearchWarning):
            channel.send("warning", text=str(message))
        else:
            usual(message, category, *rest, **options)

    warnings.showwarning = show
    warnings.simplefilter("always", SugarsearchWarning)


def _refuse(channel: _Channel, error: SugarsearchError) -> None:
    channel.send("refused", error=type(error).__name__, text=str(error), exit_code=error.exit_code)
