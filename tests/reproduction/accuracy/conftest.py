"""A small table of accuracies: two models, three rows, two learning rates in one of them, on digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.evaluation.jobs import recipe_hash
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.reproduction.accuracy.cells import Cell, cells_of
from sugarsearch.reproduction.accuracy.run import Runs
from sugarsearch.reproduction.load import load
from sugarsearch.runs.folder import RECORDS

TEXT = """\
name: tiny
kind: accuracies
source: a tiny table
seeds: [3, 4]
models:
  deep:
    title: a deep net
    learning_rates: [0.01]
    recipe:
      data: {name: digits, train_limit: 200, test_limit: 100}
      model: {name: deep_narrow_mlp, options: {depth: 2}}
      optimizer: adam
      epochs: 2
  swept:
    title: a shallow net
    learning_rates: [0.001, 0.01, 0.1]
    recipe:
      data: {name: digits, train_limit: 200, test_limit: 100}
      model: {name: deep_narrow_mlp, options: {depth: 1}}
      optimizer: adam
      epochs: 2
rows:
  relu: {title: ReLU, surrogate: relu, arms: [sugar]}
  elu: {title: ELU, surrogate: elu}
  unit: {title: B-SiLU at unit gain, surrogate: b_silu, gain: unit, arms: [sugar]}
printed:
  deep:
    relu: {sugar: [50.0, 1.0]}
    elu: {non_sugar: [60.0, 2.0], sugar: [70.0, 3.0]}
printed_runs: 5
claims:
  - {text: ELU's derivative is better than ReLU's, higher: deep/elu/sugar, lower: deep/relu}
  - {text: and when both are tuned, higher: swept/elu/sugar, lower: swept/relu}
notes: [a note to readers]
execution: {device: cpu, threads: 1, mode: eager}
"""


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("baseline") / "tiny.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_file: Path) -> AccuracyBaseline:
    baseline = load(str(tiny_file))
    assert isinstance(baseline, AccuracyBaseline)
    return baseline


@pytest.fixture(scope="session")
def named(tiny: AccuracyBaseline) -> dict[str, Cell]:
    """Its cells, by name."""
    return {cell.name: cell for cell in cells_of(tiny)}


Filled = Callable[[Path, Mapping[str, Mapping[int, float | None]]], Runs]


@pytest.fixture(scope="session")
def filled(named: dict[str, Cell]) -> Filled:
    """A folder whose records say so: final accuracies by cell and seed; None is a run that diverged."""

    def record(cell: Cell, seed: int, score: float | None) -> Record:
        status = Status.DIVERGED if score is None else Status.COMPLETED
        scores: Sequence[float] = () if score is None else (score / 2, score)
        shares = (0.0,) * len(scores)
        recipe, versions = recipe_hash(cell.model.recipe), {"torch": torch.__version__}
        job = cell.job(seed)
        return Record(job, recipe, "eager", "cpu", status, 10, 2.0, versions, tuple(scores), shares, shares)

    def fill(folder: Path, scores: Mapping[str, Mapping[int, float | None]]) -> Runs:
        folder.mkdir(exist_ok=True)
        log = RecordLog(folder / RECORDS)
        log.append([record(named[name], *one) for name, by_seed in scores.items() for one in by_seed.items()])
        return Runs(folder)

    return fill
