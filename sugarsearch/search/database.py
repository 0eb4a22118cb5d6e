"""The mirror of a study in SQLite: finished trials only, for resuming and for Optuna's own tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import DatabaseError

from sugarsearch.errors import RunError


class Mirror:
    """The database's study; a trial there has the number that it has in the working study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self.trials: list[FrozenTrial] = study.get_trials()

    def extend(self, working: Sequence[FrozenTrial]) -> None:
        """Add the trials of the working study that are not there yet; all must be finished."""
        new = working[len(self.trials) :]
        self._study.add_trials(new)
        self.trials += new


@contextmanager
def mirror(path: Path, name: str) -> Iterator[Mirror]:
    """Open the database at `path`, or make it.

    Raises:
        RunError: the file is no such database.
    """
    try:
        storage = RDBStorage(f"sqlite:///{path}")
    except (DatabaseError, RuntimeError, AssertionError) as error:
        raise _unreadable(path, error) from None
    try:
        yield Mirror(optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True))
    except (DatabaseError, StorageInternalError) as error:
        raise _unreadable(path, error) from None
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _unreadable(path: Path, error: Exception) -> RunError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return RunError(f"{path} cannot be used ({reason}). Delete it and resume: it is made again from the records.")
