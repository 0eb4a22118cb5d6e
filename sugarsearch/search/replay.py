"""A study's outcome once more, from its records alone: nothing is trained, nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sugarsearch.config import loader
from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import RunError
from sugarsearch.evaluation.jobs import FINAL, VALIDATION
from sugarsearch.evaluation.records import Record, RecordLog
from sugarsearch.evaluation.replay import LogExecutor, MissingRecordsError
from sugarsearch.runs import folder as run_folder
from sugarsearch.runs import provenance
from sugarsearch.runs.observer import Silent
from sugarsearch.runs.results import ScreeningRow, StudyResult
from sugarsearch.search.batch import confirm
from sugarsearch.search.database import mirror
from sugarsearch.search.samplers import make_sampler
from sugarsearch.search.study import TEST, Screening, outcome, queue_of, quiet_optuna, screened, shortened, time_over
from sugarsearch.verdict.final import final_table


def recomputed(folder: Path) -> StudyResult:
    """What the study in run folder `folder` found, from its `records.jsonl` and `study.yaml`.

    Candidates are proposed again, and every stage asks the records in place of a trainer. `seconds` is 0.

    Raises:
        RunError: no run, damaged, or without records that the verdict needs (the text says of which stage).
        NothingFinishedError: every candidate failed.
    """
    if not (folder / run_folder.STUDY).is_file():
        raise RunError(f"{folder} has no {run_folder.STUDY}, so it is not a run. Give the folder of a run.")
    config = loader.load(folder / run_folder.STUDY, StudyConfig)
    log = RecordLog(folder / run_folder.RECORDS)
    records = log.load()
    origin = provenance.load(folder)
    versions = origin.versions if origin else provenance.versions()
    executor = LogExecutor(config.recipe, records)
    try:
        rows, note = _screening(config, executor, log, records)
        final = final_table(executor.evaluate, screened(rows), config, scoring=_scoring(records))
    except MissingRecordsError as error:
        raise RunError(_refusal(folder, error, versions)) from None
    note = "; ".join(filter(None, (note, origin.caution if origin else "")))
    return outcome(config, folder, rows, final, records, versions, note, 0.0)


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
    """What the run's final runs were scored on; searches from Python have the validation split alone."""
    scorings = {record.job.scoring for record in records if record.job.stage == FINAL}
    return None if scorings == {VALIDATION} else TEST


def _refusal(folder: Path, error: MissingRecordsError, versions: dict[str, str]) -> str:
    text = (
        f"{folder} has no verdict yet: {error}.\nNothing is trained here. Give the command that began the run, and it "
        "goes on from where it is."
    )
    here = provenance.versions()
    changed = [
        f"{name} {old} became {here.get(name, 'none')}" for name, old in versions.items() if old != here.get(name)
    ]
    if changed:
        text += f"\nThe run was begun with other packages, which may propose other candidates: {', '.join(changed)}."
    return text
