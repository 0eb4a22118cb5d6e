"""Notes on trials, as Optuna's dashboard keeps and shows them: the formula of each candidate."""

from __future__ import annotations

from typing import Final

from sugarsearch.runs.results import ScreeningRow

LIMIT: Final = 1_000
"""Trials that get a note: the dashboard looks through all notes for each trial, so more would make it slow."""
_PART: Final = 2045  # characters that the dashboard puts into one attribute


def note_of(row: ScreeningRow) -> str:
    """Markdown: g in full, what became of it, and its reason for failing. The dashboard typesets no mathematics."""
    g = row.restore()
    rate = "" if row.best_learning_rate is None else f" at learning rate {row.best_learning_rate:g}"
    parts = [
        f"`g(x) = {g.formula}`",
        f"{row.status}, {100 * row.score:.1f} %{rate}; gain {row.gain:.2f}, g(0) = {row.at_zero:.3g}",
    ]
    if row.reason:
        parts.append(f"`{' '.join(row.reason.replace('`', ' ').split())}`")
    return "\n\n".join(parts)


def note_attributes(trial_id: int, note: str) -> dict[str, int | str]:
    """The study's system attributes, by key, that hold a note on the trial of this id in the database."""
    prefix = f"dashboard:{trial_id}"
    parts = [note[start : start + _PART] for start in range(0, len(note), _PART)]
    return {f"{prefix}:note_ver": 1, **{f"{prefix}:note_str:{index}": part for index, part in enumerate(parts)}}
