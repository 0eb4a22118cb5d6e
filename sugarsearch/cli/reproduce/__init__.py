"""The command reproduce: a baseline's numbers beside the printed ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sugarsearch.cli.common import Device, Json, Set, print_facts
from sugarsearch.cli.reproduce import accuracies, figures, narrow
from sugarsearch.cli.reproduce.asked import Asked, parts

if TYPE_CHECKING:
    from sugarsearch.config.baseline import Baseline


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("reproduce")(reproduce)


def reproduce(
    baseline: Annotated[
        str | None,
        typer.Argument(
            metavar="BASELINE", help="A shipped baseline's name or a YAML file; without it they are listed."
        ),
    ] = None,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="NAME", help="Only these cells; * stands for any. May be repeated."),
    ] = None,
    models: Annotated[str | None, typer.Option("--model", metavar="A,B", help="Only these models.")] = None,
    surrogates: Annotated[str | None, typer.Option("--surrogate", metavar="A,B", help="Only these rows.")] = None,
    arms: Annotated[str | None, typer.Option("--arm", metavar="ARM", help="Only sugar, or only non_sugar.")] = None,
    rates: Annotated[str | None, typer.Option("--lr", metavar="A,B", help="Only these learning rates.")] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="1,10", help="Of a cell's runs; by default the source's.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", min=1, max=100_000, help="Of each cell, where cells have runs, not seeds.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Train nothing: the tables of what is known.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="By default runs/BASELINE.")] = None,
    device: Device = "auto",
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Run a baseline's cells; set the printed numbers and ours side by side.

    Examples:

    - `sugarsearch reproduce`: what can be reproduced
    - `sugarsearch reproduce table2_3`: the paper's deep narrow nets, 100 runs a cell
    - `sugarsearch reproduce table2_3 --cell "f1/*" --runs 1000`: f1 with all arms, also those the paper does not have
    - `sugarsearch reproduce table4 --model resnet18 --surrogate b_silu,relu --arm sugar --seeds 1,10`: four trainings
    - `sugarsearch reproduce table4 --show`: the paper's numbers, with ours as far as they are run
    - `sugarsearch reproduce figure8`: a figure of the paper
    - `sugarsearch reproduce loss_landscape --set recipe.epochs=2`: another, of two nets that are trained for it

    Later calls add to what is in the folder, and what is there is not run again: run k, and seed k, is the same
    however many are asked for. Ctrl-C keeps what is finished. The tables hold all that is known, and "not run" where
    the paper has a number and we have none. OMP_NUM_THREADS=1 leaves the other cores alone.
    """
    if baseline is None:
        _list()
        return
    from sugarsearch.config.accuracy_table import AccuracyBaseline
    from sugarsearch.config.figure import FunctionsBaseline, TrainedBaseline
    from sugarsearch.config.narrow_nets import NarrowNetsBaseline

    lists = {"--model": models, "--surrogate": surrogates, "--arm": arms, "--lr": rates, "--seeds": seeds}
    chosen = {flag: parts(flag, text) for flag, text in lists.items() if text is not None}
    chosen |= {"--cell": tuple(cells)} if cells else {}
    chosen |= {"--runs": (str(runs),)} if runs else {}
    config, pictures = _load(baseline, overrides or (), device)
    changed = f" (with {', '.join(overrides)})" if overrides else ""
    folder = out or Path("runs") / config.name
    asked = Asked(chosen, show, f"{config.source}{changed}", folder, device, pictures, as_json)
    asked.refuse_others(config.name, config.kind)
    if isinstance(config, NarrowNetsBaseline):
        narrow.run(config, asked, runs)
    elif isinstance(config, AccuracyBaseline):
        accuracies.run(config, asked)
    elif isinstance(config, TrainedBaseline):
        figures.run(config, asked)
    else:
        assert isinstance(config, FunctionsBaseline)
        figures.draw(config, asked)


def _load(name: str, overrides: Sequence[str], device: str) -> tuple[Baseline, tuple[str, ...]]:
    """The baseline to run, and the beginnings of the names of its pictures where a figure was asked for."""
    from sugarsearch.config.figure import PictureBaseline
    from sugarsearch.reproduction.load import kind_of, load

    pictures: tuple[str, ...] = ()
    if kind_of(name) == "pictures":
        figure = load(name)
        assert isinstance(figure, PictureBaseline)
        name, pictures = figure.of, figure.pictures
    has_execution = kind_of(name) in ("accuracies", "profiles", "landscapes")
    placed = [f"execution.device={device}"] if has_execution and device != "auto" else []
    return load(name, [*overrides, *placed]), pictures


def _list() -> None:
    from sugarsearch.config import loader
    from sugarsearch.reproduction.load import load

    print_facts([(name, load(name).source) for name in loader.shipped("baselines")])
