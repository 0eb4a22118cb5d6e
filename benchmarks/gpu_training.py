"""One ResNet-18 training on a GPU: eager, compiled, as a CUDA graph; with ReLU and with SUGAR; a change of candidate.

On a CPU, for which none of this is meant, whatever needs CUDA is left out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Figure, Section, Settings, ratio, single, turns
from benchmarks.paper import made_up
from benchmarks.training import TorchsReLU, source, torch_threads
from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import Split, tensor_split, training_split
from sugarsearch.models.build import build_seeded
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training import trainer
from sugarsearch.training.engine import Engine, Engines
from sugarsearch.training.network import Member, Mode
from sugarsearch.training.trainer import CutShortError, TrainingRun


@dataclass(frozen=True)
class Sizes:
    """How much is trained: images, images to score on, timed epochs and changes of candidate; steps in a profile."""

    images: int
    scoring: int
    turns: int
    changes: int
    profiled: int
    side: int = 32
    batch: int = 128


FULL: Final = Sizes(45_000, 5_000, turns=5, changes=7, profiled=40)
QUICK: Final = Sizes(12, 8, turns=2, changes=2, profiled=2, side=8, batch=4)
EPOCHS: Final = 50
IMAGES: Final = 45_000
"""Of CIFAR-10's, without those set aside: what an epoch of the paper's is."""
LEARNING_RATE: Final = 0.05
SEED: Final = 1
SHAPES: Final = ("nelu", "elu", "silu", "mish", "selu", "gelu", "sigmoid(4*x)", "b_silu")
"""Candidates that take over from one another."""

SECONDS_TARGET: Final = 60.0
MARKS: Final = {"stretch": 45.0, "floor": 21.0}
"""Of 50 epochs on one H100; the floor is what its arithmetic and its memory allow."""
SUGAR_TARGET: Final = 1.03
CHANGE_TARGET: Final = 0.1


@dataclass(frozen=True)
class Way:
    """How a step is run."""

    name: str
    mode: Mode
    captured: bool = False


EAGER: Final = Way("eager", "eager")
LAUNCHED: Final = Way("compiled, launches", "compiled")
CAPTURED: Final = Way("compiled, CUDA graph", "compiled", captured=True)
RELU: Final = "torch's ReLU"
SUGAR: Final = "b_silu"
WORDS: Final[Mapping[str, str]] = {RELU: "ReLU", SUGAR: "SUGAR B-SiLU"}


class Bench:
    """What all runs have in common.

    Attributes:
        device: where to train.
        recipe: SGD with momentum at a constant rate, on CUDA in bfloat16.
        train, scoring: the images, on the device.
    """

    def __init__(self, settings: Settings, model: str, images: int, scoring: int, side: int, batch: int) -> None:
        """Make or read so many images; of real ones there may be fewer."""
        self.device = settings.device
        split = images_of(settings, images, scoring, side, batch)
        scale = normalisation(split.train)
        self.train, self.scoring = (DeviceArrays(part, scale, self.device) for part in (split.train, split.validation))
        self.recipe = Recipe(
            data=DataConfig(name=source(settings)),
            model=ModelConfig(name=model),
            optimizer=OptimizerConfig(momentum=0.9),
            epochs=EPOCHS,
            batch_size=batch,
            precision="bf16" if self.device.type == "cuda" else "fp32",
        )

    def run(self, text: str, mode: Mode, *, captured: bool = True, engines: Engines | None = None) -> TrainingRun:
        """A fresh run; not captured: its steps are launched kernel by kernel."""
        member = Member(surrogate("relu" if text == RELU else text), SEED)
        rest = (self.recipe, self.recipe.epochs, self.train, self.scoring, self.device, mode)
        with nullcontext() if captured else patch.object(trainer, "can_be_captured", return_value=False):
            run = TrainingRun([member], LEARNING_RATE, *rest, engines=engines)
        for part in run._network.module.modules() if text == RELU else ():
            if isinstance(part, SugarReLU):  # a change of class leaves the sites where the dead units are counted
                part.__class__ = TorchsReLU
        return run

    def wait(self) -> None:
        """Until the device has done all."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def images_of(settings: Settings, images: int, scoring: int, side: int, batch: int) -> Split:
    """Real ones where they are given, else made up; if there are fewer to train on, as many as make whole batches."""
    if settings.data is not None:
        share = scoring / (images + scoring)
        whole = training_split(DataConfig(name=source(settings), validation=share))
        count = images if len(whole.train) >= images else len(whole.train) // batch * batch
        return Split(
            whole.train.take(np.arange(count)), whole.validation.take(np.arange(scoring)[: len(whole.validation)])
        )
    return tensor_split(made_up(images, side, 0), made_up(scoring, side, 1))


def measure(settings: Settings, sizes: Sizes | None = None) -> Section:
    """All ways side by side, epoch by epoch; then what is in a step, a start, a change of candidate, and in memory."""
    sizes = sizes or (QUICK if settings.quick else FULL)
    notes: list[str] = []
    figures: list[Figure] = []
    cuda = settings.device.type == "cuda"
    with torch_threads(settings.threads):
        bench = Bench(settings, "resnet18", sizes.images, sizes.scoring, sizes.side, sizes.batch)
        parts: dict[str, Callable[[], Sequence[Figure]]] = {
            "the start": lambda: [_start(bench)],
            "the epochs": lambda: _epochs(bench, sizes, notes, targets=cuda and not settings.quick),
            "the changes of candidate": lambda: _changes(bench, sizes.changes, targets=cuda and not settings.quick),
        }
        if cuda:
            parts["the profiles"] = lambda: _profiles(bench, sizes.profiled)
            parts["the memory"] = lambda: _memory(bench)
        else:
            notes.append("On a CPU there are no CUDA graphs, no profile of kernels and no peak of the device's memory.")
        for what, part in parts.items():
            figures += tried(what, part, notes)
        torch._dynamo.reset()  # the next part may need a few of the 8 versions of this network's code
    real, side = "CIFAR-10's" if settings.data else "made-up", bench.train.shape[-1]
    what = (
        f"ResNet-18, {len(bench.train):,} {real} images of {side}x{side} as uint8 on the device, batch {sizes.batch}, "
        f"{bench.recipe.precision}, SGD with momentum; {sizes.turns + 1} epochs of each way in turn, the first not "
        f"timed; an epoch includes scoring {len(bench.scoring):,} images. ReLU is torch's own in the same loop"
    )
    return Section("One training on a GPU", what, tuple(figures), tuple(notes))


def tried(what: str, part: Callable[[], Sequence[Figure]], notes: list[str]) -> Sequence[Figure]:
    """The part's figures; none, and a note that says why, where it fails: the minutes of the others are not lost."""
    try:
        return part()
    except Exception as error:  # a driver, a compiler, a profiler may raise anything
        reason = str(error).strip().partition("\n")[0]
        notes.append(f"Left out, since it failed: {what} ({type(error).__name__}: {reason}).")
        return ()


def _start(bench: Bench) -> Figure:
    from torch._inductor.utils import fresh_cache

    torch._dynamo.reset()
    with fresh_cache():
        seconds = first_step(lambda: bench.run(SUGAR, "compiled"), bench)
    return single("first step of mode compiled, nothing in caches", seconds, "s")


def first_step(make: Callable[[], TrainingRun], bench: Bench) -> float:
    """Seconds from nothing to the end of a run's first step; the run is of no use afterwards."""
    asked = iter((False, True))
    bench.wait()
    started = time.perf_counter()
    with suppress(CutShortError):
        make().advance(lambda: next(asked))
    bench.wait()
    return time.perf_counter() - started


def _epochs(bench: Bench, sizes: Sizes, notes: list[str], *, targets: bool) -> list[Figure]:
    ways = [EAGER, LAUNCHED, CAPTURED] if bench.device.type == "cuda" else [EAGER, LAUNCHED]
    named = [(way, text) for way in ways for text in (RELU, SUGAR)]
    runs = {(way, text): bench.run(text, way.mode, captured=way.captured) for way, text in named}
    names = {pair: f"{WORDS[pair[1]]}, {pair[0].name}" for pair in named}
    seconds = turns({names[pair]: run.advance for pair, run in runs.items()}, sizes.turns, bench.device)
    times = {pair: seconds[name] for pair, name in names.items()}
    failed = [names[pair] for pair, run in runs.items() if pair[0].captured and run._engine.graph is None]
    notes += [f"No CUDA graph could be captured of {name}: its steps were launched." for name in failed]
    figures: list[Figure] = []
    for pair, values in times.items():
        figures += _pace(names[pair], values, bench, target=targets and pair[0].captured)
    unit = "of the time with torch's own ReLU in the same loop"
    for way in ways:
        target = SUGAR_TARGET if targets and way.mode == "compiled" else None
        name = f"SUGAR B-SiLU over ReLU, {way.name}"
        figures.append(ratio(name, times[way, SUGAR], times[way, RELU], unit, at_most=target))
    return figures


def _pace(name: str, values: Sequence[float], bench: Bench, *, target: bool) -> tuple[Figure, Figure]:
    """Of an epoch, and of the whole training that it would be a part of."""
    images, factor = len(bench.train), EPOCHS * IMAGES / len(bench.train)
    whole = f"s, extrapolated from {len(values)} epochs of {images:,} images"
    most, marks = (SECONDS_TARGET, MARKS) if target else (None, {})
    return (
        spread(name, values, "s an epoch", detail={"images_per_second": round(images / median(values))}),
        spread(f"{EPOCHS} epochs, {name}", [value * factor for value in values], whole, at_most=most, detail=marks),
    )


def spread(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Figure:
    """A measurement that is no ratio: its median and quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Figure(name, median(values), low, high, unit, at_most, detail=detail or {})


def _changes(bench: Bench, count: int, *, targets: bool) -> list[Figure]:
    """Runs that take over from one another, each to the end of its first step."""
    engines = Engines()
    engine, step = _engine(bench, engines)
    graph, before = engine.graph, _compilations()
    seconds, building, kept = [], [], True
    for turn in range(count + 1):  # the first also loads what reading a formula needs

        def make(text: str = SHAPES[turn % len(SHAPES)]) -> TrainingRun:
            nonlocal kept
            started = time.perf_counter()
            made = bench.run(text, "compiled", engines=engines)
            building.append(time.perf_counter() - started)
            kept = kept and made._engine is engine
            return made

        seconds.append(first_step(make, bench) - step)
        kept = kept and engine.graph is graph
    detail = {"seconds_before_the_step": median(building[1:]), "seconds_of_a_first_step": step, "graph_kept": kept}
    unit, most = "s more than the first step of a later epoch", CHANGE_TARGET if targets else None
    return [
        spread("change of the candidate", seconds[1:], unit, at_most=most, detail=detail),
        single("compilations in these changes", _compilations() - before, "graphs", at_most=0),
    ]


def _engine(bench: Bench, engines: Engines) -> tuple[Engine, float]:
    """Of a run that has ended: compiled, captured, all kernels loaded; and what an epoch's first step takes."""
    run = bench.run(SUGAR, "compiled", engines=engines)
    run.advance()
    return run._engine, first_step(lambda: run, bench)


def _compilations() -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def _profiles(bench: Bench, steps: int) -> list[Figure]:
    figures = []
    for way in (EAGER, LAUNCHED, CAPTURED):
        run = bench.run(SUGAR, way.mode, captured=way.captured)
        run.advance()
        shares = profile(run, bench, steps)
        unit = "of the time of training steps, under a profiler"
        figures.append(single(f"idle GPU, SUGAR B-SiLU, {way.name}", shares["idle"], unit, detail=shares))
    return figures


Kernel = tuple[str, float, float]
"""Name, beginning and end, in microseconds."""


def profile(run: TrainingRun, bench: Bench, steps: int) -> dict[str, float]:
    """The shares of kinds of kernels in the run's next steps; the run cannot go on."""
    asked = iter(range(steps + 1))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        with suppress(CutShortError):
            run.advance(lambda: next(asked) == steps)
        bench.wait()
    events = profiler.events() or ()
    kernels = [event for event in events if event.device_type.name == "CUDA" and not event.is_user_annotation]
    return shares_of([(event.name, event.time_range.start, event.time_range.end) for event in kernels])


KINDS: Final = (
    ("fused batch norm, activation, sum", re.compile(r"^triton.*(batch_norm|relu|clamp|threshold)", re.IGNORECASE)),
    ("other fused kernels", re.compile(r"^triton")),
    ("optimiser", re.compile(r"multi_tensor|fused_sgd|FusedSgd", re.IGNORECASE)),
    ("batch norm", re.compile(r"batch_?norm|bn_fw|bn_bw|welford", re.IGNORECASE)),
    ("activation", re.compile(r"sugar_gradient|relu|clamp|threshold", re.IGNORECASE)),
    ("convolution", re.compile(r"conv|fprop|dgrad|wgrad|xmma|cutlass|nchw|nhwc|cudnn|gemm", re.IGNORECASE)),
    ("batches", re.compile(r"index|gather", re.IGNORECASE)),
    ("copies", re.compile(r"mem(cpy|set)|copy_kernel|fill", re.IGNORECASE)),
)
"""What a kernel belongs to, by the first of these patterns that its name has; a linear layer's product counts as
convolution."""


def shares_of(kernels: Sequence[Kernel]) -> dict[str, float]:
    """Of the time from the first kernel's beginning to the last one's end; "idle" is when there was none.

    Raises:
        ValueError: there are no kernels.
    """
    if not kernels:
        raise ValueError("the profiler has seen no kernel")
    spent: dict[str, float] = {}
    reached = first = min(start for _, start, _ in kernels)
    idle = 0.0
    for name, start, end in sorted(kernels, key=lambda kernel: kernel[1]):
        kind = next((kind for kind, pattern in KINDS if pattern.search(name)), "other")
        spent[kind] = spent.get(kind, 0.0) + end - start
        idle += max(start - reached, 0.0)
        reached = max(reached, end)
    whole = reached - first
    return {"idle": idle / whole, **{kind: time / whole for kind, time in spent.items()}}


def activations() -> dict[str, tuple[Callable[[], nn.Module], bool]]:
    """What memory is measured of: makes a site's activation, and whether the network is compiled."""
    return {
        "ReLU, eager": (nn.ReLU, False),
        "SUGAR B-SiLU, eager": (lambda: SugarReLU(SUGAR), False),
        "SUGAR B-SiLU, eager, lean=8": (lambda: SugarReLU(SUGAR, lean=8), False),
        "SUGAR B-SiLU, eager, lean=4": (lambda: SugarReLU(SUGAR, lean=4), False),
        "ReLU, compiled": (nn.ReLU, True),
        "SUGAR B-SiLU, compiled": (lambda: SugarReLU(SUGAR, form="table"), True),
    }


def _memory(bench: Bench) -> list[Figure]:
    peaks = {}
    for name, (activation, compiled) in activations().items():
        step = training_step(bench, activation, compiled=compiled)
        for _ in range(3):
            step()
        bench.wait()
        torch.cuda.reset_peak_memory_stats(bench.device)
        before = torch.cuda.memory_allocated(bench.device)
        step()
        peaks[name] = torch.cuda.max_memory_allocated(bench.device) - before
    unit = "of the peak memory of a step with ReLU, eager"
    first = peaks["ReLU, eager"]
    return [
        single(f"memory, {name}", peak / first, unit, detail={"mebibytes": round(peak / 2**20, 1)})
        for name, peak in peaks.items()
    ]


def training_step(bench: Bench, activation: Callable[[], nn.Module], *, compiled: bool) -> Callable[[], Tensor]:
    """A forward and backward pass of one batch, whose gradients are then dropped; it gives the loss."""
    network = build_seeded(bench.recipe.model, bench.train.shape, bench.train.classes, SEED, activation)
    network = network.to(bench.device).to(memory_format=torch.channels_last)
    run: Callable[..., Any] = torch.compile(network, dynamic=False) if compiled else network
    first = torch.arange(bench.recipe.batch_size, device=bench.device)
    inputs, labels = bench.train.batch(first).to(memory_format=torch.channels_last), bench.train.labels[first]

    def step() -> Tensor:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.recipe.precision == "bf16"):
            loss = F.cross_entropy(run(inputs), labels)
        torch.autograd.backward(loss)
        network.zero_grad()
        return loss.detach()

    return step
