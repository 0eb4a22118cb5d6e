"""Tables as files: full precision in CSV, and text from outside that can break neither Markdown nor LaTeX."""

from __future__ import annotations

import csv
import io
import re

import pytest

from sugarsearch.report.sheets import Column, Sheet
from sugarsearch.report.text import percent
from sugarsearch.report.writers import WRITERS, as_csv, as_latex, as_markdown
from sugarsearch.symbolic.library import surrogate

HOSTILE = '50 % of_{x} | <b>&\\ ~^ #1 $x$\nand a second line, "quoted"'
G = surrogate("abs(x)*step(x)/3")
SHEET = Sheet(
    "mine",
    "A table",
    (
        Column("name", "name"),
        Column("mean", "mean %", "number", percent),
        Column("mean", "95 %", "number", percent, ("low", "high")),
        Column("formula", "g(x)", "formula"),
    ),
    [(HOSTILE, 0.1234567890123, (0.1, 1 / 3), G), ("", None, None, None)],
)


def test_csv_holds_every_value_as_it_is() -> None:
    head, first, second = csv.reader(io.StringIO(as_csv(SHEET)))
    assert head == ["name", "mean", "mean_low", "mean_high", "formula"]
    assert first[0] == HOSTILE
    assert [float(text) for text in first[1:4]] == [0.1234567890123, 0.1, 1 / 3]
    assert surrogate(first[4]).identity == G.identity
    assert second == [""] * 5


def test_markdown_keeps_its_columns_whatever_the_cells_hold() -> None:
    title, _, *lines = as_markdown(SHEET).splitlines()
    assert title == "**A table**"
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {6}
    assert "| 12.3 | 10.0 to 33.3 |" in lines[2]


def test_latex_is_escaped_and_its_formulas_are_mathematics() -> None:
    text = as_latex(SHEET)
    lines = text.splitlines()
    assert lines[1] == r"\begin{tabular}{lrrl}"
    body = [line for line in lines if line.endswith(r"\\")]
    assert len(body) == 3
    for line in body:
        assert len(re.findall(r"(?<!\\)\$", line)) in (0, 2)
        words = re.sub(r"(?<!\\)\$.*(?<!\\)\$", "", line)  # mathematics has alignments of its own
        assert len(re.findall(r"(?<!\\)&", words)) == 3
    assert f"${G.latex()}$" in body[1]
    assert (
        r"50 \% of\_\{x\} | \textless{}b\textgreater{}\&\textbackslash{} \textasciitilde{}\textasciicircum{} \#1"
        in body[1]
    )
    assert not re.search(r"(?<!\\)[%#](?!.*Needs)", "\n".join(lines[1:]))


@pytest.mark.parametrize("end", WRITERS)
def test_a_table_without_rows_still_has_its_head(end: str) -> None:
    empty = Sheet("mine", "A table", SHEET.columns, [])
    assert "name" in WRITERS[end](empty)
