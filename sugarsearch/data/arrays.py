"""A data set in memory: images, labels, class names, and a fingerprint of all three."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sugarsearch.data.paths import cause
from sugarsearch.errors import DataError

Indices = npt.NDArray[np.int64]
SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "test")


class MissingSplitError(DataError):
    """A data set without the part that was asked for."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """One split of a data set.

    Attributes:
        images: uint8 [N, C, H, W], maybe mapped from disk and read-only; or float32 [N, ...], used as given.
        labels: int64 [N], each in 0 .. len(classes) - 1.
        classes: class names, in the order of their labels.
        name: the data set's name.
        fingerprint: sha256 that changes with any pixel, label or class name.
    """

    images: npt.NDArray[Any]
    labels: Indices
    classes: tuple[str, ...]
    name: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (C, H, W) for images."""
        return tuple(self.images.shape[1:])

    @property
    def counts(self) -> Indices:
        """Images per class, int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def take(self, indices: Indices) -> Arrays:
        """The images at `indices`, in that order, copied into memory."""
        digest = hashlib.sha256(self.fingerprint.encode())
        digest.update(np.ascontiguousarray(indices, dtype=np.int64).data)
        return Arrays(self.images[indices], self.labels[indices], self.classes, self.name, digest.hexdigest())


def fingerprint(images: npt.NDArray[Any], labels: Indices, classes: Sequence[str]) -> str:
    """sha256 of the pixels, labels and class names, with their shape and type."""
    digest = hashlib.sha256(repr((images.dtype.str, images.shape, tuple(classes))).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def from_pairs(
    pairs: Mapping[str, tuple[Any, Any]], classes: Sequence[str] | None = None, name: str = "tensors"
) -> dict[str, Arrays]:
    """Your own tensors or arrays as data sets that share their classes.

    Args:
        pairs: (inputs, labels) by split. Inputs: uint8 [N, C, H, W], normalised later; or floats [N, ...],
            converted to float32 and used as given. Labels: integers [N] from 0.
        classes: class names; by default the numbers from 0 to the largest label.
        name: what messages and records call the data.

    Raises:
        DataError: of the wrong shape or type, empty, not finite, or with fewer than two classes.
    """
    values = {split: _pair(pair, f"{name}, {split}") for split, pair in pairs.items()}
    names = _names(classes, [labels for _, labels in values.values()], name)
    shapes = {images.shape[1:] for images, _ in values.values()}
    if len(shapes) > 1 or len({images.dtype for images, _ in values.values()}) > 1:
        given = ", ".join(f"{split} {x.dtype} {x.shape}" for split, (x, _) in values.items())
        raise DataError(name, f"has splits of different kinds: {given}.", "Give all of one type and shape.")
    result = {}
    for split, (images, labels) in values.items():
        if len(images) != len(labels):
            reason = f"has {len(images)} inputs and {len(labels)} labels."
            raise DataError(f"{name}, {split}", reason, "Give one label for each input.")
        result[split] = Arrays(images, labels, names, name, fingerprint(images, labels, names))
    return result


def _pair(pair: Any, what: str) -> tuple[npt.NDArray[Any], Indices]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        reason = f"is something else than a pair of inputs and labels ({type(pair).__name__})."
        raise DataError(what, reason, "Give (inputs, labels).")
    return _inputs(pair[0], what), _labels(pair[1], what)


def _names(classes: Any, labels: Sequence[Indices], what: str) -> tuple[str, ...]:
    """The names of the classes, as given or as many as the largest label asks for."""
    largest, count = max(int(part.max()) for part in labels), sum(map(len, labels))
    if classes is None:
        if largest >= count:  # some class has no image; and one stray label must not make billions of classes
            reason = f"has label {largest} with only {count} labels in all."
            raise DataError(what, reason, "Number the classes from 0 without gaps.")
        names = tuple(map(str, range(largest + 1)))
    elif isinstance(classes, Iterable):
        names = tuple(map(str, classes))
    else:
        raise DataError(what, f"has class names of type {type(classes).__name__}.", "Give a list of names.")
    if len(names) < 2:
        raise DataError(what, "has only one class.", "Give data of at least two classes, with labels from 0.")
    if largest >= len(names):
        raise DataError(what, f"has label {largest} but only {len(names)} class names.", "Name every class.")
    return names


def _numpy(value: Any, what: str) -> npt.NDArray[Any]:
    try:
        # A torch tensor may live on a device or carry a graph; torch itself need not be imported to ask.
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except Exception as error:  # users hand over anything, and each library refuses in its own words
        raise DataError(what, f"is not an array ({cause(error)}).", "Give NumPy arrays or torch tensors.") from error


def _inputs(value: Any, what: str) -> npt.NDArray[Any]:
    array = _numpy(value, what)
    if array.ndim < 2 or array.size == 0:
        raise DataError(what, f"has inputs of shape {array.shape}.", "Give at least one, as [N, ...].")
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):
            single = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(single).all():
            raise DataError(what, "has inputs that are NaN, infinite or beyond float32.", "Remove or replace them.")
        return single
    if array.dtype != np.uint8:
        raise DataError(what, f"has inputs of type {array.dtype}.", "Give uint8 images or floats.")
    if array.ndim != 4 or (array.shape[1] > 4 and array.shape[3] <= 4):
        remedy = "Give images as [N, channels, height, width], or other data as floats."
        raise DataError(what, f"has uint8 inputs of shape {array.shape}.", remedy)
    return np.ascontiguousarray(array)


def _labels(value: Any, what: str) -> Indices:
    array = _numpy(value, what)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or array.size == 0:
        reason = f"has labels of type {array.dtype} and shape {array.shape}."
        raise DataError(what, reason, "Give integers from 0, as [N].")
    labels = np.ascontiguousarray(array, dtype=np.int64)
    if labels.min() < 0:  # unsigned ones beyond int64 too
        raise DataError(what, f"has negative labels, such as {labels.min()}.", "Give integers from 0.")
    return labels
