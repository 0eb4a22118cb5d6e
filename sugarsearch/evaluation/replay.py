"""An executor that trains nothing: it has what a log has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sugarsearch.config.schema import Recipe
from sugarsearch.errors import RunError
from sugarsearch.evaluation.jobs import Job, Judge, recipe_hash
from sugarsearch.evaluation.logged import standing
from sugarsearch.evaluation.records import Record


class MissingRecordsError(RunError):
    """Jobs that are not in the log. Attributes: stage, missing, wanted (numbers of jobs)."""

    def __init__(self, stage: str, missing: int, wanted: int) -> None:
        self.stage, self.missing, self.wanted = stage, missing, wanted
        super().__init__(f"{missing} of {wanted} trainings of the stage {stage!r} are not in the records")


class LogExecutor:
    """Answers from records; see `Executor`."""

    def __init__(self, recipe: Recipe, records: Iterable[Record]) -> None:
        self._known: dict[str, list[Record]] = {}
        name = recipe_hash(recipe)
        for record in records:
            if record.recipe == name:
                self._known.setdefault(record.job.id, []).append(record)

    def evaluate(
        self, jobs: Sequence[Job], judge: Judge | None = None, rungs: Sequence[int] = (), deadline: float | None = None
    ) -> Iterator[Record]:
        """The records of `jobs`; what a judge said when they were made is in them.

        Raises:
            MissingRecordsError: some are not known.
        """
        asked = {job.id: job for job in jobs}
        found = [record for name in asked if (record := standing(self._known.get(name, []))) is not None]
        if len(found) < len(asked):
            raise MissingRecordsError(jobs[0].stage, len(asked) - len(found), len(asked))
        yield from found

    def fingerprint(self) -> str:
        """Of no data: nothing is trained."""
        return ""
