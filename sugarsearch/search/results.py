"""What a study found: rows of the screening, the final table, and their JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sugarsearch.errors import RunError
from sugarsearch.symbolic.surrogate import Surrogate


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
    `note` says what kept the study from being whole (a time limit), empty otherwise.
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
        """Write `path` as JSON, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> StudyResult:
        """Read what `save` wrote.

        Raises:
            RunError: no such file, or not a result of this version.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            message = (
                f"{path} does not exist: give the folder of a run that has ended, or end it with `sugarsearch search`."
            )
            raise RunError(message) from None
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path} is not a study's results: {error!r}. Run the study again to rewrite it.") from None


def ranked(rows: Iterable[ScreeningRow]) -> list[ScreeningRow]:
    """The finished rows by score, best first; of equals the earlier."""
    return sorted((row for row in rows if row.finished), key=lambda row: (-row.score, row.index))


def counts(rows: Sequence[ScreeningRow]) -> dict[str, int]:
    """How many candidates ended in which status, commonest first."""
    statuses = [row.status for row in rows]
    return dict(sorted(((s, statuses.count(s)) for s in set(statuses)), key=lambda item: (-item[1], item[0])))


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a kill or a power cut leaves the old or the new, never a torn file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
