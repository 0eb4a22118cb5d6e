"""What the operating system says of a path, as a `DataError`."""

from __future__ import annotations

import os
from pathlib import Path

from sugarsearch.errors import DataError

ELSEWHERE = "Free the space or choose another place: root in the configuration, or $SUGARSEARCH_DATA."


def expanded(path: str | Path) -> Path:
    """`path` with a leading ~ or ~user replaced by that home.

    Raises:
        DataError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(path, "begins with the home of a user that does not exist.", "Write the whole path.") from error


def require_utf8(path: str | Path, part: str | None = None) -> None:
    """Refuse what could not be written into records and tables: all of `path`, or a `part` of it alone.

    Raises:
        DataError: bytes in it are not UTF-8.
    """
    try:
        (part or str(path)).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise DataError(shown, "has a name that is not UTF-8.", "Rename it.") from error


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, links followed.

    Raises:
        DataError: the system does not let us look, or takes it for no path at all.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path | str, error: OSError) -> DataError:
    """What to raise where `path` cannot be read."""
    if error.filename is not None:
        path = Path(error.filename)
    if os.path.islink(path):  # noqa: PTH114  Path's own raises where a name is too long
        return DataError(path, f"is a link that leads nowhere ({cause(error)}).", "Mend or remove it.")
    return DataError(path, f"cannot be read ({cause(error)}).", "Make it readable, or remove it.")


def unwritable(path: Path | str, error: OSError) -> DataError:
    """What to raise where data sets or downloads cannot be written under `path`."""
    inside = "" if error.filename in (None, str(path)) else f": {error.filename}"
    return DataError(path, f"cannot be written ({cause(error)}{inside}).", ELSEWHERE)


def cause(error: BaseException) -> str:
    """What an exception says, on one line; of an error of the system without its number."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
