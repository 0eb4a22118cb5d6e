"""The command reproduce: a baseline's numbers beside the printed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sugarsearch.cli.common import (
    Device,
    Json,
    Set,
    print_facts,
    print_json,
    print_sheet,
    progress_console,
    result_console,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sugarsearch.reproduction.cells import Cell
    from sugarsearch.reproduction.reproduce import Progress
    from sugarsearch.reproduction.results import Results


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
        typer.Option("--cell", metavar="TARGET/ARM", help="Only these cells; * stands for any. May be repeated."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", min=1, max=100_000, help="Of each cell; by default what the baseline says.")
    ] = None,
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

    Later calls add cells and runs to `results.jsonl`: run k is the same however many are asked for, and what is there
    is not run again. Ctrl-C keeps the cells that are finished. The tables hold all that is known, and "not run" for
    what the paper has beside it. OMP_NUM_THREADS=1 leaves the other cores alone.
    """
    if baseline is None:
        _list()
        return
    from sugarsearch.reproduction.cells import cells_of, chosen
    from sugarsearch.reproduction.reproduce import load

    config = load(baseline, overrides or ())
    wanted = chosen(config, cells or ())
    folder = out or Path("runs") / config.name
    results = _run(wanted, runs or config.runs, folder, device)
    known = [cell for cell in cells_of(config) if cell.printed or results.of(cell)]
    changed = f" (with {', '.join(overrides)})" if overrides else ""
    _show(f"{config.source}{changed}", known, results, folder, as_json)


def _list() -> None:
    from sugarsearch.config import loader
    from sugarsearch.reproduction.reproduce import load

    print_facts([(name, load(name).source) for name in loader.shipped("baselines")])


def _run(cells: Sequence[Cell], runs: int, folder: Path, device: str) -> Results:
    from sugarsearch.cli.signals import stoppable
    from sugarsearch.reproduction.reproduce import reproduce as run_cells
    from sugarsearch.runs.folder import held

    with held(folder), stoppable() as stop, _shown(progress_console()) as show:
        return run_cells(cells, runs, folder, device, show, stop)


def _show(title: str, cells: Sequence[Cell], results: Results, folder: Path, as_json: bool) -> None:
    from sugarsearch.report.reproduction import runs_sheet, shares_sheet, write
    from sugarsearch.reproduction.comparison import cautions, shares

    files = write(title, cells, results.cells, folder)
    said = cautions(cells, [results.of(cell) for cell in cells])
    if as_json:
        found = [dataclasses.asdict(share) for cell in cells for share in shares(cell, results.of(cell))]
        print_json({"title": title, "shares": found, "cautions": said, "results": str(results.path)})
        return
    print_sheet(shares_sheet(title, cells, results.cells))
    print_sheet(runs_sheet(cells, results.cells))
    console = result_console()
    console.print()
    for line in said:
        console.print(f"- {line}", markup=False, highlight=False)
    console.print(f"written: {results.path}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {files[0]}, figures, tables", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Progress as a bar on a terminal; elsewhere a line when a cell begins."""
    if not console.is_terminal:
        yield lambda progress: _say_beginning(console, progress)
        return
    from rich.progress import Progress as Bar

    with Bar(console=console) as bar:
        task = bar.add_task("")
        yield lambda progress: bar.update(
            task, description=_what(progress), completed=progress.epoch, total=progress.epochs
        )


def _say_beginning(console: Console, progress: Progress) -> None:
    if progress.epoch == 0:
        console.print(_what(progress), markup=False, highlight=False, soft_wrap=True)


def _what(progress: Progress) -> str:
    return f"{progress.cell.name}: runs {progress.first} to {progress.stop - 1}"
