"""Resuming at the command line: changed packages are refused until they are allowed; the help says how all is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sugarsearch.cli import app

STUDY = """\
name: tiny
space: whole_line
recipe:
  data: {name: digits, train_limit: 200, test_limit: 100}
  model: {name: deep_narrow_mlp, options: {depth: 2, width: 4}}
  optimizer: adam
  epochs: 1
search: {candidates: 2, batch: 2, population: 2, tournament: 2, learning_rates: [0.003, 0.01, 0.03]}
final: {learning_rates: [0.01], replicates: 7}
execution: {device: cpu, threads: 1}
"""


@pytest.mark.slow
def test_changed_packages_are_refused_until_they_are_allowed(tmp_path: Path) -> None:
    study, folder = tmp_path / "tiny.yaml", tmp_path / "run"
    study.write_text(STUDY)
    command = ["search", str(study), "--run", str(folder)]
    assert CliRunner().invoke(app, command).exit_code == 0
    path = folder / "run.json"
    began = json.loads(path.read_text())
    here = began["versions"]["torch"]
    path.write_text(json.dumps({**began, "versions": {**began["versions"], "torch": "2.14.0"}}))
    before = {file: file.read_bytes() for file in folder.glob("*.*")}

    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert f"  torch: the run has 2.14.0, here is {here}\n" in refused.stderr
    assert "--allow-changes" in refused.stderr
    assert refused.stdout == ""
    assert {file: file.read_bytes() for file in folder.glob("*.*")} == before

    allowed = CliRunner().invoke(app, [*command, "--allow-changes"])
    assert allowed.exit_code == 0, allowed.stderr
    assert f"torch 2.14.0 became {here}" in allowed.stdout
    assert f"torch 2.14.0 became {here}" in (folder / "table.md").read_text()


def test_the_help_of_search_says_what_is_kept_and_how_to_stop_and_resume() -> None:
    result = CliRunner().invoke(app, ["search", "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    text = " ".join(result.stdout.split())
    for part in ("records.jsonl", "study.db", "run.json", "checkpoints/", "Ctrl-C", "SIGTERM", "same command"):
        assert part in text, part
    assert "--allow-changes" in text
    assert max(map(len, result.stdout.splitlines())) <= 80
