"""Runs cells of a baseline, as far as they have not been run, and keeps what they gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sugarsearch.evaluation.bench import device_name, resolve_device, versions
from sugarsearch.evaluation.stop import Stop
from sugarsearch.reproduction.narrow.cells import Cell, cells_of, result_of
from sugarsearch.reproduction.narrow.results import Results
from sugarsearch.reproduction.narrow.training import train

BLOCK: Final = 1000
"""Runs trained as one computation, at most: more would not be faster, and more would be lost by a stop."""


@dataclass(frozen=True)
class Progress:
    """How far a call is: `cell` trains the runs from `first` to before `stop`, and has done so many of its epochs."""

    cell: Cell
    first: int
    stop: int
    epoch: int
    epochs: int


def reproduce(
    cells: Sequence[Cell],
    runs: int,
    folder: Path,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Stop | None = None,
) -> Results:
    """Train runs 0 to `runs` - 1 of every cell, less those that the results in `folder` have.

    Each cell is kept when its runs are done. A stop loses no more than the runs under way.

    Raises:
        UsageError: there is no such device.
        RunError: results in `folder` that are damaged, or of other settings; or no room for them.
        StoppedError: as `stop` asks.
    """
    found = resolve_device(device)
    results = Results(folder)
    for cell in cells_of(cells[0].baseline):
        results.of(cell)  # refused before hours of training, not after
    for cell in cells:
        before = results.of(cell)
        for first in range(len(before.losses) if before else 0, runs, BLOCK):
            wanted = range(first, min(first + BLOCK, runs))

            def on_epoch(epoch: int, cell: Cell = cell, wanted: range = wanted) -> None:
                on_progress(Progress(cell, wanted.start, wanted.stop, epoch, cell.settings.epochs))
                if stop is not None:
                    stop.check()

            on_epoch(0)
            start = time.monotonic()
            trained = train(cell.settings, cell.function, cell.arm, wanted, found, on_epoch)
            made = result_of(cell, wanted, trained, time.monotonic() - start, device_name(found), dict(versions()))
            before = before.and_then(made) if before else made
            results.keep(before)
    return results
