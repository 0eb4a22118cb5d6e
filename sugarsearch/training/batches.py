"""The batches of an epoch: how it is divided into optimisation steps, and the data as it lies on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sugarsearch.data.device import DeviceArrays
from sugarsearch.training.streams import Stream, generator


@dataclass(frozen=True)
class Part:
    """One batch's place in its epoch.

    Attributes:
        size: how many samples it has.
        step: its optimisation step, from 0 in each epoch.
        share: its samples as a share of its step's.
        opens, closes: whether it is the step's first, and its last.
    """

    size: int
    step: int
    share: float
    opens: bool
    closes: bool


def divide(samples: int, batch_size: int, accumulation: int) -> list[Part]:
    """An epoch as batches, `accumulation` of them to a step; the last batch and the last step may be smaller."""
    sizes = [min(batch_size, samples - start) for start in range(0, samples, batch_size)]
    parts = []
    for step in range(math.ceil(len(sizes) / accumulation)):
        own = sizes[step * accumulation : (step + 1) * accumulation]
        last = len(own) - 1
        parts += [Part(size, step, size / sum(own), at == 0, at == last) for at, size in enumerate(own)]
    return parts


class Batches(Protocol):
    """What a run is trained with.

    Attributes:
        samples: how many an epoch has.
    """

    samples: int

    def epoch(self, seeds: Sequence[int], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets, batch by batch.

        Args:
            seeds: of the living members, in the order of the network's rows.
            epoch: counted from 0.
        """
        ...


class DeviceBatches:
    """Batches cut out of what lies on the device, augmented there; without a wait.

    Attributes:
        samples: how many an epoch has.
    """

    def __init__(self, data: DeviceArrays, batch_size: int, *, crop_flip: bool) -> None:
        """Read from `data`; crop_flip: shift and mirror its images."""
        self.samples = len(data)
        self._data, self._batch_size, self._crop_flip = data, batch_size, crop_flip

    def epoch(self, seeds: Sequence[int], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs [B, ...] and labels [B]; with a dimension of members in front where these have seeds of their own."""
        order = self._order(seeds, epoch).to(self._data.device)
        augment = self._augmentation(seeds, epoch) if self._crop_flip else None
        for indices in torch.split(order, self._batch_size, dim=-1):
            yield self._data.batch(indices, augment), self._data.labels[indices]

    def _order(self, seeds: Sequence[int], epoch: int) -> Tensor:
        """int64 [N], or [members, N] where members have seeds of their own."""
        orders = {seed: shuffled(self.samples, seed, epoch) for seed in dict.fromkeys(seeds)}
        rows = [orders[seed] for seed in (seeds if len(orders) > 1 else seeds[:1])]
        return torch.stack(rows) if len(rows) > 1 else rows[0]

    def _augmentation(self, seeds: Sequence[int], epoch: int) -> torch.Generator | list[torch.Generator]:
        generators = [generator(seed, epoch, Stream.AUGMENTATION, self._data.device) for seed in seeds]
        return generators if len(set(seeds)) > 1 else generators[0]


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """The numbers below `count` in the epoch's order, int64, on the CPU."""
    return torch.randperm(count, generator=generator(seed, epoch, Stream.ORDER, torch.device("cpu")))
