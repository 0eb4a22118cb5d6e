"""What each kind of data set is made from; every one ends as `Arrays`."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.arrays import Arrays, fingerprint
from sugarsearch.data.stratify import hold_out

SplitName = Literal["train", "test"]


def open_training(config: DataConfig) -> Arrays:
    """The whole training part of a data set, from the cache if it is there, else built or downloaded now.

    Raises:
        DataError: the data is missing or unfit.
        UnknownNameError: no data set has this name.
    """
    return open_split(config, "train")


def open_split(config: DataConfig, split: SplitName) -> Arrays:
    """One part of a data set. For this layer: others use `open_training`, and the verdict `open_test`."""
    return _digits(split)


def _digits(split: SplitName) -> Arrays:
    from sklearn.datasets import load_digits

    bundle, classes = load_digits(), tuple("0123456789")
    images, labels = bundle.images.astype(np.uint8)[:, None], bundle.target.astype(np.int64)
    whole = Arrays(images, labels, classes, "digits", fingerprint(images, labels, classes))
    train, test = hold_out(labels)
    return whole.take(train if split == "train" else test)
