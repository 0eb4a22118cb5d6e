"""Options and output that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pydantic import BaseModel

    from sugarsearch.report.sheets import Sheet
    from sugarsearch.runs.results import StudyResult

M = TypeVar("M", bound="BaseModel")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs; progress goes to stderr.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value, such as recipe.epochs=3; may be repeated."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]

PLAIN_WIDTH = 100  # columns of a table that is written to a file or a pipe


def progress_console() -> Console:
    """Where progress goes: stderr, so that `sugarsearch ... --json | jq` works."""
    return Console(stderr=True)


def result_console() -> Console:
    """Where results go: stdout."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def print_screen(result: StudyResult, further: Sequence[str] = ()) -> None:
    """What a search ends with: verdict, tables, cautions, and `further` lines."""
    from sugarsearch.report.tables import screen

    console = result_console()
    for part in [*screen(result, result.table, console.width), *further]:
        console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def print_sheet(sheet: Sheet) -> None:
    """A table of the report, on the terminal."""
    from rich.table import Table

    console = result_console()
    console.print(f"\n{sheet.title}", markup=False, highlight=False)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in sheet.columns:
        shown.add_column(column.title, justify="right" if column.kind == "number" else "left", overflow="fold")
    for row in sheet.rows:
        shown.add_row(*(column.text(value) for column, value in zip(sheet.columns, row, strict=True)))
    console.print(shown, markup=False, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout; no NaN, which JSON does not have."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns, as they stand: formulas are no markup, and long ones are not cut."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        result_console().print(f"{name:{width}}  {value}", markup=False, highlight=False, soft_wrap=True)


def configured(model: type[M], value: dict[str, Any], overrides: Sequence[str]) -> M:
    """Check what a command's options amount to, as a YAML file of the same content would be."""
    from sugarsearch.catalog import Catalogue
    from sugarsearch.config import loader, yamlfile

    document = yamlfile.Document("command line", value)
    loader.apply_overrides(document, overrides)
    return loader.check(document, model, Catalogue())
