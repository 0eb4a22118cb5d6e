"""Writes a run's report, all from its results: report.html, table.md, figures/ and tables/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from matplotlib.figure import Figure

from sugarsearch.report import charts, figures, tables
from sugarsearch.report.html import page
from sugarsearch.report.sheets import sheets_of
from sugarsearch.report.style import save
from sugarsearch.report.text import rounded
from sugarsearch.report.writers import WRITERS
from sugarsearch.runs.results import StudyResult, write_atomically
from sugarsearch.search.importance import importances
from sugarsearch.symbolic.library import family, surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.table import Arm, FinalTable

PAGE, TABLE, FIGURES, TABLES = "report.html", "table.md", "figures", "tables"


def write_report(result: StudyResult, folder: Path) -> list[Path]:
    """Draw the pictures and write the tables of `result` into `folder`, replacing what is there.

    Returns:
        The files written: report.html, table.md, then every picture as PNG and SVG and every table as CSV,
        Markdown and LaTeX.
    """
    table, shares = result.table, importances(result)
    drawn, sheets = _pictures(result, table, shares), sheets_of(result, table, shares)
    texts = {
        PAGE: page(result, table, drawn, sheets),
        TABLE: tables.markdown(result, table, [f"{FIGURES}/{name}.png" for name in drawn]),
        **{f"{TABLES}/{name}.{end}": write(sheet) for name, sheet in sheets.items() for end, write in WRITERS.items()},
    }
    pictures = {f"{FIGURES}/{name}.{end}": figure for name, figure in drawn.items() for end in ("png", "svg")}
    _remove_others(folder, {*texts, *pictures})
    for name, figure in pictures.items():
        save(figure, folder / name)
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in (PAGE, TABLE, *pictures, *(name for name in texts if name.startswith(TABLES)))]


def _remove_others(folder: Path, kept: Set[str]) -> None:
    """What an earlier report had and this one has not, such as a table of failures, must not pass for a part of it."""
    for left in (path for name in (FIGURES, TABLES) for path in (folder / name).glob("[!.]*")):
        if left.relative_to(folder).as_posix() not in kept:
            left.unlink()


def written(files: Sequence[Path]) -> list[str]:
    """Where the files of `write_report` are, in a few lines for people."""
    folder, counted = files[0].parent, {FIGURES: "pictures as PNG and SVG", TABLES: "tables as CSV, Markdown and LaTeX"}
    lines = [f"written: {path}" for path in files if path.parent == folder]
    for name, what in counted.items():
        count = len({path.stem for path in files if path.parent.name == name})
        lines.append(f"written: {folder / name}: {count} {what}")
    return lines


def _pictures(result: StudyResult, table: FinalTable | None, shares: Mapping[str, float]) -> dict[str, Figure]:
    pictures: dict[str, Figure] = {}
    if table is not None:
        pictures |= _pictures_of_arms(table, result.activity)
    elif result.ranking:
        best = result.ranking[0]
        curves = [("", f"best so far: {best.label}", best.restore()), ("relu", "relu", surrogate("relu"))]
        pictures["surrogates"] = figures.curves_figure(curves)
    if result.screening:
        pictures["screening"] = figures.screening_figure(result.screening)
    if result.ranking and not result.is_of_family:  # whose members are all of one size
        pictures["complexity"] = charts.complexity_figure(result.screening)
    tuned = _tuned(result)
    if tuned is not None:
        pictures["parameters"] = tuned
    if shares:
        pictures["importances"] = charts.importance_figure(shares)
    return pictures


def _pictures_of_arms(table: FinalTable, activity: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Figure]:
    # The found ones first: they get the leading colour, also where one is a named surrogate.
    order = sorted(range(len(table.rows)), key=lambda index: table.rows[index].role != "finalist")
    arms = [table.rows[index] for index in order]
    restored = [Surrogate.from_json(arm.surrogate) for arm in arms]
    names = [g.name if arm.role == "control" else "" for arm, g in zip(arms, restored, strict=True)]
    titles = [_title(arm) for arm in arms]
    curves = list(zip(names, titles, restored, strict=True))
    sweeps = [{float(rate): score for rate, score in arm.tuning.items()} for arm in arms]
    runs = [list(arm.scores.values()) for arm in arms]
    pictures = {
        # An ablation trains with the g of another arm.
        "surrogates": figures.curves_figure([c for c, arm in zip(curves, arms, strict=True) if not arm.ablation]),
        "learning_rates": figures.learning_rate_figure(list(zip(names, titles, sweeps, strict=True))),
        "seeds": charts.seeds_figure(
            list(zip(names, titles, runs, strict=True)), table.collapse_below, table.scored_on
        ),
    }
    if len(activity) == len(arms) and all(course["dead_units"] for course in activity):
        dead, sparsity = ([activity[index][name] for index in order] for name in ("dead_units", "sparsity"))
        pictures["activity"] = charts.activity_figure(list(zip(names, titles, dead, sparsity, strict=True)))
    return pictures


def _title(arm: Arm) -> str:
    title = tables.title_of(arm)
    return f"{title}: {rounded(arm.formula)}" if title == "best found" else title


def _tuned(result: StudyResult) -> Figure | None:
    """The score over the parameters of the family that was tuned; None for a search of trees."""
    if not result.is_of_family:
        return None
    space = result.config["space"]
    ranges = space["parameters"]
    shape = family(space["family"], ranges).expression
    members = [row for row in result.ranking if row.restore().expression == shape]
    if not members:
        return None
    relu = next((row.score for row in result.ranking if row.restore().name == "relu"), None)
    logarithmic = [name for name, bounds in ranges.items() if bounds["log"]]
    return figures.parameter_figure(members, list(ranges), relu, logarithmic)
