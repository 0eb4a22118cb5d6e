"""The tables and files of a table of accuracies: as the source prints it, with ours beside; claims; best rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.report.accuracy_figures import bars_figure, courses_figure, rates_figure
from sugarsearch.report.reproduction import write_tables
from sugarsearch.report.sheets import Cell as Value
from sugarsearch.report.sheets import Column, Sheet
from sugarsearch.report.text import duration, percent
from sugarsearch.reproduction.accuracy.cells import ARM_TITLES, Cell, cells_of
from sugarsearch.reproduction.accuracy.comparison import (
    NOT_RUN,
    Accuracy,
    accuracy,
    best_rates,
    cautions,
    courses,
    findings,
    lead_over_relu,
)
from sugarsearch.reproduction.accuracy.run import Runs

CELLS: Final = "cells"
"""The name of the table of all cells."""
_OF_PRINTED: Final = ("printed", "difference", "verdict")


def sheets_of(baseline: AccuracyBaseline, runs: Runs) -> list[Sheet]:
    """Every table that there is something for, the source's own first."""
    made = [
        *(paper_sheet(baseline, model, runs) for model in baseline.printed),
        best_sheet(baseline, runs),
        claims_sheet(baseline, runs),
        cells_sheet(baseline, runs),
    ]
    return [sheet for sheet in made if sheet.rows]


def shown_cells(baseline: AccuracyBaseline, runs: Runs) -> list[Cell]:
    """The cells with a printed number or with runs of ours."""
    return [cell for cell in cells_of(baseline) if cell.printed or runs.all_of(cell)]


def paper_sheet(baseline: AccuracyBaseline, model: str, runs: Runs) -> Sheet:
    """One model as the source prints it, mean and deviation by arm, with ours beside."""
    cells = {(cell.row_name, cell.arm): cell for cell in cells_of(baseline) if cell.model_name == model}
    arms = [arm for arm in ARM_TITLES if any((row, arm) in cells for row in baseline.rows)]
    columns = [Column("row", "surrogate")]
    for arm in arms:
        columns += [
            Column(f"{arm}_printed", f"{ARM_TITLES[arm]}: paper", "number"),
            Column(f"{arm}_ours", "ours", "number"),
        ]
    rows: list[list[Value]] = []
    for name, row in baseline.rows.items():
        values: list[Value] = []
        for arm in arms:
            cell = cells.get((name, arm))
            found = None if cell is None else accuracy(cell, runs)
            values += [_printed(found), _ours(found)]
        rows.append([row.title, *values])
    title = f"{baseline.models[model].title}: accuracy %, mean ± standard deviation"
    return Sheet(f"{baseline.name}_{model}", title, columns, rows)


def _printed(found: Accuracy | None) -> str | None:
    if found is None or found.printed is None:
        return None
    mean, sd = found.printed
    return f"{100 * mean:.2f} ± {100 * sd:.2f}"


def _ours(found: Accuracy | None) -> str | None:
    if found is None:
        return None
    if found.mean is None:
        return NOT_RUN
    spread = "" if found.sd is None else f" ± {100 * found.sd:.2f}"
    return f"{100 * found.mean:.2f}{spread} (n {len(found.scores)})"


def cells_sheet(baseline: AccuracyBaseline, runs: Runs) -> Sheet:
    """Every cell with a printed number or with runs: both, what ours lead ReLU by, the difference, what it says."""
    columns = (
        Column("cell", "cell"),
        Column("printed", "paper %", "number", _two),
        Column("ours", "ours %", "number", _two),
        Column("sd", "sd", "number", _two),
        Column("ours", "95 %", "number", _two, ("low", "high")),
        Column("n", "n", "number"),
        Column("lead", "lead over ReLU at the same rate", "number", _signed, ("low", "high")),
        Column("difference", "ours - paper", "number", _signed, ("low", "high")),
        Column("verdict", "verdict"),
        Column("seconds", "time", "number", duration),
    )
    rows: list[list[Value]] = []
    for cell in shown_cells(baseline, runs):
        found = accuracy(cell, runs)
        seconds = sum(record.seconds for record in runs.all_of(cell).values())
        printed = None if found.printed is None else found.printed[0]
        lead = lead_over_relu(cell, runs)
        measured = found.mean, found.sd, found.interval, len(found.scores) or None, lead, found.difference
        rows.append([cell.name, printed, *measured, found.words, seconds or None])
    kept = [at for at, column in enumerate(columns) if baseline.printed or column.name not in _OF_PRINTED]
    shown = [[row[at] for at in kept] for row in rows]
    return Sheet(CELLS, "Every cell; leads and differences in points", [columns[at] for at in kept], shown)


def best_sheet(baseline: AccuracyBaseline, runs: Runs) -> Sheet:
    """Where a model has several learning rates: the best of every arm, and its lead over ReLU at ReLU's best."""
    columns = (
        Column("model", "model"),
        Column("arm", "arm"),
        Column("learning_rate", "best lr", "number", _plain),
        Column("mean", "accuracy %", "number", percent),
        Column("mean", "95 %", "number", percent, ("low", "high")),
        Column("n", "n", "number"),
        Column("lead", "lead over ReLU", "number", _signed, ("low", "high")),
        Column("note", ""),
    )
    rows: list[list[Value]] = []
    for best in best_rates(cells_of(baseline), runs):
        found = best.accuracy
        note = f"{best.at_end} tried" if best.at_end else ""
        where = best.cell.model_name, best.cell.title, best.cell.learning_rate
        rows.append([*where, found.mean, found.interval, len(found.scores), best.lead, note])
    return Sheet("best_rates", "Every arm at its best learning rate; leads in points", columns, rows)


def claims_sheet(baseline: AccuracyBaseline, runs: Runs) -> Sheet:
    """What our runs say so far of what is claimed."""
    columns = (Column("claim", "claim"), Column("finding", "our runs"), Column("numbers", "numbers"))
    found = findings(baseline, cells_of(baseline), runs)
    return Sheet("claims", "What is claimed", columns, [[one.text, one.verdict, one.words] for one in found])


def said(baseline: AccuracyBaseline, runs: Runs) -> list[str]:
    """What a reader must know before believing the tables."""
    return cautions(baseline, [accuracy(cell, runs) for cell in shown_cells(baseline, runs)])


def write(baseline: AccuracyBaseline, title: str, runs: Runs, folder: Path) -> list[Path]:
    """Write table.md, tables/ and figures/ of what is known into `folder`; gives the files."""
    return write_tables(title, sheets_of(baseline, runs), said(baseline, runs), pictures(baseline, runs), folder)


def pictures(baseline: AccuracyBaseline, runs: Runs) -> dict[str, Figure]:
    """By name: accuracy_MODEL (bars), convergence_MODEL, and learning_rates_MODEL where there are several."""
    made: dict[str, Figure] = {}
    for name, model in baseline.models.items():
        cells = [cell for cell in cells_of(baseline) if cell.model_name == name and runs.all_of(cell)]
        if not cells:
            continue
        if len(model.learning_rates) > 1:
            made[f"learning_rates_{name}"] = rates_figure(model.title, _swept(cells, runs))
            continue
        made[f"accuracy_{name}"] = bars_figure(model.title, [accuracy(cell, runs) for cell in cells])
        by_arm = {arm: [cell for cell in cells if cell.arm == arm or cell.row.is_relu] for arm in ARM_TITLES}
        panels = [
            (ARM_TITLES[arm], [(cell.row_name, cell.row.title, courses(cell, runs)) for cell in those])
            for arm, those in by_arm.items()
            if any(cell.arm == arm for cell in those)
        ]
        made[f"convergence_{name}"] = courses_figure(model.title, panels)
    return made


def _swept(cells: Sequence[Cell], runs: Runs) -> list[tuple[Cell, list[Accuracy]]]:
    """The accuracies of every setting over its learning rates, under its first cell."""
    by_setting: dict[str, list[Cell]] = {}
    for cell in cells:
        by_setting.setdefault(cell.setting, []).append(cell)
    return [(those[0], [accuracy(cell, runs) for cell in those]) for those in by_setting.values()]


def _two(value: float) -> str:
    return percent(value, 2)


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _plain(value: float) -> str:
    return f"{value:g}"
