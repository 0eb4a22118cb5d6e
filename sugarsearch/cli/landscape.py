"""The command landscape: the loss around the weights of one network or two, in numbers and pictures."""

from __future__ import annotations

import filecmp
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sugarsearch.cli.common import Device, Json, Set, configured, print_facts, print_json, progress_console

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.progress import TaskID
    from torch import nn

    from sugarsearch.analysis.landscape import Batch, Landscape
    from sugarsearch.cli.landscape_request import LandscapeRequest
    from sugarsearch.data.device import DeviceArrays

NUMBERS, CONTOUR, SURFACE = "landscape.json", "contour.png", "surface.png"


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("landscape")(landscape)


def landscape(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS.pt", help="As `sugarsearch train --out` writes them.")],
    data: Annotated[str, typer.Option("--data", help="A data set's name, a folder or package.module:loader.")],
    model: Annotated[str, typer.Option("--model", help="The weights' model: a name or package.module:factory.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the numbers and pictures.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="WEIGHTS2.pt", help="Of the same model, drawn beside it on one scale.")
    ] = None,
    points: Annotated[int, typer.Option("--points", help="Along each of the two directions; odd.")] = 21,
    reach: Annotated[float, typer.Option("--reach", help="How far to go; 1 is as far as the weights are long.")] = 0.25,
    normalise: Annotated[
        str, typer.Option("--normalise", help="What gets the weights' norm: layer (as SUGAR's paper) or filter.")
    ] = "layer",
    samples: Annotated[int, typer.Option("--samples", help="Images, or all of the split where it has fewer.")] = 2000,
    split: Annotated[str, typer.Option("--split", help="train or validation.")] = "train",
    seed: Annotated[int, typer.Option("--seed", help="Of the two directions.")] = 0,
    device: Device = "auto",
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Draw the loss landscape around trained weights, along two random directions.

    Biases, normalising layers and running statistics stay as they are. Two networks get the same directions, each
    scaled to its own weights.

    Examples:

    - `sugarsearch landscape weights.pt --data digits --model resnet8 --out landscape`
    - `sugarsearch landscape relu.pt b_silu.pt --data cifar100 --model resnet18 --out landscape`

    Give each `--set recipe...` that the weights were trained with: data and model must be those of the training.
    """
    from sugarsearch.cli.landscape_request import LandscapeRequest

    value = {
        "recipe": {"data": data, "model": model, "epochs": 1},  # a recipe needs epochs; nothing is trained
        "points": points,
        "reach": reach,
        "normalise": normalise,
        "samples": samples,
        "split": split,
        "seed": seed,
        "execution": {"device": device},
    }
    request = configured(LandscapeRequest, value, overrides or ())
    paths = [weights] if other is None else [weights, other]
    subject = _opened(request, paths, out)
    titles = _titles(paths)
    with _shown(progress_console(), request.points) as show:
        made = [
            (title, _evaluated(request, network, subject.batches, partial(show, title)))
            for title, network in zip(titles, subject.networks, strict=True)
        ]
    document = _document(request, subject, paths, [one for _, one in made])
    files = _write(document, made, out)
    if as_json:
        print_json(document)
    else:
        print_facts([*((title, _words(one)) for title, one in made), *(("written", str(file)) for file in files)])


class Batches:
    """The first `count` samples in batches, normalised anew each time they are gone through: memory holds bytes."""

    def __init__(self, arrays: DeviceArrays, count: int) -> None:
        self._arrays, self.count = arrays, min(count, len(arrays))

    def __iter__(self) -> Iterator[Batch]:
        import torch

        from sugarsearch.training.trainer import SCORING_BATCH

        arrays = self._arrays
        for indices in torch.split(torch.arange(self.count, device=arrays.device), SCORING_BATCH):
            yield arrays.batch(indices), arrays.labels[indices]


@dataclass(frozen=True)
class Subject:
    """What is evaluated: networks, and samples for each point; on `device`."""

    networks: list[nn.Module]
    batches: Batches
    device: torch.device


def _opened(request: LandscapeRequest, paths: Sequence[Path], out: Path) -> Subject:
    from sugarsearch.cli.opened import plain_network, read_weights
    from sugarsearch.runs.training import open_data

    states = [read_weights(path) for path in paths]
    _refuse_equal(paths)
    _refuse_unwritable(out)
    recipe = request.recipe
    data = open_data(recipe, request.execution)  # as it was opened in training, so it is normalised in the same way
    arrays = data.train if request.split == "train" else data.validation
    networks = [
        plain_network(path, state, recipe.model, arrays.shape, arrays.classes, data.device)
        for path, state in zip(paths, states, strict=True)
    ]
    # A split lies in random order, each class by its share: its head is a fair sample.
    return Subject(networks, Batches(arrays, request.samples), data.device)


def _evaluated(
    request: LandscapeRequest, network: nn.Module, batches: Batches, progress: Callable[[int], None]
) -> Landscape:
    from sugarsearch.analysis.landscape import landscape as evaluate

    return evaluate(
        network,
        batches,
        points=request.points,
        reach=request.reach,
        seed=request.seed,
        normalise=request.normalise,
        progress=progress,
    )


def _document(
    request: LandscapeRequest, subject: Subject, paths: Sequence[Path], made: Sequence[Landscape]
) -> dict[str, Any]:
    from sugarsearch.evaluation.bench import device_name, versions

    return {
        "settings": request.model_dump(mode="json", exclude={"recipe": {"epochs"}}, exclude_unset=True),
        "versions": dict(versions()),
        "device": device_name(subject.device),
        "samples": subject.batches.count,
        "networks": [{"weights": str(path), **one.to_json()} for path, one in zip(paths, made, strict=True)],
    }


def _write(document: dict[str, Any], made: Sequence[tuple[str, Landscape]], out: Path) -> list[Path]:
    from sugarsearch.report.landscape import contour_figure, surface_figure
    from sugarsearch.report.style import save
    from sugarsearch.runs.results import write_atomically

    pictures = {CONTOUR: contour_figure(made), SURFACE: surface_figure(made)}
    write_atomically(out / NUMBERS, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return [out / NUMBERS, *(save(figure, out / name) for name, figure in pictures.items())]


def _words(made: Landscape) -> str:
    import numpy as np

    loss, accuracy = made.centre
    finite = made.losses[np.isfinite(made.losses)]
    gaps = f", {made.losses.size - finite.size} points not finite" if finite.size < made.losses.size else ""
    extent = f"; on the plane {finite.min():.4g} to {finite.max():.4g}" if finite.size else ""
    return f"loss {loss:.4g}, accuracy {100 * accuracy:.1f} %{extent}{gaps}"


def _titles(paths: Sequence[Path]) -> list[str]:
    """File names without their ends; whole paths where those are the same."""
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]


@contextmanager
def _shown(console: Console, rows: int) -> Iterator[Callable[[str, int], None]]:
    """Takes a network's title and its rows that are done: a bar on a terminal, elsewhere a line for each row."""
    if not console.is_terminal:
        yield lambda title, done: console.print(
            f"{title}: row {done} of {rows}", markup=False, highlight=False, soft_wrap=True
        )
        return
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def show(title: str, done: int) -> None:
            if title not in tasks:
                tasks[title] = bar.add_task(escape(title), total=rows)
            bar.update(tasks[title], completed=done)

        yield show


def _refuse_equal(paths: Sequence[Path]) -> None:
    from sugarsearch.errors import UsageError

    first, last = paths[0], paths[-1]
    if len(paths) > 1 and filecmp.cmp(first, last, shallow=False):
        raise UsageError(
            f"weights {str(first)!r} and {str(last)!r} are the same; give one of them, or two that differ."
        )


def _refuse_unwritable(out: Path) -> None:
    """By writing where the folder is or will be: rights alone do not tell, and the grid may take hours."""
    from sugarsearch.errors import UsageError

    try:
        home = next(place for place in (out, *out.parents) if place.exists())
        with tempfile.TemporaryFile(dir=home):
            pass
        for name in (NUMBERS, CONTOUR, SURFACE):
            if (out / name).is_dir():
                raise IsADirectoryError(None, f"{name} is a folder there")
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written to ({error.strerror}); give another folder.") from None
