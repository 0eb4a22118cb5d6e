"""A comparison: given surrogates and their controls, tuned, run and judged; and the same on other data or models."""

from __future__ import annotations

import time
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
from sugarsearch.verdict.arms import controls_of, is_relu, label_of
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
    controls = {label_of(control): control for control in controls_of(config)}
    for title, entry in config.surrogates.items():
        g = surrogate(entry.g)
        g = g.at_unit_gain() if entry.gain == "unit" else g
        admit(g)
        twin = next((name for name, other in surrogates.items() if _same(g, other)), None)
        if twin is not None:
            raise UsageError(f"{twin!r} and {title!r} are one function at one scale; give it once.")
        if title in controls and not _same(g, controls[title]):
            raise UsageError(f"{title!r} is the name of a control with another g; call this one something else.")
        surrogates[title] = g
    if all(map(is_relu, surrogates.values())):
        raise UsageError("ReLU stands in every comparison: give a surrogate to set against it.")
    return surrogates


def _same(g: Surrogate, other: Surrogate) -> bool:
    return g.identity == other.identity and abs(g.scale - other.scale) < 1e-9
