"""A study's outcome once more, from its records alone: nothing is trained, nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import RunError
from sugarsearch.evaluation.jobs import FINAL, VALIDATION
from sugarsearch.evaluation.records import Record, RecordLog
from sugarsearch.evaluation.replay import LogExecutor, MissingRecordsError
from sugarsearch.runs import folder as run_folder
from sugarsearch.runs import provenance
from sugarsearch.runs.comparison import compared
from sugarsearch.runs.observer import Silent
from sugarsearch.runs.provenance import Provenance
from sugarsearch.runs.results import ScreeningRow, StudyResult
from sugarsearch.runs.session import outcome
from sugarsearch.search.batch import confirm
from sugarsearch.search.database import mirror
from sugarsearch.search.samplers import make_sampler
from sugarsearch.search.study import Screening, queue_of, quiet_optuna, screened, shortened, time_over
from sugarsearch.verdict.final import comparison_table, final_table


def recomputed(folder: Path) -> StudyResult:
    """What the run in `folder` found, from its `records.jsonl` and its study or comparison alone.

    Candidates are proposed again, and every stage asks the records in place of a trainer. `seconds` is 0.

    Raises:
        RunError: no run, damaged, or without records that the verdict needs (the text says of which stage).
        NothingFinishedError: every candidate failed.
    """
    config = run_folder.stored(folder)
    log = RecordLog(folder / run_folder.RECORDS)
    records = log.load()
    origin = provenance.load(folder)
    executor = LogExecutor(config.recipe, records)
    rows, note = list[ScreeningRow](), ""
    try:
        if isinstance(config, StudyConfig):
            rows, note = _screening(config, executor, log, records)
            final = final_table(executor.evaluate, screened(rows), config, scoring=_scoring(records))
        else:
            final = comparison_table(executor.evaluate, compared(config), config, scoring=_scoring(records))
    except MissingRecordsError as error:
        raise RunError(_refusal(folder, error, origin)) from None
    return outcome(config, folder, rows, final, records, origin, note, 0.0)


def _screening(
    config: StudyConfig, executor: LogExecutor, log: RecordLog, records: Sequence[Record]
) -> tuple[list[ScreeningRow], str]:
    """As `Screening.run`; time is not measured again, so a search that a limit ended is one whose records end."""
    timeless = config.model_copy(update={"search": config.search.model_copy(update={"time_limit": None})})
    sampler = make_sampler(config.space, config.search, queue_of(config))
    verify = partial(confirm, config=config, log=log)
    with TemporaryDirectory() as scratch, quiet_optuna():
        place = Path(scratch)
        with mirror(place / run_folder.DATABASE, config.name, "replay", verify) as database:
            screening = Screening(timeless, place, Silent(), executor, database, sampler)
            try:
                return screening.run()
            except MissingRecordsError:
                ended = any(record.job.stage == FINAL for record in records)
                if config.search.time_limit is None or not ended:
                    raise
                return screening.rows, shortened(time_over(config), len(screening.rows), config)


def _scoring(records: Sequence[Record]) -> str | None:
    """What the run's final runs were scored on; from Python that may be the validation split, or tensors."""
    scorings = {record.job.scoring for record in records if record.job.stage == FINAL} - {VALIDATION}
    return min(scorings, default=None)


def _refusal(folder: Path, error: MissingRecordsError, origin: Provenance | None) -> str:
    text = (
        f"{folder} has no verdict yet: {error}.\nNothing is trained here. Give the command that began the run, and it "
        "goes on from where it is."
    )
    here, versions = provenance.versions(), origin.versions if origin else {}
    changed = [
        f"{name} {old} became {here.get(name, 'none')}" for name, old in versions.items() if old != here.get(name)
    ]
    if changed:
        text += f"\nThe run was begun with other packages, which may propose other candidates: {', '.join(changed)}."
    return text
