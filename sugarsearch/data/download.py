"""Archives from the network: fetched whole with a checksum or not at all, and unpacked inside their folder."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import wrap_file

from sugarsearch.errors import DataError

TIMEOUT = 30.0  # seconds without a byte


def fetch(url: str, md5: str, target: Path) -> Path:
    """The file at `url` as `target`; a file already there with the right checksum is used as it is.

    Raises:
        DataError: offline, cut short, or of another checksum; nothing is left behind.
    """
    if target.exists() and _md5(target) == md5:
        return target
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        expected = _download(url, part, target)
        size = part.stat().st_size
        if expected is not None and size != expected:
            raise DataError(url, f"the download ended after {size} of {expected} bytes.", "Run the same command again.")
        found = _md5(part)
        if found != md5:
            remedy = f"Get the right file from elsewhere and put it at {target}."
            raise DataError(url, f"the download has md5 {found} instead of {md5}.", remedy)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file into `folder`.

    Raises:
        DataError: not an archive, damaged, or with a member that would land outside the folder.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                _refuse_outside(archive, bundle.namelist())
                bundle.extractall(folder)
        else:
            with tarfile.open(archive) as bundle:
                _refuse_outside(archive, bundle.getnames())
                bundle.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(archive, f"cannot be unpacked ({error}).", "Delete it and run again.") from error


def _refuse_outside(archive: Path, names: list[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            reason = f"holds {name!r}, which would be written outside its folder."
            raise DataError(archive, reason, "Do not use this file; get it from its publisher.")


def _download(url: str, part: Path, target: Path) -> int | None:
    """Stream `url` to `part`; returns the length the server announced, if it did."""
    console = Console(stderr=True)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, part.open("wb") as file:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            with wrap_file(
                response, total or 0, description=target.name, console=console, disable=not console.is_terminal
            ) as reader:
                shutil.copyfileobj(reader, file, 1 << 20)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the server's answer, with the connection still open
        remedy = f"Check the network and run again, or put the file at {target} yourself."
        raise DataError(url, f"cannot be downloaded ({error}).", remedy) from error
    return total


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
