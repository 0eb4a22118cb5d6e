"""Decoded data sets on disk: uint8 arrays that later runs map into memory, beside a manifest.

    NAME/manifest.json, train_images.npy, train_labels.npy, test_images.npy, test_labels.npy

A cache is built beside its place and moved there whole, under a lock, so that a killed or a second process
leaves no half of one. What does not fit its manifest is never read.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sugarsearch.config.schema import Strict
from sugarsearch.data.arrays import SPLITS, Arrays, Indices, MissingSplitError, SplitName, fingerprint
from sugarsearch.data.catalog import MANIFEST
from sugarsearch.errors import DataError

VERSION = 1


class Part(Strict):
    """One split: shape of its images, size of its two files in bytes, fingerprint of their content."""

    shape: tuple[int, ...]
    image_bytes: int
    label_bytes: int
    fingerprint: str


class Manifest(Strict):
    """What a cache holds, and what it was made from (a checksum, a folder's listing)."""

    version: int
    source: str
    classes: tuple[str, ...]
    parts: dict[SplitName, Part]


class Content:
    """Where a builder puts a data set: open a memory map for each split's images, and fill it.

    Attributes: scratch (a folder for unpacked files, removed afterwards), classes (to be set).
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.target = scratch / "cache"
        self.target.mkdir(parents=True)
        self.classes: tuple[str, ...] = ()

    def images(self, split: SplitName, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """A writable uint8 array of `shape` [N, C, H, W] on disk."""
        return np.lib.format.open_memmap(_file(self.target, split, "images"), "w+", np.uint8, shape)

    def labels(self, split: SplitName, labels: Indices) -> None:
        """Save the labels [N] of a split."""
        np.save(_file(self.target, split, "labels"), labels.astype(np.int64))


Builder = Callable[[Content], None]


def open_cached(folder: Path, split: SplitName, name: str, source: str, build: Builder | None) -> Arrays:
    """One split of the cache in `folder`, built first where it is missing, damaged or of another `source`.

    Args:
        folder: the cache.
        split: which part.
        name: the data set's name, for the result.
        source: what the cache must have been made from.
        build: fills a new cache; None if its source is gone, and then `source` is not compared.

    Raises:
        DataError: damaged and not to be rebuilt, no such split, or the folder cannot be written.
    """
    reason = fault(folder, source if build else None)
    if reason is not None:
        if build is None:
            remedy = "Import it again (sugarsearch data import --overwrite)."
            raise DataError(folder, f"the imported data set is damaged: {reason}.", remedy)
        write(folder, source, build)
    manifest = read_manifest(folder)
    if split not in manifest.parts:
        remedy = f"Put its images into a {split}/ folder beside the other, in the same classes."
        raise MissingSplitError(name, f"has no {split} part.", remedy)
    images = np.load(_file(folder, split, "images"), mmap_mode="r", allow_pickle=False)
    labels = np.load(_file(folder, split, "labels"), allow_pickle=False)
    return Arrays(images, labels, manifest.classes, name, manifest.parts[split].fingerprint)


def fault(folder: Path, source: str | None) -> str | None:
    """Why the cache cannot be used, or None if it can; looks at sizes and shapes, not at every pixel."""
    try:
        manifest = read_manifest(folder)
        for split, part in manifest.parts.items():
            for kind, size, form in (
                ("images", part.image_bytes, ("uint8", part.shape)),
                ("labels", part.label_bytes, ("int64", part.shape[:1])),
            ):
                path = _file(folder, split, kind)
                if path.stat().st_size != size:
                    return f"{path.name} has {path.stat().st_size} bytes instead of {size}"
                array = np.load(path, mmap_mode="r", allow_pickle=False)
                if (array.dtype.name, array.shape) != form:
                    return f"{path.name} holds {array.dtype.name} {array.shape} instead of {form[0]} {form[1]}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:  # pydantic's and NumPy's complaints are ValueErrors
        return f"unreadable ({type(error).__name__})"
    if manifest.version != VERSION:
        return f"of version {manifest.version} instead of {VERSION}"
    return "made from something else" if source not in (None, manifest.source) else None


def verify(arrays: Arrays, folder: Path) -> None:
    """Read every byte and compare with the fingerprint.

    Raises:
        DataError: some byte has changed.
    """
    if fingerprint(arrays.images, arrays.labels, arrays.classes) != arrays.fingerprint:
        raise DataError(folder, "the content has changed since it was written.", "Delete it and load it again.")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a cache; FileNotFoundError or ValueError if there is no readable one."""
    return Manifest.model_validate_json((folder / MANIFEST).read_text())


def write(folder: Path, source: str, build: Builder, *, replace: bool = False) -> None:
    """Build a cache and move it to `folder` whole.

    Raises:
        DataError: from the builder, or the folder cannot be written or holds something else.
    """
    scratch = folder.with_name(f".{folder.name}.part")
    try:
        with _locked(folder):
            if not replace and fault(folder, source) is None:
                return  # another process built it while this one waited
            if folder.exists() and not (folder / MANIFEST).exists():
                remedy = "Move or delete it, or choose another place: root in the configuration, or $SUGARSEARCH_DATA."
                raise DataError(folder, "is in the way: not a data set that sugarsearch made.", remedy)
            shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
            try:
                content = Content(scratch)
                build(content)
                _seal(content, source)
                if folder.exists():
                    folder.replace(scratch / "old")
                content.target.replace(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        remedy = "Free the space or choose another place: root in the configuration, or $SUGARSEARCH_DATA."
        raise DataError(folder, f"cannot be written ({error}).", remedy) from error


def _seal(content: Content, source: str) -> None:
    parts: dict[SplitName, Part] = {}
    for split in SPLITS:
        paths = [_file(content.target, split, kind) for kind in ("images", "labels")]
        if not paths[0].exists():
            continue
        images, labels = (np.load(path, mmap_mode="r") for path in paths)
        parts[split] = Part(
            shape=images.shape,
            image_bytes=paths[0].stat().st_size,
            label_bytes=paths[1].stat().st_size,
            fingerprint=fingerprint(images, labels, content.classes),
        )
    manifest = Manifest(version=VERSION, source=source, classes=content.classes, parts=parts)
    (content.target / MANIFEST).write_text(manifest.model_dump_json(indent=2))


def _file(folder: Path, split: str, kind: str) -> Path:
    return folder / f"{split}_{kind}.npy"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time; the system drops the lock of one that dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
