"""The final table, for the terminal (at most 100 columns) and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sugarsearch.report.text import duration, percent, rounded, shorten
from sugarsearch.search.results import StudyResult, counts
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.final import Arm, FinalTable

SCREENING_ROWS = 10
TITLE_WIDTH = 26
FORMULA_WIDTH = 12  # at least, however narrow the terminal is


def title_of(arm: Arm) -> str:
    """What an arm is called beside the others; for tables of versions that did not say, made from its role."""
    if arm.title:
        return arm.title
    if arm.role != "finalist":
        return arm.label
    name = Surrogate.from_json(arm.surrogate).name
    return f"found: {arm.label}" if name else "best found"


def final_terminal(table: FinalTable, width: int = 100) -> Table:
    """The final table in `width` columns, best mean first; formulas are rounded and shortened to the room left."""
    head = "surrogate", "mean %", "sd", "collapsed %", "n", "best lr", "gain", "g(0)"
    rows = [(shorten(title_of(arm), TITLE_WIDTH), *_numbers(arm)) for arm in table.rows]
    columns = list(zip(head, *rows, strict=True))
    room = width - sum(max(map(len, column)) + 2 for column in columns)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(head):
        shown.add_column(name, justify="right" if index else "left", no_wrap=True)
    shown.add_column("g(x)", no_wrap=True)
    for row, arm in zip(rows, table.rows, strict=True):
        shown.add_row(*row, shorten(arm.formula, max(room, FORMULA_WIDTH)))
    return shown


def final_lines(table: FinalTable) -> list[str]:
    """What belongs below the table: how it was scored, the formulas found in full, who won, and what is missing."""
    found = [f"found: g(x) = {arm.formula}" for arm in table.rows if arm.role == "finalist"]
    return [scoring(table), *found, *cautions(table), table.winner]


def cautions(table: FinalTable) -> list[str]:
    """What a reader must know of single arms before believing the table."""
    missing = [f"{title_of(arm)}: {arm.faults} runs left out, the machine failed" for arm in table.rows if arm.faults]
    ends = [
        f"{title_of(arm)}: its best learning rate, {arm.learning_rate:g}, is the {arm.sweep_end} of the sweep; "
        "a wider sweep may raise it"
        for arm in table.rows
        if arm.sweep_end
    ]
    return missing + ends


def screening_line(result: StudyResult) -> str:
    """How the candidates of the screening ended, in one line."""
    ended = ", ".join(
        f"{number} {status.lower().replace('_', ' ')}" for status, number in counts(result.screening).items()
    )
    # Over all sittings, unlike the result's own time, so that a report rebuilt later reads the same.
    training = duration(sum(row.seconds for row in result.screening))
    return f"{len(result.screening)} candidates: {ended or 'none'}; {training} of training"


def markdown(result: StudyResult, table: FinalTable | None, pictures: Sequence[str]) -> str:
    """The study's tables as Markdown, with full formulas; `pictures` are paths relative to the file."""
    recipe = result.config["recipe"]
    parts = [
        f"# {result.study}",
        f"{recipe['model']['name']} on {recipe['data']['name']}, {recipe['epochs']} epochs. {screening_line(result)}.",
    ]
    if result.note:
        parts.append(f"**{result.note}**")
    if table is not None:
        head = "surrogate", "mean %", "sd", "collapsed %", "n", "best lr", "gain", "g(0)", "against ReLU", "g(x)"
        rows = [(title_of(arm), *_numbers(arm), _difference(arm), f"`{arm.formula}`") for arm in table.rows]
        parts += ["## Final table", _grid(head, rows), scoring(table), *cautions(table), f"**{table.winner}**"]
    parts += [f"![{name}]({name})" for name in pictures]
    if result.ranking:
        parts += ["## Best of the screening", _screening(result)]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    parts.append(f"Run on {result.device}; {versions}.")
    return "\n\n".join(parts) + "\n"


def _screening(result: StudyResult) -> str:
    head = "rank", "candidate", "validation %", "best lr", "gain", "g(0)", "g(x)"
    rows = [
        (
            str(rank),
            str(row.index),
            percent(row.score),
            f"{row.best_learning_rate:g}",
            f"{row.gain:.2f}",
            f"{row.at_zero:.3g}",
            f"`{rounded(row.restore().formula, 6)}`",
        )
        for rank, row in enumerate(result.ranking[:SCREENING_ROWS], start=1)
    ]
    return _grid(head, rows)


def _numbers(arm: Arm) -> tuple[str, ...]:
    summary = arm.summary
    return (
        percent(summary.mean),
        percent(summary.sd),
        percent(summary.collapse_share, 0),
        str(summary.n),
        f"{arm.learning_rate:g}",
        f"{arm.gain:.2f}",
        f"{arm.at_zero:.3g}",
    )


def _difference(arm: Arm) -> str:
    if arm.difference is None:
        return ""
    mean, low, high = (
        f"{100 * value:+.1f}" for value in (arm.difference.mean, arm.difference.low, arm.difference.high)
    )
    return f"{mean} ({low} to {high})"


def scoring(table: FinalTable) -> str:
    return (
        f"Accuracy on the {table.scored_on} split, on seeds that the search never used, each arm at its own best "
        f"learning rate; a run counts as collapsed at or below {percent(table.collapse_below, 0)} %."
    )


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # A | inside a formula would end the cell.
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells))
