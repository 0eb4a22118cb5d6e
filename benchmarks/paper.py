"""What the paper's table 4 comes to on a GPU: ReLU and SUGAR B-SiLU, their learning rates, and what bfloat16 changes.

Trainings are kept as records in `RECORDS`, and the same command goes on from there. Without real images nothing is
claimed: made-up ones show that all of it runs, and how long it takes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, Section, Settings, single
from sugarsearch.cli.signals import stoppable
from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.errors import StoppedError, SugarsearchError
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.evaluation.stop import Stop
from sugarsearch.reproduction.accuracy.cells import Cell, Choice, chosen
from sugarsearch.reproduction.accuracy.run import Progress, Runs, reproduce
from sugarsearch.reproduction.load import load
from sugarsearch.runs.folder import held
from sugarsearch.verdict.statistics import CONFIDENCE, contrast

RECORDS: Final = Path("runs") / "benchmarks_paper"
TABLE: Final = "table4"
ROWS: Final = ("relu", "b_silu")
MODELS: Final = ("resnet18", "vgg16")
COMPARED: Final = "resnet18"
"""At several learning rates and in two precisions."""
SEED: Final = 1

BUDGET: Final[float | None] = 660.0
"""Seconds within which all parts must end, as far as can be told before each; None: however long it takes."""
START: Final = 45.0
"""Seconds that a group of cells takes beside its training: processes, data, compilation that is partly cached."""
EPOCH_SECONDS: Final[Mapping[tuple[str, str], float]] = {
    ("resnet18", "fp32"): 2.0,
    ("resnet18", "bf16"): 1.2,
    ("vgg16", "fp32"): 1.2,
}
"""By model and precision, scoring 10,000 images included: estimates for one H100, none of them measured."""


@dataclass(frozen=True)
class Sizes:
    """Epochs of each part; learning rates beside the table's own; seeds of the precisions; changes of all recipes."""

    table_epochs: int
    rate_epochs: int
    precision_epochs: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    changes: tuple[str, ...] = ()


FULL: Final = Sizes(50, 15, 10, rates=(0.01, 0.1), seeds=(1, 10, 20))
QUICK: Final = Sizes(1, 1, 1, rates=(0.01,), seeds=(1, 10), changes=("data.train_limit=20", "data.test_limit=10"))

Cells = tuple[Cell, ...]
"""Of one baseline."""


@dataclass(frozen=True)
class Part:
    """What is trained or left out as a whole: each cell of some groups with each of some seeds."""

    name: str
    groups: tuple[Cells, ...]
    seeds: tuple[int, ...] = (SEED,)

    def missing(self, runs: Runs, group: Cells) -> list[Cell]:
        """The cells of a group without a record, once for each seed."""
        return [cell for cell in group for seed in self.seeds if runs.of(cell, seed) is None]

    def seconds(self, runs: Runs) -> float:
        """Estimated, of what has no record yet."""
        total = 0.0
        for group in self.groups:
            cells = self.missing(runs, group)
            recipes = [(cell.model_name, cell.model.recipe) for cell in cells]
            total += sum(recipe.epochs * EPOCH_SECONDS[name, recipe.precision] for name, recipe in recipes)
            total += START if cells else 0.0
        return total


class Plan:
    """What is to be trained.

    Attributes:
        table: cells of the table's own, by model.
        rates: at other learning rates.
        precisions: SUGAR B-SiLU's, by precision; none on a CPU.
    """

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        """Read the baseline.

        Raises:
            ConfigurationError, UnknownNameError: the data cannot be used.
        """
        self.settings, self.sizes = settings, sizes
        epochs = f"epochs={sizes.table_epochs}"
        self.table = {model: self._cells(model, f"recipe.{epochs}") for model in MODELS}
        rates = f"learning_rates=[{', '.join(f'{rate:g}' for rate in sizes.rates)}]"
        self.rates = self._cells(COMPARED, f"recipe.epochs={sizes.rate_epochs}", rates)
        self.precisions: dict[str, Cells] = {}
        for precision in ("fp32", "bf16") if settings.device.type == "cuda" else ():
            changes = (f"recipe.epochs={sizes.precision_epochs}", f"recipe.precision={precision}")
            self.precisions[precision] = self._cells(COMPARED, *changes, rows=ROWS[1:])

    @property
    def parts(self) -> list[Part]:
        """The most important first."""
        found = [Part(f"table 4 with {cells[0].model.title}", (cells,)) for cells in self.table.values()]
        found.append(Part("other learning rates", (self.rates,)))
        if self.precisions:
            found.append(Part("bf16 against fp32", tuple(self.precisions.values()), self.sizes.seeds))
        return found

    def _cells(self, model: str, *changes: str, rows: Sequence[str] = ROWS) -> Cells:
        """Rate by rate, ReLU first."""
        settings = self.settings
        # Whole: the bare name of a folder in reach could be a data set's.
        data = str(settings.data.resolve()) if settings.data else f"{__name__}:{'few' if settings.quick else 'many'}"
        common = (f"recipe.{change}" for change in (f"data.name={data}", *self.sizes.changes))
        execution = (f"execution.device={settings.device}", f"execution.threads={settings.threads}")
        baseline = load(TABLE, [*(f"models.{model}.{change}" for change in (*common, *changes)), *execution])
        assert isinstance(baseline, AccuracyBaseline)
        cells = chosen(baseline, Choice(models=[model], rows=rows, arms=["sugar"]))
        return tuple(sorted(cells, key=lambda cell: (cell.learning_rate, ROWS.index(cell.row_name))))


def many() -> dict[str, Any]:
    """Made-up images, as many as CIFAR-10 has, as a study's data."""
    return {"train": made_up(50_000, 32, 0), "test": made_up(10_000, 32, 1)}


def few() -> dict[str, Any]:
    """Made-up images of two classes, likewise."""
    return {"train": made_up(20, 32, 0, classes=2), "test": made_up(10, 32, 1, classes=2)}


def made_up(count: int, side: int, stream: int, classes: int = 10) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise that a faint pattern of its class lies under: images [count, 3, side, side] and labels."""
    patterns = np.random.default_rng(0).integers(0, 24, (classes, 3, side, side), dtype=np.uint8)
    images = np.random.default_rng([stream, count]).integers(0, 232, (count, 3, side, side), dtype=np.uint8)
    labels = np.arange(count) % classes
    images += patterns[labels]
    return images, labels


def measure(settings: Settings, sizes: Sizes | None = None) -> Section:
    """Train what has no record yet, as far as the time allows, and set all that is known beside what is printed."""
    plan = Plan(settings, sizes or (QUICK if settings.quick else FULL))
    with held(RECORDS), stoppable() as stop:
        notes = _trained(plan, stop)
    runs, sizes = Runs(RECORDS), plan.sizes
    figures = [*_table(plan, runs), *_rates(plan, runs), *_precision(plan, runs)]
    what = (
        "ReLU and SUGAR B-SiLU by the recipe of table 4 (SGD at 0.001, batch 128, no augmentation, fp32) with "
        f"seed {SEED}, {sizes.table_epochs} epochs; at other learning rates for {sizes.rate_epochs} epochs, at 0.001 "
        f"the first ones of the former; SUGAR B-SiLU in bf16 and fp32 for {sizes.precision_epochs} epochs with seeds "
        f"{', '.join(map(str, sizes.seeds))}. Accuracies are of the last epoch on the test images"
    )
    return Section("The paper's trainings", what, tuple(figures), (*_about(settings), *notes, *_diverged(plan, runs)))


def _trained(plan: Plan, stop: Stop) -> list[str]:
    """Train part by part; gives notes on what was not."""
    started, expected = time.perf_counter(), 0.0
    budget: float | None = BUDGET
    late, notes = [], []
    for part in plan.parts:
        estimate, spent = part.seconds(Runs(RECORDS)), time.perf_counter() - started
        likely = estimate * (spent / expected if expected else 1.0)  # as wrong as it was of the parts before
        if estimate and budget is not None and spent + likely > budget:
            late.append(f"{part.name} (about {likely:.0f} s)")
            continue
        expected += estimate
        try:
            for group in part.groups:
                reproduce(group, part.seeds, RECORDS, _say, stop)
        except StoppedError:
            raise
        except SugarsearchError as error:
            notes.append(f"{part.name} failed: {error}")
        runs = Runs(RECORDS)
        if failed := {cell.name for group in part.groups for cell in part.missing(runs, group)}:
            notes.append(f"{part.name}: no training has ended well of {', '.join(sorted(failed))}.")
    return [*notes, *([_left_out(late, plan.settings)] if late else [])]


def _left_out(late: Sequence[str], settings: Settings) -> str:
    options = [" --quick" if settings.quick else "", f" --data {settings.data}" if settings.data else ""]
    command = f"python -m benchmarks --gpu --only paper{''.join(options)}"
    return f"Left out, to stay within {BUDGET:g} s: {', '.join(late)}. `{command}` goes on from here."


def _say(progress: Progress) -> None:
    record, cell = progress.record, progress.cell
    ended = f"{100 * record.value:.2f} %" if not record.reason else f"{record.status}: {record.reason}"
    name = f"{cell.name}, {cell.model.recipe.precision}, seed {record.job.seed}"
    print(f"{name}: {ended}, {record.seconds:.0f} s", file=sys.stderr, flush=True)


def _about(settings: Settings) -> list[str]:
    notes = []
    if settings.data is None:
        notes.append("The images are made up: no accuracy here says anything about CIFAR-10 or the paper.")
    elif not (settings.data / "train").is_dir():
        notes.append("The folder has no train/ and test/: a fixed fifth of its images was set aside to test on.")
    if settings.device.type != "cuda":
        notes.append("bf16 against fp32 is for CUDA devices and was left out.")
    return notes


def _diverged(plan: Plan, runs: Runs) -> list[str]:
    records = [
        (cell, seed, record)
        for part in plan.parts
        for group in part.groups
        for cell in group
        for seed in part.seeds
        if (record := runs.of(cell, seed)) and record.status is not Status.COMPLETED
    ]
    return [f"{cell.name}, seed {seed}, is {record.status} and counts as chance." for cell, seed, record in records]


def _accuracy(name: str, value: float, cell: Cell, record: Record, unit: str, detail: Mapping[str, Any]) -> Figure:
    about = {
        "learning_rate": cell.learning_rate,
        "seed": record.job.seed,
        "epochs_of_the_run": record.job.epochs,
        "seconds_of_the_run": record.seconds,
        "status": str(record.status),
        "mode": record.mode,
        "device": record.device,
        "versions": dict(record.versions),
    }
    return single(name, round(100 * value, 2), unit, detail={**about, **detail})


def _unit(plan: Plan, words: str, printed: str = "") -> str:
    """Made-up images are not compared with anything."""
    if plan.settings.data is None:
        return f"{words}, made-up images"
    return f"{words}{f'; the paper: {printed}' if printed else ''}"


def _table(plan: Plan, runs: Runs) -> list[Figure]:
    figures = []
    for cells in plan.table.values():
        known = [(cell, record) for cell in cells if (record := runs.of(cell, SEED))]
        for cell, record in known:
            assert cell.printed is not None
            mean, deviation = (round(100 * part, 2) for part in cell.printed)
            unit = _unit(plan, "% of test images", f"{mean:.2f} ± {deviation:.2f}")
            distance = {"printed": [mean, deviation], "distance": round(100 * record.value - mean, 2)}
            detail = distance if plan.settings.data else {}
            name = f"{cell.model.title}, {cell.title}, {record.job.epochs} epochs"
            figures.append(_accuracy(name, record.value, cell, record, unit, detail))
        if len(known) == len(ROWS):
            lead, printed = (100 * (pair[1] - pair[0]) for pair in zip(*map(_means, known), strict=True))
            name = f"{known[0][0].model.title}, {known[1][0].title} over ReLU"
            figures.append(single(name, round(lead, 2), _unit(plan, "points", f"{printed:.2f}")))
    return figures


def _means(known: tuple[Cell, Record]) -> tuple[float, float]:
    """Ours, and what is printed."""
    cell, record = known
    assert cell.printed is not None
    return record.value, cell.printed[0]


def _rates(plan: Plan, runs: Runs) -> list[Figure]:
    """Nothing, if none but the table's own has been trained."""
    epochs, unit = plan.sizes.rate_epochs, _unit(plan, "% of test images")
    figures: list[Figure] = []
    best = dict.fromkeys(ROWS, 0.0)
    if not any(runs.of(cell, SEED) for cell in plan.rates):
        return figures
    for cell in (*plan.table[COMPARED], *plan.rates):
        record = runs.of(cell, SEED)
        value = None if record is None else record.at(epochs)
        if record is not None and value is not None:
            name = f"{cell.model.title}, {cell.title}, learning rate {cell.learning_rate:g}, {epochs} epochs"
            figures.append(_accuracy(name, value, cell, record, unit, {}))
            best[cell.row_name] = max(best[cell.row_name], value)
    lead = round(100 * (best["b_silu"] - best["relu"]), 2)
    return [*figures, single("SUGAR B-SiLU over ReLU, each at its best of these rates", lead, _unit(plan, "points"))]


def _precision(plan: Plan, runs: Runs) -> list[Figure]:
    """Nothing without two seeds of each."""
    scores = {
        precision: {
            seed: record.value for cell in cells for seed in plan.sizes.seeds if (record := runs.of(cell, seed))
        }
        for precision, cells in plan.precisions.items()
    }
    found = contrast(scores["bf16"], scores["fp32"], paired=False) if scores else None
    if found is None:
        return []
    low, high = (100 * end for end in found.interval(CONFIDENCE))
    name = f"bf16 minus fp32, ResNet-18, SUGAR B-SiLU, {plan.sizes.precision_epochs} epochs"
    unit = _unit(plan, f"points, with Welch's {CONFIDENCE:.0%} interval")
    detail = {"accuracies": {key: {str(seed): v for seed, v in values.items()} for key, values in scores.items()}}
    return [Figure(name, 100 * found.mean, low, high, unit, detail=detail)]
