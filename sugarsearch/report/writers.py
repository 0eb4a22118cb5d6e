"""A table as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sugarsearch.report.sheets import Cell, Column, Sheet
from sugarsearch.symbolic.surrogate import Surrogate


def as_csv(sheet: Sheet) -> str:
    """With full precision; accuracies and shares from 0 to 1, an empty cell where there is no value."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([f"{column.name}{end}" for column in sheet.columns for end in _ends(column)])
    for row in sheet.rows:
        writer.writerow([part for column, value in _cells(sheet, row) for part in _parts(column, value)])
    return stream.getvalue()


def as_markdown(sheet: Sheet) -> str:
    """As people read it, with its title; formulas in full."""
    head = [column.title for column in sheet.columns]
    rule = ["---:" if column.kind == "number" else "---" for column in sheet.columns]
    body = [[_markdown(column, value) for column, value in _cells(sheet, row)] for row in sheet.rows]
    return "\n".join([f"**{sheet.title}**", "", *(f"| {' | '.join(row)} |" for row in (head, rule, *body))]) + "\n"


def as_latex(sheet: Sheet) -> str:
    """A tabular of the packages booktabs and amsmath, with formulas as mathematics."""
    kinds = "".join("r" if column.kind == "number" else "l" for column in sheet.columns)
    head = " & ".join(_escaped(column.title) for column in sheet.columns)
    body = [" & ".join(_latex(column, value) for column, value in _cells(sheet, row)) for row in sheet.rows]
    return "\n".join(
        [
            f"% {sheet.title}. Needs \\usepackage{{booktabs, amsmath}}.",
            f"\\begin{{tabular}}{{{kinds}}}",
            "\\toprule",
            f"{head} \\\\",
            "\\midrule",
            *(f"{row} \\\\" for row in body),
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


WRITERS: Mapping[str, Callable[[Sheet], str]] = MappingProxyType({"csv": as_csv, "md": as_markdown, "tex": as_latex})
"""By the end of a file's name."""


def _cells(sheet: Sheet, row: Sequence[Cell]) -> list[tuple[Column, Cell]]:
    return list(zip(sheet.columns, row, strict=True))


def _ends(column: Column) -> list[str]:
    return [f"_{end}" for end in column.ends] or [""]


def _parts(column: Column, value: Cell) -> list[str | float]:
    """`value` as it stands, in as many cells as the column has."""
    if value is None:
        return [""] * len(_ends(column))
    if isinstance(value, tuple):
        return list(value)
    return [value.formula if isinstance(value, Surrogate) else value]


def _markdown(column: Column, value: Cell) -> str:
    text = _line(column.text(value)).replace("|", "\\|")  # a | inside a formula would end the cell
    return f"`{text}`" if isinstance(value, Surrogate) else text


def _latex(column: Column, value: Cell) -> str:
    return f"${value.latex()}$" if isinstance(value, Surrogate) else _escaped(_line(column.text(value)))


def _line(text: str) -> str:
    return " ".join(text.split())


_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _escaped(text: str) -> str:
    return re.sub(r"[\\~^<>&%$#_{}]", lambda match: _SPECIAL[match.group()], text)
