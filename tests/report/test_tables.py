"""The final table and the report's files: the figures of the results, whole formulas, within 100 columns."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sugarsearch.report import build, figures, tables
from sugarsearch.runs.load import load_study
from sugarsearch.runs.results import ScreeningRow, StudyResult
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import Against
from sugarsearch.verdict.judgement import Comparison, Optimism, Verdict
from sugarsearch.verdict.statistics import Difference, Summary
from sugarsearch.verdict.table import Arm, FinalTable

FOUND = surrogate("0.123456789*sigmoid(1.23456789*x) + 0.23456789*exp(-abs(x)) + abs(x)/(1 + square(x))").at_unit_gain()
WINNER = "ReLU wins: its mean is 81.2 %; others less."


def arm(g: Surrogate, role: str, mean: float, difference: Difference | None = None) -> Arm:
    return Arm(
        label=g.label,
        role=role,
        surrogate=g.to_json(),
        formula=g.formula,
        gain=g.gain,
        at_zero=g.at_zero,
        tuning={"0.003": mean - 0.1, "0.01": mean, "0.03": mean - 0.3},
        learning_rate=0.01,
        scores={"0": mean},
        summary=Summary(100, mean, 0.0456, 0.00456, 0.27),
        difference=difference,
        faults=2 if role == "finalist" else 0,
    )


TABLE = FinalTable(
    [
        arm(surrogate("relu"), "control", 0.812),
        arm(FOUND, "finalist", 0.789, Difference(-0.023, -0.031, -0.011, 100)),
        arm(surrogate("b_silu"), "control", 0.654, Difference(-0.158, -0.2, -0.1, 100)),
    ],
    WINNER,
    "test",
    0.5,
)


def screening_row(index: int, g: Surrogate, score: float, origin: str = "sampler") -> ScreeningRow:
    rates = {"0.01": score}
    return ScreeningRow(
        index, g.label, g.to_json(), origin, "COMPLETED", score, 0.01, rates, [score], g.gain, g.at_zero, "", 1.0
    )


def result(rows: list[ScreeningRow], final: FinalTable | None, space: dict[str, Any] | None = None) -> StudyResult:
    config = load_study("quickstart").model_dump(mode="json")
    config |= {"space": {**config["space"], **(space or {})}}
    versions = {"torch": "2.15.0"}
    return StudyResult("mine", "runs/mine", config, rows, final.to_json() if final else None, versions, "cpu", 75.0, "")


TREES = result([screening_row(0, surrogate("relu"), 0.6, "queue"), screening_row(1, FOUND, 0.7)], TABLE)


def shown(renderable: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(renderable)
    return stream.getvalue()


def test_the_terminal_table_states_every_figure_within_100_columns() -> None:
    text = shown(tables.final_terminal(TABLE))
    lines = text.splitlines()
    assert max(map(len, lines)) == 100, "the room is used"
    relu = next(line.split() for line in lines if line.startswith("relu"))
    assert relu == ["relu", "81.2", "4.6", "27", "100", "0.01", "1.00", "0", "step(x)"]
    found = next(line for line in lines if line.startswith("best found"))
    assert "…" in found, "a formula that does not fit is marked as cut"
    assert f"{FOUND.at_zero:.3g}" in found


def test_below_the_table_stand_the_whole_formula_and_what_is_missing() -> None:
    lines = tables.final_lines(TABLE)
    assert f"best found: g(x) = {FOUND.formula}" in lines
    assert not any("optimism" in line for line in lines), "a table of an earlier version has none"
    assert any("2 runs left out" in line for line in lines)
    assert "test split" in lines[0]
    assert "50 %" in lines[0]


def judged(random: bool = True) -> FinalTable:
    """The table with a verdict."""
    controls: tuple[Against, ...] = ("relu", "unit", "random") if random else ("relu", "unit")
    made = [
        Comparison(
            FOUND.label,
            name,
            name,
            0.01,
            0.01,
            0.0234,
            0.011,
            0.0345,
            1e-5 if name == "relu" else 0.02,
            0.03,
            100,
            True,
        )
        for name in controls
    ]
    verdict = Verdict(
        "better",
        "better by a lot",
        "best found: better by a lot (much).",
        "It is so.",
        FOUND.label,
        made,
        [],
        0.01,
        100,
    )
    optimism = Optimism(0.05, 0.0234, 2.66, 0.58)
    return dataclasses.replace(TABLE, winner=verdict.sentence, verdicts=[verdict], optimism=optimism)


def test_the_screen_says_first_what_was_found_then_why_then_what_to_beware_of() -> None:
    parts = tables.screen(result(TREES.screening, judged()), judged())
    text = " ".join("".join(map(shown, parts)).split())
    order = [
        "best found: better by a lot (much).",
        "It is so.",
        "mean %",
        "a random g of its gain",
        "2 candidates: 2 completed",
        "optimism: the re-run promised +5.0 points over ReLU, the final runs show +2.3: +2.7 points, +0.6 sd of a run",
        "2 runs left out",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert re.search(r"best found tuned ReLU \+2\.3 \+1\.1 to \+3\.5 0\.03 100 yes", text)
    assert "no random g" not in text
    alone = "".join(map(shown, tables.screen(TREES, judged(random=False))))
    assert "no random g of the same gain is compared with" in alone
    old = "".join(map(shown, tables.screen(TREES, TABLE)))
    assert old.strip().startswith(WINNER)


def test_markdown_has_the_verdict_first_and_what_it_rests_on() -> None:
    table = judged()
    text = tables.markdown(result(TREES.screening, table), table, [])
    assert (
        text.index("**best found: better by a lot (much).**") < text.index("It is so.") < text.index("## Final table")
    )
    assert "| best found | a random g of its gain | +2.3 | +1.1 to +3.5 | 0.03 | 100 | yes |" in text
    assert "optimism: " in text


def test_a_comparison_at_a_second_best_rate_says_so() -> None:
    table = judged()
    (verdict,) = table.verdicts
    doubted = [dataclasses.replace(item, against_rate=0.125) for item in verdict.comparisons]
    table = dataclasses.replace(table, verdicts=[dataclasses.replace(verdict, comparisons=doubted)])
    assert tables.comparisons(table)[1][0][:2] == ("best found", "tuned ReLU, lr 0.125")


@pytest.mark.parametrize("name", ["quickstart", "cifar10_small", "tune_b_silu", "tune_b_silu_low_rates"])
def test_results_of_versions_before_verdicts_are_still_read(name: str) -> None:
    stored = StudyResult.load(Path(__file__).parents[2] / "docs" / "results" / name / "results.json")
    table = stored.table
    assert table is not None
    assert table.rows
    assert "".join(map(shown, tables.screen(stored, table))).split()[:3] == table.winner.split()[:3]


def test_an_arm_whose_best_rate_ends_its_sweep_is_named() -> None:
    assert "sweep" not in "\n".join(tables.final_lines(TABLE)).replace("learning rate;", "")
    at_end = dataclasses.replace(TABLE.rows[0], learning_rate=0.03)
    table = dataclasses.replace(TABLE, rows=[at_end, *TABLE.rows[1:]])
    caution = "relu: its best learning rate, 0.03, is the largest of the sweep; a wider sweep may raise it"
    assert caution in tables.final_lines(table)
    assert caution in tables.markdown(result([screening_row(0, FOUND, 0.7)], table), table, [])
    assert dataclasses.replace(at_end, learning_rate=0.003).sweep_end == "smallest"
    assert dataclasses.replace(at_end, tuning={"0.03": 0.5}).sweep_end is None


def test_markdown_rows_have_as_many_cells_as_the_head_and_the_formula_parses_back() -> None:
    bars = surrogate("abs(x)*step(x)")
    text = tables.markdown(result([screening_row(0, bars, 0.5)], TABLE), TABLE, ["figures/surrogates.png"])
    for block in text.split("\n\n"):
        if block.startswith("|"):
            widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1
    assert "-2.3 (-3.1 to -1.1)" in text
    assert f"`{FOUND.formula}`" in text
    assert surrogate(FOUND.formula).identity == FOUND.identity or FOUND.scale != 1
    assert f"**{WINNER}**" in text
    assert "![figures/surrogates.png](figures/surrogates.png)" in text


def test_a_found_one_that_has_a_name_is_called_by_it() -> None:
    assert tables.title_of(arm(surrogate("nelu"), "finalist", 0.5)) == "found: nelu(alpha=0.05)"
    assert tables.title_of(arm(FOUND, "finalist", 0.5)) == "best found"
    assert tables.title_of(arm(surrogate("relu"), "control", 0.5)) == "relu"


def test_report_files_of_a_search_of_trees(tmp_path: Path) -> None:
    files = build.write_report(TREES, tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in files}
    drawn = {"surrogates", "learning_rates", "seeds", "screening", "complexity"}
    sheets = {"final", "tuning", "hall_of_fame", "pareto", "candidates"}
    assert names == {
        "report.html",
        "table.md",
        *(f"figures/{name}.{end}" for name in drawn for end in ("png", "svg")),
        *(f"tables/{name}.{end}" for name in sheets for end in ("csv", "md", "tex")),
    }
    assert all(path.stat().st_size > 50 for path in files)
    for link in re.findall(r"\]\((.*?)\)", (tmp_path / "table.md").read_text()):
        assert (tmp_path / link).is_file()
    before = {path: path.read_bytes() for path in files}
    assert {path: path.read_bytes() for path in build.write_report(TREES, tmp_path)} == before


def test_a_search_without_a_final_table_is_still_drawn(tmp_path: Path) -> None:
    files = build.write_report(result(TREES.screening, None), tmp_path)
    assert {path.stem for path in files} == {
        "report",
        "table",
        "surrogates",
        "screening",
        "complexity",
        "hall_of_fame",
        "pareto",
        "candidates",
    }


def test_a_tuned_family_has_its_curve_with_relu_as_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    original = figures.parameter_figure

    def spy(rows: Any, names: Any, relu: Any, log: Any) -> Any:
        seen.update(indices={row.index for row in rows}, names=names, relu=relu, log=log)
        return original(rows, names, relu, log)

    monkeypatch.setattr(figures, "parameter_figure", spy)
    rows = [
        screening_row(0, surrogate("relu"), 0.61, "queue"),
        screening_row(1, surrogate("b_silu"), 0.7, "queue"),
        screening_row(2, surrogate("b_silu", alpha=0.5), 0.8),
        screening_row(3, surrogate("nelu"), 0.5, "queue"),
    ]
    space = {
        "template": "family",
        "family": "b_silu",
        "parameters": {"alpha": {"low": 0.1, "high": 4.0, "log": True}},
    }
    files = build.write_report(result(rows, TABLE, space), tmp_path)
    assert tmp_path / "figures" / "parameters.png" in files
    assert not {"complexity", "pareto"} & {path.stem for path in files}, "all members are of one size"
    assert seen == {"indices": {1, 2}, "names": ["alpha"], "relu": 0.61, "log": ["alpha"]}
