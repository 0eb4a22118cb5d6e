"""A data set as one tensor on the device, read in normalised batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sugarsearch.config.schema import NormalisationName
from sugarsearch.data.arrays import Arrays
from sugarsearch.errors import UsageError

_NORMALISED_AT_ONCE: Final = 2**26
"""Bytes up to which a data set is kept normalised, too: for the smallest networks doing it batch by batch is 8 % of
the time."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel, in units of the pixels (0 to 255)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def normalisation(train: Arrays, name: NormalisationName = "channel") -> Normalisation | None:
    """What a recipe's normalisation is on these training images; None for floats, which are used as given.

    name: "channel" is their exact mean and deviation per channel, "half" is (x / 255 - 0.5) / 0.5, "unit" is x / 255.
    """
    if train.images.dtype != np.uint8:
        return None
    channels = train.images.shape[1]
    if name != "channel":
        mean, std = {"half": (127.5, 127.5), "unit": (0.0, 255.0)}[name]
        return Normalisation((mean,) * channels, (std,) * channels)
    return _exact(train, channels)


def _exact(train: Arrays, channels: int) -> Normalisation:
    # Counted by pixel value: exact, and a large set mapped from disk passes through in pieces.
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(train), 4096):
        piece = train.images[start : start + 4096]
        for channel in range(channels):
            counts[channel] += np.bincount(piece[:, channel].ravel(), minlength=256)
    values = np.arange(256, dtype=np.float64)
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1))
    return Normalisation(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))


class DeviceArrays:
    """Inputs and labels on a device.

    Attributes:
        images: uint8 [N, C, H, W] or float32 [N, ...], on the device.
        labels: int64 [N], on the device.
        classes: how many classes there are.
        shape: the shape of one input.
        normalisation: of the training data; None for floats.
        device: where it lies.
    """

    def __init__(
        self,
        arrays: Arrays,
        normalisation: Normalisation | None,
        device: torch.device | str = "cpu",
        *,
        channels_last: bool = False,
    ) -> None:
        """Move `arrays` to `device`.

        Args:
            arrays: the data.
            normalisation: of the TRAINING data, whatever split this is.
            device: the device of everything `batch` returns.
            channels_last: memory format of batches [B, C, H, W]; ignored for other shapes.
        """
        self.device, self.normalisation = torch.device(device), normalisation
        # A copy, because torch warns of read-only memory, and a map must not be read page by page in training.
        self.images = torch.from_numpy(np.array(arrays.images)).to(self.device)
        self.labels = torch.from_numpy(np.array(arrays.labels)).to(self.device)
        self.classes = len(arrays.classes)
        self.shape = arrays.shape
        self._channels_last = channels_last and len(self.shape) == 3
        self._mean, self._std = self._constants(normalisation)
        self._ready: Tensor | None = None  # all of it, normalised, where that is small
        if self.images.dtype == torch.uint8 and 4 * self.images.numel() <= _NORMALISED_AT_ONCE:
            self._ready = self._normalised(self.images)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor, augment: torch.Generator | Sequence[torch.Generator] | None = None) -> Tensor:
        """The normalised float32 inputs at `indices`, with no host synchronisation.

        Args:
            indices: int64 [B], or [M, B] with a row for each member of a population; on the device.
            augment: crop and flip at random with this generator (of the device); one for each member for
                indices [M, B], so that a member sees the images it would see alone. None: unchanged images.

        Returns:
            float32 [B, *shape] or [M, B, *shape].

        Raises:
            UsageError: augmentation of inputs that are not images.
        """
        if augment is None:
            inputs = (self.images if self._ready is None else self._ready)[indices]
        else:
            inputs = self._crop_flip(indices, augment)
        if self._channels_last and indices.ndim == 1:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs if inputs.dtype == torch.float32 else self._normalised(inputs)

    def _normalised(self, inputs: Tensor) -> Tensor:
        return (inputs.float() - self._mean) / self._std

    def _constants(self, normalisation: Normalisation | None) -> tuple[Tensor, Tensor]:
        if normalisation is None and self.images.dtype == torch.uint8:
            raise UsageError("uint8 images need the normalisation of the training data; see data.device.normalisation.")
        given = normalisation or Normalisation((0.0,), (1.0,))
        mean, std = torch.tensor([given.mean, given.std], dtype=torch.float32, device=self.device)
        return mean.view(-1, 1, 1), std.view(-1, 1, 1)

    def _crop_flip(self, indices: Tensor, augment: torch.Generator | Sequence[torch.Generator]) -> Tensor:
        """Shift by up to an eighth of the size (4 pixels of 32) with black borders, and mirror every other image."""
        if len(self.shape) != 3:
            raise UsageError(f"augmentation 'crop_flip' needs images [C, H, W]; these inputs have shape {self.shape}.")
        generators = [augment] if isinstance(augment, torch.Generator) else augment
        channels, height, width = self.shape
        flat = indices.reshape(len(generators), -1)
        rows, row_inside = self._window(flat, generators, height)
        columns, column_inside = self._window(flat, generators, width)
        draws = [torch.rand(flat.shape[1], generator=g, device=self.device) for g in generators]
        mirrored = (torch.stack(draws) < 0.5).reshape(-1, 1)
        columns = torch.where(mirrored, columns.flip(1), columns)
        column_inside = torch.where(mirrored, column_inside.flip(1), column_inside)
        channel = torch.arange(channels, device=self.device)
        # One gather straight from the whole set: [n, 1, 1, 1], [C, 1, 1], [n, 1, H, 1], [n, 1, 1, W].
        images = self.images[
            flat.reshape(-1, 1, 1, 1), channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
        ]
        inside = row_inside[:, None, :, None] & column_inside[:, None, None, :]
        return (images * inside).reshape(*indices.shape, *self.shape)

    def _window(self, flat: Tensor, generators: Sequence[torch.Generator], size: int) -> tuple[Tensor, Tensor]:
        """Source coordinates [n, size] of a randomly shifted window, clamped, and which lay inside the image."""
        reach = size // 8
        draws = [
            torch.randint(-reach, reach + 1, (flat.shape[1],), generator=g, device=self.device) for g in generators
        ]
        source = torch.stack(draws).reshape(-1, 1) + torch.arange(size, device=self.device)
        return source.clamp(0, size - 1), (source >= 0) & (source < size)
