from __future__ import annotations

from collections.abc import Callable

import pytest

from sugarsearch.search.results import ScreeningRow
from sugarsearch.symbolic.library import surrogate


def _row(index: int, score: float, status: str = "COMPLETED", text: str = "b_silu") -> ScreeningRow:
    g = surrogate(text).at_unit_gain()
    return ScreeningRow(
        index=index,
        label=g.label,
        surrogate=g.to_json(),
        origin="queue",
        status=status,
        score=score,
        best_learning_rate=0.01,
        scores_by_learning_rate={"0.01": score},
        epochs_scores=[score],
        gain=g.gain,
        at_zero=g.at_zero,
        reason="",
        seconds=1.0,
    )


@pytest.fixture(scope="session")
def screening_row() -> Callable[..., ScreeningRow]:
    """Makes a row of the screening: (index, score, status, text of g)."""
    return _row
