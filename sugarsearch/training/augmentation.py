"""Batches augmented as the Swin and ConvNeXt recipes do: image by image on the CPU, mixed on the device."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sugarsearch.data.device import DeviceArrays
from sugarsearch.data.timm_recipe import ImageTransform, image_transform, mixing
from sugarsearch.errors import UsageError
from sugarsearch.training.batches import shuffled
from sugarsearch.training.streams import Stream, number, seeded

MOST_WORKERS: Final = 8
"""Processes that augment images for one run."""

Place = tuple[int, int]
"""An image's position in its epoch, and its index in the data."""


class TimmBatches:
    """Batches of one network's images, their labels mixed into probabilities.

    Every image and every mixture has random numbers of its own, which follow from the member's seed, the epoch and
    the place in it: whatever the number of processes, the batches are the same, and nothing else's numbers change.

    Attributes:
        samples: how many an epoch has; mixing needs pairs, so of an odd number the last of the order is left out.
    """

    def __init__(self, data: DeviceArrays, batch_size: int, workers: int | None = None) -> None:
        """Read from `data`, the training data.

        Args:
            data: uint8 images of 3 channels.
            batch_size: an even number.
            workers: processes that augment images; None: as many as the threads that torch may use here, less one,
                at most MOST_WORKERS; with 0, this process does.

        Raises:
            UsageError: other data, or timm is not installed.
        """
        if data.normalisation is None or len(data.shape) != 3 or data.shape[0] != 3 or len(data) < 2:
            raise UsageError(
                "augmentation 'timm' needs uint8 images of 3 channels, two at least; the training data is "
                f"{len(data)} inputs of type {str(data.images.dtype).removeprefix('torch.')} and shape {data.shape}."
            )
        self.samples = len(data) - len(data) % 2
        self._data, self._batch_size, self._workers = data, batch_size, worker_count() if workers is None else workers
        self._images = data.images.permute(0, 2, 3, 1).cpu()
        self._transform = image_transform(data.shape, data.normalisation)
        self._mix = mixing(data.classes)

    def epoch(self, seeds: Sequence[int], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs [B, 3, H, W] and probabilities [B, classes] of the one member's epoch, on the data's device."""
        (seed,) = seeds
        order = shuffled(len(self._data), seed, epoch)[: self.samples]
        parts = torch.split(order.to(self._data.device), self._batch_size)
        loader = self._loader(list(enumerate(order.tolist())), seed, epoch)
        for position, (images, indices) in enumerate(zip(loader, parts, strict=True)):
            inputs, labels = images.to(self._data.device, non_blocking=True), self._data.labels[indices]
            with seeded(number(seed, epoch, Stream.MIXING, position)):
                inputs, targets = self._mix(inputs, labels)
            yield inputs, targets

    def _loader(self, places: list[Place], seed: int, epoch: int) -> DataLoader[Tensor]:
        size = self._batch_size
        return DataLoader(
            _Epoch(self._images, self._transform, seed, epoch),
            batch_sampler=[places[start : start + size] for start in range(0, len(places), size)],
            num_workers=self._workers,
            worker_init_fn=_deaf if self._workers else None,
            pin_memory=self._data.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the global one
        )


class _Epoch(Dataset[Tensor]):
    """The images of an epoch by their places, augmented."""

    def __init__(self, images: Tensor, transform: ImageTransform, seed: int, epoch: int) -> None:
        self._images, self._transform, self._seed, self._epoch = images, transform, seed, epoch

    def __getitem__(self, place: Place) -> Tensor:
        position, index = place
        with seeded(number(self._seed, self._epoch, Stream.IMAGE, position)):
            return self._transform(Image.fromarray(self._images[index].numpy()))


def worker_count() -> int:
    """Processes to augment images with: none on two cores or fewer, where they would only be in the way."""
    cores = min(torch.get_num_threads(), os.cpu_count() or 1)
    return 0 if cores <= 2 else min(cores - 1, MOST_WORKERS)


def _deaf(worker: int) -> None:
    """A signal to the whole group of processes asks this one's parent to stop, who then ends it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
