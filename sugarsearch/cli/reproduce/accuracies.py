"""Reproduces a table of accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sugarsearch.cli.common import print_json, print_sheet, progress_console, result_console
from sugarsearch.cli.reproduce.asked import Asked
from sugarsearch.cli.reproduce.output import print_end
from sugarsearch.errors import NothingFinishedError

if TYPE_CHECKING:
    from sugarsearch.config.accuracy_table import AccuracyBaseline
    from sugarsearch.reproduction.accuracy.cells import Cell
    from sugarsearch.reproduction.accuracy.comparison import Accuracy
    from sugarsearch.reproduction.accuracy.run import Progress, Runs


def run(config: AccuracyBaseline, asked: Asked) -> None:
    """Train what is asked for and not known yet, and show all that is known."""
    from sugarsearch.reproduction.accuracy.cells import Choice, chosen
    from sugarsearch.reproduction.accuracy.run import Runs

    choice = Choice(
        asked.words("--model"),
        asked.words("--surrogate"),
        asked.words("--arm"),
        asked.numbers("--lr"),
        asked.words("--cell"),
    )
    seeds, cells = asked.seeds("--seeds") or config.seeds, chosen(config, choice)
    runs = Runs(asked.folder) if asked.show else _train(cells, seeds, asked)
    _show(config, runs, asked)


def _train(cells: Sequence[Cell], seeds: Sequence[int], asked: Asked) -> Runs:
    from sugarsearch.cli.signals import stoppable
    from sugarsearch.reproduction.accuracy.run import reproduce
    from sugarsearch.runs.folder import held

    with held(asked.folder), stoppable() as stop:
        runs = reproduce(cells, seeds, asked.folder, _say, stop)
    if not any(runs.of(cell, seed) for cell in cells for seed in seeds):
        raise NothingFinishedError(f"no run has ended well; {runs.log.path} has the reason of each.")
    return runs


def _say(progress: Progress) -> None:
    from sugarsearch.evaluation.records import Status
    from sugarsearch.report.text import duration, percent

    record = progress.record
    ended = (
        f"{percent(record.value, 2)} %" if record.status is Status.COMPLETED else f"{record.status}: {record.reason}"
    )
    progress_console().print(
        f"{progress.done} of {progress.total}: {progress.cell.name}, seed {record.job.seed}: {ended}, "
        f"{duration(record.seconds)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _show(config: AccuracyBaseline, runs: Runs, asked: Asked) -> None:
    from sugarsearch.report.accuracies import CELLS, said, sheets_of, shown_cells, write
    from sugarsearch.reproduction.accuracy.comparison import accuracy, findings

    files = write(config, asked.title, runs, asked.folder)
    if asked.as_json:
        cells = shown_cells(config, runs)
        print_json(
            {
                "title": asked.title,
                "cells": [_json(cell, accuracy(cell, runs)) for cell in cells],
                "claims": [vars(finding) for finding in findings(config, cells, runs)],
                "cautions": said(config, runs),
                "results": str(runs.log.path),
            }
        )
        return
    if not asked.pictures:
        result_console().print(asked.title, markup=False, highlight=False)
        for sheet in sheets_of(config, runs):
            if sheet.name != CELLS:  # long; it stands in table.md
                print_sheet(sheet)
    print_end(said(config, runs), runs.log.path, files, asked.pictures)


def _json(cell: Cell, found: Accuracy) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "model": cell.model_name,
        "row": cell.row_name,
        "arm": cell.arm,
        "learning_rate": cell.learning_rate,
        "printed": found.printed,
        "printed_runs": found.printed_runs if found.printed else None,
        "mean": found.mean,
        "sd": found.sd,
        "interval": found.interval,
        "scores": {str(seed): score for seed, score in found.scores.items()},
        "difference": found.difference,
        "words": found.words,
    }
