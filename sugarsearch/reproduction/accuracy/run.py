"""Trains cells of a table of accuracies, as far as they have not been, and keeps a record of each run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sugarsearch.errors import RunError
from sugarsearch.evaluation.bench import resolve_device
from sugarsearch.evaluation.executor import ProcessExecutor
from sugarsearch.evaluation.jobs import Workload, recipe_hash
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record, RecordLog
from sugarsearch.evaluation.stop import Stop
from sugarsearch.reproduction.accuracy.cells import Cell
from sugarsearch.runs.folder import RECORDS
from sugarsearch.runs.results import write_atomically
from sugarsearch.verdict.test_data import require

DATA: Final = "data.json"
"""Fingerprints of the data that the records of a folder are of, by recipe."""


@dataclass(frozen=True)
class Progress:
    """A run has ended: the `done`th of `total` that this call had to train."""

    cell: Cell
    record: Record
    done: int
    total: int


class Runs:
    """The records of a folder, by cell and seed; settings other than the baseline's now are not seen.

    Raises:
        RunError: a record is damaged, or cannot be read; the text names the line.
    """

    def __init__(self, folder: Path) -> None:
        self.log = RecordLog(folder / RECORDS)
        self._known: dict[tuple[str, str], Record] = {}
        for record in self.log.load():
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in a record; faults of the machine are no results."""
        if record.status not in MACHINE_FAULTS:
            self._known[record.recipe, record.job.id] = record

    def of(self, cell: Cell, seed: int) -> Record | None:
        """How the run of `cell` with `seed` ended; None where it has not been."""
        return self._known.get((recipe_hash(cell.model.recipe), cell.job(seed).id))

    def all_of(self, cell: Cell) -> dict[int, Record]:
        """All known runs of `cell`, by seed."""
        recipe = recipe_hash(cell.model.recipe)
        seeds = sorted({record.job.seed for (known, _), record in self._known.items() if known == recipe})
        return {seed: record for seed in seeds if (record := self.of(cell, seed)) is not None}


def reproduce(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    folder: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Stop | None = None,
) -> Runs:
    """Train every cell with every seed, less those that the records in `folder` have.

    Each run is kept when it ends, and one that is stopped goes on from its last checkpoint.

    Raises:
        UsageError, DataError: device or data cannot be used.
        RunError: records that are damaged, or of other data; or no room for them.
        StoppedError: as `stop` asks.
    """
    runs = Runs(folder)
    missing = [(cell, seed) for cell in cells for seed in seeds if runs.of(cell, seed) is None]
    _refuse_unusable([cell for cell, _ in missing])
    for number, (cell, record) in enumerate(_trained(missing, folder, runs.log, stop), start=1):
        runs.add(record)
        on_progress(Progress(cell, record, number, len(missing)))
    if missing:
        shutil.rmtree(runs.log.checkpoints, ignore_errors=True)
    return runs


def _refuse_unusable(cells: Sequence[Cell]) -> None:
    """Before hours of training."""
    for name in dict.fromkeys(cell.model_name for cell in cells):
        baseline = cells[0].baseline
        resolve_device(baseline.execution.device)
        require(baseline.models[name].recipe.data)


def _trained(
    missing: Sequence[tuple[Cell, int]], folder: Path, log: RecordLog, stop: Stop | None
) -> Iterator[tuple[Cell, Record]]:
    for name in dict.fromkeys(cell.model_name for cell, _ in missing):
        jobs = {(job := cell.job(seed)).id: (cell, job) for cell, seed in missing if cell.model_name == name}
        baseline = missing[0][0].baseline
        workload = Workload(baseline.models[name].recipe, baseline.execution)
        with ProcessExecutor(workload, log, stop) as executor:
            _same_data(folder, recipe_hash(workload.recipe), executor.fingerprint())
            for record in executor.evaluate([job for _, job in jobs.values()]):
                yield jobs[record.job.id][0], record


def _same_data(folder: Path, recipe: str, fingerprint: str) -> None:
    """Note the data that a recipe's records are of.

    Raises:
        RunError: it has changed since the first of them.
    """
    path = folder / DATA
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, Mapping):
            raise ValueError("it holds no mapping")
    except FileNotFoundError:
        known = {}
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be used ({error}). Delete it, if the data is still what it was.") from None
    if known.get(recipe, fingerprint) != fingerprint:
        raise RunError(
            f"{folder} has runs on other data (fingerprint {known[recipe]}, here {fingerprint}). "
            "Restore the data, or give another folder with --out."
        )
    if recipe not in known:
        write_atomically(path, json.dumps({**known, recipe: fingerprint}, indent=1) + "\n")
