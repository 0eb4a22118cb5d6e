"""What became of surrogates on other data and models: one table over several comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sugarsearch.report.sheets import Cell, Column, Sheet, difference_columns
from sugarsearch.report.tables import title_of
from sugarsearch.report.writers import WRITERS
from sugarsearch.runs.results import StudyResult, write_atomically

NAME: Final = "transfer"


def transfer_sheet(results: Mapping[str, StudyResult]) -> Sheet:
    """Each surrogate's difference to tuned ReLU in each setting, and what may be said of it there.

    results: by what the settings are called. Intervals are corrected within a setting, not over settings.
    """
    rows: list[list[Cell]] = []
    for setting, result in results.items():
        table = result.table
        titles = {} if table is None else {arm.label: title_of(arm) for arm in table.rows}
        for verdict in () if table is None else table.verdicts:
            against = verdict.comparisons[0]
            measured = against.mean, (against.low, against.high), against.n
            rows.append([setting, titles[verdict.finalist], *measured, verdict.phrase])
    points, interval, seeds = difference_columns()
    columns = (
        Column("setting", "where"),
        Column("surrogate", "surrogate"),
        *(points, interval, seeds),
        Column("verdict", "verdict"),
    )
    return Sheet(NAME, "Against tuned ReLU, by data and model", columns, rows)


def write_transfer(sheet: Sheet, folder: Path) -> list[Path]:
    """The table as CSV, Markdown and LaTeX in `folder`; gives the files."""
    files = {folder / f"{sheet.name}.{end}": write(sheet) for end, write in WRITERS.items()}
    for path, text in files.items():
        write_atomically(path, text)
    return list(files)
