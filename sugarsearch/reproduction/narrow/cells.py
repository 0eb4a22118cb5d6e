"""Cells of a baseline of deep narrow nets, and what their runs gave."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median_low
from typing import Any

from sugarsearch.config.narrow_nets import Arm, NarrowNets, NarrowNetsBaseline, Target, TargetName
from sugarsearch.errors import UnknownNameError
from sugarsearch.reproduction.narrow.targets import FUNCTIONS, Function
from sugarsearch.reproduction.narrow.training import Trained

DIGITS = 6  # significant ones, of losses and predictions in results files


@dataclass(frozen=True)
class Cell:
    """A target with an arm, of a baseline."""

    baseline: NarrowNetsBaseline
    target_name: TargetName
    arm_name: str

    @property
    def name(self) -> str:
        """As the command line has it, such as f1/sugar."""
        return f"{self.target_name}/{self.arm_name}"

    @property
    def target(self) -> Target:
        return self.baseline.targets[self.target_name]

    @property
    def arm(self) -> Arm:
        return self.baseline.arms[self.arm_name]

    @property
    def settings(self) -> NarrowNets:
        """How its nets are trained."""
        return self.baseline.settings(self.target_name, self.arm_name)

    @property
    def function(self) -> Function:
        """What is to be learned."""
        return FUNCTIONS[self.target_name]

    @property
    def printed(self) -> dict[str, float] | None:
        """The source's share of every class, 0 to 1; None where it has none."""
        return self.baseline.printed(self.target_name, self.arm_name)

    @property
    def identity(self) -> str:
        """A hash of all that its runs hang on: not of titles, classes or printed numbers."""
        asked = [
            self.settings.model_dump(mode="json"),
            *(self.function.formula, self.arm.initialisation, self.arm.surrogate),
        ]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Example:
    """A typical run of a class: that of its median loss. prediction: by output, over `training.grid`."""

    run: int
    loss: float
    prediction: list[list[float]]


@dataclass(frozen=True)
class CellResult:
    """What the runs 0 to n - 1 of a cell gave.

    Attributes:
        cell, identity: whose runs they are.
        losses: of each; None where it did not stay finite.
        born_dead: which runs were born dead.
        epochs, activity: as `Trained`.
        examples: by class, where one is known.
        seconds: of training.
        device, versions: where and with what the last of them were trained.
    """

    cell: str
    identity: str
    losses: list[float | None]
    born_dead: list[int]
    epochs: list[int]
    activity: list[list[float]]
    examples: dict[str, Example]
    seconds: float
    device: str
    versions: dict[str, str]

    def counts(self, target: Target) -> dict[str, int]:
        """How many runs ended in each class."""
        found = Counter(target.class_of(loss) for loss in self.losses)
        return {name: found[name] for name in target.classes}

    def and_then(self, later: CellResult) -> CellResult:
        """This with the runs that follow its own."""
        n, more = len(self.losses), len(later.losses)
        activity = [
            [(a * n + b * more) / (n + more) for a, b in zip(here, there, strict=True)]
            for here, there in zip(self.activity, later.activity, strict=True)
        ]
        return CellResult(
            self.cell,
            self.identity,
            self.losses + later.losses,
            self.born_dead + later.born_dead,
            self.epochs,
            activity,
            {**later.examples, **self.examples},
            self.seconds + later.seconds,
            later.device,
            later.versions,
        )


def result_of(
    cell: Cell, runs: Sequence[int], trained: Trained, seconds: float, device: str, versions: dict[str, str]
) -> CellResult:
    """What training `runs` gave, as it is kept."""
    losses = [None if loss is None else _short(loss) for loss in trained.losses]
    return CellResult(
        cell.name,
        cell.identity,
        losses,
        [run for run, dead in zip(runs, trained.born_dead, strict=True) if dead],
        trained.epochs,
        [[_short(share) for share in layers] for layers in trained.activity],
        _examples(cell.target, runs, losses, trained),
        round(seconds, 1),
        device,
        versions,
    )


def _examples(
    target: Target, runs: Sequence[int], losses: Sequence[float | None], trained: Trained
) -> dict[str, Example]:
    examples = {}
    for name in target.classes:
        known = [(loss, at) for at, loss in enumerate(losses) if loss is not None and target.class_of(loss) == name]
        if known:
            loss, at = median_low(known)
            drawn = [[_short(value) for value in output] for output in trained.predictions[at].tolist()]
            examples[name] = Example(runs[at], loss, drawn)
    return examples


def cells_of(baseline: NarrowNetsBaseline) -> list[Cell]:
    """Every cell, target by target."""
    return [Cell(baseline, target, arm) for target in baseline.targets for arm in baseline.arms]


def chosen(baseline: NarrowNetsBaseline, patterns: Sequence[str]) -> list[Cell]:
    """The cells that one of `patterns` means ("f1/sugar", "*/nelu"); without patterns those with printed numbers.

    Raises:
        UnknownNameError: a pattern that means none.
    """
    cells = cells_of(baseline)
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise UnknownNameError("cell", pattern, [cell.name for cell in cells])
    return [
        cell
        for cell in cells
        if any(fnmatchcase(cell.name, pattern) for pattern in patterns) or (not patterns and cell.printed)
    ]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def restored(value: dict[str, Any]) -> CellResult:
    """The result whose `dataclasses.asdict` is `value`.

    Raises:
        TypeError, KeyError: it is none.
    """
    examples = {name: Example(**example) for name, example in value["examples"].items()}
    return CellResult(**{**value, "examples": examples})
