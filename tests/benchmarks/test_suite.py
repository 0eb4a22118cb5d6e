"""The suite as a product: its command, its files, its tables, and that the README's figures are those committed."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import __main__ as suite
from benchmarks import activation, memory, tables
from benchmarks.harness import Figure, Section, Settings, ratio, single, turns

CPU = Settings(torch.device("cpu"), quick=True, threads=1)


def test_ratios_are_taken_turn_by_turn() -> None:
    figure = ratio("a", [2.0, 8.0, 3.0], [1.0, 4.0, 3.0], "of b", at_most=1.9)
    assert (figure.value, figure.low, figure.high) == (2.0, 1.5, 2.0)
    assert (figure.met, figure.target) == (False, "<= 1.9")
    assert single("c", 3.0, "bytes", at_least=3).met
    assert single("d", 3.0, "bytes").met is None


def test_turns_alternate_and_the_first_is_not_counted() -> None:
    calls: list[str] = []
    times = turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert [len(values) for values in times.values()] == [3, 3]


def fake(name: str) -> SimpleNamespace:
    figures = (Figure(f"{name}'s", 0.5, 0.4, 0.6, "of F.relu's time", at_most=0.45), single("bytes", 123456.0, "B"))
    return SimpleNamespace(measure=lambda settings: Section(name, "what was done", figures, ("a note",)))


def test_the_command_writes_results_and_a_table_and_adds_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "import_module", lambda name: fake(name.partition(".")[2]))
    for part in ("memory", "activation"):
        assert suite.main(["--quick", "--only", part, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("cpu-*-quick.json")
    result = json.loads(path.read_text())
    assert list(result["sections"]) == ["memory", "activation"]
    assert result["machine"]["versions"]["torch"] == torch.__version__
    assert result["sections"]["memory"]["figures"][0]["met"] is False
    table = path.with_suffix(".md").read_text()
    assert "| memory's | 0.50 | 0.40 to 0.60 | of F.relu's time | <= 0.45 | missed |" in table
    assert "| bytes | 123,456 |  | B |  |  |" in table
    assert table in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "--only nothing is no part here; there are activation, memory"),
        (["--threads", "0"], "--threads is 0; it must be at least 1"),
        (["--data", "nowhere"], "--data nowhere is no folder"),
        pytest.param(
            ["--gpu"],
            "--gpu needs a CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_bad_input_is_one_clear_message(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        suite.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_all_parts_can_be_measured() -> None:
    for part in {*suite.CPU, *suite.GPU}:
        assert callable(import_module(f"benchmarks.{part}").measure)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_activation_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "LARGE", 20_000)
    monkeypatch.setattr(activation, "SMALL", 17_000)
    monkeypatch.setattr(activation, "QUICK_TURNS", 2)
    monkeypatch.setattr(activation, "CALLS", 2)
    section = activation.measure(CPU)
    names = [figure.name for figure in section.figures]
    assert {"compiled, closed form", "compiled, table", "plain torch: b_silu", "plain torch: mish"} <= set(names)
    assert all(figure.value > 0 for figure in section.figures)
    errors = [figure.detail["largest_error"] for figure in section.figures if "largest_error" in figure.detail]
    assert len(errors) == 4
    assert max(errors) < 5e-6


def test_an_error_would_be_seen() -> None:
    assert activation.error(F.relu, "b_silu", CPU.device, torch.float32) > 0.9


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_memory_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BATCH", 4)
    found = {figure.name: figure.value for figure in memory.measure(CPU).figures}
    assert found["eager"] == pytest.approx(4, abs=0.01)
    assert found["eager, lean=8"] == pytest.approx(1, abs=0.01)
    assert found["compiled, closed form"] == pytest.approx(0, abs=0.01)
    assert found["eager, FGI's detach formula"] == pytest.approx(12, abs=0.01)


def write(folder: Path, name: str, value: float) -> None:
    about = {
        "device": "cpu", "date": "2026-01-02", "processor": "P", "threads": 2, "versions": {"torch": "2.14"},
    }  # fmt: skip
    names = ("compiled", "plain torch: elu", "plain torch: mish")
    figures = [
        {**vars(Figure(one, value * scale, 0.1, 0.9, "of F.silu's time", at_most=1.15)), "met": True}
        for one, scale in zip(names, (1, 1, 3), strict=True)
    ]
    result: dict[str, Any] = {"machine": about, "sections": {"a": {"figures": figures}}}
    (folder / f"{name}.json").write_text(json.dumps(result))


def test_the_readmes_figures_come_from_the_newest_results_that_are_not_quick(tmp_path: Path) -> None:
    write(tmp_path, "cpu-2026-01-01", 7.0)
    write(tmp_path, "cpu-2026-01-02", 0.5)
    write(tmp_path, "cpu-2026-01-03-quick", 9.0)
    text = tables.filled(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter", tmp_path)
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "old" not in text
    assert "benchmarks/results/cpu-2026-01-02.md" in text
    assert "| compiled | 0.50 | 0.10 to 0.90 | of F.silu's time | <= 1.15, met |" in text
    assert (
        "all 2 named surrogates | 1.50 | 0.50 to 1.50 (all) | of F.silu's time | <= 1.15, missed by mish 1.50 |" in text
    )
    with pytest.raises(ValueError, match="has no lines"):
        tables.filled("no place")


def test_the_readme_has_the_figures_of_the_committed_results() -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert tables.filled(text) == text, "run python -m benchmarks.tables"
