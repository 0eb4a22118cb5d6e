"""The verdict's table: the best candidates run again, then finalists and controls, each at its own best rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import NothingFinishedError
from sugarsearch.evaluation.jobs import VALIDATION
from sugarsearch.verdict.arms import RELU, Entrant, Screened, entrants, is_relu, label_of, to_rerun
from sugarsearch.verdict.judgement import Contender, Optimism, Verdict, judge
from sugarsearch.verdict.stages import Evaluate, OnStage, Runner, Scores, Sweep, mean_of
from sugarsearch.verdict.statistics import Difference, Summary, difference, pairing_helps, summarise


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
        difference: to ReLU, not corrected; None for ReLU itself and where there is none to compare with.
        faults: final runs left out because the machine failed.
        title: what the arm is in this table, such as "best found"; empty in files of earlier versions.
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
    title: str = ""

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
class Rerun:
    """A candidate of the re-run, or ReLU beside them.

    Attributes:
        label, surrogate: as in `Arm`.
        learning_rate: its best of the screening.
        screening: its score there; None where ReLU was no candidate.
        scores: validation accuracy by replicate.
    """

    label: str
    surrogate: dict[str, Any]
    learning_rate: float
    screening: float | None
    scores: dict[str, float]


@dataclass(frozen=True)
class FinalTable:
    """Arms, best mean first, and what may be said of the finalists.

    Attributes:
        rows: the arms.
        winner: the verdict's sentence, or why there is none.
        scored_on: "test" or "validation".
        collapse_below: accuracy at or below which a run counts as collapsed.
        verdict: None where no finalist can be compared with ReLU, and in files of earlier versions.
        rerun: who was run again, best mean first.
        optimism: of the re-run, for the finalist of the verdict.
    """

    rows: list[Arm]
    winner: str
    scored_on: str
    collapse_below: float
    verdict: Verdict | None = None
    rerun: list[Rerun] = field(default_factory=list)
    optimism: Optimism | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, fit for `json.dump`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FinalTable:
        """The table that `to_json` wrote, in this version or one before verdicts."""
        verdict, optimism = value.get("verdict"), value.get("optimism")
        return cls(
            **{
                **value,
                "rows": [Arm.from_json(row) for row in value["rows"]],
                "verdict": None if verdict is None else Verdict.from_json(verdict),
                "rerun": [Rerun(**row) for row in value.get("rerun", ())],
                "optimism": None if optimism is None else Optimism(**optimism),
            }
        )


@dataclass
class _Runs:
    """An arm with what it gave; finalists and ReLU also have final runs at their second best rate."""

    entrant: Entrant
    sweep: Sweep
    scores: Scores
    second: Scores = field(default_factory=dict)

    @property
    def by_rate(self) -> dict[float, Scores]:
        """The final runs, those of the best rate first."""
        beside = {self.sweep.second: self.second} if self.sweep.second is not None and self.second else {}
        return {self.sweep.best: self.scores, **beside}


def final_table(
    evaluate: Evaluate,
    screened: Sequence[Screened],
    study: StudyConfig,
    *,
    scoring: str | None,
    on_stage: OnStage | None = None,
) -> FinalTable:
    """Run the best candidates again, then tune and run the finalists and every control, with the same budget.

    Args:
        evaluate: runs jobs.
        screened: the finished candidates of the screening, best first.
        study: for its recipe, its space, its final settings and its seed.
        scoring: a job's `scoring` for the final runs; None: the validation split.
        on_stage: told the stage's name, runs done and runs to do.

    Raises:
        NothingFinishedError: no final run of any arm gave a score.
    """
    runner = Runner(evaluate, study, on_stage or (lambda name, done, total: None))
    finalists, rerun = _rerun(runner, screened, study)
    arms = entrants([finalist.surrogate for finalist in finalists], screened, study)
    sweeps = runner.tune([arm.surrogate for arm in arms])
    runs = _final_runs(runner, arms, sweeps, scoring)
    collapse_below = study.final.collapse_below or collapse_limit(runner.chance)
    relu = next(run for run in runs if is_relu(run.entrant.surrogate))
    paired = pairing_helps([run.scores for run in runs if run.scores])
    rows = [_arm(run, relu, collapse_below, study.final.replicates, paired) for run in runs if run.scores]
    if not rows:
        raise NothingFinishedError("no run of the final table finished; the records say why.")
    rows.sort(key=lambda row: -row.summary.mean)
    found = [run for run in runs if run.entrant.role == "finalist"]
    verdict = judge(_contenders(runner, found, runs, relu, paired))
    return FinalTable(
        rows,
        verdict.sentence if verdict else _no_verdict(rows, bool(found)),
        "validation" if scoring in (None, VALIDATION) else "test",
        collapse_below,
        verdict,
        rerun,
        None if verdict is None else _optimism(verdict, rerun, rows),
    )


def collapse_limit(chance: float) -> float:
    """Accuracy at or below which a run counts as collapsed, where the study does not say.

    Twice chance; with two or three classes, where that is (nearly) all there is, halfway from chance to 1.
    """
    return min(2 * chance, (1 + chance) / 2)


def _rerun(runner: Runner, screened: Sequence[Screened], study: StudyConfig) -> tuple[list[Screened], list[Rerun]]:
    """The finalists, and all who were run again, best first; of equals the better of the screening."""
    candidates = to_rerun(screened, study)
    relu = next((candidate for candidate in screened if is_relu(candidate.surrogate)), None)
    # Where ReLU was no candidate, the best of the screening's rates is looked for here.
    rates = (relu.learning_rate,) if relu else study.search.learning_rates
    points = [*((c.surrogate, c.learning_rate) for c in candidates), *((RELU, rate) for rate in rates)]
    screening = [*(c.score for c in candidates), *(relu.score if relu else None for _ in rates)]
    scores = runner.rerun(points)
    means = [mean_of(runs, runner.chance) for runs in scores]
    order = sorted(range(len(candidates)), key=lambda index: -means[index])
    beside = max(range(len(candidates), len(points)), key=lambda index: means[index])
    rows = [
        Rerun(
            label_of(points[index][0]),
            points[index][0].to_json(),
            points[index][1],
            screening[index],
            {str(replicate): score for replicate, score in sorted(scores[index].items())},
        )
        for index in sorted([*order, beside], key=lambda index: -means[index])
    ]
    return [candidates[index] for index in order[: study.final.finalists]], rows


def _final_runs(runner: Runner, arms: Sequence[Entrant], sweeps: Sequence[Sweep], scoring: str | None) -> list[_Runs]:
    """Every arm at its best rate; finalists and ReLU at their second best too, see `Contender.against`."""
    points = [(arm.surrogate, sweep.best) for arm, sweep in zip(arms, sweeps, strict=True)]
    seconds = {
        index: (arm.surrogate, sweep.second)
        for index, (arm, sweep) in enumerate(zip(arms, sweeps, strict=True))
        if sweep.second is not None and (arm.role == "finalist" or is_relu(arm.surrogate))
    }
    finals = runner.final([*points, *seconds.values()], scoring)
    runs = [_Runs(arm, sweep, scores) for arm, sweep, scores in zip(arms, sweeps, finals[: len(arms)], strict=True)]
    for index, scores in zip(seconds, finals[len(arms) :], strict=True):
        runs[index].second = scores
    return runs


def _arm(run: _Runs, relu: _Runs, collapse_below: float, replicates: int, paired: bool) -> Arm:
    surrogate = run.entrant.surrogate
    return Arm(
        label=label_of(surrogate),
        role=run.entrant.role,
        surrogate=surrogate.to_json(),
        formula=surrogate.formula,
        gain=surrogate.gain,
        at_zero=surrogate.at_zero,
        tuning={f"{rate:g}": score for rate, score in run.sweep.means.items()},
        learning_rate=run.sweep.best,
        scores={str(replicate): score for replicate, score in sorted(run.scores.items())},
        summary=summarise(list(run.scores.values()), collapse_below),
        difference=None if run is relu else difference(run.scores, relu.scores, paired),
        faults=replicates - len(run.scores),
        title=run.entrant.title,
    )


def _contenders(
    runner: Runner, found: Sequence[_Runs], runs: Sequence[_Runs], relu: _Runs, paired: bool
) -> list[Contender]:
    """Finalists with their controls; each and ReLU are also run at the other's best rate, if they were not."""
    pairs = [(own, other.sweep.best) for run in found for own, other in ((run, relu), (relu, run))]
    missing = [(run, rate) for run, rate in pairs if rate not in run.sweep.scores]
    extra = runner.tuned([(run.entrant.surrogate, rate) for run, rate in missing]) if missing else []
    added: dict[int, dict[float, Scores]] = {}
    for (run, rate), scores in zip(missing, extra, strict=True):
        added.setdefault(id(run), {})[rate] = scores

    def whole(run: _Runs) -> Sweep:
        return Sweep(run.sweep.chance, {**run.sweep.scores, **added.get(id(run), {})})

    runs_of = {id(run.entrant): run.by_rate for run in runs}
    return [
        Contender(
            run.entrant,
            run.by_rate,
            {name: runs_of[id(other)] for name, other in run.entrant.against.items()},
            whole(run),
            whole(relu),
            paired,
        )
        for run in found
    ]


def _optimism(verdict: Verdict, rerun: Sequence[Rerun], rows: Sequence[Arm]) -> Optimism | None:
    means = {row.label: sum(row.scores.values()) / len(row.scores) for row in rerun if row.scores}
    relu = label_of(RELU)
    if verdict.finalist not in means or relu not in means:
        return None
    promised = means[verdict.finalist] - means[relu]
    finals = {row.label: row.summary for row in rows}
    shown = finals[verdict.finalist].mean - finals[relu].mean
    spread = finals[relu].sd
    gap = promised - shown
    return Optimism(promised, shown, 100 * gap, gap / spread if spread else None)


def _no_verdict(rows: Sequence[Arm], any_found: bool) -> str:
    best = rows[0]
    reason = (
        "too few final runs finished to compare a finalist with ReLU"
        if any_found
        else "the screening has no candidate beside the controls"
    )
    return f"No verdict: {reason}. {best.title} has the highest mean, {100 * best.summary.mean:.1f} %."
