"""A training run: members that share recipe and learning rate, advanced epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import ModelConfig, Recipe
from sugarsearch.data.device import DeviceArrays
from sugarsearch.errors import UsageError
from sugarsearch.models.catalog import MODELS
from sugarsearch.nn.function import relus_own_gradient
from sugarsearch.training.metrics import Activity, watch
from sugarsearch.training.network import Member, Mode, ModelFactory, make_network
from sugarsearch.training.optim import (
    Schedule,
    clip_gradients,
    graft_gradients,
    keep_members,
    make_optimizer,
    optimizer_config,
)

SCORING_BATCH = 512
"""Inputs scored at once; the first of these batches is also the one that dead units are counted on."""

# Streams of a member's seed: what is drawn for one purpose must not depend on another.
_ORDER, _AUGMENTATION, _MODEL = range(3)


@dataclass(frozen=True)
class EpochReport:
    """What a member has reached after an epoch.

    Attributes:
        member: its number in the run's `members`.
        epoch: epochs trained, from 1.
        accuracy: share of the scoring data classified rightly.
        loss: mean cross-entropy on the scoring data.
        train_loss: mean cross-entropy of the epoch's batches, each before its step.
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
"""Whether to stop now; asked before each step."""


def choose_mode(
    recipe: Recipe,
    device: torch.device,
    members: int,
    requested: Literal["auto", "eager", "compiled", "population"] = "auto",
) -> Mode:
    """The execution mode of runs of a recipe.

    "auto" is population where several members can share a computation (for small networks more than ten
    times as fast), else compiled on CUDA, where the surrogate then costs nothing, else eager: on a CPU
    compiling takes longer than it saves on a short run.

    Args:
        recipe: its model decides whether a population is possible.
        device: where it will train.
        members: how many jobs there are of one learning rate.
        requested: a mode other than "auto" is taken as it is.

    Raises:
        UsageError: a population of a model that has no such form.
    """
    entry = MODELS.get(recipe.model.name)
    capable = entry is not None and entry.population
    if requested == "population" and not capable:
        names = ", ".join(name for name, entry in MODELS.items() if entry.population)
        raise UsageError(
            f"mode 'population' needs a model that can train as one: {names}; the model is {recipe.model.name}. "
            "Use mode: auto."
        )
    if requested != "auto":
        return requested
    if capable and members > 1:
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
        self._train, self._scoring, self._ablation = train, scoring, ablation
        model: ModelConfig | ModelFactory = model_factory or recipe.model
        self._network = make_network(
            [members[row] for row in self._rows], model, train.shape, train.classes, device, mode
        )
        self._parameters = list(self._network.module.parameters())
        self._optimizer = make_optimizer(self._parameters, optimizer_config(recipe, ablation), learning_rate)
        self._steps = math.ceil(len(train) / recipe.batch_size)
        self._schedule = Schedule(recipe, self._steps)

    @property
    def alive(self) -> list[int]:
        """The numbers of the members still in training."""
        return sorted(self._rows)

    def advance(self, cut: Cut = lambda: False) -> list[EpochReport]:
        """Train one epoch, one pass over the data, and score; a report for each living member.

        Args:
            cut: asked before each step and each batch that is scored.

        Raises:
            CutShortError: it said so.
            UsageError: all epochs are run, or no member is left.
        """
        if self.epoch >= self._epochs or not self._rows:
            raise UsageError(f"this run is over: epoch {self.epoch} of {self._epochs}, {len(self._rows)} members left.")
        with self._own_randomness():
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
        self.epoch = snapshot["epoch"]

    def _train_epoch(self, cut: Cut) -> Tensor:
        """Mean loss of each living member, [members], on the device."""
        self._network.module.train()
        order = self._order()
        augment = self._augmentation()
        total = torch.zeros(len(self._rows), device=self._device)
        for step, indices in enumerate(torch.split(order, self._recipe.batch_size, dim=-1)):
            if cut():
                raise CutShortError(f"cut in epoch {self.epoch + 1}, step {step} of {self._steps}.")
            inputs = self._train.batch(indices, augment)
            rate = self._rate * self._schedule.factor(self.epoch * self._steps + step)
            total += self._step(inputs, self._train.labels[indices], rate) * indices.shape[-1]
        return total / len(self._train)

    def _step(self, inputs: Tensor, labels: Tensor, rate: float) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.precision == "bf16"):
            whole = labels.shape[-1] == self._recipe.batch_size
            losses = self._network.losses(self._network.logits(inputs, whole_batch=whole), labels)
        # The members' losses have no parameter in common: each gets the gradient it would get alone.
        self._backward(losses.sum())
        if self._recipe.clip_gradient is not None:
            clip_gradients(self._parameters, self._recipe.clip_gradient, self._network.stacked)
        self._optimizer.step()
        return losses.detach()

    def _backward(self, loss: Tensor) -> None:
        """Fill in the gradients; grafting goes back twice through the one graph, for SUGAR's and for ReLU's."""
        if self._ablation != "grafted":
            torch.autograd.backward(loss)
            return
        torch.autograd.backward(loss, retain_graph=True)
        directions = [parameter.grad for parameter in self._parameters]
        self._optimizer.zero_grad()
        with relus_own_gradient():
            torch.autograd.backward(loss)
        graft_gradients(self._parameters, directions, self._network.stacked)

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

    def _order(self) -> Tensor:
        """The epoch's inputs in order, int64 [N], or [members, N] where members have seeds of their own."""
        seeds = [self.members[member].seed for member in self._rows]
        orders = {
            seed: torch.randperm(len(self._train), generator=_generator(seed, self.epoch, _ORDER, torch.device("cpu")))
            for seed in dict.fromkeys(seeds)
        }
        rows = [orders[seed] for seed in (seeds if len(orders) > 1 else seeds[:1])]
        return (torch.stack(rows) if len(rows) > 1 else rows[0]).to(self._device)

    def _augmentation(self) -> torch.Generator | list[torch.Generator] | None:
        if self._recipe.augmentation == "none":
            return None
        seeds = [self.members[member].seed for member in self._rows]
        generators = [_generator(seed, self.epoch, _AUGMENTATION, self._device) for seed in seeds]
        return generators if len(set(seeds)) > 1 else generators[0]

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Dropout and the like draw from the first member's seed and the epoch, not from the caller's state."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(_number(self.members[self.alive[0]].seed, self.epoch, _MODEL))
            yield


def _number(seed: int, epoch: int, stream: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0])


def _generator(seed: int, epoch: int, stream: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(_number(seed, epoch, stream))


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
    if mode == "population" and model_factory is not None:
        raise UsageError("a model factory cannot train as a population; use mode 'eager' or 'compiled'.")
    if ablation == "grafted" and mode == "compiled":
        raise UsageError("ablation 'grafted' cannot be compiled; use mode 'eager' or 'population'.")
    if not 1 <= epochs <= recipe.epochs:
        raise UsageError(f"epochs is {epochs}; the recipe's schedule allows 1 to {recipe.epochs}.")
    if recipe.precision == "bf16" and device.type != "cuda":
        raise UsageError(
            f"precision 'bf16' is for CUDA devices; on {device.type} it is several times slower. Use precision: fp32."
        )
