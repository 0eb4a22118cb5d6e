"""Cells of a table of accuracies, and which of them are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import get_args

from sugarsearch.config.accuracy_table import AccuracyBaseline, Row, TableModel
from sugarsearch.config.arm import TrainingArm
from sugarsearch.errors import UnknownNameError
from sugarsearch.evaluation.jobs import FINAL, Job
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.test_data import OPEN


@dataclass(frozen=True)
class Cell:
    """A model with a row and an arm of a baseline, at one learning rate."""

    baseline: AccuracyBaseline
    model_name: str
    row_name: str
    arm: TrainingArm
    learning_rate: float

    @property
    def setting(self) -> str:
        """All but the learning rate, such as resnet18/b_silu/sugar; plain ReLU has no arm in its name."""
        parts = [self.model_name, self.row_name]
        return "/".join(parts if self.row.is_relu else [*parts, self.arm])

    @property
    def name(self) -> str:
        """The setting, and the learning rate where the model has several: small_conv/relu@0.1."""
        return f"{self.setting}@{self.learning_rate:g}" if len(self.model.learning_rates) > 1 else self.setting

    @property
    def model(self) -> TableModel:
        return self.baseline.models[self.model_name]

    @property
    def row(self) -> Row:
        return self.baseline.rows[self.row_name]

    @property
    def title(self) -> str:
        """Of the row and, where it is trained in both, of the arm."""
        if self.row.is_relu:
            return self.row.title
        return f"{self.row.title}, {ARM_TITLES[self.arm]}"

    @cached_property
    def surrogate(self) -> Surrogate:
        """g, at the gain that the row asks for."""
        g = surrogate(self.row.surrogate)
        return g.at_unit_gain() if self.row.gain == "unit" else g

    @property
    def printed(self) -> tuple[float, float] | None:
        """The source's mean and standard deviation, from 0 to 1; None where it has none."""
        found = self.baseline.printed.get(self.model_name, {}).get(self.row_name, {}).get(self.arm)
        return None if found is None else (found[0] / 100, found[1] / 100)

    def job(self, seed: int) -> Job:
        """The training of this cell with a seed, scored on the test split."""
        epochs = self.model.recipe.epochs
        return Job(self.surrogate, self.learning_rate, 0, seed, epochs, FINAL, scoring=OPEN, arm=self.arm)


ARM_TITLES: dict[TrainingArm, str] = {"non_sugar": "non-SUGAR", "sugar": "SUGAR"}
"""As the paper writes them."""


@dataclass(frozen=True)
class Choice:
    """Which cells a call is about: each of these where it is empty means all.

    patterns: of names of cells or settings ("resnet18/*/sugar").
    """

    models: Sequence[str] = ()
    rows: Sequence[str] = ()
    arms: Sequence[str] = ()
    learning_rates: Sequence[float] = ()
    patterns: Sequence[str] = ()


def cells_of(baseline: AccuracyBaseline) -> list[Cell]:
    """Every cell, model by model."""
    return [
        Cell(baseline, model, row, arm, rate)
        for model, row, arm in baseline.settings.values()
        for rate in baseline.models[model].learning_rates
    ]


def chosen(baseline: AccuracyBaseline, choice: Choice) -> list[Cell]:
    """The cells that `choice` means. Plain ReLU, which has no other arm, is in each of them.

    Raises:
        UnknownNameError: a model, row, arm or learning rate that the baseline does not have, or a pattern of none.
    """
    cells = cells_of(baseline)
    for pattern in choice.patterns:
        if not any(_means(pattern, cell) for cell in cells):
            raise UnknownNameError("cell", pattern, [cell.name for cell in cells])
    rates = sorted({rate for model in baseline.models.values() for rate in model.learning_rates})
    _refuse_unknown("model", choice.models, list(baseline.models))
    _refuse_unknown("surrogate", choice.rows, list(baseline.rows))
    _refuse_unknown("arm", choice.arms, list(get_args(TrainingArm)))
    _refuse_unknown("learning rate", [f"{rate:g}" for rate in choice.learning_rates], [f"{rate:g}" for rate in rates])
    return [
        cell
        for cell in cells
        if (not choice.models or cell.model_name in choice.models)
        and (not choice.rows or cell.row_name in choice.rows)
        and (not choice.arms or cell.row.is_relu or cell.arm in choice.arms)
        and (not choice.learning_rates or cell.learning_rate in choice.learning_rates)
        and (not choice.patterns or any(_means(pattern, cell) for pattern in choice.patterns))
    ]


def _means(pattern: str, cell: Cell) -> bool:
    return fnmatchcase(cell.name, pattern) or fnmatchcase(cell.setting, pattern)


def _refuse_unknown(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UnknownNameError(kind, name, known)
