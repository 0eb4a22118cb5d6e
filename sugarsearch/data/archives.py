"""CIFAR-10, CIFAR-100 and Tiny-ImageNet: where they are published, and how each becomes a cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sugarsearch.data import folder
from sugarsearch.data.arrays import SplitName
from sugarsearch.data.cache import Content
from sugarsearch.data.download import fetch, unpack
from sugarsearch.errors import DataError

AGAIN = "Delete it and run the same command again."


@dataclass(frozen=True)
class Archive:
    """A published file, its checksum, and what turns its unpacked content into a cache."""

    url: str
    md5: str
    convert: Callable[[Path, Content], None]

    @property
    def source(self) -> str:
        """What a cache made from this says of its origin."""
        return f"{self.url} md5 {self.md5}"

    def build(self, content: Content, downloads: Path) -> None:
        """Fetch into the folder `downloads` (where the archive stays), unpack, convert."""
        archive = fetch(self.url, self.md5, downloads / self.url.rpartition("/")[2])
        unpacked = content.scratch / "unpacked"
        unpack(archive, unpacked)
        try:
            self.convert(unpacked, content)
        except DataError as error:
            # What lies in the scratch folder is gone when the message is read.
            inside = error.path.removeprefix(f"{unpacked}/")
            raise DataError(archive, f"does not hold what it should: {inside} {error.reason}", AGAIN) from error


def _cifar10(unpacked: Path, content: Content) -> None:
    from torchvision.datasets import CIFAR10

    _cifar(CIFAR10, unpacked, content)


def _cifar100(unpacked: Path, content: Content) -> None:
    from torchvision.datasets import CIFAR100

    _cifar(CIFAR100, unpacked, content)


def _cifar(reader: Any, unpacked: Path, content: Content) -> None:
    splits: Mapping[SplitName, bool] = {"train": True, "test": False}
    for split, train in splits.items():
        try:
            data = reader(unpacked, train=train, download=False)
        except RuntimeError as error:  # torchvision compares the checksum of every file
            raise DataError(unpacked / split, "is missing or has another checksum.", AGAIN) from error
        content.classes = tuple(data.classes)
        count, height, width, channels = data.data.shape
        content.images(split, (count, channels, height, width), [data.data.transpose(0, 3, 1, 2)])
        content.labels(split, np.array(data.targets))


def _tiny_imagenet(unpacked: Path, content: Content) -> None:
    """Its val/ serves as the test part, because its own test/ has no labels."""
    root = unpacked / "tiny-imagenet-200"
    listing = root / "val" / "val_annotations.txt"
    if not listing.is_file():
        raise DataError(listing, "is missing.", AGAIN)
    sorted_folder = root / "val_by_class"
    for line in listing.read_text().splitlines():
        name, label = line.split("\t")[:2]
        image, home = root / "val" / "images" / name, sorted_folder / label
        if not image.is_file():
            raise DataError(image, "is missing.", AGAIN)
        home.mkdir(parents=True, exist_ok=True)
        shutil.move(image, home / name)
    folder.decode(folder.scan_splits(root, {"train": root / "train", "test": sorted_folder}), content)


ARCHIVES: Mapping[str, Archive] = {
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", _cifar10
    ),
    "cifar100": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", _cifar100
    ),
    "tiny_imagenet": Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", _tiny_imagenet
    ),
}
