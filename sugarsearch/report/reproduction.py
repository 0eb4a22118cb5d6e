"""Writes what a reproduction found: table.md with its pictures, and every table and picture as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from sugarsearch.report import style
from sugarsearch.report.build import FIGURES, TABLE, TABLES
from sugarsearch.report.sheets import Sheet
from sugarsearch.report.writers import WRITERS, as_markdown
from sugarsearch.runs.results import write_atomically


def write_tables(
    title: str, sheets: Sequence[Sheet], notes: Sequence[str], pictures: Mapping[str, Figure], folder: Path
) -> list[Path]:
    """Write table.md, tables/ and figures/ into `folder`; gives the files, table.md first.

    Raises:
        RunError: one of them cannot be written.
    """
    drawn = {f"{FIGURES}/{name}.png": figure for name, figure in pictures.items()}
    parts = [
        f"# {title}",
        *(as_markdown(sheet).rstrip() for sheet in sheets),
        "\n".join(f"- {note}" for note in notes),
        "\n".join(f"![{Path(name).stem}]({name})" for name in drawn),
    ]
    texts = {
        TABLE: "\n\n".join(part for part in parts if part) + "\n",
        **{f"{TABLES}/{sheet.name}.{end}": form(sheet) for sheet in sheets for end, form in WRITERS.items()},
    }
    for name, content in texts.items():
        write_atomically(folder / name, content)
    for name, figure in drawn.items():
        style.save(figure, folder / name)
    return [folder / name for name in (*texts, *drawn)]
