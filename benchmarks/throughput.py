"""Candidates per hour, end to end, of a search against the obvious way to write one: an Optuna study and a plain loop.

Ours is the study as shipped, its screening alone. The obvious way draws a candidate of a comparable space, puts it into
an autograd.Function as a Python lambda, and trains the same network by the same recipe: data, epochs, batch size,
optimiser, learning rates, replicates. Its study is kept in SQLite, since whoever searches for hours wants to resume.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.harness import Figure, Section, Settings
from benchmarks.training import Loaders, PlainImages, PlainRun, source, speed, torch_threads
from sugarsearch.config.schema import StudyConfig
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.device import DeviceArrays, Normalisation, normalisation
from sugarsearch.data.splits import training_split
from sugarsearch.models.build import build_seeded
from sugarsearch.runs.load import load_study

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

    from sugarsearch.evaluation.executor import Executor


@dataclass(frozen=True)
class Case:
    """A search to be timed.

    Attributes:
        name: in the results.
        study: its bare name.
        candidates: of ours in each turn; the obvious way tries one.
        turns: how often both are timed.
        target: how many times as fast ours must be; None: a yardstick.
        images: whether it trains on images, which are loaded one by one in the obvious way.
        overrides: of the study.
    """

    name: str
    study: str
    candidates: int
    turns: int
    target: float | None = None
    images: bool = False
    overrides: tuple[str, ...] = ()


QUICKSTART_TARGET: Final = 10.0
SMALL_CONV_TARGET: Final = 1.7
"""On two cores."""
GPU_TARGET: Final = 10.0
IMAGE_WORKERS: Final = 2
MISSING: Final = (
    "Optuna is not installed here, and searches need it: nothing was measured. pip install 'optuna>=5.0,<6'."
)


def cases(settings: Settings) -> tuple[Case, ...]:
    """The searches that are timed; on CUDA one of ResNet-8 as well."""
    quick, cuda = settings.quick, settings.device.type == "cuda"
    data = (f"recipe.data.name={source(settings)}", f"recipe.data.train_limit={2_000 if quick else 12_000}")
    conv = partial(Case, study="cifar10_small", candidates=2 if quick else 6, turns=1 if quick else 2, images=True)
    found = (
        Case("quickstart", "quickstart", 10 if quick else 20, 1 if quick else 3, QUICKSTART_TARGET),
        conv("small conv net", target=None if cuda else SMALL_CONV_TARGET, overrides=data),
    )
    resnet8 = conv("ResNet-8 on a GPU", target=GPU_TARGET, overrides=(*data, "recipe.model=resnet8"))
    return (*found, resnet8) if cuda else found


@dataclass(frozen=True)
class Outcome:
    """What a search took.

    Attributes:
        seconds: of a candidate, all included.
        training: seconds of it in which networks were trained; of several workers, their mean.
        epochs: trained for a candidate.
        start: seconds before the first candidate.
        threads: of torch, in all workers together.
    """

    seconds: float
    training: float
    epochs: float
    start: float
    threads: int

    @property
    def outside(self) -> float:
        """The share of time in which nothing was trained."""
        return 1 - self.training / self.seconds


def measure(settings: Settings, chosen: Sequence[Case] | None = None) -> Section:
    """Both searches of every case, one after another, turn by turn."""
    title, figures, notes = "Candidates per hour", [], []
    if find_spec("optuna") is None:
        return Section(title, "Nothing.", (), (MISSING,))
    for case in cases(settings) if chosen is None else chosen:
        configs = [_config(case, settings, turn) for turn in range(case.turns)]
        pairs = [_turn(config, case, settings) for config in configs]
        own, reference = [list(column) for column in zip(*pairs, strict=True)]
        figures += _figures(case, configs[0], own, reference)
        notes.append(_note(case, own, reference))
    what = (
        "Screening of shipped studies, without their queue: propose, build, train, record, tell; not counted is all "
        "before the first candidate, each process having trained once by then. Ours: the study's own configuration by "
        f"{settings.threads} worker processes, of one thread each on the CPU. The obvious way: one process, with 1 or "
        f"{settings.threads} threads and 0 or {IMAGE_WORKERS} workers that load images, whichever is fastest; Optuna's "
        "TPE in SQLite; an autograd.Function of a lambda; one network after another, by a plain loop, all epochs; "
        "accuracy reported after each."
    )
    return Section(title, what, tuple(figures), tuple(notes))


def _config(case: Case, settings: Settings, turn: int) -> StudyConfig:
    return load_study(
        case.study,
        [
            *case.overrides,
            "search.queue=[]",
            f"search.candidates={case.candidates}",
            f"search.seed={turn}",
            f"execution.device={settings.device}",
            f"execution.workers={settings.threads}",
            "execution.threads=1",
        ],
    )


def _turn(config: StudyConfig, case: Case, settings: Settings) -> tuple[Outcome, Outcome]:
    with tempfile.TemporaryDirectory() as folder, torch_threads(settings.threads):
        return ours(config, Path(folder) / "run"), obvious(config, Path(folder), settings.device, images=case.images)


def _figures(case: Case, config: StudyConfig, own: list[Outcome], reference: list[Outcome]) -> list[Figure]:
    seconds = [[outcome.seconds for outcome in outcomes] for outcomes in (own, reference)]
    shares = [round(median(outcome.outside for outcome in outcomes), 3) for outcomes in (own, reference)]
    detail: dict[str, Any] = {
        "candidates_per_hour": round(3600 / median(seconds[0]), 1),
        "reference_candidates_per_hour": round(3600 / median(seconds[1]), 1),
        "share_outside_training": shares[0],
        "reference_share_outside_training": shares[1],
        "threads": own[0].threads,
        "reference_threads": [outcome.threads for outcome in reference],
    }
    unit = "of the obvious way's candidates per hour"
    figures = [speed(case.name, seconds[0], seconds[1], unit, case.target, detail)]
    if config.search.pruning is not None:
        pace = [[outcome.seconds / outcome.epochs for outcome in outcomes] for outcomes in (own, reference)]
        epochs = [round(fmean(outcome.epochs for outcome in outcomes), 1) for outcomes in (own, reference)]
        detail = {"epochs_a_candidate": epochs[0], "reference_epochs_a_candidate": epochs[1]}
        unit = "of the obvious way's training epochs per hour"
        figures.append(speed(f"{case.name}, work for work", pace[0], pace[1], unit, None, detail))
    return figures


def _note(case: Case, own: list[Outcome], reference: list[Outcome]) -> str:
    starts = [median(outcome.start for outcome in outcomes) for outcomes in (own, reference)]
    return (
        f"{case.name}, not counted: ours starts in {starts[0]:.1f} s (workers, database, a first training in each), "
        f"the obvious way in {starts[1]:.1f} s (in a process that has imported all)."
    )


def ours(config: StudyConfig, folder: Path) -> Outcome:
    """The screening of a study, in worker processes that are up."""
    from sugarsearch.evaluation.executor import ProcessExecutor
    from sugarsearch.evaluation.jobs import SCREENING
    from sugarsearch.runs.folder import DATABASE
    from sugarsearch.runs.observer import Silent
    from sugarsearch.runs.session import session
    from sugarsearch.search.batch import confirm
    from sugarsearch.search.database import mirror
    from sugarsearch.search.samplers import make_sampler
    from sugarsearch.search.study import Screening, quiet_optuna

    begun = time.perf_counter()
    sampler = make_sampler(config.space, config.search, [])
    with quiet_optuna(), session(config, folder, ProcessExecutor, False) as at:
        _warm_up(at.executor, config)
        verify = partial(confirm, config=config, log=at.log)
        with mirror(folder / DATABASE, config.name, at.origin.run, verify) as database:
            started = time.perf_counter()
            rows, _ = Screening(config, folder, Silent(), at.executor, database, sampler).run()
            seconds = time.perf_counter() - started
        records = [record for record in at.log.load() if record.job.stage == SCREENING]
    training = sum(record.seconds for record in records) / config.execution.workers
    epochs = sum(len(record.scores) for record in records)
    count, threads = len(rows), config.execution.workers
    return Outcome(seconds / count, training / count, epochs / count, started - begun, threads)


def _warm_up(executor: Executor, config: StudyConfig) -> None:
    """Train once in every worker, as a population where that is the mode.

    Jobs that meet at a rung are divided among all workers; others would all go to the one that is up first.
    """
    from sugarsearch.evaluation.jobs import Job
    from sugarsearch.symbolic.library import surrogate

    rate, count = config.search.learning_rates[0], max(2, config.execution.workers)
    jobs = [Job(surrogate("b_silu"), rate, number, number, 2, "warm-up") for number in range(count)]
    for _ in executor.evaluate(jobs, lambda progress: (), rungs=(1,)):
        pass


Elementwise = Callable[[Tensor], Tensor]

UNARY: Final[dict[str, Elementwise]] = {
    "neg": lambda x: -x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sech2": lambda x: 1 / torch.cosh(x) ** 2,
    "gaussian": lambda x: torch.exp(-(x**2)),
    "softsign": F.softsign,
    "atan": torch.atan,
    "sin": torch.sin,
}
BINARY: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "max": torch.maximum,
    "min": torch.minimum,
}
"""The words of the space gate."""


def draw(trial: BaseTrial) -> Elementwise:
    """A gate sigmoid(k x) times a tree of up to ten nodes, as many as the space gate has."""
    k = trial.suggest_float("k", 0.25, 16.0, log=True)
    left, right = (UNARY[trial.suggest_categorical(name, list(UNARY))] for name in ("left", "right"))
    binary = BINARY[trial.suggest_categorical("binary", list(BINARY))]
    a, b, c = (trial.suggest_float(name, -2.0, 2.0) for name in "abc")
    return lambda x: torch.sigmoid(k * x) * binary(left(a * x), right(b * x) + c)


class PlainFunction(torch.autograd.Function):
    """ReLU forward, grad * g(x) backward, as most would write it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Elementwise) -> Tensor:
        ctx.save_for_backward(x)
        ctx.g = g
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.g(x), None


class PlainActivation(nn.Module):
    """The module around it."""

    def __init__(self, g: Elementwise) -> None:
        super().__init__()
        self.g = g

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = PlainFunction.apply(x, self.g)
        return output


class Objective:
    """What Optuna maximises: accuracy at the best of the learning rates, each the mean of its replicates.

    Attributes:
        training: seconds spent in training runs.
        epochs: how many were trained.
    """

    def __init__(self, config: StudyConfig, device: torch.device, *, images: bool) -> None:
        """Open the data. images: too large to be normalised beforehand."""
        self.training, self.epochs, self._config, self._device = 0.0, 0, config, device
        split = training_split(config.recipe.data)
        scale = normalisation(split.train, config.recipe.normalisation)
        assert scale is not None
        make = PlainImages if images else _normalised
        train, scoring = (make(part, scale) for part in (split.train, split.validation))
        self._loaders = {
            workers: Loaders.of(train, scoring, config.recipe.batch_size, workers)
            for workers in ((0, IMAGE_WORKERS) if images else (0,))
        }
        self._workers = 0
        self._shape, self._classes = split.train.shape, len(split.train.classes)

    def __call__(self, trial: BaseTrial) -> float:
        g, search, scores = draw(trial), self._config.search, []
        accuracies: list[float] = []
        for rate in search.learning_rates:
            ends = []
            for replicate in range(search.replicates):
                for accuracy in self.train(g, rate, replicate):
                    trial.report(accuracy, len(accuracies))
                    accuracies.append(accuracy)
                ends.append(accuracies[-1])
            scores.append(fmean(ends))
        return max(scores)

    def tune(self) -> int:
        """Have images loaded in the way that is faster here; gives the number of threads that is.

        For tiny networks several threads are slower, and for short epochs so are workers, which start anew in each.
        """
        ways = [(threads, workers) for threads in {1, torch.get_num_threads()} for workers in self._loaders]
        self._seconds_of_an_epoch(*ways[0])  # warms up
        seconds = {way: self._seconds_of_an_epoch(*way) for way in ways}
        threads, self._workers = min(ways, key=lambda way: seconds[way])
        self.training, self.epochs = 0.0, 0
        return threads

    def _seconds_of_an_epoch(self, threads: int, workers: int) -> float:
        before, self._workers = self.training, workers
        with torch_threads(threads):
            next(self.train(torch.sigmoid, self._config.search.learning_rates[0], 0))
        return self.training - before

    def train(self, g: Elementwise, rate: float, seed: int) -> Iterator[float]:
        """A training run; yields the accuracy of each epoch."""
        recipe, started = self._config.recipe, time.perf_counter()
        network = build_seeded(recipe.model, self._shape, self._classes, seed, lambda: PlainActivation(g))
        run = PlainRun(network, recipe, rate, self._loaders[self._workers], self._device)
        for _ in range(recipe.epochs):
            accuracy = run.advance().accuracy
            self.training += time.perf_counter() - started
            self.epochs += 1
            yield accuracy
            started = time.perf_counter()


def _normalised(arrays: Arrays, scale: Normalisation) -> TensorDataset:
    """Small data as one tensor."""
    data = DeviceArrays(arrays, scale)
    return TensorDataset(data.batch(torch.arange(len(data))), data.labels)


def obvious(config: StudyConfig, folder: Path, device: torch.device, *, images: bool, candidates: int = 1) -> Outcome:
    """An Optuna study of the same recipe, in this process."""
    import optuna

    from sugarsearch.search.study import quiet_optuna

    begun = time.perf_counter()
    objective = Objective(config, device, images=images)
    threads = objective.tune()
    with quiet_optuna(), torch_threads(threads):
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'obvious.db'}")
        sampler = optuna.samplers.TPESampler(seed=config.search.seed)
        study = optuna.create_study(direction="maximize", storage=storage, sampler=sampler)
        started = time.perf_counter()
        study.optimize(objective, n_trials=candidates)
        seconds = time.perf_counter() - started
        storage.remove_session()
        storage.engine.dispose()
    training, epochs = objective.training / candidates, objective.epochs / candidates
    return Outcome(seconds / candidates, training, epochs, started - begun, threads)
