"""The final table: finalists and controls, each at its own best learning rate, on seeds nothing else has used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import NothingFinishedError
from sugarsearch.evaluation.jobs import FINAL, VALIDATION, Job, seed_of
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.statistics import Difference, Summary, paired_difference, summarise, winner_text

TUNING: Final = "tuning"
MAX_EXTENSIONS: Final = 2
"""How often a sweep is extended beyond an end of the given learning rates while the best one lies there."""

Evaluate = Callable[[Sequence[Job]], Iterator[Record]]
OnStage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Arm:
    """One row of the table: a surrogate with its sweep on validation data and its final runs.

    Attributes:
        label: for people; see `label_of`.
        role: "finalist" or "control".
        surrogate: `Surrogate.to_json()` of what was trained.
        formula: g with all numbers.
        gain, at_zero: of g as trained.
        tuning: mean validation accuracy by learning rate.
        learning_rate: the best of them.
        scores: accuracy of the final runs by replicate.
        summary: of `scores`.
        difference: to ReLU, paired; None for ReLU itself and where there is none to compare with.
        faults: final runs left out because the machine failed.
    """

    label: str
    role: str
    surrogate: dict[str, Any]
    formula: str
    gain: float
    at_zero: float
    tuning: dict[str, float]
    learning_rate: float
    scores: dict[str, float]
    summary: Summary
    difference: Difference | None
    faults: int

    @property
    def sweep_end(self) -> str | None:
        """ "smallest" or "largest", if the best rate is that of the sweep: a wider one may favour this arm."""
        rates = sorted(map(float, self.tuning))
        if len(rates) > 1 and self.learning_rate == rates[0]:
            return "smallest"
        return "largest" if len(rates) > 1 and self.learning_rate == rates[-1] else None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Arm:
        """The arm that `dataclasses.asdict` wrote."""
        difference = value["difference"]
        return cls(
            **{
                **value,
                "summary": Summary(**value["summary"]),
                "difference": None if difference is None else Difference(**difference),
            }
        )


@dataclass(frozen=True)
class FinalTable:
    """Arms, best mean first, and one sentence on who won.

    Attributes:
        rows: the arms.
        winner: the sentence; it says so when ReLU wins.
        scored_on: "test" or "validation".
        collapse_below: accuracy at or below which a run counts as collapsed.
    """

    rows: list[Arm]
    winner: str
    scored_on: str
    collapse_below: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, fit for `json.dump`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FinalTable:
        """The table that `to_json` wrote."""
        return cls(**{**value, "rows": [Arm.from_json(row) for row in value["rows"]]})


def final_table(
    evaluate: Evaluate,
    finalists: Sequence[Surrogate],
    study: StudyConfig,
    *,
    scoring: str | None,
    on_stage: OnStage | None = None,
) -> FinalTable:
    """Tune and run every finalist and control, with the same budget.

    Args:
        evaluate: runs jobs.
        finalists: what the search found, as trained there.
        study: for its recipe, its final settings and its seed.
        scoring: a job's `scoring` for the final runs; None: the validation split.
        on_stage: told the stage's name, runs done and runs to do.

    Raises:
        NothingFinishedError: no final run of any arm gave a score.
    """
    arms = _arms(finalists, study)
    runner = _Runner(evaluate, study, on_stage or (lambda name, done, total: None))
    sweeps = runner.tune([surrogate for _, surrogate in arms])
    best = [max(sweep, key=lambda rate: sweep[rate]) for sweep in sweeps]
    finals = runner.final([(surrogate, rate) for (_, surrogate), rate in zip(arms, best, strict=True)], scoring)
    collapse_below = study.final.collapse_below or collapse_limit(runner.chance)
    reference = next((i for i, (_, s) in enumerate(arms) if s.identity == _RELU.identity and s.scale == 1), None)
    rows = []
    for index, (role, surrogate) in enumerate(arms):
        scores = finals[index]
        if not scores:
            continue
        paired = None if reference in (None, index) else paired_difference(scores, finals[reference or 0])
        rows.append(
            Arm(
                label=label_of(surrogate),
                role=role,
                surrogate=surrogate.to_json(),
                formula=surrogate.formula,
                gain=surrogate.gain,
                at_zero=surrogate.at_zero,
                tuning={f"{rate:g}": score for rate, score in sorted(sweeps[index].items())},
                learning_rate=best[index],
                scores={str(replicate): score for replicate, score in sorted(scores.items())},
                summary=summarise(list(scores.values()), collapse_below),
                difference=paired,
                faults=study.final.replicates - len(scores),
            )
        )
    if not rows:
        raise NothingFinishedError("no run of the final table finished; the records say why.")
    rows.sort(key=lambda row: -row.summary.mean)
    winner = winner_text(
        {row.label: row.summary.mean for row in rows},
        {row.label: row.difference for row in rows},
        label_of(arms[reference][1]) if reference is not None and finals[reference] else None,
    )
    return FinalTable(rows, winner, "validation" if scoring in (None, VALIDATION) else "test", collapse_below)


def collapse_limit(chance: float) -> float:
    """Accuracy at or below which a run counts as collapsed, where the study does not say.

    Twice chance; with two or three classes, where that is (nearly) all there is, halfway from chance to 1.
    """
    return min(2 * chance, (1 + chance) / 2)


def label_of(surrogate: Surrogate) -> str:
    """A surrogate's label, with its scale where that is not 1, so that arms of one shape are told apart."""
    if surrogate.scale == 1:
        return surrogate.label
    if abs(surrogate.gain - 1) < 1e-9:
        return f"{surrogate.label} at unit gain"
    return f"{surrogate.scale:.4g} * ({surrogate.label})"


_RELU: Final = named_surrogate("relu")


def _arms(finalists: Sequence[Surrogate], study: StudyConfig) -> list[tuple[str, Surrogate]]:
    """Finalists, then controls; what is the same function at the same scale stands once."""
    given = [("finalist", finalist) for finalist in finalists]
    given += [("control", named_surrogate(text)) for text in study.final.controls]
    arms: dict[tuple[str, str], tuple[str, Surrogate]] = {}
    for role, surrogate in given:
        arms.setdefault((surrogate.identity, f"{surrogate.scale:.9g}"), (role, surrogate))
    return list(arms.values())


class _Runner:
    """Makes the jobs of the two stages and collects their records."""

    def __init__(self, evaluate: Evaluate, study: StudyConfig, on_stage: OnStage) -> None:
        self._evaluate, self._study, self._on_stage = evaluate, study, on_stage
        self.chance = 0.0

    def tune(self, surrogates: Sequence[Surrogate]) -> list[dict[float, float]]:
        """Mean validation accuracy by learning rate for each surrogate, extended where the best lies at an end."""
        sweeps: list[dict[float, float]] = [{} for _ in surrogates]
        extensions = [{-1: 0, 1: 0} for _ in surrogates]
        wanted = [(index, rate) for index in range(len(surrogates)) for rate in self._study.final.learning_rates]
        while wanted:
            self._sweep(surrogates, wanted, sweeps)
            wanted = []
            for index, sweep in enumerate(sweeps):
                side, rate = _beyond(sweep)
                if rate is not None and extensions[index][side] < MAX_EXTENSIONS:
                    extensions[index][side] += 1
                    wanted.append((index, rate))
        return sweeps

    def _sweep(
        self, surrogates: Sequence[Surrogate], wanted: Sequence[tuple[int, float]], sweeps: list[dict[float, float]]
    ) -> None:
        replicates = self._study.final.tuning_replicates
        jobs = {
            (index, rate, replicate): self._job(surrogates[index], rate, TUNING, replicate, VALIDATION)
            for index, rate in wanted
            for replicate in range(replicates)
        }
        records = self._run(TUNING, jobs.values())
        for index, rate in wanted:
            values = _scores(records[jobs[index, rate, replicate].id] for replicate in range(replicates))
            sweeps[index][rate] = fmean(values) if values else self.chance

    def final(self, arms: Sequence[tuple[Surrogate, float]], scoring: str | None) -> list[dict[int, float]]:
        """Accuracy by replicate of each arm; runs that the machine spoilt are left out."""
        jobs = {
            (index, replicate): self._job(surrogate, rate, FINAL, replicate, scoring or VALIDATION)
            for index, (surrogate, rate) in enumerate(arms)
            for replicate in range(self._study.final.replicates)
        }
        records = self._run(FINAL, jobs.values())
        finals: list[dict[int, float]] = [{} for _ in arms]
        for (index, replicate), job in jobs.items():
            for score in _scores([records[job.id]]):
                finals[index][replicate] = score
        return finals

    def _run(self, stage: str, jobs: Iterable[Job]) -> dict[str, Record]:
        listed = list(jobs)
        records: dict[str, Record] = {}
        self._on_stage(stage, 0, len(listed))
        for record in self._evaluate(listed):
            records[record.job.id] = record
            self.chance = record.chance
            self._on_stage(stage, len(records), len(listed))
        return records

    def _job(self, surrogate: Surrogate, rate: float, stage: str, replicate: int, scoring: str) -> Job:
        seed = seed_of(self._study.search.seed, stage, replicate)
        return Job(surrogate, rate, replicate, seed, self._study.recipe.epochs, stage, scoring)


def _scores(records: Iterable[Record]) -> list[float]:
    """What runs are worth; those that the machine spoilt are worth nothing either way."""
    return [record.value for record in records if record.status not in MACHINE_FAULTS]


def _beyond(sweep: Mapping[float, float]) -> tuple[int, float | None]:
    """The side (-1 low, 1 high) at whose end the best rate lies and the next rate there; None if it lies inside."""
    rates = sorted(sweep)
    best = max(rates, key=lambda rate: sweep[rate])
    if best == rates[0]:
        factor = rates[1] / rates[0] if len(rates) > 1 else 3.0
        return -1, float(f"{best / factor:.2g}")
    if best == rates[-1]:
        return 1, float(f"{best * best / rates[-2]:.2g}")
    return 0, None
