"""What a study found: rows of the screening, the final table, and their JSON."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sugarsearch.errors import RunError
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.table import FinalTable


@dataclass(frozen=True, slots=True)
class ScreeningRow:
    """One candidate of the screening.

    `index` counts from 0 in the order of proposal and equals the Optuna trial's number. `score` is what the
    sampler was told: validation accuracy in [0, 1], chance for a failed candidate. `status` is a record's
    status: "COMPLETED", "PRUNED", or the failure with its `reason`. `surrogate` is `Surrogate.to_json()` of
    the g that was trained; scores are keyed by learning rate, the best rate is None where none finished.
    `epochs_scores` is the score after each epoch, by the same rule (the rate that is best then). `seconds` is the
    sum over the candidate's jobs.
    """

    index: int
    label: str
    surrogate: dict[str, Any]
    origin: str
    status: str
    score: float
    best_learning_rate: float | None
    scores_by_learning_rate: dict[str, float]
    epochs_scores: list[float]
    gain: float
    at_zero: float
    reason: str
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether all of the candidate's screening was run and gave a score."""
        return self.status == "COMPLETED"

    def restore(self) -> Surrogate:
        """The g that was trained."""
        return Surrogate.from_json(self.surrogate)

    @property
    def expression(self) -> str:
        """Text of g before scaling, with its parameters' names."""
        return str(self.restore().expression)

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters' values."""
        return dict(self.restore().parameters)

    @property
    def scale(self) -> float:
        """The factor before the expression."""
        return self.restore().scale


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A study's outcome.

    `config` is the resolved study; `final` the final table as JSON (None if it was not made); `versions` of
    the packages that matter and `device` where it ran; `seconds` of wall time in the sitting that ended it;
    `note` says what kept the study from being whole (a time limit), empty otherwise. `activity` holds, for each row
    of `final` in its order, the shares `dead_units` and `sparsity` after each epoch.

    A comparison's outcome is one too: its `config` has no search, and its `screening` is empty.
    """

    study: str
    folder: str
    config: dict[str, Any]
    screening: list[ScreeningRow]
    final: dict[str, Any] | None
    versions: dict[str, str]
    device: str
    seconds: float
    note: str = ""
    activity: list[dict[str, list[float]]] = dataclasses.field(default_factory=list)

    @property
    def table(self) -> FinalTable | None:
        """The final table, if it was made."""
        return None if self.final is None else FinalTable.from_json(self.final)

    @property
    def is_search(self) -> bool:
        """Whether candidates were looked for; else given surrogates were compared."""
        return "search" in self.config

    @property
    def is_of_family(self) -> bool:
        """Whether the candidates were members of one family."""
        return self.is_search and self.config["space"]["template"] == "family"

    @property
    def ranking(self) -> list[ScreeningRow]:
        """The finished candidates, best first."""
        return ranked(self.screening)

    @property
    def best(self) -> Surrogate:
        """The g with the highest screening score, as trained; the paper's queued ones included.

        Raises:
            RunError: no candidate has finished.
        """
        if not self.ranking:
            raise RunError(f"{self.folder}: no candidate of study {self.study!r} has finished, so there is no best.")
        return self.ranking[0].restore()

    def to_json(self) -> dict[str, Any]:
        """Plain data, fit for `json.dump`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StudyResult:
        """The result that `to_json` gave."""
        rows = [ScreeningRow(**row) for row in value["screening"]]
        return cls(**{**value, "screening": rows})

    def save(self, path: Path) -> None:
        """Write `path` as JSON, with a checksum; whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        value = self.to_json()
        write_atomically(path, json.dumps({**value, "check": _check(value)}, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> StudyResult:
        """Read what `save` wrote.

        Raises:
            RunError: no such file, or not a result of this version, or a damaged one.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value.pop("check", None) not in (None, _check(value)):  # versions before checksums wrote none
                raise ValueError("its checksum does not fit, so it is damaged or was edited")
            return cls.from_json(value)
        except (FileNotFoundError, NotADirectoryError):
            message = (
                f"{path} does not exist: give the folder of a run that has ended, or end it with `sugarsearch search`."
            )
            raise RunError(message) from None
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}. Get the right to read it.") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            message = (
                f"{path} is not a study's results: {error!r}. Run the study again to rewrite it: nothing is trained."
            )
            raise RunError(message) from None


def _check(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, allow_nan=False).encode()).hexdigest()[:16]


def ranked(rows: Iterable[ScreeningRow]) -> list[ScreeningRow]:
    """The finished rows by score, best first; of equals the earlier."""
    return sorted((row for row in rows if row.finished), key=lambda row: (-row.score, row.index))


def counts(rows: Sequence[ScreeningRow]) -> dict[str, int]:
    """How many candidates ended in which status, commonest first."""
    statuses = [row.status for row in rows]
    return dict(sorted(((s, statuses.count(s)) for s in set(statuses)), key=lambda item: (-item[1], item[0])))


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is whole; `path`'s folder is made if need be.

    A kill or a power cut leaves the old file or the new one, never a torn one. What killed writers have left
    beside it is removed.

    Raises:
        RunError: it cannot be written; the old file is unharmed then, and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        remedy = "Make room or get the right to write, then give the same command again."
        raise RunError(f"{path} cannot be written: {error.strerror or error}. {remedy}") from None


def _remove_stale(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number = left.suffix[1:]
        if number.isdecimal() and not _is_alive(int(number)):
            left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True
