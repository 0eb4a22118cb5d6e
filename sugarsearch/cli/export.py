"""The command export: a g to take away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sugarsearch.cli.common import Json, print_json, result_console


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("export")(export)


def export(
    given: Annotated[
        str, typer.Argument(metavar="RUN|NAME|EXPR", help="A run folder, a known surrogate, or an expression in x.")
    ],
    best: Annotated[bool, typer.Option("--best", help="The best that the run found; the default.")] = False,
    candidate: Annotated[
        int | None,
        typer.Option("--candidate", metavar="N", min=0, help="Another of the run, by its number."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to write; by default RUN/export, or export.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="STUDY", help="Whose recipe g.yaml takes; by default the run's or quickstart."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a g as files that others can use.

    - `g.py`: plain torch, which needs no sugarsearch: `from g import SugarReLU`.
    - `g.tex`: the formula.
    - `g.yaml`: a study that trains this g again beside its controls, by `sugarsearch search g.yaml`.
      `sugarsearch.surrogate("g.yaml")` reads g from it.

    Files of these names in DIR are replaced.

    Examples: `sugarsearch export runs/quickstart --best`, `sugarsearch export "sigmoid(4*x)" --to mine`
    """
    from sugarsearch.errors import UsageError
    from sugarsearch.symbolic.library import surrogate

    if best and candidate is not None:
        raise UsageError("--best and --candidate name two surrogates; give one of them.")
    is_run = os.path.isdir(given)  # noqa: PTH112 - of an expression, which may be too long for a path, this is False
    if not is_run and (best or candidate is not None):
        raise UsageError(f"--best and --candidate choose from a run, and {given!r} is no folder.")
    if not is_run:
        g = surrogate(given)  # what cannot be read is refused before the seconds that torch takes
    from sugarsearch.runs.export import DEFAULT_STUDY, export, find, study_of

    if is_run:
        found = find(Path(given), candidate)
        files = export(
            found.surrogate, to or Path(given) / "export", study=study or study_of(found.config), origin=found.origin
        )
        g = found.surrogate
    else:
        files = export(g, to or Path("export"), study=study or DEFAULT_STUDY)
    if as_json:
        print_json({"surrogate": g.to_json(), "formula": g.formula, "files": [str(path) for path in files]})
        return
    for line in (f"g(x) = {g.formula}", *(f"written: {path}" for path in files)):
        result_console().print(line, markup=False, highlight=False, soft_wrap=True)
