"""A population of small convolutional networks as one network, whose members are groups of channels.

A way to train many candidates at once that sugarsearch itself does not have; gpu_population measures it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_training import LEARNING_RATE, SEED, Bench
from benchmarks.harness import turns
from sugarsearch.models.build import build_seeded
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.batches import DeviceBatches
from sugarsearch.training.graph import StepGraph
from sugarsearch.training.optim import make_optimizer
from sugarsearch.training.trainer import SCORING_BATCH

Accuracies = dict[str, float]
"""By candidate."""


class GroupedActivation(nn.Module):
    """A population's activation, whose members are groups of channels: x is [B, members * C, H, W]."""

    def __init__(self, population: SugarReLU) -> None:
        super().__init__()
        self.population = population

    def forward(self, x: Tensor) -> Tensor:
        """relu(x)."""
        members = x.view(len(x), self.population.members, -1, *x.shape[2:]).transpose(0, 1)
        output: Tensor = self.population(members)
        return output.transpose(0, 1).flatten(1, 2)


class GroupedLinear(nn.Module):
    """A linear layer for each member: features [B, members * C] to logits [members, B, classes]."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().t() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]).unsqueeze(1))

    def forward(self, features: Tensor) -> Tensor:
        """The logits."""
        members = features.view(len(features), len(self.weight), -1).transpose(0, 1)
        return torch.baddbmm(self.bias, members, self.weight)


def grouped_network(networks: Sequence[nn.Module], activation: SugarReLU) -> nn.Module:
    """Residual networks, alike but for their weights, as one: images [B, 3, H, W] to logits [members, B, classes]."""
    whole = copy.deepcopy(networks[0])
    for name, module in list(whole.named_modules()):
        parts: list[Any] = [network.get_submodule(name) for network in networks]
        new: nn.Module | None = None
        if isinstance(module, nn.Conv2d):
            new = _grouped_convolution(parts, shared=name.startswith("stem"))
        elif isinstance(module, nn.BatchNorm2d):
            new = nn.BatchNorm2d(module.num_features * len(parts))  # the weights of all networks are still 1 and 0
        elif isinstance(module, nn.Linear):
            new = GroupedLinear(parts)
        elif isinstance(module, nn.ReLU):
            new = GroupedActivation(activation)
        if new is not None:
            whole.set_submodule(name, new)
    return whole


def _grouped_convolution(parts: Sequence[nn.Conv2d], *, shared: bool) -> nn.Conv2d:
    """shared: all members have the same input, the images."""
    one, members = parts[0], len(parts)
    inputs, groups = (one.in_channels, 1) if shared else (one.in_channels * members, members)
    shape = (one.kernel_size[0], one.stride[0], int(one.padding[0]))
    whole = nn.Conv2d(inputs, one.out_channels * members, *shape, groups=groups, bias=False)
    whole.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
    return whole


class Groups:
    """All candidates as one network, trained step by step; on CUDA compiled, and a step is one graph."""

    def __init__(self, bench: Bench, texts: Sequence[str]) -> None:
        """Begin with the weights that every candidate has alone."""
        model, shape, classes = bench.recipe.model, bench.train.shape, bench.train.classes
        network = build_seeded(model, shape, classes, SEED, nn.ReLU)
        activation = SugarReLU([surrogate(text) for text in texts])
        self._bench, self._texts = bench, texts
        self._module = grouped_network([network] * len(texts), activation).to(bench.device)
        self._module = self._module.to(memory_format=faster_format(bench, len(texts)))
        self._cuda = bench.device.type == "cuda"
        self._forward = torch.compile(self._module, dynamic=False) if self._cuda else self._module
        parameters = list(self._module.parameters())
        self._optimizer = make_optimizer(parameters, bench.recipe.optimizer, LEARNING_RATE, capturable=self._cuda)
        self._batches = DeviceBatches(bench.train, bench.recipe.batch_size, crop_flip=False)
        self._run: Callable[[Tensor, Tensor], Tensor] = self.step

    def step(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [members] of a batch, before its update."""
        self._optimizer.zero_grad()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._bench.recipe.precision == "bf16"):
            logits = self._forward(inputs)
            wanted = labels.expand(logits.shape[:2])
            losses = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none").mean(1)
        torch.autograd.backward(losses.sum())
        self._optimizer.step()
        return losses.detach()

    def prepare(self) -> None:
        """Compile and capture, and load what scoring needs."""
        if self._cuda:
            self._run = StepGraph(self.step, *next(self._batches.epoch([SEED], 0)), self._state)
        self._scored()

    def train(self, epochs: int) -> Accuracies:
        """Score after each epoch, as every way does."""
        accuracies: Accuracies = {}
        for epoch in range(epochs):
            self._module.train()
            for inputs, labels in self._batches.epoch([SEED], epoch):
                self._run(inputs, labels)
            accuracies = self._scored()
        return accuracies

    @torch.no_grad()
    def _scored(self) -> Accuracies:
        self._module.eval()
        scoring, correct = self._bench.scoring, torch.zeros(len(self._texts), device=self._bench.device)
        for indices in torch.split(torch.arange(len(scoring), device=scoring.device), SCORING_BATCH):
            with torch.autocast(scoring.device.type, torch.bfloat16, enabled=self._bench.recipe.precision == "bf16"):
                logits = self._module(scoring.batch(indices))
            correct += (logits.argmax(-1) == scoring.labels[indices]).sum(-1)
        self._module.train()
        return dict(zip(self._texts, (correct / len(scoring)).tolist(), strict=True))

    def _state(self) -> Iterator[Tensor]:
        yield from self._module.parameters()
        yield from self._module.buffers()
        for values in self._optimizer.state.values():
            yield from (value for value in values.values() if isinstance(value, Tensor))


def faster_format(bench: Bench, members: int) -> torch.memory_format:
    """In which a grouped convolution of the first stage is faster on CUDA, forward and backward; libraries differ."""
    if bench.device.type != "cuda":
        return torch.channels_last
    convolution = nn.Conv2d(16 * members, 16 * members, 3, padding=1, groups=members, bias=False).to(bench.device)
    images = torch.randn(bench.recipe.batch_size, 16 * members, *bench.train.shape[1:], device=bench.device)
    formats = {"last": torch.channels_last, "first": torch.contiguous_format}
    inputs = {name: images.contiguous(memory_format=which).requires_grad_() for name, which in formats.items()}

    def call(name: str) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            output = convolution.to(memory_format=formats[name])(inputs[name])
        torch.autograd.backward(output.sum())

    seconds = turns({name: partial(call, name) for name in formats}, 5, bench.device)
    return formats[min(seconds, key=lambda name: median(seconds[name]))]
