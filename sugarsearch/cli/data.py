"""Commands about data sets: data list, import, check."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sugarsearch.cli.common import Json, print_facts, print_json, result_console

if TYPE_CHECKING:
    from sugarsearch.data.manage import Summary

Root = Annotated[
    str | None,
    typer.Option("--root", help="Where data sets lie; by default $SUGARSEARCH_DATA, else ~/.cache/sugarsearch."),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    group = typer.Typer(help="Data sets at hand; a folder of images becomes a data set.", no_args_is_help=True)
    group.command("list")(list_data)
    group.command("import")(import_data)
    group.command("check")(check_data)
    app.add_typer(group, name="data")


def list_data(root: Root = None, as_json: Json = False) -> None:
    """The known and the imported data sets, and what of them is there; downloads nothing.

    Example: `sugarsearch data list`
    """
    from sugarsearch.data.manage import listing

    rows = listing(root)
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    from rich.table import Table

    table = Table("data set", "ready", "train", "test", "classes", "shape", "what it is", box=None, pad_edge=False)
    for row in rows:
        shape = "x".join(map(str, row.shape)) if row.shape else ""
        counts = ["" if value is None else f"{value:,}" for value in (row.train, row.test, row.classes)]
        table.add_row(row.name, "yes" if row.ready else "no", *counts, shape, row.description)
    result_console().print(table)


def import_data(
    path: Annotated[Path, typer.Argument(help="A folder: train/ and test/ (or val/), or the classes at once.")],
    name: Annotated[str, typer.Option("--name", help="What configurations will call it.")],
    size: Annotated[int | None, typer.Option("--size", help="Scale and cut all images to SIZE x SIZE pixels.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an imported data set of this name.")] = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Decode a tree of images, one folder for each class, into a data set.

    Example: `sugarsearch data import ~/images/flowers --name flowers --size 64`
    """
    from sugarsearch.data.manage import import_folder

    _print_summary(import_folder(path, name, root, size=size, overwrite=overwrite), as_json)


def check_data(
    name: Annotated[str, typer.Argument(help="A known or imported name, a folder, or package.module:loader.")],
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Open every part of a data set as a run would, and verify its fingerprint.

    Example: `sugarsearch data check digits`
    """
    from sugarsearch.config.objects import refuse_standard_library
    from sugarsearch.config.schema import DataConfig
    from sugarsearch.data.manage import check
    from sugarsearch.data.paths import require_utf8
    from sugarsearch.errors import UsageError

    if not name:
        raise UsageError("an empty name is no data set; `sugarsearch data list` shows those there are.")
    refuse_standard_library(name)
    require_utf8(name)
    _print_summary(check(DataConfig(name=name, root=root)), as_json)


def _print_summary(summary: Summary, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(summary))
        return
    shown = ", ".join(summary.classes[:8]) + (", ..." if len(summary.classes) > 8 else "")
    test = "none for testing" if summary.test is None else f"{summary.test:,} for testing"
    print_facts(
        [
            ("data set", summary.name),
            ("where", summary.where),
            ("images", f"{summary.train:,} to train on, {summary.validation:,} for validation, {test}"),
            ("shape", " x ".join(map(str, summary.shape))),
            ("classes", f"{len(summary.classes)}: {shown}"),
            ("images a class", f"{summary.smallest_class:,} to {summary.largest_class:,}"),
            ("fingerprint", summary.fingerprint),
        ]
    )
