"""A comparison: given surrogates and their controls, tuned, run and judged; and the same on other data or models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.errors import UsageError
from sugarsearch.evaluation.executor import ProcessExecutor
from sugarsearch.nn.admission import admit
from sugarsearch.runs import folder as run_folder
from sugarsearch.runs.observer import Observer, Silent
from sugarsearch.runs.results import StudyResult
from sugarsearch.runs.session import TEST, MakeExecutor, outcome, refuse_unusable, session
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import Entrant, entrants, is_relu
from sugarsearch.verdict.final import comparison_table


def run_comparison(
    config: ComparisonConfig,
    folder: Path | str,
    observer: Observer | None = None,
    make_executor: MakeExecutor = ProcessExecutor,
    final_scoring: str | None = TEST,
    allow_changes: bool = False,
) -> StudyResult:
    """Run a comparison, or resume it where it stopped; ends with its table, verdicts and `results.json`.

    Args:
        config: the comparison.
        folder: its run folder, made if need be.
        observer: told how it goes.
        make_executor: makes what runs the jobs; by default worker processes.
        final_scoring: what final runs are scored on; None: the validation split.
        allow_changes: as for `run_study`.

    Returns:
        The result; its `screening` is empty.

    Raises:
        AdmissionError: a surrogate that must not be trained with.
        UsageError: surrogates that cannot be told apart, or none beside ReLU.
        RunError, NothingFinishedError, SugarsearchError: as for `run_study`.
    """
    started, folder, observer = time.monotonic(), Path(folder), observer or Silent()
    surrogates = compared(config)
    refuse_unusable(config, final_scoring)
    with session(config, folder, make_executor, allow_changes) as at:
        observer.started(config, folder, 0)
        final = comparison_table(
            at.executor.evaluate, surrogates, config, scoring=final_scoring, on_stage=observer.stage
        )
        result = outcome(config, folder, [], final, at.log.load(), at.origin, "", time.monotonic() - started)
        result.save(folder / run_folder.RESULTS)
    observer.finished(result)
    return result


def compared(config: ComparisonConfig) -> dict[str, Surrogate]:
    """The surrogates of a comparison as they are trained, by title.

    Raises:
        AdmissionError, UsageError: as `run_comparison`.
    """
    surrogates: dict[str, Surrogate] = {}
    for title, entry in config.surrogates.items():
        g = surrogate(entry.g)
        g = g.at_unit_gain() if entry.gain == "unit" else g
        admit(g)
        twin = next((name for name, other in surrogates.items() if _same(g, other)), None)
        if twin is not None:
            raise UsageError(f"{twin!r} and {title!r} are one function at one scale; give it once.")
        surrogates[title] = g
    if all(map(is_relu, surrogates.values())):
        raise UsageError("ReLU stands in every comparison: give a surrogate to set against it.")
    _refuse_twins(entrants(surrogates, config))
    return surrogates


def _refuse_twins(arms: Sequence[Entrant]) -> None:
    """Arms are told apart by their titles for people, and by their labels in the results."""
    titles = [arm.title for arm in arms]
    labels: dict[str, str] = {}
    for arm in arms:
        if titles.count(arm.title) > 1:
            raise UsageError(
                f"{arm.title!r} would be the name of two arms, a surrogate of yours and a control or an ablation; "
                "call yours something else."
            )
        other = labels.setdefault(arm.label, arm.title)
        if other != arm.title:
            raise UsageError(f"{other!r} and {arm.title!r} differ too little to be told apart; give one of them.")


def _same(g: Surrogate, other: Surrogate) -> bool:
    return g.identity == other.identity and abs(g.scale - other.scale) < 1e-9
