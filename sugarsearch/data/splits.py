"""Stratified, seeded subsets, and the split of training data into train and validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.arrays import Arrays, from_pairs
from sugarsearch.data.sources import open_training
from sugarsearch.data.stratify import SUBSET, VALIDATION, stratified
from sugarsearch.errors import DataError, UsageError


@dataclass(frozen=True)
class Split:
    """What search may see: train and validation, both of the training set."""

    train: Arrays
    validation: Arrays


def training_split(config: DataConfig) -> Split:
    """Open a data set's training part, cut it to `train_limit`, and set `validation` of it aside.

    Raises:
        DataError: the data is missing or unfit, or has no image of some class.
        UsageError: limit or fraction leave a class without training images.
    """
    whole = open_training(config)
    bare = [name for name, count in zip(whole.classes, whole.counts, strict=True) if not count]
    if bare:
        reason = f"has {len(whole)} training images, and none of class {', '.join(bare[:5])}."
        raise DataError(config.name, reason, "Add some, or leave the class out.")
    return split(subset(whole, config.train_limit, config.split_seed, SUBSET), config)


def split(arrays: Arrays, config: DataConfig) -> Split:
    """Set the share `config.validation` of every class aside; both parts come in seeded random order."""
    count = min(max(round(config.validation * len(arrays)), 1), len(arrays) - 1)
    validation, train = stratified(arrays.labels, count, config.split_seed, VALIDATION)
    parts = Split(arrays.take(train), arrays.take(validation))
    empty = [name for name, left in zip(arrays.classes, parts.train.counts, strict=True) if not left]
    if empty:
        raise UsageError(
            f"data set {arrays.name}: of {len(arrays)} images with validation {config.validation:g} no training image "
            f"is left of class {', '.join(empty[:5])}. Use more images (train_limit) or a smaller validation."
        )
    return parts


def tensor_split(train: tuple[Any, Any], validation: tuple[Any, Any]) -> Split:
    """Your own (inputs, labels) for training and validation; see `arrays.from_pairs` for what is allowed."""
    return Split(**from_pairs({"train": train, "validation": validation}))


def subset(arrays: Arrays, limit: int | None, seed: int, stream: int) -> Arrays:
    """A stratified part of `limit` images in seeded random order; all of them, untouched, for None.

    Raises:
        UsageError: the limit is larger than the data set.
    """
    if limit is None:
        return arrays
    if limit > len(arrays):
        raise UsageError(f"data set {arrays.name}: a limit of {limit} images is more than the {len(arrays)} there are.")
    return arrays.take(stratified(arrays.labels, limit, seed, stream)[0])
