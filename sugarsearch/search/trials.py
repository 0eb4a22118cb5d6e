"""A candidate in Optuna's terms: its descriptors as a trial's parameters, its row as the trial's attributes.

A tree is no point in a box, so the parameters that Optuna stores are numbers that describe the candidate;
dashboards and importances then say which properties of g matter. A family's own parameters come beside them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sugarsearch.config.schema import ParameterRange, SearchSpace
from sugarsearch.runs.results import ScreeningRow
from sugarsearch.symbolic.library import family
from sugarsearch.symbolic.surrogate import REACH, Surrogate

ORIGINS = ("queue", "random", "mutation", "crossover", "tpe")

# Values outside are clipped: importances cut each range into equal steps, so a few wild candidates must not
# stretch it. The ranges are constants, because Optuna compares trials only over equal distributions.
DESCRIPTORS: Mapping[str, BaseDistribution] = {
    "nodes": IntDistribution(1, 40),
    "depth": IntDistribution(0, 12),
    "gain": FloatDistribution(0.0, 4.0),
    "g(0)": FloatDistribution(-3.0, 3.0),
    "g(-1)": FloatDistribution(-3.0, 3.0),
    "g(-inf)": FloatDistribution(-3.0, 3.0),
    "g(inf)": FloatDistribution(-3.0, 3.0),
    "origin": CategoricalDistribution(ORIGINS),
}


def described(surrogate: Surrogate, origin: str, space: SearchSpace) -> dict[str, tuple[Any, BaseDistribution]]:
    """The trial's parameters of a candidate: value and distribution by name.

    `gain` is that of the shape before scaling (after it, all have 1 in a search at unit gain); the values
    of g are those trained with.
    """
    at_zero, at_minus_one, left, right = surrogate([0.0, -1.0, -REACH, REACH])
    values = {
        "nodes": surrogate.expression.nodes,
        "depth": surrogate.expression.depth,
        "gain": surrogate.gain / surrogate.scale,
        "g(0)": at_zero,
        "g(-1)": at_minus_one,
        "g(-inf)": left,
        "g(inf)": right,
    }
    numbers = {name: (_clipped(value, DESCRIPTORS[name]), DESCRIPTORS[name]) for name, value in values.items()}
    return {**numbers, "origin": (origin, DESCRIPTORS["origin"]), **_own_parameters(surrogate, space)}


def parameter_distributions(ranges: Mapping[str, ParameterRange]) -> dict[str, BaseDistribution]:
    """The ranges of a family's parameters as Optuna's distributions."""
    return {name: FloatDistribution(r.low, r.high, log=r.log) for name, r in ranges.items()}


def suggest(trial: Trial) -> None:
    """Fix all parameters of a trial just asked for, as its sampler proposes them together."""
    names = trial.relative_params  # makes the proposal; the search space is known after it only
    for name, distribution in (trial.relative_search_space or {}).items():
        assert name in names
        if isinstance(distribution, CategoricalDistribution):
            trial.suggest_categorical(name, distribution.choices)
        elif isinstance(distribution, IntDistribution):
            trial.suggest_int(name, distribution.low, distribution.high)
        elif isinstance(distribution, FloatDistribution):
            trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def attach(trial: Trial, row: ScreeningRow) -> None:
    """Write a candidate's row into its trial's attributes."""
    for name, value in _attributes(row).items():
        trial.set_user_attr(name, value)


def row_of(trial: FrozenTrial) -> ScreeningRow:
    """The row that `attach` wrote.

    Raises:
        KeyError, TypeError, ValueError: there is none, or it is damaged.
    """
    value = dict(trial.user_attrs["row"])
    if value.pop("check") != _check(value):
        raise ValueError(f"the row of trial {trial.number} is damaged")
    return ScreeningRow(**value)


def finished(row: ScreeningRow, space: SearchSpace) -> FrozenTrial:
    """The finished trial of a row, as its sampler and pruner knew it."""
    named = described(row.restore(), row.origin, space)
    return create_trial(
        state=TrialState.PRUNED if row.status == "PRUNED" else TrialState.COMPLETE,
        value=row.score,
        params={name: value for name, (value, _) in named.items()},
        distributions={name: distribution for name, (_, distribution) in named.items()},
        user_attrs=_attributes(row),
        intermediate_values=dict(enumerate(row.epochs_scores, start=1)),
    )


def _attributes(row: ScreeningRow) -> dict[str, Any]:
    """The row as one attribute, for each costs 1.4 ms in SQLite; the label by itself, for Optuna's dashboard."""
    value = dataclasses.asdict(row)
    return {"label": row.label, "row": {**value, "check": _check(value)}}


def _check(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _clipped(value: float, distribution: BaseDistribution) -> float:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    kind = int if isinstance(distribution, IntDistribution) else float
    # A queued g that is not finite is refused by the evaluation, but is a trial like any other.
    return kind(np.clip(np.nan_to_num(value), distribution.low, distribution.high))


def _own_parameters(surrogate: Surrogate, space: SearchSpace) -> dict[str, tuple[float, BaseDistribution]]:
    """The values of a family's member; a queued candidate of another kind, or out of range, has none."""
    if space.family is None or surrogate.expression != family(space.family, space.parameters).expression:
        return {}
    values = dict(surrogate.parameters)
    inside = all(r.low <= values[name] <= r.high for name, r in space.parameters.items())
    return {name: (values[name], d) for name, d in parameter_distributions(space.parameters).items()} if inside else {}
