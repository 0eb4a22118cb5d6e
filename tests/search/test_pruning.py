"""Successive halving against a plain sort."""

from __future__ import annotations

import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sugarsearch.config.schema import PruningConfig
from sugarsearch.search.pruning import BatchHalvingPruner


def decisions(scores: list[float], keep: float, finished: int = 0) -> list[bool]:
    """Report all scores at rung 2 (the first `finished` trials are told), then ask for each other trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=BatchHalvingPruner(PruningConfig(rungs=(2,), keep=keep)))
    trials = [study.ask() for _ in scores]
    for trial, score in zip(trials, scores, strict=True):
        trial.report(score, 2)
    for trial, score in zip(trials[:finished], scores, strict=False):
        study.tell(trial, score)
    return [trial.should_prune() for trial in trials[finished:]]


def test_the_best_of_a_running_batch_go_on() -> None:
    assert decisions([0.1, 0.9, 0.5, 0.7], keep=0.5) == [True, False, True, False]


def test_finished_trials_count_too() -> None:
    assert decisions([0.9, 0.8, 0.5, 0.85], keep=0.5, finished=2) == [True, False]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9).map(lambda v: v / 10), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_exactly_those_as_good_as_the_last_place_go_on(scores: list[float], keep: float) -> None:
    places = math.ceil(keep * len(scores))
    last = sorted(scores)[-places]
    assert decisions(scores, keep) == [score < last for score in scores]


def test_between_rungs_nobody_is_pruned() -> None:
    study = optuna.create_study(direction="maximize", pruner=BatchHalvingPruner(PruningConfig(rungs=(2,), keep=0.1)))
    trials = [study.ask() for _ in range(4)]
    for score, trial in enumerate(trials):
        trial.report(float(score), 1)
    assert not any(trial.should_prune() for trial in trials)


def test_a_trial_without_reports_goes_on() -> None:
    study = optuna.create_study(direction="maximize", pruner=BatchHalvingPruner(PruningConfig(rungs=(1,))))
    assert not study.ask().should_prune()


@pytest.mark.parametrize("count", [1, 2])
def test_somebody_always_goes_on(count: int) -> None:
    assert not all(decisions([0.5] * count, keep=0.01))
