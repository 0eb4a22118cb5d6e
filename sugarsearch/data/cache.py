"""Decoded data sets on disk: uint8 arrays that later runs map into memory, beside a manifest.

    NAME/manifest.json, train_images.npy, train_labels.npy, test_images.npy, test_labels.npy

A cache is built beside its place and moved there whole, under a lock, so that a killed or a second process
leaves no half of one. What does not fit its manifest is never read: manifest and labels are checked whenever a
cache is opened, the pixels by their size, and by content when one asks (`verify`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sugarsearch.config.fields import Strict
from sugarsearch.data.arrays import SPLITS, Arrays, Indices, MissingSplitError, SplitName, fingerprint
from sugarsearch.data.catalog import MANIFEST
from sugarsearch.data.paths import unwritable
from sugarsearch.errors import DataError

VERSION = 2
CHECK = "check"  # the manifest's key for the sha256 of all its others


class Part(Strict):
    """One split: shape of its images, size of their file in bytes, sha256 of the labels' file, fingerprint of both."""

    shape: tuple[int, ...]
    image_bytes: int
    label_digest: str
    fingerprint: str


class Manifest(Strict):
    """What a cache holds, and what it was made from (a checksum, a folder's listing)."""

    version: int
    source: str
    classes: tuple[str, ...]
    parts: dict[SplitName, Part]


class UnfitError(ValueError):
    """A manifest that must not be believed; the text completes "the cache is ..."."""


class Content:
    """Where a builder puts a data set, split by split.

    Attributes: scratch (a folder for unpacked files, removed afterwards), classes (to be set).
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.target = scratch / "cache"
        self.target.mkdir(parents=True)
        self.classes: tuple[str, ...] = ()

    def images(self, split: SplitName, shape: tuple[int, ...], pieces: Iterable[npt.NDArray[np.uint8]]) -> None:
        """Save the images of a split: `pieces`, one after the other, are an array of `shape` [N, C, H, W]."""
        _save(_file(self.target, split, "images"), np.dtype(np.uint8), shape, pieces)

    def labels(self, split: SplitName, labels: Indices) -> None:
        """Save the labels [N] of a split."""
        _save(_file(self.target, split, "labels"), np.dtype(np.int64), labels.shape, [labels])


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
    try:
        manifest = read_manifest(folder)
        if split not in manifest.parts:
            remedy = f"Put its images into a {split}/ folder beside the other, in the same classes."
            raise MissingSplitError(name, f"has no {split} part.", remedy)
        images = np.load(_file(folder, split, "images"), mmap_mode="r", allow_pickle=False)
        labels = np.load(_file(folder, split, "labels"), allow_pickle=False)
        unchanged = read_manifest(folder) == manifest
    except (OSError, ValueError):
        unchanged = False
    if not unchanged:
        raise DataError(folder, "was replaced while it was read.", "Run the same command again.")
    return Arrays(images, labels, manifest.classes, name, manifest.parts[split].fingerprint)


def fault(folder: Path, source: str | None) -> str | None:
    """Why the cache cannot be used, or None if it can; of the pixels it looks at size and shape only."""
    try:
        manifest = read_manifest(folder)
        for split, part in manifest.parts.items():
            images, labels = (_file(folder, split, kind) for kind in ("images", "labels"))
            size = images.stat().st_size
            if size != part.image_bytes:
                return f"{images.name} has {size} bytes instead of {part.image_bytes}"
            if _digest(labels.read_bytes()) != part.label_digest:
                return f"{labels.name} has another checksum than when it was written"
            array = np.load(images, mmap_mode="r", allow_pickle=False)
            if (array.dtype.name, array.shape) != ("uint8", part.shape):
                return f"{images.name} holds {array.dtype.name} {array.shape} instead of uint8 {part.shape}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except UnfitError as error:
        return str(error)
    except Exception as error:  # NumPy's reader of headers raises whatever its tokenizer does
        return f"unreadable ({type(error).__name__})"
    return "made from something else" if source not in (None, manifest.source) else None


def verify(arrays: Arrays, folder: Path) -> None:
    """Read every byte and compare with the fingerprint.

    Raises:
        DataError: some byte has changed.
    """
    if fingerprint(arrays.images, arrays.labels, arrays.classes) != arrays.fingerprint:
        remedy = "Delete this folder; import it again if it was imported, else it is built anew by itself."
        raise DataError(folder, "the content has changed since it was written.", remedy)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a cache.

    Raises:
        OSError, ValueError: there is no readable one.
        UnfitError: of another version, or changed since it was written.
    """
    value = json.loads((folder / MANIFEST).read_bytes())
    if not isinstance(value, dict):
        raise UnfitError(f"{MANIFEST} is not a manifest")
    if value.get("version") != VERSION:
        raise UnfitError(f"of version {value.get('version')} instead of {VERSION}")
    if value.pop(CHECK, None) != _digest(_canonical(value)):
        raise UnfitError(f"{MANIFEST} has changed since it was written")
    return Manifest.model_validate_json(_canonical(value))


def write(folder: Path, source: str, build: Builder, *, replace: bool = False) -> None:
    """Build a cache and move it to `folder` whole.

    Raises:
        DataError: from the builder, or the folder cannot be written or holds something else.
    """
    scratch = folder.with_name(f".{folder.name}.part")
    try:
        with _locked(folder):
            if not folder.exists() and (scratch / "old" / MANIFEST).exists():
                (scratch / "old").replace(folder)  # a process was killed between the two moves below
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
        raise unwritable(folder, error) from error


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
            label_digest=_digest(paths[1].read_bytes()),
            fingerprint=fingerprint(images, labels, content.classes),
        )
    value = Manifest(version=VERSION, source=source, classes=content.classes, parts=parts).model_dump(mode="json")
    with (content.target / MANIFEST).open("wb") as file:
        file.write(json.dumps({**value, CHECK: _digest(_canonical(value))}, indent=2).encode())
        _settle(file)


def _save(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], pieces: Iterable[npt.NDArray[Any]]) -> None:
    """Write an array by plain writes: through a memory map a full disk would kill the process with SIGBUS."""
    form = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, form)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).data)
        _settle(file)


def _settle(file: IO[bytes]) -> None:
    """Have the content on the disk before a rename makes it count, so that a power cut leaves no file of zeros."""
    file.flush()
    os.fsync(file.fileno())


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _file(folder: Path, split: str, kind: str) -> Path:
    return folder / f"{split}_{kind}.npy"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time; the system drops the lock of one that dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares {folder}", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
