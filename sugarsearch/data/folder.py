"""Trees of images, one folder for each class, as torchvision's ImageFolder reads them.

Classes are the sorted names of the folders; images may lie deeper inside them; links are followed, and a folder
that is reached twice is read once; files of other kinds, and hidden ones, are passed over. Images become RGB: a
palette's or alpha's transparency is dropped, of an animation the first frame counts.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from sugarsearch.data.arrays import SPLITS, Indices, SplitName
from sugarsearch.data.cache import Content
from sugarsearch.data.paths import cause, is_folder, require_utf8, unreadable
from sugarsearch.data.stratify import hold_out
from sugarsearch.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
# Nothing but what the suffixes promise: Pillow hands PostScript, for one, to another program to be run.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Tree:
    """The image files of each split, with the label of each; `root` is for messages."""

    root: Path
    classes: tuple[str, ...]
    files: Mapping[SplitName, Sequence[Path]]
    labels: Mapping[SplitName, Indices]


def scan(root: Path) -> Tree:
    """Find a tree's layout: train/ beside test/ or val/, or the classes at once.

    Without test/ or val/ the tree has no test part; of classes at once a fixed fifth is held out for it.
    Where there are both, test/ is the test part and val/ is not used: validation is cut from train/.

    Raises:
        DataError: no such folder, one that cannot be read, no classes, one class only, a class without images, too
            few to hold some out, or a test/ without a train/ or of other classes.
    """
    if not is_folder(root):
        raise DataError(root, "is not a folder.", "Give a folder that holds one folder of images for each class.")
    test = next((root / name for name in TEST_NAMES if is_folder(root / name)), None)
    if is_folder(root / "train"):
        folders: dict[SplitName, Path] = {"train": root / "train"}
        if test:
            folders["test"] = test
        return scan_splits(root, folders)
    if test:
        remedy = "Put the training images into train/, one folder for each class."
        raise DataError(root, f"has {test.name}/ but no train/.", remedy)
    whole = scan_splits(root, {"train": root})
    files, labels = whole.files["train"], whole.labels["train"]
    train, held_out = hold_out(labels)
    bare = set(whole.classes) - {whole.classes[label] for label in labels[train]}
    if bare or not len(held_out):
        reason = f"has {len(labels)} images, too few to hold a fifth out for testing"
        reason += f": none is left of class {min(bare)}." if bare else "."
        raise DataError(root, reason, "Add images, or put them into a train/ and a test/ folder.")
    parts: dict[SplitName, Indices] = dict(zip(SPLITS, (train, held_out), strict=True))
    return Tree(
        root,
        whole.classes,
        {split: [files[i] for i in indices] for split, indices in parts.items()},
        {split: labels[indices] for split, indices in parts.items()},
    )


def scan_splits(root: Path, folders: Mapping[SplitName, Path]) -> Tree:
    """A tree whose splits lie in the given folders of classes; all must have the classes of the first."""
    classes: tuple[str, ...] = ()
    files: dict[SplitName, list[Path]] = {}
    labels: dict[SplitName, Indices] = {}
    for split, folder in folders.items():
        inside = [entry for entry in _entries(folder) if stat.S_ISDIR(entry[1].st_mode)]
        found = tuple(path.name for path, _ in inside)
        for path, _ in inside:
            require_utf8(path, path.name)
        if len(found) < 2:
            reason = f"has {len(found)} class folders ({', '.join(found)})." if found else "has no class folders."
            raise DataError(folder, reason, "Give one folder of images for each of at least two classes.")
        if classes and found != classes:
            odd = ", ".join(sorted(set(found) ^ set(classes))[:5])
            reason = f"has other classes than the training images: {odd}."
            raise DataError(folder, reason, "Give both the same class folders.")
        classes = found
        groups = [_images(*entry) for entry in inside]
        files[split] = [path for group in groups for path in group]
        labels[split] = np.repeat(np.arange(len(found)), [len(group) for group in groups])
    return Tree(root, classes, files, labels)


def signature(tree: Tree) -> str:
    """Changes when a file is added, removed, renamed, or written anew, even with its time of writing put back.

    Raises:
        DataError: a file has gone meanwhile.
    """
    digest = hashlib.sha256()
    for split, files in tree.files.items():
        for path in files:
            try:
                status = path.stat()
            except OSError as error:
                raise unreadable(path, error) from error
            # The time of the last change cannot be set by programs as that of the last writing can.
            times = f"\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n"
            digest.update(split.encode() + b"/" + os.fsencode(path.relative_to(tree.root)) + times.encode())
    return f"folder {digest.hexdigest()}"


def decode(tree: Tree, content: Content, size: int | None = None) -> None:
    """Decode every image of `tree` into `content`.

    Args:
        tree: the files.
        content: where they go.
        size: scale the shorter side to this many pixels and cut out the middle square; None leaves images as
            they are, and then all must be of one size.

    Raises:
        DataError: a file that is no image, or images of different sizes.
    """
    content.classes = tree.classes
    first = _pixels(tree.files["train"][0], size)
    for split, files in tree.files.items():
        content.images(split, (len(files), *first.shape), _decoded(tree, split, first.shape, size))
        content.labels(split, tree.labels[split])


def _decoded(tree: Tree, split: SplitName, shape: tuple[int, ...], size: int | None) -> Iterator[npt.NDArray[np.uint8]]:
    """Every image of a split, uint8 [C, H, W], which must be `shape`."""
    console = Console(stderr=True)
    files = tree.files[split]
    for path in track(files, f"decoding {split}", console=console, disable=not console.is_terminal, transient=True):
        pixels = _pixels(path, size)
        if pixels.shape != shape:
            reason = f"is {_size_of(pixels.shape)} pixels; {tree.files['train'][0]} is {_size_of(shape)}."
            remedy = (
                f"Bring all to one size while importing: sugarsearch data import {tree.root} --name NAME --size 64."
            )
            raise DataError(path, reason, remedy)
        yield pixels


def _images(folder: Path, status: os.stat_result) -> list[Path]:
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()  # links may lead back
    waiting = [(folder, status)]
    while waiting:
        path, status = waiting.pop()
        if stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                waiting += _entries(path)
        elif stat.S_ISREG(status.st_mode) and path.suffix.lower() in SUFFIXES:
            found.append(path)
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(folder, "holds no images.", f"Remove the folder, or put images into it ({kinds}).")
    return sorted(found)


def _entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """What lies in a folder by name, hidden things left out; links stand for what they lead to."""
    try:
        return [(path, path.stat()) for path in sorted(folder.iterdir()) if path.name[0] != "."]
    except OSError as error:
        raise unreadable(folder, error) from error


def _pixels(path: Path, size: int | None) -> npt.NDArray[np.uint8]:
    """uint8 [3, H, W]."""
    remedy = "Replace or remove this file."
    try:
        with warnings.catch_warnings():
            # Pillow warns of much that is harmless, and of a size that only an attack or a mistake has.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                mode = image.mode
                colour = image.convert("RGB")
    except Exception as error:  # Pillow's readers raise whatever the damage makes of their arithmetic
        raise DataError(path, f"cannot be read as an image ({cause(error)}).", remedy) from error
    if mode[0] in "IF":
        reason = f"has more than 8 bits a pixel (Pillow's mode {mode}), which would be cut off at 255."
        raise DataError(path, reason, "Scale such images to 8 bits first.")
    if size is not None:
        colour = ImageOps.fit(colour, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(colour).transpose(2, 0, 1)


def _size_of(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"
