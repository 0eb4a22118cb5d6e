"""The controller of a study: asks for candidates, has them evaluated, tells the outcome, and ends with a table.

One process holds the run folder's lock. The working study is in memory; what is told is mirrored to the
database batch by batch, and every job's record is on the disk before that. Resuming takes the whole batches
of the database and asks for the rest again: proposals depend on nothing else, and jobs already recorded
are not run again. So a study whose database is lost is rebuilt on the way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import optuna

from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import NothingFinishedError
from sugarsearch.evaluation.executor import Executor, ProcessExecutor
from sugarsearch.evaluation.jobs import SCREENING
from sugarsearch.evaluation.records import Status
from sugarsearch.runs import folder as run_folder
from sugarsearch.runs.observer import Observer, Silent, StudyProgress
from sugarsearch.runs.results import ScreeningRow, StudyResult, counts, ranked
from sugarsearch.runs.session import TEST, MakeExecutor, outcome, refuse_unusable, session
from sugarsearch.search import trials
from sugarsearch.search.batch import Batch, Candidate, confirm, jobs_of
from sugarsearch.search.database import Mirror, mirror
from sugarsearch.search.pruning import BatchHalvingPruner
from sugarsearch.search.samplers import ProposingSampler, SpaceExhaustedError, make_sampler
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import Screened
from sugarsearch.verdict.final import final_table


def run_study(
    config: StudyConfig,
    folder: Path | str,
    observer: Observer | None = None,
    make_executor: MakeExecutor = ProcessExecutor,
    final_scoring: str | None = TEST,
    allow_changes: bool = False,
) -> StudyResult:
    """Run a study, or resume it where it stopped; ends with the final table and `results.json`.

    Args:
        config: the study.
        folder: its run folder, made if need be.
        observer: told how it goes.
        make_executor: makes what runs the jobs; by default worker processes.
        final_scoring: what final runs are scored on; None: the validation split.
        allow_changes: resume although package versions or data differ from those that the run began with; the
            result's note says so.

    Raises:
        RunError: the folder is in use, belongs to another study, or was begun with other package versions or data
            (with the difference); or its files are damaged, or cannot be written.
        NothingFinishedError: every candidate failed.
        SugarsearchError: data, model or device cannot be used.
    """
    started, folder, observer = time.monotonic(), Path(folder), observer or Silent()
    # What can be refused is refused before there is a folder, and before the hours that screening may take.
    sampler = make_sampler(config.space, config.search, queue_of(config))
    refuse_unusable(config, final_scoring)
    limit = config.search.trial_time_limit
    with quiet_optuna(), session(config, folder, make_executor, allow_changes, limit) as at:
        verify = partial(confirm, config=config, log=at.log)
        with mirror(folder / run_folder.DATABASE, config.name, at.origin.run, verify) as database:
            rows, note = Screening(config, folder, observer, at.executor, database, sampler).run()
        final = final_table(
            at.executor.evaluate, screened(rows), config, scoring=final_scoring, on_stage=observer.stage
        )
        result = outcome(config, folder, rows, final, at.log.load(), at.origin, note, time.monotonic() - started)
        result.save(folder / run_folder.RESULTS)
    observer.finished(result)
    return result


class Screening:
    """The search itself, batch by batch."""

    def __init__(
        self,
        config: StudyConfig,
        folder: Path,
        observer: Observer,
        executor: Executor,
        database: Mirror,
        sampler: ProposingSampler,
    ) -> None:
        self._config, self._folder, self._observer = config, folder, observer
        self._executor, self._database, self._sampler = executor, database, sampler
        pruning = config.search.pruning
        self._rungs = pruning.rungs if pruning else ()
        self._study = optuna.create_study(
            direction="maximize",
            sampler=sampler,
            pruner=BatchHalvingPruner(pruning) if pruning else optuna.pruners.NopPruner(),
        )
        self._rows = self._whole_batches()
        self._study.add_trials([trials.finished(row, config.space) for row in self._rows])
        self._resumed = len(self._rows)
        self._jobs_each = len(config.search.learning_rates) * config.search.replicates
        self._jobs_done = self._resumed * self._jobs_each
        self._started = time.monotonic()
        self._deadline = self._end_of_time()

    def run(self) -> tuple[list[ScreeningRow], str]:
        """Evaluate candidates until all are or time is over; gives all rows, and what kept the rest from being run.

        Raises:
            NothingFinishedError: no candidate has a score.
        """
        self._observer.started(self._config, self._folder, self._resumed)
        run_folder.write_hall_of_fame(self._folder, self._rows)
        note = ""
        while len(self._rows) < self._config.search.candidates and not note:
            batch, note = self._ask()
            if batch.jobs and (self._late or not self._evaluate(batch)):
                note = time_over(self._config)
        if not ranked(self._rows):
            raise NothingFinishedError(self._failures(note))
        return self._rows, note and shortened(note, len(self._rows), self._config)

    @property
    def rows(self) -> list[ScreeningRow]:
        """Of the whole batches so far."""
        return self._rows

    def _whole_batches(self) -> list[ScreeningRow]:
        """The mirrored rows, without those of a batch that was cut off or has since become larger."""
        told, size = self._database.rows, self._config.search.batch
        return list(told if len(told) >= self._config.search.candidates else told[: len(told) // size * size])

    def _end_of_time(self) -> float | None:
        """When the screening must end; the jobs of earlier sittings have used up some of the time."""
        limit = self._config.search.time_limit
        spent = sum(row.seconds for row in self._rows) / self._config.execution.workers
        return None if limit is None else self._started + limit - spent

    def _ask(self) -> tuple[Batch, str]:
        """The next batch; shorter, with the reason, where the space has nothing new."""
        wanted = min(self._config.search.batch, self._config.search.candidates - len(self._rows))
        candidates: list[Candidate] = []
        for _ in range(wanted):
            trial = self._study.ask()
            try:
                trials.suggest(trial)
            except SpaceExhaustedError:
                return Batch(candidates), "nothing new was found in the search space"
            proposal = self._sampler.proposal(trial.number)
            candidates.append(Candidate(trial, proposal, jobs_of(proposal, self._config)))
        return Batch(candidates), ""

    def _evaluate(self, batch: Batch) -> bool:
        """Run and tell a batch; False, and nothing told, if the time was over before its end."""
        judge = batch.judge if self._rungs else None
        for record in self._executor.evaluate(batch.jobs, judge, self._rungs, self._deadline):
            if record.status is Status.INTERRUPTED and self._late:
                return False
            batch.collect(record)
            self._jobs_done += 1
            self._observer.stage(SCREENING, self._jobs_done, self._config.search.candidates * self._jobs_each)
        self._learn(batch.tell(self._study))
        return True

    @property
    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _learn(self, new: list[ScreeningRow]) -> None:
        best_before = ranked(self._rows)[: run_folder.HALL_SIZE]
        self._rows += new
        self._database.extend(self._study.get_trials(deepcopy=False)[: len(self._rows)])
        if ranked(self._rows)[: run_folder.HALL_SIZE] != best_before:
            run_folder.write_hall_of_fame(self._folder, self._rows)
        self._observer.progress(self._progress())

    def _progress(self) -> StudyProgress:
        best = next(iter(ranked(self._rows)), None)
        pace = (time.monotonic() - self._started) / (len(self._rows) - self._resumed)
        stopped = sum(row.status == Status.PRUNED for row in self._rows)
        total = self._config.search.candidates
        return StudyProgress(
            done=len(self._rows),
            total=total,
            best_label=best.label if best else "",
            best_score=best.score if best else None,
            pruned=stopped,
            failed=sum(not row.finished for row in self._rows) - stopped,
            per_hour=3600 / pace,
            seconds_left=pace * (total - len(self._rows)),
        )

    def _failures(self, note: str) -> str:
        if not self._rows:
            return f"{note} before the first batch of candidates was done."
        reasons = Counter((row.status, row.reason) for row in self._rows).most_common(5)
        lines = "\n".join(f"  {count} x {status}: {reason or 'no reason given'}" for (status, reason), count in reasons)
        kinds = ", ".join(f"{count} {status}" for status, count in counts(self._rows).items())
        return f"none of {len(self._rows)} candidates finished ({kinds}):\n{lines}"


def time_over(config: StudyConfig) -> str:
    """Why a screening with a time limit ended early."""
    return f"the time limit of {config.search.time_limit:g} s was over"


def shortened(reason: str, done: int, config: StudyConfig) -> str:
    """The note of a screening that ended early."""
    return f"{reason}: the screening ended after {done} of {config.search.candidates} candidates"


def queue_of(config: StudyConfig) -> list[Surrogate]:
    """The surrogates that are tried first, by the space's rule for gain, each function once.

    Raises:
        UsageError: one that has no unit gain, where the space asks for it.
    """
    queue: dict[str, Surrogate] = {}
    for text in config.search.queue:
        g = surrogate(text)
        queue.setdefault(g.identity, g.at_unit_gain() if config.space.gain == "unit" else g)
    return list(queue.values())


def screened(rows: list[ScreeningRow]) -> list[Screened]:
    """What the verdict goes by: the finished candidates, best first."""
    return [
        Screened(row.restore(), row.best_learning_rate, row.score)
        for row in ranked(rows)
        if row.best_learning_rate is not None
    ]


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna would log every study, and how it fares with a garbled database; its level is the caller's afterwards."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
