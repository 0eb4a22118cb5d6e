"""Many finished trials into Optuna's SQLite tables at once.

Optuna's own `add_trials` costs 16 ms a trial and 1 ms more for each epoch reported, most of a small search's
overhead; this 0.4 ms, notes included. Only for tables of version `SCHEMA`; a test holds the two against each other,
table by table.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Final

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

from sugarsearch.search.notes import note_attributes

SCHEMA: Final = "v3.2.0.a"

_TRIAL = "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?)"
_VALUE = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')"
_PARAMETER = "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)"
_ATTRIBUTE = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
_REPORT = (
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
    "VALUES (?, ?, ?, 'FINITE')"
)
_NOTE = "INSERT INTO study_system_attributes (study_id, key, value_json) VALUES (?, ?, ?)"


def insert_trials(
    connection: sqlite3.Connection, study: str, first: int, trials: Sequence[FrozenTrial], notes: Sequence[str]
) -> None:
    """What Optuna's `add_trials` and its dashboard's `save_note` would write, in one transaction.

    Args:
        connection: to a database of version `SCHEMA`.
        study: the name of the study in it.
        first: the number of the first of the trials there.
        trials: finished ones of a single objective, all of whose values are finite.
        notes: on the first of them, or all.
    """
    (study_id,) = connection.execute("SELECT study_id FROM studies WHERE study_name = ?", (study,)).fetchone()
    with connection:
        for number, (trial, note) in enumerate(zip_longest(trials, notes), start=first):
            times = _text(trial.datetime_start), _text(trial.datetime_complete)
            key = connection.execute(_TRIAL, (number, study_id, trial.state.name, *times)).lastrowid
            assert key is not None
            connection.execute(_VALUE, (key, trial.value))
            parameters = [
                (key, name, d.to_internal_repr(trial.params[name]), distribution_to_json(d))
                for name, d in trial.distributions.items()
            ]
            connection.executemany(_PARAMETER, parameters)
            attributes = [(key, name, json.dumps(value)) for name, value in trial.user_attrs.items()]
            connection.executemany(_ATTRIBUTE, attributes)
            connection.executemany(_REPORT, [(key, *report) for report in trial.intermediate_values.items()])
            if note:
                held = ((study_id, name, json.dumps(value)) for name, value in note_attributes(key, note).items())
                connection.executemany(_NOTE, held)


def _text(time: datetime | None) -> str:
    assert time is not None, "a finished trial has both times"
    return time.isoformat(" ", "microseconds")
