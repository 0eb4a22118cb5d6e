"""What a running study tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sugarsearch.config.comparison import ComparisonConfig
    from sugarsearch.config.schema import StudyConfig
    from sugarsearch.runs.results import StudyResult


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """The state of the screening after a batch.

    `done` counts candidates of earlier sittings too; `best_label` is empty and `best_score` None while no
    candidate has finished; `per_hour` and `seconds_left` are None until a batch of this sitting is done.
    """

    done: int
    total: int
    best_label: str
    best_score: float | None
    pruned: int
    failed: int
    per_hour: float | None
    seconds_left: float | None


class Observer(Protocol):
    """Called by the study in its own thread; must return soon and not raise."""

    def started(self, config: StudyConfig | ComparisonConfig, folder: Path, resumed: int) -> None:
        """The study or comparison begins; `resumed` candidates are known from before."""

    def progress(self, progress: StudyProgress) -> None:
        """A batch of candidates was told."""

    def stage(self, name: str, done: int, total: int) -> None:
        """`done` of `total` jobs of stage `name` ("screening", "rerun", "tuning", "final") are finished."""

    def finished(self, result: StudyResult) -> None:
        """It has ended and its results are written."""


class Silent:
    """The observer that says nothing."""

    def started(self, config: StudyConfig | ComparisonConfig, folder: Path, resumed: int) -> None: ...

    def progress(self, progress: StudyProgress) -> None: ...

    def stage(self, name: str, done: int, total: int) -> None: ...

    def finished(self, result: StudyResult) -> None: ...
