"""Every cell of the paper's tables, by its own recipe but for data and length: it trains, and is not trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.evaluation.records import Status
from sugarsearch.reproduction.accuracy.cells import Cell, cells_of
from sugarsearch.reproduction.accuracy.run import Progress, reproduce
from sugarsearch.reproduction.load import load

MODULE: Final = """
import numpy as np
from sklearn.datasets import load_digits


def load(size=32, train=4, test=2):
    digits = load_digits()
    rows = np.flatnonzero(digits.target < 2)[: train + test]
    grey = np.kron(digits.images[rows], np.ones((size // 8, size // 8))) * 15
    images = np.repeat(grey.astype(np.uint8)[:, None], 3, axis=1)
    labels = digits.target[rows]
    return (images[:train], labels[:train]), (images[train:], labels[train:])


def load_conv2next():
    return load(16, 8)


def load_swin_t():
    return load(64)
"""
"""Zeros and ones in colour, as small as each network allows at little cost. Conv2NeXt gets enough images for two
batches, so that its steps accumulate."""

LOADERS: Final = {
    "conv2next": "tiny_images:load_conv2next",
    "swin_t": "tiny_images:load_swin_t",
    "resnet18": "tiny_images:load",
    "vgg16": "tiny_images:load",
}
CELLS: Final = {"table1": 12, "table4": 42, "table5": 42}
EPOCHS: Final = 2


def tiny(name: str) -> AccuracyBaseline:
    """A shipped table on the module's images."""
    shipped = load(name)
    assert isinstance(shipped, AccuracyBaseline)
    overrides = ["execution.device=cpu", "execution.threads=1"]
    for model in shipped.models:
        settings = [f"data.name={LOADERS[model]}", "data.validation=0.3", f"epochs={EPOCHS}", "batch_size=4"]
        if name == "table1":
            settings.append("schedule.warmup_epochs=1")
        overrides += [f"models.{model}.recipe.{setting}" for setting in settings]
    baseline = load(name, overrides)
    assert isinstance(baseline, AccuracyBaseline)
    return baseline


def check(cell: Cell, progress: Progress) -> None:
    """The cell's own run came to its end; that its scores are finite and shares, the record has checked."""
    record = progress.record
    assert record.status is Status.COMPLETED, f"{cell.name}: {record.reason}"
    assert len(record.scores) == EPOCHS, cell.name
    assert record.mode == "eager", cell.name
    assert (record.job.arm, record.job.surrogate) == (cell.arm, cell.surrogate), cell.name


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_trains_and_is_not_trained_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny_images.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    cells, folder = cells_of(tiny(name)), tmp_path / "run"
    first: list[Progress] = []
    again: list[Progress] = []
    other: list[Progress] = []
    reproduce(cells, [1], folder, first.append)
    assert {progress.cell.name for progress in first} == {cell.name for cell in cells}
    trainings = {(progress.record.recipe, progress.record.job.id) for progress in first}
    assert len(trainings) == len(first) == CELLS[name]
    for progress in first:
        check(progress.cell, progress)

    runs = reproduce(cells, [1], folder, again.append)
    assert not again
    assert all(runs.of(cell, 1) for cell in cells)
    reproduce(cells[:1], [1, 2], folder, other.append)
    assert [(progress.cell.name, progress.record.job.seed) for progress in other] == [(cells[0].name, 2)]
