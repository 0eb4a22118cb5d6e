"""Archives from the network: fetched whole with a checksum or not at all, and unpacked inside their folder."""

from __future__ import annotations

import errno
import hashlib
import http.client
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from rich.console import Console
from rich.progress import wrap_file

from sugarsearch.data.paths import cause, unwritable
from sugarsearch.errors import DataError

TIMEOUT = 30.0  # seconds without a byte; a slow server that goes on sending is waited for
# Several times what is published: a server or an archive without an end must not fill the disk.
LARGEST_DOWNLOAD = 1 << 30
LARGEST_CONTENT = 2 << 30
MOST_MEMBERS = 1_000_000

_PIECE = 1 << 20
_DISTRUST = "Do not use this file; get it from its publisher."
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


def fetch(url: str, md5: str, target: Path) -> Path:
    """The file at `url` as `target`; a file already there with the right checksum is used as it is.

    Raises:
        DataError: offline, cut short, of another checksum, or not to be written; nothing is left behind.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        if target.is_file() and _md5(target) == md5:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            expected = _download(url, part, target)
            size = part.stat().st_size
            if expected is not None and size != expected:
                reason = f"the download ended after {size} of {expected} bytes."
                raise DataError(url, reason, "Run the same command again.")
            found = _md5(part)
            if found != md5:
                remedy = f"Get the right file from elsewhere and put it at {target}."
                raise DataError(url, f"the download has md5 {found} instead of {md5}.", remedy)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(target, error) from error
    return target


# What it would refuse has been looked for; Python before 3.11.4, which Debian 12 has, knows no filters.
_FILTER: Final[dict[str, Any]] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file of files and folders, and nothing else, into `folder`.

    Raises:
        DataError: not an archive, damaged, larger than anything published, or with a member that is a link or a
            device or would land outside the folder.
        OSError: the folder cannot be written.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                _inspect(archive, ((entry.filename, entry.file_size, _is_plain(entry)) for entry in bundle.infolist()))
                bundle.extractall(folder)
        else:
            with tarfile.open(archive) as bundle:
                _inspect(archive, ((member.name, member.size, member.isreg() or member.isdir()) for member in bundle))
                bundle.extractall(folder, **_FILTER)
                while bundle.fileobj and bundle.fileobj.read(_PIECE):
                    pass  # at its very end a compressed file has its checksum
    except DataError:
        raise
    except Exception as error:  # the readers raise whatever the damage makes of their arithmetic
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        # tarfile lists all it has tried, a line for each.
        said = "no zip or tar file, or its end is missing" if isinstance(error, tarfile.ReadError) else cause(error)
        raise DataError(archive, f"cannot be unpacked ({said}).", "Delete it and run again.") from error


def _inspect(archive: Path, members: Iterable[tuple[str, int, bool]]) -> None:
    """Look at (name, size, whether a plain file or folder) of every member, and stop at the first that is not fit."""
    total = 0
    for number, (name, size, is_plain) in enumerate(members):
        total += size
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(archive, f"holds {name!r}, which would be written outside its folder.", _DISTRUST)
        if not is_plain:
            raise DataError(archive, f"holds {name!r}, which is neither a file nor a folder.", _DISTRUST)
        if total > LARGEST_CONTENT or number >= MOST_MEMBERS:
            reason = f"holds more than {LARGEST_CONTENT:,} bytes or {MOST_MEMBERS:,} files."
            raise DataError(archive, reason, _DISTRUST)


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    return stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made without POSIX modes


def _download(url: str, part: Path, target: Path) -> int | None:
    """Stream `url` to `part`; returns the length the server announced, if it did."""
    console = Console(stderr=True)
    with _network(url, target):
        # urlopen would keep the proxy settings of its first use for the whole process.
        response = urllib.request.build_opener().open(url, timeout=TIMEOUT)
    with response, part.open("wb") as file:
        expected: int | None = response.length
        with wrap_file(
            response, expected or 0, description=target.name, console=console, disable=not console.is_terminal
        ) as reader:
            for piece in _pieces(reader, url, target):
                file.write(piece)
    return expected


def _pieces(reader: BinaryIO, url: str, target: Path) -> Iterator[bytes]:
    size = 0
    while size <= LARGEST_DOWNLOAD:
        with _network(url, target):
            piece: bytes = reader.read(_PIECE)
        if not piece:
            return
        size += len(piece)
        yield piece
    reason = f"the server sends more than {LARGEST_DOWNLOAD:,} bytes, which no published archive has."
    raise DataError(url, reason, f"Get the right file from elsewhere and put it at {target}.")


@contextmanager
def _network(url: str, target: Path) -> Iterator[None]:
    """Faults of the network as DataErrors; those of the disk are told elsewhere, with another remedy."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:  # the last two: proxy settings
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the server's answer, with the connection still open
        remedy = f"Check the network (and proxy settings) and run again, or put the file at {target} yourself."
        raise DataError(url, f"cannot be downloaded ({cause(error)}).", remedy) from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
