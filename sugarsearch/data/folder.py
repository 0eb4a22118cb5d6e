"""Trees of images, one folder for each class, as torchvision's ImageFolder reads them.

Classes are the sorted names of the folders; images may lie deeper inside them; files of other kinds, and
hidden ones, are passed over; images become RGB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from sugarsearch.data.arrays import SPLITS, Indices, SplitName
from sugarsearch.data.cache import Content
from sugarsearch.data.stratify import hold_out
from sugarsearch.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
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
        DataError: no such folder, no classes, one class only, a class without images, or a test/ without a
            train/ or of other classes.
    """
    if not root.is_dir():
        raise DataError(root, "is not a folder.", "Give a folder that holds one folder of images for each class.")
    test = next((root / name for name in TEST_NAMES if (root / name).is_dir()), None)
    if (root / "train").is_dir():
        folders: dict[SplitName, Path] = {"train": root / "train"}
        if test:
            folders["test"] = test
        return scan_splits(root, folders)
    if test:
        remedy = "Put the training images into train/, one folder for each class."
        raise DataError(root, f"has {test.name}/ but no train/.", remedy)
    whole = scan_splits(root, {"train": root})
    files, labels = whole.files["train"], whole.labels["train"]
    parts: dict[SplitName, Indices] = dict(zip(SPLITS, hold_out(labels), strict=True))
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
        found = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."))
        if len(found) < 2:
            reason = f"has {len(found)} class folders ({', '.join(found)})." if found else "has no class folders."
            raise DataError(folder, reason, "Give one folder of images for each of at least two classes.")
        if classes and found != classes:
            odd = ", ".join(sorted(set(found) ^ set(classes))[:5])
            reason = f"has other classes than the training images: {odd}."
            raise DataError(folder, reason, "Give both the same class folders.")
        classes = found
        groups = [_images(folder / name) for name in found]
        files[split] = [path for group in groups for path in group]
        labels[split] = np.repeat(np.arange(len(found)), [len(group) for group in groups])
    return Tree(root, classes, files, labels)


def signature(tree: Tree) -> str:
    """Changes when a file is added, removed, renamed, or written anew."""
    digest = hashlib.sha256()
    for split, files in tree.files.items():
        for path in files:
            status = path.stat()
            digest.update(f"{split}/{path.relative_to(tree.root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
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
    console = Console(stderr=True)
    for split, files in tree.files.items():
        images = content.images(split, (len(files), *first.shape))
        steps = track(files, f"decoding {split}", console=console, disable=not console.is_terminal, transient=True)
        for index, path in enumerate(steps):
            pixels = _pixels(path, size)
            if pixels.shape != first.shape:
                reason = f"is {_size_of(pixels)} pixels; {tree.files['train'][0]} is {_size_of(first)}."
                remedy = (
                    f"Bring all to one size while importing: sugarsearch data import {tree.root} --name NAME --size 64."
                )
                raise DataError(path, reason, remedy)
            images[index] = pixels
        content.labels(split, tree.labels[split])


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if _is_image(path))
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(folder, "holds no images.", f"Remove the folder, or put images into it ({kinds}).")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()


def _pixels(path: Path, size: int | None) -> npt.NDArray[np.uint8]:
    """uint8 [3, H, W]."""
    try:
        with Image.open(path) as image:
            colour = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(path, f"cannot be read as an image ({error}).", "Replace or remove this file.") from error
    if size is not None:
        colour = ImageOps.fit(colour, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(colour).transpose(2, 0, 1)


def _size_of(pixels: npt.NDArray[np.uint8]) -> str:
    return f"{pixels.shape[2]}x{pixels.shape[1]}"
