"""Which properties of a candidate told of its score."""

from __future__ import annotations

import json
import warnings
from typing import Final

import optuna

from sugarsearch.config.schema import SearchSpace
from sugarsearch.runs.results import StudyResult
from sugarsearch.search import trials

FEWEST: Final = 10
"""Candidates below which importances say nothing."""


def importances(result: StudyResult) -> dict[str, float]:
    """Each property's share of importance (PED-ANOVA), largest first; empty where there is too little to tell by.

    Of a family these are its parameters, of any other space what `trials.DESCRIPTORS` says of g itself.
    """
    finished = [row for row in result.screening if row.finished]
    if len(finished) < FEWEST:
        return {}
    space = SearchSpace.model_validate_json(json.dumps(result.config["space"]))
    names = list(space.parameters) or [name for name in trials.DESCRIPTORS if name != "origin"]
    known = [trial for trial in (trials.finished(row, space) for row in finished) if trial.params.keys() >= {*names}]
    if len(known) < FEWEST or len(names) < 2 or len({trial.value for trial in known}) < 2:
        return {}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        study.add_trials(known)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parameters whose values hardly differ
            shares = optuna.importance.get_param_importances(study, params=names)
    finally:
        optuna.logging.set_verbosity(level)
    return {name: float(value) for name, value in shares.items() if value > 0}
