"""The verdict's stages: candidates run again, then finalists and controls tuned and run, each at its own best rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import NothingFinishedError
from sugarsearch.evaluation.jobs import VALIDATION
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import (
    RELU,
    Entrant,
    Experiment,
    Screened,
    entrants,
    is_relu,
    label_of,
    titles_of,
    to_rerun,
)
from sugarsearch.verdict.judgement import Contender, Optimism, Verdict, judge
from sugarsearch.verdict.pairs import pairs_of
from sugarsearch.verdict.stages import Evaluate, OnStage, Point, Runner, Scores, Sweep, mean_of
from sugarsearch.verdict.statistics import difference, pairing_helps, summarise
from sugarsearch.verdict.table import Arm, FinalTable, Rerun


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
    runner = Runner(evaluate, study, on_stage)
    finalists, rerun = _rerun(runner, screened, study)
    candidates = {candidate.surrogate.identity for candidate in screened}
    arms = entrants(titles_of([finalist.surrogate for finalist in finalists]), study, candidates)
    return _table(runner, arms, study, scoring, rerun)


def comparison_table(
    evaluate: Evaluate,
    surrogates: Mapping[str, Surrogate],
    comparison: ComparisonConfig,
    *,
    scoring: str | None,
    on_stage: OnStage | None = None,
) -> FinalTable:
    """Tune and run given surrogates, by title, and every control, with the same budget; see `final_table`.

    Raises:
        NothingFinishedError: no final run of any arm gave a score.
    """
    runner = Runner(evaluate, comparison, on_stage)
    return _table(runner, entrants(surrogates, comparison), comparison, scoring, [])


def _table(
    runner: Runner, arms: Sequence[Entrant], experiment: Experiment, scoring: str | None, rerun: list[Rerun]
) -> FinalTable:
    sweeps = runner.tune(arms)
    runs = _final_runs(runner, arms, sweeps, scoring)
    collapse_below = experiment.final.collapse_below or collapse_limit(runner.chance)
    relu = next(run for run in runs if _is_plain_relu(run.entrant))
    # Ablations have no say in the verdict, so none in how its differences are taken.
    paired = pairing_helps([run.scores for run in runs if run.scores and not run.entrant.ablation])
    rows = [_arm(run, relu, collapse_below, experiment.final.replicates, paired) for run in runs if run.scores]
    if not rows:
        raise NothingFinishedError("no run of the final table finished; the records say why.")
    rows.sort(key=lambda row: -row.summary.mean)
    found = [run for run in runs if run.entrant.role == "finalist"]
    verdicts = judge(_contenders(runner, found, runs, relu, paired))
    return FinalTable(
        rows,
        verdicts[0].sentence if verdicts else _no_verdict(rows, bool(found)),
        "validation" if scoring in (None, VALIDATION) else "test",
        collapse_below,
        verdicts,
        pairs_of([(run.entrant, run.scores) for run in runs], paired),
        rerun,
        _optimism(verdicts[0], rerun, rows) if verdicts else None,
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
    points = [*(Point(c.surrogate, c.learning_rate) for c in candidates), *(Point(RELU, rate) for rate in rates)]
    screening = [*(c.score for c in candidates), *(relu.score if relu else None for _ in rates)]
    scores = runner.rerun(points, study.final.rerun.replicates)
    means = [mean_of(runs, runner.chance) for runs in scores]
    order = sorted(range(len(candidates)), key=lambda index: -means[index])
    beside = max(range(len(candidates), len(points)), key=lambda index: means[index])
    rows = [
        Rerun(
            label_of(points[index].surrogate),
            points[index].surrogate.to_json(),
            points[index].learning_rate,
            screening[index],
            {str(replicate): score for replicate, score in sorted(scores[index].items())},
        )
        for index in sorted([*order, beside], key=lambda index: -means[index])
    ]
    return [candidates[index] for index in order[: study.final.finalists]], rows


def _final_runs(runner: Runner, arms: Sequence[Entrant], sweeps: Sequence[Sweep], scoring: str | None) -> list[_Runs]:
    """Every arm at its best rate; finalists and ReLU at their second best too, see `Contender.against`."""
    points = [Point(arm.surrogate, sweep.best, arm.ablation) for arm, sweep in zip(arms, sweeps, strict=True)]
    seconds = {
        index: Point(arm.surrogate, sweep.second)
        for index, (arm, sweep) in enumerate(zip(arms, sweeps, strict=True))
        if sweep.second is not None and (arm.role == "finalist" or _is_plain_relu(arm))
    }
    finals = runner.final([*points, *seconds.values()], scoring)
    runs = [_Runs(arm, sweep, scores) for arm, sweep, scores in zip(arms, sweeps, finals[: len(arms)], strict=True)]
    for index, scores in zip(seconds, finals[len(arms) :], strict=True):
        runs[index].second = scores
    return runs


def _is_plain_relu(arm: Entrant) -> bool:
    return is_relu(arm.surrogate) and not arm.ablation


def _arm(run: _Runs, relu: _Runs, collapse_below: float, replicates: int, paired: bool) -> Arm:
    surrogate = run.entrant.surrogate
    return Arm(
        label=run.entrant.label,
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
        ablation=run.entrant.ablation,
    )


def _contenders(
    runner: Runner, found: Sequence[_Runs], runs: Sequence[_Runs], relu: _Runs, paired: bool
) -> list[Contender]:
    """Finalists with their controls; each and ReLU are also run at the other's best rate, if they were not."""
    pairs = [(own, other.sweep.best) for run in found for own, other in ((run, relu), (relu, run))]
    missing = [(run, rate) for run, rate in pairs if rate not in run.sweep.scores]
    extra = runner.tuned([Point(run.entrant.surrogate, rate) for run, rate in missing]) if missing else []
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
        else "there is no surrogate beside the controls"
    )
    return f"No verdict: {reason}. {best.title} has the highest mean, {100 * best.summary.mean:.1f} %."
