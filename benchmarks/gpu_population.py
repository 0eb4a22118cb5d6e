"""Many trainings of a small network on one GPU: one after another, in processes, on streams, or as groups of channels.

The network is ResNet-8, which leaves most of a large GPU idle. All candidates begin with the same weights and see the
same batches, so that each must reach about the same accuracy whichever way it is trained; the figures' details say so.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty
from statistics import fmean
from typing import Any, Final
from unittest.mock import patch

import torch
import torch.multiprocessing

from benchmarks.gpu_groups import Accuracies, Groups
from benchmarks.gpu_training import Bench, tried
from benchmarks.harness import Figure, Section, Settings, single
from benchmarks.training import torch_threads
from sugarsearch.training.engine import Engines
from sugarsearch.training.network import Mode
from sugarsearch.training.trainer import EpochReport, TrainingRun


@dataclass(frozen=True)
class Sizes:
    """How much is trained: candidates, epochs of each, images, images to score on; how many at once."""

    candidates: int
    epochs: int
    images: int
    scoring: int
    together: tuple[int, ...]
    side: int = 32
    batch: int = 128


FULL: Final = Sizes(16, 3, 44_800, 5_000, together=(2, 4, 8))
"""Whole batches alone: a smaller one would be no part of a CUDA graph."""
QUICK: Final = Sizes(4, 1, 32, 16, together=(2,), side=8, batch=16)
PATIENCE: Final = 180.0
"""Seconds that processes may take to start, or to train all candidates."""
SERIAL: Final = "one after another"


@dataclass(frozen=True)
class Took:
    """What all candidates took, in seconds, and what they reached; start: seconds before the first of them."""

    seconds: float
    accuracies: Accuracies
    start: float


def candidates(sizes: Sizes) -> list[str]:
    """Different g's."""
    return [f"sigmoid({1 + number / 4:g}*x)" for number in range(sizes.candidates)]


def bench_of(settings: Settings, sizes: Sizes) -> Bench:
    """The data and the recipe, in any process."""
    return Bench(settings, "resnet8", sizes.images, sizes.scoring, sizes.side, sizes.batch)


def mode_of(bench: Bench) -> Mode:
    """Compiled where it is meant to be; on a CPU compilation would take longer than all the rest of a smoke test."""
    return "compiled" if bench.device.type == "cuda" else "eager"


def measure(settings: Settings, sizes: Sizes | None = None) -> Section:
    """All ways; the others are set beside the first, whose compiled code they find in a cache."""
    sizes = sizes or (QUICK if settings.quick else FULL)
    notes: list[str] = []
    took: dict[str, Took] = {}
    figures: list[Figure] = []
    with torch_threads(settings.threads):
        torch._dynamo.reset()  # of a network's code there may be 8 versions in all
        bench = bench_of(settings, sizes)
        ways: dict[str, Callable[[], dict[str, Took]]] = {
            SERIAL: lambda: serial(bench, sizes),
            "processes": lambda: processes(settings, sizes),
            "grouped convolutions": lambda: grouped(bench, sizes),
        }
        if settings.device.type == "cuda":
            ways["streams"] = lambda: streams(bench, sizes)
            notes.append(
                f"The processes share the GPU {'through MPS' if mps() else 'without MPS, whose daemon is off'}."
            )
        else:
            notes.append("Streams are for CUDA devices and were left out; on a CPU nothing is compiled here.")
        for name, way in ways.items():
            figures += tried(name, partial(_figures, way, took), notes)
        torch._dynamo.reset()
    images = "images of CIFAR-10" if settings.data else "made-up images"
    what = (
        f"{sizes.candidates} candidates, ResNet-8, {sizes.epochs} epochs of {len(bench.train):,} {images}, batch "
        f"{sizes.batch}, {bench.recipe.precision}, scored on {len(bench.scoring):,} after each; what comes before the "
        "first candidate is not counted: processes, compilation, capture. Grouped convolutions: all candidates as one "
        "network, in the memory format in which such a convolution is faster"
    )
    notes += [_best(took)] if took else []
    return Section("Many small trainings on one GPU", what, tuple(figures), tuple(notes))


def _figures(way: Callable[[], dict[str, Took]], took: dict[str, Took]) -> list[Figure]:
    """Train; gives candidates per second, and their ratio to SERIAL's; adds to what others took."""
    found = way()
    took |= found
    figures = []
    for name, one in found.items():
        detail: dict[str, Any] = {"seconds": one.seconds, "start_seconds": one.start}
        detail["mean_accuracy"] = fmean(one.accuracies.values())
        figures.append(single(name, _rate(one), "candidates per second", detail=detail))
        if name == SERIAL or SERIAL not in took:
            continue
        apart = [abs(value - took[SERIAL].accuracies[text]) for text, value in one.accuracies.items()]
        unit = "of the candidates per second one after another"
        ratio = _rate(one) / _rate(took[SERIAL])
        figures.append(single(f"{name}, ratio", ratio, unit, detail={"mean_difference_of_accuracies": fmean(apart)}))
    return figures


def _rate(took: Took) -> float:
    return len(took.accuracies) / took.seconds


def _best(took: dict[str, Took]) -> str:
    best = max(took, key=lambda name: _rate(took[name]))
    text = f"Best measures: {best}, with {_rate(took[best]):.2f} candidates per second"
    if best == SERIAL or SERIAL not in took:
        return f"{text}."
    return f"{text}, {_rate(took[best]) / _rate(took[SERIAL]):.2f} times as many as {SERIAL}."


def timed(bench: Bench, start: float, train: Callable[[], Accuracies]) -> Took:
    """start: seconds that it took to be ready."""
    bench.wait()
    started = time.perf_counter()
    accuracies = train()
    bench.wait()
    return Took(time.perf_counter() - started, accuracies, start)


def serial(bench: Bench, sizes: Sizes) -> dict[str, Took]:
    """One candidate at a time, each taking over the last one's CUDA graph."""
    begun, engines, texts = time.perf_counter(), Engines(), candidates(sizes)
    train(bench, texts[:1], 1, engines)
    start = time.perf_counter() - begun
    return {SERIAL: timed(bench, start, partial(train, bench, texts, sizes.epochs, engines))}


def train(bench: Bench, texts: Sequence[str], epochs: int, engines: Engines) -> Accuracies:
    """Train candidates, each to its end."""
    return {text: _trained(bench, text, epochs, engines) for text in texts}


def _trained(bench: Bench, text: str, epochs: int, engines: Engines) -> float:
    run = bench.run(text, mode_of(bench), engines=engines)
    return [run.advance()[0].accuracy for _ in range(epochs)][-1]


def mps() -> bool:
    """Whether the daemon of CUDA's multi-process service runs; it leaves a pipe where its clients look for it."""
    return Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"), "control").exists()


def processes(settings: Settings, sizes: Sizes) -> dict[str, Took]:
    """As many processes as asked for, of some that are started once; the others wait."""
    context = torch.multiprocessing.get_context("spawn")
    results, texts, begun = context.Queue(), candidates(sizes), time.perf_counter()
    tasks = [context.SimpleQueue() for _ in range(max(sizes.together))]
    workers = [context.Process(target=serve, args=(settings, sizes, task, results), daemon=True) for task in tasks]
    took = {}
    try:
        # The code is in a cache by now: compilers of their own would only be in one another's way.
        with patch.dict(os.environ, TORCHINDUCTOR_COMPILE_THREADS="1", OMP_NUM_THREADS="1"):
            for worker in workers:
                worker.start()
        collect(results, workers, len(workers))
        start = time.perf_counter() - begun
        for count in sizes.together:
            started = time.perf_counter()
            for number, task in enumerate(tasks[:count]):
                task.put(texts[number::count])
            accuracies = collect(results, workers, count)
            took[f"{count} processes"] = Took(time.perf_counter() - started, accuracies, start)
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.kill()  # they hold nothing that could be lost
                worker.join()
    return took


def serve(settings: Settings, sizes: Sizes, tasks: Any, results: Any) -> None:
    """A process: train the candidates that `tasks` brings until it is ended; the first result says that it is ready."""
    torch.set_num_threads(1)
    bench, engines = bench_of(settings, sizes), Engines()
    train(bench, candidates(sizes)[:1], 1, engines)
    results.put({})
    while True:
        results.put(train(bench, tasks.get(), sizes.epochs, engines))


def collect(results: Any, workers: Sequence[Any], count: int) -> Accuracies:
    """So many results, put together.

    Raises:
        RuntimeError: a process has ended, or they take too long.
    """
    found: Accuracies = {}
    end = time.monotonic() + PATIENCE
    while count:
        try:
            found |= results.get(timeout=1)
            count -= 1
        except Empty:
            codes = [worker.exitcode for worker in workers if worker.exitcode is not None]
            if codes:
                raise RuntimeError(f"a process ended with exit code {codes[0]}") from None
            if time.monotonic() > end:
                raise RuntimeError(f"processes did not answer within {PATIENCE:g} s") from None
    return found


class Lane:
    """A stream of its own in this process, and the CUDA graph that is replayed there."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._engines = bench, Engines()
        cuda = bench.device.type == "cuda"
        self._stream = torch.cuda.Stream(bench.device) if cuda else None  # type: ignore[no-untyped-call]

    def current(self) -> AbstractContextManager[Any]:
        """Within it work goes to the stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def prepare(self, text: str) -> None:
        """Capture; on the own stream, since cuBLAS has a workspace for each stream and graphs side by side need two."""
        with self.current(), patch.object(torch.cuda.graph, "default_capture_stream", self._stream):
            deque(self.work([text], 1, {}), maxlen=0)

    def work(self, texts: Sequence[str], epochs: int, found: Accuracies) -> Iterator[bool]:
        """Train candidates and note what they reach; comes back after each step."""
        for text in texts:
            found[text] = yield from self._candidate(text, epochs)

    def _candidate(self, text: str, epochs: int) -> Generator[bool, None, float]:
        run, accuracy = self._bench.run(text, mode_of(self._bench), engines=self._engines), 0.0
        for _ in range(epochs):
            accuracy = (yield from stepwise(run)).accuracy
        return accuracy


def stepwise(run: TrainingRun) -> Generator[bool, None, EpochReport]:
    """`TrainingRun.advance` of one member, which comes back after each step."""
    run._network.module.train()
    total = torch.zeros(1, device=run._device)
    batches = run._batches.epoch([run.members[0].seed], run.epoch)
    for part, (inputs, targets) in zip(run._parts, batches, strict=True):
        run._schedule.set(run._optimizer, run._rate, run.epoch * run._steps + part.step)
        whole = part.size == run._recipe.batch_size
        if run._capturable and whole:
            losses = run._captured_step(inputs, targets)
        else:
            losses = run._step(inputs, targets, part, whole_batch=whole)
        total += losses * part.size
        yield True
    run.epoch += 1
    (report,) = run._report(total / run._batches.samples, lambda: False)
    return report


def streams(bench: Bench, sizes: Sizes) -> dict[str, Took]:
    """As many streams as asked for, a step of each in turn."""
    begun, texts = time.perf_counter(), candidates(sizes)
    lanes = [Lane(bench) for _ in range(max(sizes.together))]
    for lane in lanes:
        lane.prepare(texts[0])
    start = time.perf_counter() - begun
    return {
        f"{count} streams": timed(bench, start, partial(round_robin, lanes[:count], texts, sizes.epochs))
        for count in sizes.together
    }


def round_robin(lanes: Sequence[Lane], texts: Sequence[str], epochs: int) -> Accuracies:
    """A step of each lane in turn, until all candidates are trained."""
    found: Accuracies = {}
    going = deque((lane, lane.work(texts[number :: len(lanes)], epochs, found)) for number, lane in enumerate(lanes))
    while going:
        lane, work = going.popleft()
        with lane.current():
            if next(work, False):
                going.append((lane, work))
    return found


def grouped(bench: Bench, sizes: Sizes) -> dict[str, Took]:
    """All candidates as one computation."""
    begun = time.perf_counter()
    groups = Groups(bench, candidates(sizes))
    groups.prepare()
    start = time.perf_counter() - begun
    return {"grouped convolutions": timed(bench, start, partial(groups.train, sizes.epochs))}
