"""The stages after the screening, as jobs: each on seeds of its own, common to all arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final, NamedTuple

from sugarsearch.config.ablation import Ablation
from sugarsearch.evaluation.jobs import FINAL, VALIDATION, Job, seed_of
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import Entrant, Experiment

RERUN: Final = "rerun"
TUNING: Final = "tuning"
MAX_EXTENSIONS: Final = 2
"""How often a sweep is extended beyond an end of the given learning rates while the best one lies there."""

Evaluate = Callable[[Sequence[Job]], Iterator[Record]]
OnStage = Callable[[str, int, int], None]
Scores = dict[int, float]
"""Accuracy by replicate; runs that the machine spoilt are left out."""


class Point(NamedTuple):
    """A surrogate at a learning rate, with what is changed of the recipe's update."""

    surrogate: Surrogate
    learning_rate: float
    ablation: Ablation = ""


@dataclass
class Sweep:
    """One arm's scores by learning rate; `chance` stands in for a rate whose runs the machine spoilt."""

    chance: float
    scores: dict[float, Scores] = field(default_factory=dict)

    @property
    def means(self) -> dict[float, float]:
        """By rate, lowest first."""
        return {rate: mean_of(self.scores[rate], self.chance) for rate in sorted(self.scores)}

    @property
    def best(self) -> float:
        """The rate with the highest mean; of equals the lowest."""
        return self._ranked[0]

    @property
    def second(self) -> float | None:
        """The rate with the next highest mean; None where there is one rate alone."""
        return self._ranked[1] if len(self.scores) > 1 else None

    @property
    def _ranked(self) -> list[float]:
        means = self.means
        return sorted(means, key=lambda rate: -means[rate])


class Runner:
    """Makes the jobs of each stage and collects their records."""

    def __init__(self, evaluate: Evaluate, experiment: Experiment, on_stage: OnStage | None) -> None:
        self._evaluate, self._experiment = evaluate, experiment
        self._on_stage = on_stage or (lambda name, done, total: None)
        self.chance = 0.0

    def rerun(self, points: Sequence[Point], replicates: int) -> list[Scores]:
        """Validation accuracy of each point on seeds that the screening has not used."""
        return self._run(RERUN, points, replicates, VALIDATION)

    def tune(self, arms: Sequence[Entrant]) -> list[Sweep]:
        """Validation accuracy by learning rate for each arm, extended where the best lies at an end."""
        sweeps = [Sweep(self.chance) for _ in arms]
        extensions = [{-1: 0, 1: 0} for _ in arms]
        wanted = [(index, rate) for index, arm in enumerate(arms) for rate in self._rates(arm)]
        while wanted:
            points = [Point(arms[index].surrogate, rate, arms[index].ablation) for index, rate in wanted]
            for (index, rate), scores in zip(wanted, self.tuned(points), strict=True):
                sweeps[index].chance = self.chance
                sweeps[index].scores[rate] = scores
            wanted = []
            for index, sweep in enumerate(sweeps):
                side, beyond = _beyond(sweep.means)
                if beyond is not None and extensions[index][side] < MAX_EXTENSIONS:
                    extensions[index][side] += 1
                    wanted.append((index, beyond))
        return sweeps

    def _rates(self, arm: Entrant) -> Sequence[float]:
        final = self._experiment.final
        return final.adam_learning_rates if arm.ablation == "adam" else final.learning_rates

    def tuned(self, points: Sequence[Point]) -> list[Scores]:
        """Validation accuracy of each point on the seeds of the sweeps."""
        return self._run(TUNING, points, self._experiment.final.tuning_replicates, VALIDATION)

    def final(self, points: Sequence[Point], scoring: str | None) -> list[Scores]:
        """Accuracy of each point on seeds that nothing before has used; `scoring` is a job's, or None: validation."""
        return self._run(FINAL, points, self._experiment.final.replicates, scoring or VALIDATION)

    def _run(self, stage: str, points: Sequence[Point], replicates: int, scoring: str) -> list[Scores]:
        jobs = [[self._job(point, stage, replicate, scoring) for replicate in range(replicates)] for point in points]
        records = self._records(stage, [job for row in jobs for job in row])
        return [
            {job.replicate: record.value for job in row if (record := records[job.id]).status not in MACHINE_FAULTS}
            for row in jobs
        ]

    def _records(self, stage: str, jobs: Sequence[Job]) -> Mapping[str, Record]:
        records: dict[str, Record] = {}
        self._on_stage(stage, 0, len(jobs))
        for record in self._evaluate(jobs):
            records[record.job.id] = record
            self.chance = record.chance
            self._on_stage(stage, len(records), len(jobs))
        return records

    def _job(self, point: Point, stage: str, replicate: int, scoring: str) -> Job:
        seed = seed_of(self._experiment.seed, stage, replicate)
        epochs = self._experiment.recipe.epochs
        return Job(point.surrogate, point.learning_rate, replicate, seed, epochs, stage, scoring, point.ablation)


def mean_of(scores: Scores, chance: float) -> float:
    """Of a point's runs; chance where the machine spoilt all."""
    return fmean(scores.values()) if scores else chance


def _beyond(means: Mapping[float, float]) -> tuple[int, float | None]:
    """The side (-1 low, 1 high) at whose end the best rate lies and the next rate there; None if it lies inside."""
    rates: list[float] = sorted(means)
    best = max(rates, key=lambda rate: means[rate])
    if best == rates[0]:
        factor = rates[1] / rates[0] if len(rates) > 1 else 3.0
        return -1, float(f"{best / factor:.2g}")
    if best == rates[-1]:
        return 1, float(f"{best * best / rates[-2]:.2g}")
    return 0, None
