"""Printed shares and ours side by side: intervals, a test, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from sugarsearch.config.narrow_nets import Changes
from sugarsearch.reproduction.narrow.cells import Cell, CellResult
from sugarsearch.symbolic.library import surrogate

CONFIDENCE: Final = 0.95
LEVEL: Final = 0.01
"""Two shares differ where Fisher's exact test gives a smaller p."""
NOT_RUN: Final = "not run"


@dataclass(frozen=True)
class Share:
    """How many runs of a cell end in a class, as a share from 0 to 1.

    Attributes:
        cell, arm: the cell's name and its arm's title.
        outcome, meaning: the class.
        printed, printed_runs: the source's share, and of how many runs; None where it has none.
        ours, interval, runs: our share, its 95 % interval (Wilson), and of how many; None and 0 where not run.
        p: of Fisher's exact test of the two shares, for the tested class where both are known.
        words: what the test says; empty where nothing is tested.
    """

    cell: str
    arm: str
    outcome: str
    meaning: str
    printed: float | None
    printed_runs: int | None
    ours: float | None
    interval: tuple[float, float] | None
    runs: int
    p: float | None
    words: str


def shares(cell: Cell, result: CellResult | None) -> list[Share]:
    """One for each class of the cell's target."""
    known = None if result is None else result.counts(cell.target)
    return [_share(cell, name, known) for name in cell.target.classes]


def _share(cell: Cell, name: str, counts: dict[str, int] | None) -> Share:
    tested = name == cell.target.tested
    printed = cell.printed[name] if cell.printed else None
    printed_runs = cell.arm.printed.runs if cell.printed and cell.arm.printed else None
    fixed = (cell.name, cell.arm.title, name, cell.target.classes[name].meaning, printed, printed_runs)
    if counts is None:
        return Share(*fixed, None, None, 0, None, NOT_RUN if tested else "")
    count, n = counts[name], sum(counts.values())
    found = stats.binomtest(count, n).proportion_ci(CONFIDENCE, "wilson")
    p, words = None, ""
    if tested and printed is not None and printed_runs is not None:
        theirs = round(printed * printed_runs)
        p = float(stats.fisher_exact(np.array([[count, n - count], [theirs, printed_runs - theirs]])).pvalue)
        words = _words(count / n - printed, p)
    return Share(*fixed, count / n, (float(found.low), float(found.high)), n, p, words)


def _words(difference: float, p: float) -> str:
    said = f"p = {p:.2g}" if p >= 1e-3 else "p < 0.001"
    if p >= LEVEL:
        return f"agrees ({said})"
    return f"differs: {100 * abs(difference):.1f} points {'more' if difference > 0 else 'fewer'} ({said})"


def cautions(cells: Sequence[Cell], results: Sequence[CellResult | None]) -> list[str]:
    """What a reader must know before believing the comparison."""
    said = [caution for cell in cells if (caution := cell.target.caution)]
    run = [(cell, result) for cell, result in zip(cells, results, strict=True) if result is not None]
    diverged = [
        f"{cell.name}: {bad} runs did not stay finite; they count as class {cell.target.tested}"
        for cell, result in run
        if (bad := sum(loss is None for loss in result.losses))
    ]
    silent = [
        f"{cell.arm.title}: its g(0) is 0. Above a dead layer of a net with zero biases every pre-activation is 0, so "
        "no gradient comes down to it: nets that are dead below their last hidden layer stay dead, as with ReLU."
        for cell, _ in run
        if cell.arm.initialisation == "he" and cell.arm.surrogate and surrogate(cell.arm.surrogate).at_zero == 0
    ]
    settings = [f"{pattern} trains with {_changed(changes, cells[0])}" for pattern, changes in _changes(cells).items()]
    bounds = "classes are told apart by our bounds, in the middle of the gaps between the printed ranges of losses"
    notes = [note for cell in cells for note in cell.baseline.notes]
    return list(dict.fromkeys([bounds, *settings, *notes, *said, *diverged, *silent]))


def _changes(cells: Sequence[Cell]) -> dict[str, Changes]:
    """What the targets and arms of `cells` change, by the pattern of the cells that it is for."""
    by_target = {f"{cell.target_name}/*": cell.target.experiment for cell in cells}
    by_arm = {f"*/{cell.arm_name}": cell.arm.experiment for cell in cells}
    return {pattern: changes for pattern, changes in (by_target | by_arm).items() if changes.given()}


def _changed(changes: Changes, cell: Cell) -> str:
    common = cell.baseline.experiment.model_dump(mode="json")
    given = changes.model_dump(mode="json", exclude_none=True)
    return ", ".join(f"{name} {value} (others: {common[name]})" for name, value in given.items())
