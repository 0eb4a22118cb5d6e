"""What `sugarsearch data list|import|check` does."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sugarsearch.config.schema import DataConfig
from sugarsearch.data import cache, folder
from sugarsearch.data.arrays import Arrays, MissingSplitError
from sugarsearch.data.catalog import DATASETS, RESERVED, data_root, imported_names, kind_of
from sugarsearch.data.paths import expanded
from sugarsearch.data.sources import cache_of, open_split
from sugarsearch.data.splits import training_split
from sugarsearch.errors import UsageError

LARGEST_SIZE = 4096  # pixels a side
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Row:
    """A line of the list of data sets; counts are None where the data is not there yet."""

    name: str
    description: str
    where: str
    ready: bool
    train: int | None = None
    test: int | None = None
    classes: int | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Summary:
    """What a data set gives under a configuration: images in each part, classes and their sizes, content."""

    name: str
    where: str
    train: int
    validation: int
    test: int | None
    classes: tuple[str, ...]
    smallest_class: int
    largest_class: int
    shape: tuple[int, ...]
    fingerprint: str


def listing(root: str | Path | None = None) -> list[Row]:
    """The known data sets and the imported ones, with what lies under `root`; downloads nothing."""
    place = data_root(root)
    rows = [Row("digits", DATASETS["digits"], "scikit-learn", True, *_digits_counts())]
    for name in (*DATASETS, *imported_names(place)):
        if name != "digits":
            rows.append(_row(name, place / name))
    return rows


def check(config: DataConfig) -> Summary:
    """Open every part as a run would, and compare every byte of a cache with its fingerprint.

    Raises:
        DataError: missing, damaged or unfit.
        UsageError: a limit or fraction that the data cannot give.
    """
    root = data_root(config.root)
    where = Path(config.name)
    cached = kind_of(config.name, root) != "loader" and config.name != "digits"
    train, parts = open_split(config, "train"), training_split(config)
    if cached:
        where = cache_of(config.name, root)
        cache.verify(train, where)
    try:
        test: Arrays | None = open_split(config, "test")
    except MissingSplitError:
        test = None
    if cached and test is not None:
        cache.verify(test, where)
    return Summary(
        config.name,
        str(where),
        len(parts.train),
        len(parts.validation),
        None if test is None else len(test),
        train.classes,
        int(train.counts.min()),
        int(train.counts.max()),
        train.shape,
        train.fingerprint,
    )


def import_folder(
    path: str | Path, name: str, root: str | Path | None = None, *, size: int | None = None, overwrite: bool = False
) -> Summary:
    """Decode a folder of images into the data set `name`, which later needs the folder no more.

    Args:
        path: a folder as `folder.scan` reads it.
        name: what configurations will call it.
        root: where data sets lie; see `catalog.data_root`.
        size: scale and cut all images to size x size pixels.
        overwrite: replace an imported data set of this name.

    Raises:
        DataError: the folder is missing or unfit.
        UsageError: a name that is taken or not allowed, or a size out of range.
    """
    place = data_root(root)
    taken = (*DATASETS, *RESERVED)
    if not _NAME.fullmatch(name) or name in taken:
        raise UsageError(f"name {name!r} is not allowed: use letters, digits, . _ - and none of {', '.join(taken)}.")
    if name in imported_names(place) and not overwrite:
        raise UsageError(f"data set {name!r} is already in {place}. Choose another name, or --overwrite.")
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise UsageError(f"size {size} is not allowed; give pixels from 1 to {LARGEST_SIZE}, such as 64.")
    tree = folder.scan(expanded(path))
    source = f"imported from {os.fsencode(tree.root.resolve()).decode(errors='backslashreplace')}"
    cache.write(place / name, source, lambda content: folder.decode(tree, content, size), replace=True)
    return check(DataConfig(name=name, root=str(place)))


def _row(name: str, place: Path) -> Row:
    description = DATASETS.get(name, "imported")
    reason = cache.fault(place, None)
    if reason is not None:
        state = f"damaged: {reason}" if place.exists() else "not downloaded yet"
        return Row(name, f"{description} ({state})", str(place), False)
    manifest = cache.read_manifest(place)
    counts = {split: part.shape[0] for split, part in manifest.parts.items()}
    shape = manifest.parts["train"].shape[1:]
    return Row(
        name, description, str(place), True, counts.get("train"), counts.get("test"), len(manifest.classes), shape
    )


def _digits_counts() -> tuple[int, int, int, tuple[int, ...]]:
    config = DataConfig(name="digits")
    train, test = open_split(config, "train"), open_split(config, "test")
    return len(train), len(test), len(train.classes), train.shape
