"""sugarsearch verdict: the screen of the search's end once more, from the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sugarsearch.cli import app
from sugarsearch.runs.results import StudyResult

STUDY = """\
name: tiny
space: gate
recipe:
  data: {name: digits, train_limit: 300}
  model: {name: deep_narrow_mlp, options: {depth: 2}}
  optimizer: adam
  epochs: 2
search:
  {candidates: 6, batch: 3, population: 3, tournament: 2, learning_rates: [0.01], pruning: {rungs: [1], keep: 0.5}}
final: {learning_rates: [0.003, 0.01, 0.03], replicates: 7, rerun: {candidates: 2, replicates: 2}}
execution: {device: cpu, threads: 1}
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished run and what the command said."""
    folder = tmp_path_factory.mktemp("verdict")
    (folder / "tiny.yaml").write_text(STUDY)
    return folder / "run", call("search", str(folder / "tiny.yaml"), "--run", str(folder / "run"))


def test_it_prints_what_the_search_printed(run: tuple[Path, Result]) -> None:
    folder, search = run
    assert search.exit_code == 0, search.stderr
    result = call("verdict", str(folder))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == search.stdout[: search.stdout.index("written: ")]


def test_the_phrase_comes_first_on_a_screen_of_100_columns(run: tuple[Path, Result]) -> None:
    folder, search = run
    final = StudyResult.load(folder / "results.json").final
    assert final is not None
    verdict = final["verdicts"][0]
    words = " ".join(search.stdout.split())
    assert words.startswith(verdict["sentence"])
    assert verdict["explanation"] in words
    assert "optimism: the re-run promised" in words
    lines = search.stdout[: search.stdout.index("Accuracy on the test split")].splitlines()
    assert max(map(len, lines)) <= 100
    assert len(search.stdout.splitlines()) <= 40


def test_json_holds_the_recomputed_result(run: tuple[Path, Result]) -> None:
    folder, _ = run
    value = json.loads(call("verdict", str(folder), "--json").stdout)
    stored = json.loads((folder / "results.json").read_text())
    assert value["final"] == stored["final"]
    assert value["screening"] == stored["screening"]
    arms = {"best found", "relu", "b_silu(alpha=1.67)"}
    assert arms < {row["title"] for row in value["final"]["rows"]} or any(
        row["title"].startswith("found: ") for row in value["final"]["rows"]
    )


def test_without_records_it_says_what_is_missing(run: tuple[Path, Result], tmp_path: Path) -> None:
    assert call("verdict", str(tmp_path)).exit_code == 2
    (tmp_path / "study.yaml").write_text((run[0] / "study.yaml").read_text())
    result = call("verdict", str(tmp_path))
    assert result.exit_code == 2
    assert "3 of 3 trainings of the stage 'screening' are not in the records" in result.stderr
    assert result.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
