"""Reproduces a baseline of deep narrow nets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sugarsearch.cli.common import print_json, print_sheet, progress_console, result_console
from sugarsearch.cli.reproduce.asked import Asked
from sugarsearch.cli.reproduce.output import print_end

if TYPE_CHECKING:
    from rich.console import Console

    from sugarsearch.config.narrow_nets import NarrowNetsBaseline
    from sugarsearch.reproduction.narrow.cells import Cell
    from sugarsearch.reproduction.narrow.results import Results
    from sugarsearch.reproduction.narrow.run import Progress


def run(config: NarrowNetsBaseline, asked: Asked, runs: int | None) -> None:
    """Train what is asked for and not known yet, and show all that is known."""
    from sugarsearch.reproduction.narrow.cells import cells_of, chosen
    from sugarsearch.reproduction.narrow.results import Results

    wanted = chosen(config, asked.words("--cell"))
    results = Results(asked.folder) if asked.show else _train(wanted, runs or config.runs, asked.folder, asked.device)
    _show([cell for cell in cells_of(config) if cell.printed or results.of(cell)], results, asked)


def _train(cells: Sequence[Cell], runs: int, folder: Path, device: str) -> Results:
    from sugarsearch.cli.signals import stoppable
    from sugarsearch.reproduction.narrow.run import reproduce
    from sugarsearch.runs.folder import held

    with held(folder), stoppable() as stop, _shown(progress_console()) as show:
        return reproduce(cells, runs, folder, device, show, stop)


def _show(cells: Sequence[Cell], results: Results, asked: Asked) -> None:
    from sugarsearch.report.narrow import runs_sheet, shares_sheet, write
    from sugarsearch.reproduction.narrow.comparison import cautions, shares

    files = write(asked.title, cells, results.cells, asked.folder)
    said = cautions(cells, [results.of(cell) for cell in cells])
    if asked.as_json:
        found = [dataclasses.asdict(share) for cell in cells for share in shares(cell, results.of(cell))]
        print_json({"title": asked.title, "shares": found, "cautions": said, "results": str(results.path)})
        return
    if not asked.pictures:
        result_console().print(asked.title, markup=False, highlight=False)
        print_sheet(shares_sheet(cells, results.cells))
        print_sheet(runs_sheet(cells, results.cells))
    print_end(said, results.path, files, asked.pictures)


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
