"""Records: what jobs gave, one JSON line each, in a log that survives kill -9."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Any, Final, NoReturn, get_args

from sugarsearch.config.schema import ExecutionConfig
from sugarsearch.errors import RunError, SugarsearchError, SugarsearchWarning
from sugarsearch.evaluation.jobs import Job


class Status(StrEnum):
    """How a job ended."""

    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    DIVERGED = "DIVERGED"
    REJECTED = "REJECTED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CRASHED = "CRASHED"
    INTERRUPTED = "INTERRUPTED"


MACHINE_FAULTS: Final = frozenset({Status.OUT_OF_MEMORY, Status.CRASHED, Status.INTERRUPTED})
"""Faults of the machine, not of the candidate: such jobs are tried again."""

_MODES: Final = tuple(mode for mode in get_args(ExecutionConfig.model_fields["mode"].annotation) if mode != "auto")


@dataclass(frozen=True)
class Record:
    """What a job gave.

    Attributes:
        job: what was asked.
        recipe: `recipe_hash` of the recipe it was trained with.
        mode: "eager", "compiled" or "population".
        device: where it ran.
        status: how it ended.
        classes: how many classes the data has.
        scores: accuracy on the job's scoring data after each epoch, as far as the run stayed finite.
        dead_units, sparsity: shares after each of those epochs, to 4 digits; empty where nobody is left to say.
        seconds: the job's part of the time that its computation took; members of a population share evenly.
        versions: of the packages that matter.
        reason: of a failure, empty otherwise.

    Raises:
        ValueError: a value that no job gives, such as a score that is NaN; the text names it.
    """

    job: Job
    recipe: str
    mode: str
    device: str
    status: Status
    classes: int
    seconds: float
    versions: Mapping[str, str]
    scores: tuple[float, ...] = ()
    dead_units: tuple[float, ...] = ()
    sparsity: tuple[float, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(f"mode {self.mode!r} is none of {', '.join(_MODES)}")
        if type(self.classes) is not int or self.classes < 2:
            raise ValueError(f"classes is {self.classes!r}; it must be a whole number of at least 2")
        if not isinstance(self.seconds, float) or not 0 <= self.seconds < math.inf:
            raise ValueError(f"seconds is {self.seconds!r}; it must be a number of at least 0")
        if len(self.scores) > self.job.epochs:
            raise ValueError(f"there are {len(self.scores)} scores for {self.job.epochs} epochs")
        if self.status in (Status.COMPLETED, Status.PRUNED) and not self.scores:
            raise ValueError(f"a job that is {self.status} has at least one score")
        shares = (*self.scores, *self.dead_units, *self.sparsity)
        strange = [share for share in shares if not isinstance(share, float) or not 0 <= share <= 1]
        if strange:
            raise ValueError(f"{strange[0]!r} is no accuracy or share; it must be a number from 0 to 1")
        if not len(self.dead_units) == len(self.sparsity) in (0, len(self.scores)):
            counts = f"{len(self.dead_units)} and {len(self.sparsity)}"
            raise ValueError(f"dead_units and sparsity have {counts} values for {len(self.scores)} scores")
        texts = (self.recipe, self.device, self.reason, *self.versions, *self.versions.values())
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"recipe, device, reason and versions must be texts, not {texts}")

    @property
    def score(self) -> float | None:
        """The last accuracy; None if there is none."""
        return self.scores[-1] if self.scores else None

    @property
    def gain(self) -> float | None:
        """Of the surrogate as trained; None where g is not finite."""
        gain = self.job.surrogate.gain
        return gain if math.isfinite(gain) else None

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / self.classes

    @property
    def value(self) -> float:
        """What a search is told: the score of a run that ended well or ran out of time, chance for all others."""
        counts = self.status in (Status.COMPLETED, Status.PRUNED, Status.TIMEOUT)
        return self.score if counts and self.score is not None else self.chance

    def at(self, epoch: int) -> float | None:
        """What a judge is told of this job at a rung.

        The accuracy after `epoch` epochs; `value` if the job had failed before by its own doing; None if it
        was stopped before, by a judge or by a fault of the machine.
        """
        if len(self.scores) >= epoch:
            return self.scores[epoch - 1]
        return None if self.status in MACHINE_FAULTS | {Status.PRUNED} else self.value

    def to_json(self) -> dict[str, Any]:
        """Plain values; `job_id`, `score` and `gain` are there for readers of the file."""
        return {
            "job_id": self.job.id,
            "recipe": self.recipe,
            "status": str(self.status),
            "score": self.score,
            "job": self.job.to_json(),
            "mode": self.mode,
            "device": self.device,
            "classes": self.classes,
            "scores": list(self.scores),
            "gain": self.gain,
            "dead_units": list(self.dead_units),
            "sparsity": list(self.sparsity),
            "seconds": self.seconds,
            "versions": dict(self.versions),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        """The record that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError, SugarsearchError: it is none.
        """
        if value.keys() != _NAMES:
            missing = sorted(_NAMES - value.keys())
            raise ValueError(f"{missing[0]!r} is missing" if missing else f"{min(value.keys() - _NAMES)!r} is unknown")
        given = {name: value[name] for name in value.keys() - _DERIVED}
        job = Job.from_json(given.pop("job"))
        if job.id != value["job_id"]:
            raise ValueError(f"job_id {value['job_id']} does not fit the job, whose id is {job.id}")
        status = Status(given.pop("status"))
        courses: dict[str, Any] = {name: tuple(given.pop(name)) for name in _COURSES}
        record = cls(job=job, status=status, **courses, **given)
        if record.score != value["score"]:
            raise ValueError(f"score {value['score']} does not fit the last of the scores, {record.score}")
        return record


_DERIVED: Final = frozenset({"job_id", "score", "gain"})
_COURSES: Final = ("scores", "dead_units", "sparsity")
_NAMES: Final = _DERIVED | {field.name for field in fields(Record)}


class RecordLog:
    """The records of a run, in one file that several processes append to.

    Each line ends with a checksum of what stands before it, so that damage of the disk is seen, not believed.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """The folder beside the file where executors keep the state of unfinished jobs."""
        return self.path.with_name("checkpoints")

    def append(self, records: Sequence[Record]) -> None:
        """Write `records` in one go; on return they are on the disk.

        Raises:
            RunError: the file cannot be written; what was there is unharmed.
        """
        data = b"".join(_line(record) for record in records)
        try:
            with self._locked("ab+", fcntl.LOCK_EX) as file:
                end = _whole_length(file)
                # The rest of a line whose writer was killed would spoil the line after it.
                file.truncate(end)
                try:
                    _write_all(file, data)
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written: {error.strerror}. "
                "Make room or get the right to write, then give the same command again."
            ) from None

    def load(self) -> list[Record]:
        """All records, oldest first; none where there is no file.

        A last line without its end is the work of a killed writer: it is left out, with a warning.

        Raises:
            RunError: a line that is no record; the text names it.
        """
        try:
            with self._locked("rb", fcntl.LOCK_SH) as file:
                content = file.readall()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}. Get the right to read it.") from None
        *lines, rest = content.split(b"\n")
        if rest:
            message = f"{self.path}: the last line is torn and left out; its job is run again."
            warnings.warn(message, SugarsearchWarning, stacklevel=2)
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def _parse(self, line: bytes, number: int) -> Record:
        try:
            return _record(line)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SugarsearchError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            message = (
                f"{self.path}:{number}: this line is not a record: {reason}. "
                "Restore the file from a copy, or delete the line to have its job run again."
            )
            raise RunError(message) from None

    @contextmanager
    def _locked(self, mode: str, lock: int) -> Iterator[FileIO]:
        is_new = not self.path.exists()
        with self.path.open(mode, buffering=0) as file:
            assert isinstance(file, FileIO)
            if is_new:
                _sync_folder(self.path.parent)
            fcntl.flock(file, lock)
            yield file


def _line(record: Record) -> bytes:
    """The record as JSON, whose last entry is the checksum of the line without that entry."""
    body = json.dumps(record.to_json(), allow_nan=False).encode()
    return body[:-1] + _check(body) + b"\n"


def _record(line: bytes) -> Record:
    """What `_line` wrote, of a line without its end; nothing of a damaged line is looked at."""
    body = line[:-_CHECK_LENGTH] + b"}"
    if line[-_CHECK_LENGTH:] != _check(body):
        raise ValueError("its checksum does not fit, so it is damaged or was edited")
    return Record.from_json(_STRICT.decode(body.decode()))


def _check(body: bytes) -> bytes:
    return f', "check": "{hashlib.sha256(body).hexdigest()[:16]}"}}'.encode()


_CHECK_LENGTH: Final = len(_check(b""))


def _refuse_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is no JSON")


_STRICT: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _whole_length(file: FileIO) -> int:
    """The length of the file up to the end of its last whole line."""
    end = file.seek(0, os.SEEK_END)
    step = 65536
    while end:
        start = max(0, end - step)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _sync_folder(folder: Path) -> None:
    """Without this a power cut may forget that the file was made."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
