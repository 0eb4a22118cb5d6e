"""The names of data sets, and what a name means; free of torch and of the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sugarsearch.config.objects import is_object_name
from sugarsearch.data.paths import expanded, is_folder, require_utf8
from sugarsearch.errors import DataError, UnknownNameError

Kind = Literal["known", "imported", "folder", "loader"]

DATASETS: Mapping[str, str] = {
    "digits": "1,797 grey 8x8 digits, 10 classes; ships with scikit-learn, nothing to download",
    "cifar10": "60,000 colour 32x32 images, 10 classes; a download of 170 MB",
    "cifar100": "60,000 colour 32x32 images, 100 classes; a download of 169 MB",
    "tiny_imagenet": "110,000 colour 64x64 images, 200 classes; a download of 248 MB",
}
MANIFEST = "manifest.json"
DOWNLOADS, FOLDERS = RESERVED = ("downloads", "folders")  # beside the data sets, under the root


def data_root(root: str | Path | None = None) -> Path:
    """Where caches and downloads lie: `root`, else $SUGARSEARCH_DATA, else ~/.cache/sugarsearch.

    Raises:
        DataError: it begins with the home of an unknown user, or cannot be written into a record.
    """
    place = expanded(root or os.environ.get("SUGARSEARCH_DATA") or "~/.cache/sugarsearch")
    require_utf8(place)
    return place


def imported_names(root: str | Path | None = None) -> list[str]:
    """The data sets that `sugarsearch data import` has put under the root."""
    folders = (path.parent.name for path in data_root(root).glob(f"*/{MANIFEST}"))
    return sorted(name for name in folders if name not in DATASETS)


def kind_of(name: str, root: str | Path | None = None) -> Kind:
    """What `DataConfig.name` means: a known or imported name, a folder of images, or `package.module:loader`.

    A name comes before a folder of the same name; write ./NAME for the folder.

    Raises:
        UnknownNameError: nothing has this name.
        DataError: it is written as a path, and there is no such folder, or none that we may look at.
    """
    if name in DATASETS:
        return "known"
    if is_object_name(name):
        return "loader"
    if name in imported_names(root):
        return "imported"
    if is_folder(expanded(name)):
        return "folder"
    if os.sep in name or name.startswith(("~", ".")):
        raise DataError(
            name, "is not a folder.", "Give a folder of images, or one of the names of `sugarsearch data list`."
        )
    raise UnknownNameError("data set", name, (*DATASETS, *imported_names(root)))
