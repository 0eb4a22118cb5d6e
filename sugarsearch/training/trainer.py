"""A training run: members that share recipe and learning rate, advanced epoch by epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.objects import is_object_name
from sugarsearch.config.schema import TIMM_TRAINS_ALONE, ModelConfig, Recipe
from sugarsearch.data.device import DeviceArrays
from sugarsearch.errors import UsageError
from sugarsearch.models.catalog import MODELS
from sugarsearch.training.augmentation import TimmBatches
from sugarsearch.training.batches import Batches, DeviceBatches, Part, divide
from sugarsearch.training.engine import Engine, Engines
from sugarsearch.training.fusion import fuse_where_it_pays
from sugarsearch.training.gradients import Gradients
from sugarsearch.training.graph import StepGraph, prove
from sugarsearch.training.metrics import Activity, watch
from sugarsearch.training.network import Member, Mode, ModelFactory, fastest_convolutions, make_network
from sugarsearch.training.optim import Schedule, keep_members, make_optimizer, optimizer_config, rate_on_device
from sugarsearch.training.streams import Stream, number

_log = logging.getLogger(__name__)

SCORING_BATCH = 512
"""Inputs scored at once; the first of these batches is also the one that dead units are counted on."""


@dataclass(frozen=True)
class EpochReport:
    """What a member has reached after an epoch.

    Attributes:
        member: its number in the run's `members`.
        epoch: epochs trained, from 1.
        accuracy: share of the scoring data classified rightly.
        loss: mean cross-entropy on the scoring data.
        train_loss: mean cross-entropy of the epoch's batches, each before its step, as augmented.
        finite: whether both losses are; a member that is not has diverged and should be dropped.
        dead_units: share of units that are 0 for all of the first scoring batch.
        sparsity: share of activations that are 0 there.
    """

    member: int
    epoch: int
    accuracy: float
    loss: float
    train_loss: float
    finite: bool
    dead_units: float
    sparsity: float


class CutShortError(Exception):
    """`TrainingRun.advance` stopped within an epoch, which gives no report; the run cannot go on."""


Cut = Callable[[], bool]
"""Whether to stop now; asked before each batch."""


def choose_mode(
    recipe: Recipe,
    device: torch.device,
    members: int,
    requested: Literal["auto", "eager", "compiled", "population"] = "auto",
) -> Mode:
    """The execution mode of runs of a recipe.

    "auto" is population where several members can share a computation (for small networks more than ten
    times as fast; not with augmentation by timm), else compiled on CUDA, where the surrogate then costs
    nothing, else eager: on a CPU compiling takes longer than it saves on a short run.

    Args:
        recipe: its model decides whether a population is possible.
        device: where it will train.
        members: how many jobs there are of one learning rate.
        requested: a mode other than "auto" is taken as it is.

    Raises:
        UsageError: a population of a model that has no such form, or of images that timm augments.
    """
    entry = MODELS.get(recipe.model.name)
    capable = entry is not None and entry.population
    if requested == "population" and not capable:
        names = ", ".join(name for name, entry in MODELS.items() if entry.population)
        raise UsageError(
            f"mode 'population' needs a model that can train as one: {names}; the model is {recipe.model.name}. "
            "Use mode: auto."
        )
    alone = recipe.augmentation == "timm"
    if requested == "population" and alone:
        raise UsageError(TIMM_TRAINS_ALONE)
    if requested != "auto":
        return requested
    if capable and members > 1 and not alone:
        return "population"
    return "compiled" if device.type == "cuda" else "eager"


class TrainingRun:
    """Members trained side by side: one network in mode eager or compiled, any number as a population.

    The same seed gives the same weights, batches and, on a CPU, numbers, whatever ran before in the
    process; a population's members equal their single runs to rounding. Nothing waits for the device
    within an epoch, so a member's divergence is seen at the epoch's end.
    """

    def __init__(
        self,
        members: Sequence[Member],
        learning_rate: float,
        recipe: Recipe,
        epochs: int,
        train: DeviceArrays,
        scoring: DeviceArrays,
        device: torch.device,
        mode: Mode,
        model_factory: ModelFactory | None = None,
        ablation: Ablation = "",
        engines: Engines | None = None,
    ) -> None:
        """Build the networks.

        Args:
            members: what is trained; exactly one unless mode is "population".
            learning_rate: before the schedule's factor.
            recipe: all else; its schedule is defined over recipe.epochs.
            epochs: how many of them may be run, at most recipe.epochs.
            train: training data, on `device`.
            scoring: what the reports' accuracy is of, on `device`.
            device: where to train.
            mode: see `choose_mode`.
            model_factory: makes the network, in place of recipe.model; its activations are replaced.
            ablation: what is changed of the recipe's update; "grafted" cannot be compiled.
            engines: of runs of the same recipe, data and model factory; a compiled run takes over from a finished one.
                Without them nothing else is to use the compiled code: on a CPU, where looking g up costs more than
                computing it (ResNet-8: 1.3 times a step's time), the code has g's formula in place of its table.

        Raises:
            UsageError: a combination that is not allowed.
            SurgeryError: a user's network whose activations cannot be replaced.
        """
        _check(members, recipe, epochs, device, mode, model_factory, ablation)
        self.members = tuple(members)
        # The living members in the order of the network's rows: those of one surrogate lie next to each other.
        groups = list(dict.fromkeys(member.surrogate for member in members))
        self._rows = sorted(range(len(members)), key=lambda index: groups.index(members[index].surrogate))
        self.epoch = 0
        self._recipe, self._epochs, self._rate, self._device = recipe, epochs, learning_rate, device
        self._scoring = scoring
        self._batches = _batches(train, recipe)
        self._parts = divide(self._batches.samples, recipe.batch_size, recipe.accumulation)
        self._capturable = model_factory is None and can_be_captured(recipe, device, mode)

        def make() -> Engine:
            return self._make_engine(model_factory or recipe.model, ablation, mode, train, alone=engines is None)

        if engines is None or mode != "compiled":  # a population changes its shape when members are dropped
            self._engine = make()
        else:
            self._engine = engines.take((mode, ablation), self.members[0], make, self)
        self._network, self._optimizer = self._engine.network, self._engine.optimizer
        self._gradients = Gradients(
            list(self._network.module.parameters()),
            stacked=self._network.stacked,
            grafted=ablation == "grafted",
            limit=recipe.clip_gradient,
        )
        self._steps = self._parts[-1].step + 1
        self._schedule = Schedule(recipe, self._steps)

    def _make_engine(
        self, model: ModelConfig | ModelFactory, ablation: Ablation, mode: Mode, train: DeviceArrays, *, alone: bool
    ) -> Engine:
        """A fresh network and its optimiser. alone: no other run will use its compiled code."""
        recipe, on_cpu = self._recipe, self._device.type == "cpu"
        members = [self.members[row] for row in self._rows]
        closed = alone and on_cpu
        network = make_network(members, model, train.shape, train.classes, self._device, mode, closed=closed)
        # Whether it pays is found by a forward pass, which a user's own network might count or not take.
        catalogued = isinstance(model, ModelConfig) and not is_object_name(model.name)
        if mode == "eager" and on_cpu and catalogued:
            fuse_where_it_pays(network.module, train.shape, len(train) * recipe.epochs, recipe.batch_size)
        optimizer = make_optimizer(
            network.module.parameters(),
            optimizer_config(recipe, ablation),
            self._rate,
            stacked=network.stacked,
            capturable=self._capturable,
        )
        return Engine(network, optimizer)

    @property
    def alive(self) -> list[int]:
        """The numbers of the members still in training."""
        return sorted(self._rows)

    def advance(self, cut: Cut = lambda: False) -> list[EpochReport]:
        """Train one epoch, one pass over the data, and score; a report for each living member.

        Args:
            cut: asked before each batch, of training and of scoring.

        Raises:
            CutShortError: it said so.
            UsageError: all epochs are run, or no member is left.
        """
        if self.epoch >= self._epochs or not self._rows:
            raise UsageError(f"this run is over: epoch {self.epoch} of {self._epochs}, {len(self._rows)} members left.")
        with self._own_randomness(), fastest_convolutions():
            train_loss = self._train_epoch(cut)
        self.epoch += 1
        return self._report(train_loss, cut)

    def drop(self, indices: Sequence[int]) -> None:
        """Stop training the members of these numbers (of `members`); the others go on unchanged."""
        dropped = set(indices)
        kept = [position for position, member in enumerate(self._rows) if member not in dropped]
        if len(kept) == len(self._rows):
            return
        if kept and self._network.stacked:
            positions = torch.tensor(kept, device=self._device)
            keep_members(self._optimizer, positions)
            self._network.keep(positions)
            self._engine.graph = None
        self._rows = [self._rows[position] for position in kept]

    def state(self, member: int) -> dict[str, Tensor]:
        """The state_dict of a living member, as a plain ReLU network of the same model loads it; on the CPU."""
        return self._network.state(self._rows.index(member))

    def snapshot(self) -> dict[str, Any]:
        """All that `restore` needs: between epochs, weights and the optimiser's state; seeds make the rest."""
        return {
            "epoch": self.epoch,
            "alive": self.alive,
            "network": self._network.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Make this fresh run what the run of the same members was when `snapshot` was taken.

        Raises:
            KeyError, RuntimeError, ValueError: it is no snapshot of such a run; the run is of no use then.
        """
        self.drop([member for member in self.alive if member not in snapshot["alive"]])
        self._network.module.load_state_dict(snapshot["network"])
        self._optimizer.load_state_dict(snapshot["optimizer"])
        if self._capturable:  # its tensors are others now
            rate_on_device(self._optimizer, self._device)
            self._engine.graph = None
        self.epoch = snapshot["epoch"]

    def _train_epoch(self, cut: Cut) -> Tensor:
        """Mean loss of each living member, [members], on the device."""
        self._network.module.train()
        seeds = [self.members[member].seed for member in self._rows]
        total = torch.zeros(len(self._rows), device=self._device)
        for part, (inputs, targets) in zip(self._parts, self._batches.epoch(seeds, self.epoch), strict=True):
            if cut():
                raise CutShortError(f"cut in epoch {self.epoch + 1}, step {part.step} of {self._steps}.")
            whole = part.size == self._recipe.batch_size
            self._schedule.set(self._optimizer, self._rate, self.epoch * self._steps + part.step)
            if self._capturable and whole:
                losses = self._captured_step(inputs, targets)
            else:
                losses = self._step(inputs, targets, part, whole_batch=whole)
            total += losses * part.size
        return total / self._batches.samples

    def _step(self, inputs: Tensor, targets: Tensor, part: Part, *, whole_batch: bool) -> Tensor:
        """The losses of a batch, detached, and the update where it closes a step."""
        if part.opens:
            self._gradients.clear()
        losses = self._losses(inputs, targets, whole_batch=whole_batch)
        # The members' losses have no parameter in common: each gets the gradient it would get alone.
        self._gradients.add(losses.sum() * part.share)
        if part.closes:
            self._gradients.finish()
            self._optimizer.step()
        return losses.detach()

    def _captured_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """`_step` of a whole batch as one CUDA graph; where none can be captured, as it is, from then on."""

        def step(inputs: Tensor, targets: Tensor) -> Tensor:
            return self._step(inputs, targets, self._parts[0], whole_batch=True)

        engine = self._engine
        if engine.graph is None or not engine.graph.fits(inputs, targets):
            try:
                prove(self._device)
                engine.graph = StepGraph(step, inputs, targets, engine.state, engine.pool)
            except RuntimeError as error:
                _log.warning("steps are launched kernel by kernel: no CUDA graph can be made of them (%s).", error)
                self._capturable, engine.graph = False, None
        return step(inputs, targets) if engine.graph is None else engine.graph(inputs, targets)

    def _losses(self, inputs: Tensor, targets: Tensor, *, whole_batch: bool) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.precision == "bf16"):
            return self._network.losses(self._network.logits(inputs, whole_batch=whole_batch), targets)

    @torch.no_grad()
    def _report(self, train_loss: Tensor, cut: Cut) -> list[EpochReport]:
        self._network.module.eval()
        correct = torch.zeros_like(train_loss)
        loss = torch.zeros_like(train_loss)
        batches = torch.split(torch.arange(len(self._scoring), device=self._device), SCORING_BATCH)
        with watch(self._network.module, stacked=self._network.stacked) as activity:
            self._score(batches[0], correct, loss)
        for indices in batches[1:]:
            if cut():
                raise CutShortError(f"cut while epoch {self.epoch} was scored.")
            self._score(indices, correct, loss)
        finite = train_loss.isfinite() & loss.isfinite()
        return self._reports(correct / len(self._scoring), loss / len(self._scoring), train_loss, finite, activity)

    def _score(self, indices: Tensor, correct: Tensor, loss: Tensor) -> None:
        """Add what a batch gives to `correct` and `loss`, [members]."""
        inputs, labels = self._scoring.batch(indices), self._scoring.labels[indices]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.precision == "bf16"):
            logits = self._network.logits(inputs, whole_batch=False)
        correct += self._network.correct(logits, labels)
        loss += self._network.losses(logits.float(), labels) * len(indices)

    def _reports(
        self, accuracy: Tensor, loss: Tensor, train_loss: Tensor, finite: Tensor, activity: Activity
    ) -> list[EpochReport]:
        columns = (accuracy, loss, train_loss, finite, activity.dead_share(), activity.sparsity())
        rows = torch.stack([column.float() for column in columns], dim=1).tolist()  # the epoch's one wait
        reports = [
            EpochReport(member, self.epoch, row[0], row[1], row[2], bool(row[3]), row[4], row[5])
            for member, row in zip(self._rows, rows, strict=True)
        ]
        return sorted(reports, key=lambda report: report.member)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Dropout and the like draw from the first member's seed and the epoch, not from the caller's state."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(number(self.members[self.alive[0]].seed, self.epoch, Stream.MODEL))
            yield


def can_be_captured(recipe: Recipe, device: torch.device, mode: Mode) -> bool:
    """Whether an optimisation step can be one CUDA graph.

    It is of one batch, its weight decay stays, and the model is of the catalogue: what a user's own does from call to
    call in Python would be frozen.
    """
    steady = recipe.accumulation == 1 and recipe.optimizer.final_weight_decay is None
    return device.type == "cuda" and mode != "eager" and steady and not is_object_name(recipe.model.name)


def _batches(train: DeviceArrays, recipe: Recipe) -> Batches:
    if recipe.augmentation == "timm":
        return TimmBatches(train, recipe.batch_size)
    return DeviceBatches(train, recipe.batch_size, crop_flip=recipe.augmentation == "crop_flip")


def _check(
    members: Sequence[Member],
    recipe: Recipe,
    epochs: int,
    device: torch.device,
    mode: Mode,
    model_factory: ModelFactory | None,
    ablation: Ablation,
) -> None:
    if not members or (mode != "population" and len(members) != 1):
        raise UsageError(f"mode {mode!r} trains one member, a population at least one; given {len(members)}.")
    if mode == "population" and recipe.augmentation == "timm":
        raise UsageError(TIMM_TRAINS_ALONE)
    if mode == "population" and model_factory is not None:
        raise UsageError("a model factory cannot train as a population; use mode 'eager' or 'compiled'.")
    if ablation == "grafted" and any(member.arm != "sugar" for member in members):
        raise UsageError("ablation 'grafted' takes its direction from SUGAR's gradient; train the arm 'sugar'.")
    if ablation == "grafted" and mode == "compiled":
        raise UsageError("ablation 'grafted' cannot be compiled; use mode 'eager' or 'population'.")
    if not 1 <= epochs <= recipe.epochs:
        raise UsageError(f"epochs is {epochs}; the recipe's schedule allows 1 to {recipe.epochs}.")
    if recipe.precision == "bf16" and device.type != "cuda":
        raise UsageError(
            f"precision 'bf16' is for CUDA devices; on {device.type} it is several times slower. Use precision: fp32."
        )
