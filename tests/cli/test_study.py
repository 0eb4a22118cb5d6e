"""search, tune and report from the command line: a run ends with its table and pictures, and resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sugarsearch.cli import app
from sugarsearch.runs.results import StudyResult

STUDY = """\
name: tiny
space: whole_line
recipe:
  data: {name: digits, train_limit: 400}
  model: {name: deep_narrow_mlp, options: {depth: 2}}
  optimizer: adam
  epochs: 2
search: {candidates: 4, batch: 2, population: 2, tournament: 2, learning_rates: [0.003, 0.01]}
final: {learning_rates: [0.003, 0.01, 0.03], replicates: 7}
execution: {device: cpu, threads: 1}
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "tiny.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def run(study: Path) -> tuple[Path, Result]:
    """A finished run and what the command said."""
    folder = study.parent / "run"
    return folder, call("search", str(study), "--run", str(folder))


def test_search_ends_with_table_winner_and_pictures(run: tuple[Path, Result]) -> None:
    folder, result = run
    assert result.exit_code == 0, result.stderr
    table = StudyResult.load(folder / "results.json").final
    assert table is not None
    for row in table["rows"]:
        assert f"{100 * row['summary']['mean']:.1f}" in result.stdout
    assert table["winner"] in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines()[:6])) <= 100
    for name in ("report.html", "table.md", "figures", "tables"):
        assert f"written: {folder / name}" in result.stdout
    for name in ("report.html", "figures/surrogates.png", "figures/activity.svg", "tables/candidates.csv"):
        assert (folder / name).is_file()
    assert f"run folder: {folder}" in result.stderr
    assert "candidates 4 of 4" in result.stderr
    assert "best so far" in result.stderr


def test_the_same_command_resumes_and_trains_nothing_again(run: tuple[Path, Result], study: Path) -> None:
    folder, _ = run
    records = (folder / "records.jsonl").read_bytes()
    before = StudyResult.load(folder / "results.json")
    again = call("search", str(study), "--run", str(folder), "--json", "--workers", "2")
    assert again.exit_code == 0, again.stderr
    assert (folder / "records.jsonl").read_bytes() == records
    assert "4 candidates are known from before" in again.stderr
    value = json.loads(again.stdout)
    files = value.pop("files")
    assert str(folder / "table.md") in files
    assert StudyResult.from_json(value).screening == before.screening
    assert value["final"] == before.final


def test_a_changed_study_is_refused_with_the_difference(run: tuple[Path, Result], study: Path) -> None:
    result = call("search", str(study), "--run", str(run[0]), "--set", "recipe.epochs=3")
    assert result.exit_code == 2
    assert "recipe.epochs: the run has 2, given is 3" in result.stderr


def test_report_rebuilds_tables_and_pictures_from_the_results(run: tuple[Path, Result]) -> None:
    folder, first = run
    files = [
        folder / "report.html",
        folder / "table.md",
        *(folder / "figures").iterdir(),
        *(folder / "tables").iterdir(),
    ]
    before = {path: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
    result = call("report", str(folder))
    assert result.exit_code == 0, result.stderr
    assert {path: path.read_bytes() for path in files} == before
    assert result.stdout == first.stdout
    assert json.loads(call("report", str(folder), "--json").stdout)["study"] == "tiny"


def test_tune_gives_alpha_and_its_curve(tmp_path: Path) -> None:
    settings = ["recipe.epochs=1", "recipe.data.train_limit=400", "recipe.optimizer=adam", "search.batch=5"]
    settings += ["recipe.model.options.depth=2", "search.learning_rates=[0.003, 0.01, 0.03]", "execution.threads=1"]
    settings += ["final.learning_rates=[0.01]", "final.replicates=7"]
    options = [part for text in settings for part in ("--set", text)]
    run = ["tune", "b_silu", "--data", "digits", "--model", "deep_narrow_mlp", "--run", str(tmp_path / "run")]
    result = call(*run, "--candidates", "5", "--range", "alpha=0.5:4", "--device", "cpu", *options)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "run" / "figures" / "parameters.png").is_file()
    found = StudyResult.load(tmp_path / "run" / "results.json")
    tuned = [row for row in found.screening if row.origin != "queue"]
    assert tuned
    assert all(0.5 <= row.parameters["alpha"] <= 4 for row in tuned)
    assert f"best in screening: {found.ranking[0].label}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["search", "quickstat"], "did you mean quickstart?"),
        (["search", "no/such.yaml"], "no/such.yaml"),
        (["search", "quickstart", "--set", "recipe.epoch=1"], "did you mean epochs?"),
        (["search", "quickstart", "--workers", "0"], "execution.workers"),
        (["search", "quickstart", "--device", "gpu"], "execution.device"),
        (["search", "quickstart", "--device", "cuda:7"], "cuda:7"),
        (["search", "quickstart", "--set", "recipe.data.test_limit=9999"], "9999"),
        (["tune", "b_silu"], "Missing option"),
        (["tune", "b_silo", "--data", "digits", "--model", "resnet8"], "did you mean b_silu"),
        (["tune", "relu", "--data", "digits", "--model", "resnet8"], "no parameter to tune"),
        (["tune", "b_silu", "--data", "digits", "--model", "resnet8", "--range", "alpha"], "NAME=LOW:HIGH"),
        (["tune", "b_silu", "--data", "digits", "--model", "resnet8", "--range", "beta=1:2"], "alpha"),
        (
            [*("tune", "b_silu", "--data", "digits", "--model", "resnet8"), *("--range", "alpha=1:2") * 2],
            "--range gives alpha twice",
        ),
        (["report", "no/such/run"], "does not exist"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert part in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == [], "a refused command leaves no run folder"
