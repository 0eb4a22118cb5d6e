"""The verdict and its tables, for the terminal (at most 100 columns) and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from rich.table import Table

from sugarsearch.report.text import duration, percent, rounded, shorten
from sugarsearch.runs.results import StudyResult, counts
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.judgement import Comparison, signed
from sugarsearch.verdict.pairs import Pair
from sugarsearch.verdict.table import Arm, FinalTable

SCREENING_ROWS = 10
TITLE_WIDTH = 26
FORMULA_WIDTH = 12  # at least, however narrow the terminal is

_AGAINST: Final = {"relu": "tuned ReLU", "unit": "itself at unit gain", "random": "a random g of its gain"}


def title_of(arm: Arm) -> str:
    """What an arm is called beside the others; for tables of versions that did not say, made from its role."""
    if arm.title:
        return arm.title
    if arm.role != "finalist":
        return arm.label
    name = Surrogate.from_json(arm.surrogate).name
    return f"found: {arm.label}" if name else "best found"


def screen(result: StudyResult, table: FinalTable | None, width: int = 100) -> list[str | Table]:
    """What a search ends with: first the verdict, then the tables behind it, then optimism and cautions."""
    parts: list[str | Table] = []
    if table is not None:
        for said in said_of(table):
            parts += ["", *(line for text in said for line in textwrap.wrap(text, width))]
        parts += ["", final_terminal(table, width), ""]
        for head, rows in (comparisons(table), pairs(table)):
            parts += [_plain(head, rows), ""] if rows else []
    if result.is_search:
        parts.append(screening_line(result))
    if result.note:
        parts.append(result.note)
    if result.is_of_family and result.ranking:
        parts.append(f"best in screening: {result.ranking[0].label}, {percent(result.ranking[0].score)} %")
    return [*parts, *(final_lines(table) if table else ())]


def said_of(table: FinalTable) -> list[list[str]]:
    """Of each finalist its sentence and what that means; without a verdict the one line that says why."""
    return [[verdict.sentence, verdict.explanation] for verdict in table.verdicts] or [[table.winner]]


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


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first two columns are names."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(head):
        shown.add_column(name, justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(shorten(name, TITLE_WIDTH) for name in row[:2]), *row[2:])
    return shown


def comparisons(table: FinalTable) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the comparisons behind the verdict; intervals and p are corrected for their number."""
    rows = [(*opponents(table, item, _AGAINST[item.control]), *_measured(item)) for item in table.comparisons]
    return _DIFFERENCES, rows


def opponents(table: FinalTable, item: Comparison, against: str = "") -> tuple[str, str]:
    """What finalist and control (or `against`) are called; with the learning rate, where it is not their best."""
    arms = {arm.label: arm for arm in table.rows}

    def name(label: str, rate: float, given: str) -> str:
        arm = arms.get(label)
        title = given or (title_of(arm) if arm else label)
        return title if arm is None or arm.learning_rate == rate else f"{title}, lr {rate:g}"

    return name(item.arm, item.rate, ""), name(item.against, item.against_rate, against)


def pairs(table: FinalTable) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the further comparisons, corrected for their number."""
    titles = {arm.label: title_of(arm) for arm in table.rows}
    return _DIFFERENCES, [(titles[pair.first], titles[pair.second], *_measured(pair)) for pair in table.pairs]


_DIFFERENCES: Final = "surrogate", "against", "points", "interval", "p", "n", "paired"


def _measured(item: Comparison | Pair) -> tuple[str, ...]:
    return (
        signed(item.mean),
        f"{signed(item.low)} to {signed(item.high)}",
        f"{item.p_holm:.2g}" if item.p_holm >= 1e-3 else "< 0.001",
        str(item.n),
        "yes" if item.paired else "no",
    )


def final_lines(table: FinalTable) -> list[str]:
    """What belongs below the tables: how they were scored, the formulas found in full, optimism and cautions."""
    found = [f"{title_of(arm)}: g(x) = {arm.formula}" for arm in table.rows if arm.role == "finalist"]
    return [scoring(table), *found, *optimism_lines(table), *cautions(table)]


def optimism_lines(table: FinalTable) -> list[str]:
    """What became of the lead that the re-run promised; none where nothing was promised."""
    made = table.optimism
    if made is None:
        return []
    spread = f", {made.sd:+.1f} sd of a run" if made.sd is not None else ""
    return [
        f"optimism: the re-run promised {signed(made.promised)} points over ReLU, the final runs show "
        f"{signed(made.shown)}: {made.points:+.1f} points{spread}"
    ]


def cautions(table: FinalTable) -> list[str]:
    """What a reader must know of single arms before believing the table."""
    missing = [f"{title_of(arm)}: {arm.faults} runs left out, the machine failed" for arm in table.rows if arm.faults]
    ends = [
        f"{title_of(arm)}: its best learning rate, {arm.learning_rate:g}, is the {arm.sweep_end} of the sweep; "
        "a wider sweep may raise it"
        for arm in table.rows
        if arm.sweep_end
    ]
    controls = {item.control for item in table.comparisons}
    lonely = ["no random g of the same gain is compared with: there is no search space, or none was found in it"]
    return missing + ends + (lonely if controls and "random" not in controls else [])


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
        f"{recipe['model']['name']} on {recipe['data']['name']}, {recipe['epochs']} epochs."
        + (f" {screening_line(result)}." if result.is_search else ""),
    ]
    if result.note:
        parts.append(f"**{result.note}**")
    if table is not None:
        for sentence, *meaning in said_of(table):
            parts += [f"**{sentence}**", *meaning]
        head = "surrogate", "mean %", "sd", "collapsed %", "n", "best lr", "gain", "g(0)", "against ReLU", "g(x)"
        rows = [(title_of(arm), *_numbers(arm), _difference(arm), f"`{arm.formula}`") for arm in table.rows]
        parts += ["## Final table", _grid(head, rows), scoring(table)]
        if table.verdicts:
            parts += ["## What the verdict rests on", _grid(*comparisons(table)), _CORRECTED]
        if table.pairs:
            parts += ["## Further comparisons", _grid(*pairs(table))]
        parts += [*optimism_lines(table), *cautions(table)]
    parts += [f"![{name}]({name})" for name in pictures]
    if result.ranking:
        parts += ["## Best of the screening", _screening(result)]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    parts.append(f"Run on {result.device}; {versions}.")
    return "\n\n".join(parts) + "\n"


_CORRECTED: Final = (
    "Differences in points; intervals (95 %) and p by Holm's correction over these comparisons. Against ReLU in the "
    "table above: each arm by itself, not corrected."
)


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
        f"Accuracy on the {table.scored_on} split, on seeds used for nothing else, each arm at its own best "
        f"learning rate; a run counts as collapsed at or below {percent(table.collapse_below, 0)} %."
    )


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # A | inside a formula would end the cell.
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells))
