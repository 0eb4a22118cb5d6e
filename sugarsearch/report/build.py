"""Writes a run's report: table.md and figures/, all from its results."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from sugarsearch.report import figures, tables
from sugarsearch.report.style import save
from sugarsearch.report.text import rounded
from sugarsearch.search.results import StudyResult, write_atomically
from sugarsearch.symbolic.library import family, surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.final import Arm, FinalTable

TABLE, FIGURES = "table.md", "figures"


def write_report(result: StudyResult, folder: Path) -> list[Path]:
    """Draw the pictures and write the tables of `result` into `folder`, replacing what is there.

    Returns:
        The files written: table.md, then the pictures.
    """
    table = final_of(result)
    pictures = [save(figure, folder / FIGURES / f"{name}.png") for name, figure in _pictures(result, table).items()]
    path = folder / TABLE
    write_atomically(path, tables.markdown(result, table, [f"{FIGURES}/{picture.name}" for picture in pictures]))
    return [path, *pictures]


def final_of(result: StudyResult) -> FinalTable | None:
    """The final table of a result, if it was made."""
    return None if result.final is None else FinalTable.from_json(result.final)


def _pictures(result: StudyResult, table: FinalTable | None) -> dict[str, Figure]:
    pictures = {}
    if table is not None:
        # The found ones first: they get the leading colour, also where one is a named surrogate.
        arms = sorted(table.rows, key=lambda arm: arm.role != "finalist")
        restored = [Surrogate.from_json(arm.surrogate) for arm in arms]
        heads = [(g.name if arm.role == "control" else "", _title(arm)) for arm, g in zip(arms, restored, strict=True)]
        sweeps = [{float(rate): score for rate, score in arm.tuning.items()} for arm in arms]
        pictures["surrogates"] = figures.curves_figure([(*head, g) for head, g in zip(heads, restored, strict=True)])
        pictures["learning_rates"] = figures.learning_rate_figure(
            [(*head, sweep) for head, sweep in zip(heads, sweeps, strict=True)]
        )
    elif result.ranking:
        best = result.ranking[0]
        curves = [("", f"best so far: {best.label}", best.restore()), ("relu", "relu", surrogate("relu"))]
        pictures["surrogates"] = figures.curves_figure(curves)
    if result.screening:
        pictures["screening"] = figures.screening_figure(result.screening)
    tuned = _tuned(result)
    if tuned is not None:
        pictures["parameters"] = tuned
    return pictures


def _title(arm: Arm) -> str:
    title = tables.title_of(arm)
    return f"{title}: {rounded(arm.formula)}" if title == "best found" else title


def _tuned(result: StudyResult) -> Figure | None:
    """The score over the parameters of the family that was tuned; None for a search of trees."""
    space = result.config["space"]
    if space["template"] != "family":
        return None
    ranges = space["parameters"]
    shape = family(space["family"], ranges).expression
    members = [row for row in result.ranking if row.restore().expression == shape]
    if not members:
        return None
    relu = next((row.score for row in result.ranking if row.restore().name == "relu"), None)
    logarithmic = [name for name, bounds in ranges.items() if bounds["log"]]
    return figures.parameter_figure(members, list(ranges), relu, logarithmic)
