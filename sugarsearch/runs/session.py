"""A sitting at a run: its folder held and settled, its log and what runs its jobs open, its results written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.schema import StudyConfig
from sugarsearch.evaluation.bench import resolve_device
from sugarsearch.evaluation.executor import Executor, Workload
from sugarsearch.evaluation.records import Record, RecordLog
from sugarsearch.runs import folder as run_folder
from sugarsearch.runs import provenance
from sugarsearch.runs.activity import activity_of
from sugarsearch.runs.provenance import Provenance
from sugarsearch.runs.results import ScreeningRow, StudyResult
from sugarsearch.verdict.table import FinalTable
from sugarsearch.verdict.test_data import OPEN, require

MakeExecutor = Callable[[Workload, RecordLog], AbstractContextManager[Executor]]

TEST: Final = OPEN
"""The scoring of final runs that opens the data set's test split, in the worker that needs it."""


@dataclass(frozen=True)
class Session:
    """What a run works with. `origin`: what it began with."""

    executor: Executor
    log: RecordLog
    origin: Provenance


def refuse_unusable(config: StudyConfig | ComparisonConfig, final_scoring: str | None) -> None:
    """Refuse a device or a test split that is not there, before there is a folder and before hours of training.

    Raises:
        UsageError, DataError: with what is missing.
    """
    resolve_device(config.execution.device)
    if final_scoring == TEST:
        require(config.recipe.data)


@contextmanager
def session(
    config: StudyConfig | ComparisonConfig,
    folder: Path,
    make_executor: MakeExecutor,
    allow_changes: bool,
    trial_time_limit: float | None = None,
) -> Iterator[Session]:
    """Hold `folder` and make it the run of `config`, or resume it.

    Raises:
        RunError: the folder is in use, belongs to another run, was begun with other package versions or data (with the
            difference), is damaged, or cannot be written.
        SugarsearchError: data, model or device cannot be used.
    """
    with run_folder.held(folder):
        run_folder.check(folder, config)
        log = RecordLog(folder / run_folder.RECORDS)
        with make_executor(Workload(config.recipe, config.execution, trial_time_limit), log) as executor:
            origin = provenance.settled(folder, config, executor.fingerprint(), allow_changes)
            run_folder.settle(folder, config)
            origin.save(folder)
            yield Session(executor, log, origin)
        shutil.rmtree(log.checkpoints, ignore_errors=True)


def outcome(
    config: StudyConfig | ComparisonConfig,
    folder: Path,
    rows: list[ScreeningRow],
    final: FinalTable,
    records: Sequence[Record],
    origin: Provenance | None,
    note: str,
    seconds: float,
) -> StudyResult:
    """The result of a run that has ended. origin: None where a run folder does not say what it began with."""
    return StudyResult(
        study=config.name,
        folder=str(folder),
        config=config.model_dump(mode="json"),
        screening=rows,
        final=final.to_json(),
        versions=origin.versions if origin else provenance.versions(),
        device=records[-1].device,
        seconds=seconds,
        note="; ".join(filter(None, (note, origin.caution if origin else ""))),
        activity=activity_of(final.rows, records),
    )
