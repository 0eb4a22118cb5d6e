"""Dead units and sparsity over the epochs of the final runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from sugarsearch.evaluation.jobs import FINAL
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.verdict.table import Arm


def activity_of(arms: Sequence[Arm], records: Iterable[Record]) -> list[dict[str, list[float]]]:
    """For each arm the shares `dead_units` and `sparsity` after each epoch, means over its completed final runs."""
    finals = [record for record in records if record.job.stage == FINAL and record.status is Status.COMPLETED]
    shares: list[dict[str, list[float]]] = []
    for arm in arms:
        own = [
            record
            for record in finals
            if record.job.learning_rate == arm.learning_rate and record.job.surrogate.to_json() == arm.surrogate
        ]
        dead, sparsity = [record.dead_units for record in own], [record.sparsity for record in own]
        shares.append({"dead_units": _by_epoch(dead), "sparsity": _by_epoch(sparsity)})
    return shares


def _by_epoch(courses: Sequence[Sequence[float]]) -> list[float]:
    known = [course for course in courses if course]
    return [round(fmean(values), 5) for values in zip(*known, strict=True)]
