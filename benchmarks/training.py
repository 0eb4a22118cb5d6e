"""One training run: TrainingRun, eager and compiled, against a straightforward PyTorch loop, epochs side by side.

The network, its first weights, the optimiser, the schedule, the batch size and the normalisation are the same; what
differs is how the loop is written. `PlainRun` is that of tutorials, and what throughput.py measures a search against.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.activation import b_silu
from benchmarks.harness import Figure, Section, Settings, ratio, single, turns
from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.device import DeviceArrays, Normalisation, normalisation
from sugarsearch.data.splits import Split, tensor_split, training_split
from sugarsearch.models.build import build_seeded
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.injection import indirect
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.network import Member, Mode
from sugarsearch.training.trainer import CutShortError, TrainingRun


@dataclass(frozen=True)
class Sizes:
    """How much is trained: images, images to score on, timed epochs of each way; and workers that load images."""

    images: int
    scoring: int
    turns: int
    side: int = 32
    batch: int = 128
    workers: int = 2


FULL: Final = Sizes(2_560, 512, 15)  # fewer turns would not be worth a kernel for g: see training.fusion
QUICK: Final = Sizes(1_280, 256, 2)
LEARNING_RATE: Final = 0.05
SEED: Final = 1

TARGETS: Final[Mapping[Mode, float]] = {"eager": 1.4, "compiled": 1.7}
SUGAR_TARGET: Final = 1.03
"""On a CPU; other devices have figures without a target."""

Seconds = Sequence[float]


class PlainImages(Dataset[tuple[Tensor, int]]):
    """uint8 images [C, H, W], each normalised when it is asked for."""

    def __init__(self, arrays: Arrays, scale: Normalisation) -> None:
        self._images, self._labels = torch.from_numpy(np.array(arrays.images)), arrays.labels.tolist()
        self._mean, self._std = torch.tensor([scale.mean, scale.std], dtype=torch.float32)[..., None, None]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return (self._images[index].float() - self._mean) / self._std, self._labels[index]


@dataclass(frozen=True)
class Loaders:
    """Batches to train on, shuffled, and to score on."""

    train: DataLoader[Any]
    scoring: DataLoader[Any]

    @classmethod
    def of(cls, train: Dataset[Any], scoring: Dataset[Any], batch_size: int, workers: int) -> Loaders:
        """As they are usually made; `workers` load the images."""
        order = torch.Generator().manual_seed(SEED)
        return cls(
            DataLoader(train, batch_size, shuffle=True, num_workers=workers, generator=order),
            DataLoader(scoring, batch_size, num_workers=workers, generator=order),
        )


@dataclass(frozen=True)
class PlainEpoch:
    """What an epoch has given: mean loss of its batches; loss and accuracy on the scoring data."""

    train_loss: float
    loss: float
    accuracy: float


class PlainRun:
    """A training run as tutorials write it.

    Attributes:
        steps: optimisation steps so far.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, learning_rate: float, loaders: Loaders, device: torch.device
    ) -> None:
        """Train `network` by a recipe of SGD or Adam, at a constant rate or on a cosine, without more."""
        self.steps = 0
        self._network, self._loaders, self._device = network.to(device), loaders, device
        self._optimizer = _optimizer(self._network, recipe.optimizer, learning_rate)
        self._schedule = None
        if recipe.schedule.name == "cosine":
            steps = recipe.epochs * len(loaders.train)
            self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, steps)

    def advance(self) -> PlainEpoch:
        """Train an epoch, and score."""
        self._network.train()
        running, samples = 0.0, 0
        for images, targets in self._loaders.train:
            inputs, labels = images.to(self._device), targets.to(self._device)
            self._optimizer.zero_grad()
            loss = F.cross_entropy(self._network(inputs), labels)
            torch.autograd.backward(loss)
            self._optimizer.step()
            if self._schedule is not None:
                self._schedule.step()
            running += loss.item() * len(labels)
            samples += len(labels)
            self.steps += 1
        return PlainEpoch(running / samples, *self._score())

    @torch.no_grad()
    def _score(self) -> tuple[float, float]:
        self._network.eval()
        running, correct, samples = 0.0, 0, 0
        for images, targets in self._loaders.scoring:
            inputs, labels = images.to(self._device), targets.to(self._device)
            logits = self._network(inputs)
            running += F.cross_entropy(logits, labels).item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
            samples += len(labels)
        return running / samples, correct / samples


def _optimizer(network: nn.Module, config: OptimizerConfig, learning_rate: float) -> torch.optim.Optimizer:
    if config.name == "sgd":
        return torch.optim.SGD(network.parameters(), learning_rate, config.momentum, weight_decay=config.weight_decay)
    return torch.optim.Adam(network.parameters(), learning_rate, config.betas, weight_decay=config.weight_decay)


class DetachedBSiLU(nn.Module):
    """SUGAR as it is written today, in torch's terms."""

    def forward(self, x: Tensor) -> Tensor:
        return indirect(x, b_silu)


class TorchsReLU(SugarReLU):
    """torch's own ReLU and gradient, at a site of a TrainingRun."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class BatchesInProfile(DeviceArrays):
    """Training data whose batches a profiler sees by name."""

    def batch(self, indices: Tensor, augment: Any = None) -> Tensor:
        with torch.profiler.record_function("batches"):
            return super().batch(indices, augment)


class Bench:
    """What all ways have in common: recipe, data, device."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        self.sizes, self.device = sizes, settings.device
        self.recipe = Recipe(
            data=DataConfig(name=source(settings)),
            model=ModelConfig(name="resnet8"),
            optimizer=OptimizerConfig(momentum=0.9),
            schedule=ScheduleConfig(name="cosine"),
            epochs=sizes.turns + 1,
            batch_size=sizes.batch,
        )
        split = images(settings, sizes)
        scale = normalisation(split.train)
        assert scale is not None
        first, rest = split.train, split.validation
        self._data = BatchesInProfile(first, scale, self.device), DeviceArrays(rest, scale, self.device)
        train, scoring = PlainImages(first, scale), PlainImages(rest, scale)
        self._loaders = {count: Loaders.of(train, scoring, sizes.batch, count) for count in (0, sizes.workers)}

    def plain(self, activation: Callable[[], nn.Module], workers: int | None = None) -> PlainRun:
        """The straightforward loop."""
        data, loaders = self._data[0], self._loaders[self.sizes.workers if workers is None else workers]
        network = build_seeded(self.recipe.model, data.shape, data.classes, SEED, activation)
        return PlainRun(network, self.recipe, LEARNING_RATE, loaders, self.device)

    def own(self, text: str, mode: Mode) -> TrainingRun:
        """TrainingRun with a surrogate; for "torch" with torch's own ReLU at its sites."""
        member = Member(surrogate("relu" if text == "torch" else text), SEED)
        run = TrainingRun([member], LEARNING_RATE, self.recipe, self.recipe.epochs, *self._data, self.device, mode)
        for part in run._network.module.modules() if text == "torch" else ():
            if isinstance(part, SugarReLU):  # a change of class leaves the sites where the dead units are counted
                part.__class__ = TorchsReLU
        return run


def measure(settings: Settings, sizes: Sizes | None = None) -> Section:
    """Epochs of every way, one after another, again and again; and where the time of our own goes."""
    sizes = sizes or (QUICK if settings.quick else FULL)
    modes: tuple[Mode, ...] = ("eager", "compiled")
    compilation, notes = [], []
    with torch_threads(settings.threads):
        bench = Bench(settings, sizes)
        try:
            compilation.append(single("first step of mode compiled, nothing in caches", compile_seconds(bench), "s"))
        except Exception as error:  # a compiler that is missing or broken may raise anything
            modes = ("eager",)
            notes.append(f"Mode compiled does not work here and was skipped ({type(error).__name__}: {error}).")
        figures = _compared(bench, modes) + compilation
        notes += [_profile_note(bench, mode) for mode in modes]
    kind = "CIFAR-10" if settings.data else "made-up"
    what = (
        f"ResNet-8, {sizes.images:,} {kind} images, batch {bench.recipe.batch_size}, SGD with momentum on a cosine, "
        f"{bench.recipe.epochs} epochs of each way in turn, the first not timed; an epoch includes scoring "
        f"{sizes.scoring:,} images. The straightforward loop: a Dataset that normalises image by image, a shuffling "
        f"DataLoader with {sizes.workers} workers, nn.ReLU or B-SiLU in the paper's detach form, .item() at each step."
    )
    return Section("One training run", what, tuple(figures), tuple(notes))


def source(settings: Settings) -> str:
    """The name of the images as a study's data; whole, since a name such as cifar10 would come before a folder."""
    return str(settings.data.resolve()) if settings.data else "benchmarks.training:made_up"


def images(settings: Settings, sizes: Sizes) -> Split:
    """CIFAR-10's where they are given, else made up."""
    total = sizes.images + sizes.scoring
    if settings.data is not None:
        share = sizes.scoring / total
        return training_split(DataConfig(name=source(settings), train_limit=total, validation=share))
    pixels, labels = made_up(total, sizes.side)["train"]
    first, rest = slice(sizes.images), slice(sizes.images, None)
    return tensor_split((pixels[first], labels[first]), (pixels[rest], labels[rest]))


def made_up(count: int = 12_000, side: int = 32) -> dict[str, Any]:
    """Noise whose class is the brightest of its four corners: images [N, 3, side, side] and labels, as study's data."""
    rng = np.random.default_rng(SEED)
    pixels, labels = rng.integers(0, 200, (count, 3, side, side)).astype(np.uint8), rng.integers(0, 4, count)
    half = side // 2
    for image, label in zip(pixels, labels, strict=True):
        image[:, half * (label // 2) :, half * (label % 2) :][:, :half, :half] += (
            5  # enough for 50 to 80 %: equal scores of 100 % would not be pruned
        )
    return {"train": (pixels, labels)}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compile_seconds(bench: Bench) -> float:
    """How long the first step takes, of code that no cache knows."""
    from torch._inductor.utils import fresh_cache

    torch._dynamo.reset()
    asked = iter((False, True))
    with fresh_cache(), suppress(CutShortError):
        run, started = bench.own("b_silu", "compiled"), time.perf_counter()
        run.advance(lambda: next(asked))
    return time.perf_counter() - started


def _compared(bench: Bench, modes: Sequence[Mode]) -> list[Figure]:
    """Every mode against the loop, with ReLU and with B-SiLU; and B-SiLU against torch's own ReLU in the same loop."""
    plain = {"loop relu": bench.plain(nn.ReLU), "loop b_silu": bench.plain(DetachedBSiLU)}
    plain["loop alone"] = bench.plain(nn.ReLU, workers=0)
    own = {f"{mode} {text}": bench.own(text, mode) for mode in modes for text in ("relu", "b_silu", "torch")}
    epochs = Epochs(
        bench,
        {name: lambda run=run: run.advance().accuracy for name, run in plain.items()}
        | {name: lambda run=run: run.advance()[0].accuracy for name, run in own.items()},
    )
    speeds = [
        epochs.speed(f"mode {mode}, {word}", f"{mode} {text}", f"loop {text}", TARGETS[mode])
        for mode in modes
        for text, word in (("relu", "ReLU"), ("b_silu", "SUGAR B-SiLU"))
    ]
    costs = [
        epochs.cost(f"SUGAR B-SiLU, mode {mode}", f"{mode} b_silu", f"{mode} torch", SUGAR_TARGET) for mode in modes
    ]
    speeds.append(epochs.speed("straightforward loop without workers, ReLU", "loop alone", "loop relu"))
    return [*speeds, *costs, epochs.cost("B-SiLU in detach form, straightforward loop", "loop b_silu", "loop relu")]


class Epochs:
    """Seconds and accuracies of the epochs of several ways, trained side by side to their ends."""

    def __init__(self, bench: Bench, ways: Mapping[str, Callable[[], float]]) -> None:
        """Train; each of the ways trains an epoch and gives its accuracy."""
        self._images, self._has_targets = bench.sizes.images, bench.device.type == "cpu"
        self._accuracies: dict[str, list[float]] = {name: [] for name in ways}
        noted = {name: partial(self._note, name, way) for name, way in ways.items()}
        self._seconds = turns(noted, bench.sizes.turns, bench.device)

    def _note(self, name: str, way: Callable[[], float]) -> None:
        self._accuracies[name].append(round(way(), 4))

    def speed(self, name: str, own: str, reference: str, target: float | None = None) -> Figure:
        """How many times as fast a way is as another."""
        unit, detail = "of the straightforward loop's images per second", self._detail(own, reference)
        at_least = target if self._has_targets else None
        return speed(name, self._seconds[own], self._seconds[reference], unit, at_least, detail)

    def cost(self, name: str, own: str, reference: str, target: float | None = None) -> Figure:
        """How many times as long a way takes as another."""
        unit, detail = "of the time with torch's own ReLU in the same loop", self._detail(own, reference)
        at_most = target if self._has_targets else None
        return ratio(name, self._seconds[own], self._seconds[reference], unit, at_most=at_most, detail=detail)

    def _detail(self, own: str, reference: str) -> dict[str, Any]:
        return {
            "images_per_second": round(self._images / median(self._seconds[own])),
            "reference_images_per_second": round(self._images / median(self._seconds[reference])),
            "validation_accuracies": self._accuracies[own],
            "reference_validation_accuracies": self._accuracies[reference],
        }


def speed(
    name: str, own: Seconds, reference: Seconds, unit: str, at_least: float | None, detail: Mapping[str, Any]
) -> Figure:
    """How many times as fast as `reference` the way `own` is, from the seconds of both, turn by turn."""
    medians = {"median_seconds": median(own), "reference_median_seconds": median(reference)}
    return ratio(name, reference, own, unit, at_least=at_least, detail={**medians, **detail})


KINDS: Final = {
    "batches": r"^batches$",
    "optimiser": r"^Optimizer\.step",
    "convolution backward": r"ConvolutionBackward|convolution_backward",
    "convolution forward": r"conv",
    "batch norm": r"batch_norm|BatchNorm",
    "activation": r"SugarRelu",
    "fused batch norm, activation, sum": r"CompiledFxGraph|CompiledFunction|Torch-Compiled",
}
"""What an event of the profiler belongs to: the first of them that its name or one around it has."""


def profile(run: TrainingRun, device: torch.device) -> dict[str, float]:
    """The shares that kinds of work have of one epoch's time; on CUDA, of which the device works."""
    with torch.profiler.profile() as profiler:
        started = time.perf_counter()
        run.advance()
        seconds = time.perf_counter() - started
    events = [event for event in profiler.events() or () if event.device_type.name == "CPU"]
    steps = (event.time_range.end for event in events if event.name.startswith("Optimizer.step"))
    trained = max(steps, default=math.inf)
    spent: Counter[str] = Counter()
    for event in events:
        own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        spent["scoring" if event.time_range.start > trained else _kind(event)] += own
    shares = {kind: micro / 1e6 / seconds for kind, micro in spent.most_common() if kind}
    return {**shares, "the rest": 1 - sum(shares.values())}


def _kind(event: Any) -> str:
    """Empty for the rest."""
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    around = "\n".join(names)
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, around, re.MULTILINE)), "")


def _profile_note(bench: Bench, mode: Mode) -> str:
    shares = profile(bench.own("b_silu", mode), bench.device)
    parts = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
    return f"Where an epoch of mode {mode} with SUGAR B-SiLU goes, under a profiler: {parts}."
