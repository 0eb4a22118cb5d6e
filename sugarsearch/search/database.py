"""The mirror of a study in SQLite: its told trials, for resuming and for Optuna's own tools.

The records are the truth. A database that is damaged, or is another run's, is set aside, and the study is
made again from the records. Readers (Optuna's dashboard, a query) do not disturb the search and see whole trials:
the file is in SQLite's WAL mode.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import DBAPIError

from sugarsearch.errors import RunError, SugarsearchWarning
from sugarsearch.runs.results import ScreeningRow
from sugarsearch.search import bulk, trials
from sugarsearch.search.notes import LIMIT, note_attributes, note_of

BUSY_SECONDS: Final = 30.0
"""How long to wait for another program that is writing; a reader is never waited for."""

Verify = Callable[[Sequence[ScreeningRow]], None]
"""Sets rows that a database holds against the records.

Raises ValueError where the database is wrong, RunError where records are missing.
"""

_FILES = ("", "-wal", "-shm", "-journal")  # of SQLite, beside each other

# What SQLite says when the machine, not the file, is at fault.
_MACHINE = ("BUSY", "LOCKED", "FULL", "READONLY", "IOERR", "CANTOPEN", "PERM", "NOMEM", "NOLFS", "PROTOCOL")


class Mirror:
    """The database's study; a trial there has the number that it has in the working study.

    rows: of the trials that it held when it was opened.
    """

    def __init__(self, path: Path, study: optuna.Study, storage: RDBStorage, rows: Sequence[ScreeningRow]) -> None:
        self._path, self._study, self._storage, self.rows, self._count = path, study, storage, rows, len(rows)
        self._schema = storage.get_current_version()

    def extend(self, working: Sequence[FrozenTrial]) -> None:
        """Add the trials of the working study that are not there yet; all must be finished.

        Raises:
            RunError: the machine does not let it be written.
        """
        new = working[self._count :]
        notes = [note_of(trials.row_of(trial)) for trial in new[: max(LIMIT - self._count, 0)]]
        with _machine(self._path):
            if self._schema == bulk.SCHEMA:
                with closing(_connect(self._path)) as connection:
                    bulk.insert_trials(connection, self._study.study_name, self._count, new, notes)
            else:
                self._study.add_trials(new)
                self._save(notes)
        self._count += len(new)

    def _save(self, notes: Sequence[str]) -> None:
        storage = self._storage
        study = storage.get_study_id_from_name(self._study.study_name)
        for number, note in enumerate(notes, start=self._count):
            trial = storage.get_trial_id_from_study_id_trial_number(study, number)
            for name, value in note_attributes(trial, note).items():
                storage.set_study_system_attr(study, name, value)


@contextmanager
def mirror(path: Path, name: str, run: str, verify: Verify) -> Iterator[Mirror]:
    """Open the database at `path`, or make it.

    Args:
        path: of the file.
        name: of the study.
        run: names the run; a database that carries another is not used.
        verify: refuses the rows that it holds.

    Raises:
        RunError: the machine does not let it be read or written, or `verify` finds records missing.
    """
    with ExitStack() as stack:
        with _machine(path):
            if not path.exists():
                _make(path, name, run)
            try:
                found = stack.enter_context(_checked(path, name, run, verify))
            except _UnusableError as fault:
                _set_aside(path, str(fault))
                _make(path, name, run)
                found = stack.enter_context(_checked(path, name, run, verify))
        yield found


class _UnusableError(Exception):
    """Why a file cannot be the mirror of a run."""


@contextmanager
def _checked(path: Path, name: str, run: str, verify: Verify) -> Iterator[Mirror]:
    """The mirror, once all of it is found to be this run's."""
    with ExitStack() as stack:
        try:
            _check_file(path)  # before Optuna, which writes
            storage = stack.enter_context(_opened(path))
            names = optuna.get_all_study_names(storage)
            if name not in names:
                raise _UnusableError(f"it holds {', '.join(map(repr, names)) or 'no study'}, not {name!r}")
            study = optuna.load_study(study_name=name, storage=storage)
            if study.user_attrs.get("run") != run:
                raise _UnusableError("it is of another run")
            rows = _rows(study)
            verify(rows)
            found = Mirror(path, study, storage, rows)
        except (RunError, _UnusableError):
            raise
        except Exception as error:  # Optuna meets a garbled file with whatever it makes of it
            if _machine_fault(error):
                raise
            text = str(_origin(error)).splitlines()
            raise _UnusableError(text[0] if text else type(error).__name__) from None
        yield found


def _check_file(path: Path) -> None:
    """Refuse what SQLite or Optuna would write into, although it is damaged or somebody else's."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if found != "ok":
        raise _UnusableError(f"SQLite finds it damaged: {found.splitlines()[-1]}")
    if "studies" not in tables:
        raise _UnusableError("it is empty" if not tables else "it is another program's")


def _make(path: Path, name: str, run: str) -> None:
    """An empty mirror, there whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    for left in (new, path):  # a killed controller's; and a deleted database's log, not to be taken for the new one's
        for end in _FILES:
            Path(f"{left}{end}").unlink(missing_ok=True)
    with _opened(new) as storage:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        study.set_user_attr("run", run)
    if Path(f"{new}-wal").exists():  # it holds what could not be moved into the file when that was closed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    new.rename(path)


def _rows(study: optuna.Study) -> list[ScreeningRow]:
    rows = [trials.row_of(trial) for trial in study.get_trials(deepcopy=False)]
    if [row.index for row in rows] != list(range(len(rows))):
        raise ValueError("candidates are missing in it")
    return rows


@contextmanager
def _opened(path: Path) -> Iterator[RDBStorage]:
    """The database for Optuna, which would take a path with braces or a question mark for something else."""
    storage = RDBStorage("sqlite:///study.db", engine_kwargs={"creator": lambda: _connect(path)})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # A power cut may undo the last commits but not damage the file, and the records do not hang on it.
        connection.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _machine(path: Path) -> Iterator[None]:
    """Faults of the machine as a RunError."""
    try:
        yield
    except (DBAPIError, StorageInternalError, sqlite3.Error, OSError) as error:
        reason = _machine_fault(error)
        if not reason:
            raise
        remedy = "Make room there, get the right to write, or end the program that locks it; then resume."
        raise RunError(f"{path} cannot be used: {reason}. {remedy} What is finished is in the records.") from None


def _machine_fault(error: Exception) -> str:
    """What the system says where the disk, the rights or another program are at fault; empty for a damaged file."""
    origin = _origin(error)
    if isinstance(origin, OSError):
        return str(origin.strerror)
    kind = getattr(origin, "sqlite_errorname", "").removeprefix("SQLITE_")
    return str(origin) if kind.startswith(_MACHINE) else ""


def _origin(error: Exception) -> BaseException:
    """SQLite's or the system's own error, where Optuna and SQLAlchemy have wrapped it; else `error`."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, sqlite3.Error | OSError):
            return inner
        inner = getattr(inner, "orig", None) or inner.__cause__ or inner.__context__
    return error


def _set_aside(path: Path, fault: str) -> None:
    """Make way for a new database; the old one is kept, for it may be somebody's."""
    number = 1
    while (kept := path.with_name(f"{path.name}.unusable-{number}")).exists():
        number += 1
    for end in _FILES:
        with suppress(FileNotFoundError):
            Path(f"{path}{end}").rename(f"{kept}{end}")
    message = f"{path} is not this run's ({fault}). It is made again from the records; the old one is now {kept}."
    warnings.warn(message, SugarsearchWarning, stacklevel=2)
