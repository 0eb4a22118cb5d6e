"""What each kind of data set is made from; every one ends as `Arrays`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from sugarsearch.config.objects import load_object
from sugarsearch.config.schema import DataConfig
from sugarsearch.data import folder
from sugarsearch.data.archives import ARCHIVES
from sugarsearch.data.arrays import SPLITS, Arrays, MissingSplitError, SplitName, fingerprint, from_pairs
from sugarsearch.data.cache import open_cached
from sugarsearch.data.catalog import DOWNLOADS, FOLDERS, data_root, kind_of
from sugarsearch.data.paths import cause, expanded
from sugarsearch.data.stratify import hold_out
from sugarsearch.errors import DataError


def open_training(config: DataConfig) -> Arrays:
    """The whole training part of a data set, from the cache if it is there, else built or downloaded now.

    Raises:
        DataError: the data is missing or unfit.
        UnknownNameError: no data set has this name.
    """
    return open_split(config, "train")


def open_split(config: DataConfig, split: SplitName) -> Arrays:
    """One part of a data set. For this layer: others use `open_training`, and the verdict `open_test`."""
    name, root = config.name, data_root(config.root)
    kind = kind_of(name, root)
    if kind == "loader":
        return _loaded(name, split)
    if name == "digits":
        return _digits(split)
    place = cache_of(name, root)
    if kind == "imported":
        return open_cached(place, split, name, "", None)
    if kind == "folder":
        tree = folder.scan(expanded(name))
        return open_cached(place, split, name, folder.signature(tree), lambda content: folder.decode(tree, content))
    archive = ARCHIVES[name]
    return open_cached(place, split, name, archive.source, lambda content: archive.build(content, root / DOWNLOADS))


def cache_of(name: str, root: Path) -> Path:
    """The cache folder of a data set; of a folder of images one with a name made from its path."""
    if kind_of(name, root) != "folder":
        return root / name
    path = expanded(name).resolve()
    # Of a long name the head only: with what is added to it, it must stay a file name (255 bytes).
    return root / FOLDERS / f"{path.name[:50]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def _digits(split: SplitName) -> Arrays:
    from sklearn.datasets import load_digits

    bundle, classes = load_digits(), tuple("0123456789")
    images, labels = bundle.images.astype(np.uint8)[:, None], bundle.target.astype(np.int64)
    whole = Arrays(images, labels, classes, "digits", fingerprint(images, labels, classes))
    train, test = hold_out(labels)
    return whole.take(train if split == "train" else test)


def _loaded(name: str, split: SplitName) -> Arrays:
    """A user's loader: returns (train, test), each (inputs, labels), or a dict with train, test, classes."""
    remedy = "Return ((x, y), (x, y)) for train and test, or a dict with train, test and, if you like, classes."
    load = load_object(name)
    try:
        given: Any = load()
    except (Exception, SystemExit) as error:  # a user's function may raise anything, and must not end a search
        raise DataError(name, f"raised {type(error).__name__}: {cause(error)}.", remedy) from error
    if isinstance(given, tuple | list) and len(given) == 2:
        given = dict(zip(SPLITS, given, strict=True))
    parts = given if isinstance(given, dict) else {}
    pairs: dict[str, Any] = {key: parts[key] for key in SPLITS if parts.get(key) is not None}
    if "train" not in pairs:
        raise DataError(name, "returned something else than pairs of inputs and labels.", remedy)
    if split not in pairs:
        raise MissingSplitError(name, f"has no {split} part.", remedy)
    return from_pairs(pairs, parts.get("classes"), name)[split]
