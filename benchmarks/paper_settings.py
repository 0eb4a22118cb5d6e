"""Which of the settings that the SUGAR paper leaves unstated gives plain ReLU its printed accuracy on CIFAR-10?

    python -m benchmarks.paper_settings

Plain ReLU of table 4 (ResNet-18: 73.2 %, VGG-16: 75.9 %, at a learning rate of 0.001) is trained with the shipped
recipe, with the settings that this may be wrong about changed one at a time, and with a few combinations. Sixteen
trainings of 50 epochs for each seed: for a GPU. Without a network, let --data name a folder of images, or data that is
in the cache already (see `sugarsearch data`).

Records are kept in a folder as trainings end; the same command goes on from there. The results file has every setting
that has a record, also of earlier calls.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, Final

from sugarsearch.cli.signals import stoppable
from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.config.schema import Recipe
from sugarsearch.errors import SugarsearchError
from sugarsearch.evaluation.records import Status
from sugarsearch.reproduction.accuracy.cells import Cell, Choice, chosen
from sugarsearch.reproduction.accuracy.run import Progress, Runs, reproduce
from sugarsearch.reproduction.load import load
from sugarsearch.runs.folder import held

RESULTS: Final = Path(__file__).parent / "results" / "paper_settings.json"
RECORDS: Final = Path("runs") / "paper_settings"
TABLE: Final = "table4"
DEVIATIONS: Final = 2
"""Of the printed ones: how far from the printed mean an accuracy still meets it."""

MOMENTUM: Final = "optimizer.momentum=0.9"
WEIGHT_DECAY: Final = "optimizer.weight_decay=0.0005"
IMAGENET: Final = "model.options.stem=imagenet"

COMMON: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "default": (),
        "momentum": (MOMENTUM,),
        "weight_decay": (WEIGHT_DECAY,),
        "momentum+weight_decay": (MOMENTUM, WEIGHT_DECAY),
        "half": ("normalisation=half",),
        "unit": ("normalisation=unit",),
    }
)
SETTINGS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "resnet18": {**COMMON, "imagenet_stem": (IMAGENET,), "imagenet_stem+momentum": (IMAGENET, MOMENTUM)},
        "vgg16": {
            **COMMON,
            "no_batch_norm": ("model.options.batch_norm=false",),
            "classic_head": ("model.options.head=classic",),
        },
    }
)
"""By model and name: in what a setting differs from the shipped recipe."""


@dataclass(frozen=True)
class Setting:
    """A model's recipe with some settings changed, and the cell of plain ReLU that it makes."""

    name: str
    changes: tuple[str, ...]
    cell: Cell


def settings(common: Sequence[str] = ()) -> list[Setting]:
    """All of them, model by model.

    Args:
        common: changes of every recipe, such as epochs=1.

    Raises:
        ConfigurationError, UnknownNameError, DataError: a change that is not allowed.
    """
    found = []
    for model, named in SETTINGS.items():
        for name, changes in named.items():
            baseline = load(TABLE, [f"models.{model}.recipe.{change}" for change in (*common, *changes)])
            assert isinstance(baseline, AccuracyBaseline)
            (cell,) = chosen(baseline, Choice(models=[model], rows=["relu"]))
            found.append(Setting(f"{model}/{name}", changes, cell))
    return found


def row(setting: Setting, runs: Runs) -> dict[str, Any] | None:
    """What is known of a setting, accuracies in percent; None where nothing has been run."""
    known = runs.all_of(setting.cell)
    if not known:
        return None
    assert setting.cell.printed is not None
    mean, deviation = (100 * value for value in setting.cell.printed)
    accuracy = 100 * fmean(record.value for record in known.values())
    return {
        "setting": setting.name,
        "changes": list(setting.changes),
        "accuracy": round(accuracy, 2),
        "accuracy_by_seed": {str(seed): round(100 * record.value, 2) for seed, record in known.items()},
        "printed": [round(mean, 2), round(deviation, 2)],
        "distance": round(accuracy - mean, 2),
        "meets": abs(accuracy - mean) <= DEVIATIONS * deviation,
        "diverged": sum(record.status is not Status.COMPLETED for record in known.values()),
        "seconds": round(sum(record.seconds for record in known.values()), 1),
        "device": sorted({record.device for record in known.values()}),
        "versions": [dict(one) for one in {tuple(sorted(record.versions.items())) for record in known.values()}],
    }


def result(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """What goes into the results file; `recipe` is that of any setting."""
    return {
        "what": f"plain ReLU of {TABLE} with settings that its source does not state; accuracies in percent",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "data": recipe.data.name,
        "training_images": recipe.data.train_limit,
        "epochs": recipe.epochs,
        "settings": list(rows),
        "meet": [one["setting"] for one in rows if one["meets"]],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """For the terminal, and which settings meet what is printed."""
    lines = [f"{'setting':34} {'accuracy':>8} {'printed':>14} {'distance':>8}"]
    for one in rows:
        printed = f"{one['printed'][0]:.2f} ± {one['printed'][1]:.2f}"
        lines.append(f"{one['setting']:34} {one['accuracy']:8.2f} {printed:>14} {one['distance']:+8.2f}")
    names = ", ".join(one["setting"] for one in rows if one["meets"]) or "none"
    return "\n".join([*lines, f"within {DEVIATIONS} printed deviations of the printed mean: {names}"])


def _train(wanted: Sequence[Setting], seeds: Sequence[int], folder: Path) -> None:
    with held(folder), stoppable() as stop:
        for number, setting in enumerate(wanted, start=1):

            def say(progress: Progress, name: str = f"{number} of {len(wanted)}: {setting.name}") -> None:
                record = progress.record
                ended = f"{100 * record.value:.2f} %" if not record.reason else f"{record.status}: {record.reason}"
                print(f"{name}, seed {record.job.seed}: {ended}, {record.seconds:.0f} s", file=sys.stderr, flush=True)

            # Each setting is a baseline of its own, so they are trained one after another.
            reproduce([setting.cell], seeds, folder, say, stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--epochs", type=int, help="in place of the paper's 50")
    parser.add_argument(
        "--data", metavar="NAME", help="in place of cifar10: a name, a folder, or package.module:loader"
    )
    parser.add_argument("--limit", type=int, metavar="IMAGES", help="train on so many images, validation included")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="train these settings, such as 'vgg16/*'")
    parser.add_argument(
        "--records", type=Path, default=RECORDS, help="the folder to keep records in, and to go on from"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not known yet, write and print the results; exit code 1 if a setting asked for has none."""
    parser = _parser()
    given = parser.parse_args(arguments)
    changes = {"epochs": given.epochs, "data.name": given.data, "data.train_limit": given.limit}
    try:
        known = settings([f"{key}={value}" for key, value in changes.items() if value is not None])
        wanted = [setting for setting in known if fnmatchcase(setting.name, given.only)]
        if not wanted:
            parser.error(f"--only {given.only} is no setting; there are {', '.join(one.name for one in known)}.")
        given.out.parent.mkdir(parents=True, exist_ok=True)
        _train(wanted, given.seeds, given.records)
        runs = Runs(given.records)
    except SugarsearchError as error:
        print(f"paper_settings: {error}", file=sys.stderr)
        return error.exit_code
    rows = [found for setting in known if (found := row(setting, runs))]
    given.out.write_text(json.dumps(result(rows, known[0].cell.model.recipe), indent=1) + "\n")
    print(table(rows))
    missing = [setting.name for setting in wanted if not runs.all_of(setting.cell)]
    if missing:
        print(f"no training has ended well of {', '.join(missing)}", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
