"""sugarsearch reproduce: the table on the terminal, resumption, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sugarsearch.cli import app
from sugarsearch.config import loader

SMALL = [
    word
    for setting in ("samples=100", "epochs=2", "milestones=[]", "hidden_layers=2")
    for word in ("--set", f"experiment.{setting}")
]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reproduce", *arguments])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Two cells with 3 runs each."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    return out, call("table2_3", "--cell", "f1/he", "--cell", "f1/nelu", "--runs", "3", "--out", str(out), *SMALL)


def test_it_lists_the_baselines_without_a_name() -> None:
    result = call()
    assert result.exit_code == 0, result.stderr
    listed = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert listed.keys() == {path.stem for path in loader.shipped_folder("baselines").glob("*.yaml")}
    assert listed["table2_3"].startswith("SUGAR (Horuz et al. 2025)")


def test_the_table_sets_ours_beside_the_papers(first: tuple[Path, Result]) -> None:
    out, result = first
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100 or all(line.startswith("written") for line in lines if len(line) > 100)
    (he,) = [line for line in lines if line.startswith("f1/he ") and " A " in line]
    assert "93.6" in he
    assert ("agrees" in he) or ("differs" in he)
    (rai,) = [line for line in lines if line.startswith("f1/rai ") and " A " in line]
    assert rai.rstrip().endswith("not run")
    words = " ".join(result.stdout.split())
    assert "NeLU: its g(0) is 0" in words
    assert "(with experiment.samples=100, " in words
    assert result.stderr.splitlines() == ["f1/he: runs 0 to 2", "f1/nelu: runs 0 to 2"]
    assert (out / "table.md").exists()


def test_the_same_command_trains_nothing_again_and_more_runs_are_added(first: tuple[Path, Result]) -> None:
    out, _ = first
    before = json.loads((out / "results.jsonl").read_text().splitlines()[0])
    again = call("table2_3", "--cell", "f1/he", "--runs", "3", "--out", str(out), "--json", *SMALL)
    assert again.stderr == ""
    share = next(row for row in json.loads(again.stdout)["shares"] if row["cell"] == "f1/he")
    assert (share["outcome"], share["runs"], share["printed"], share["printed_runs"]) == ("A", 3, 0.936, 1000)
    more = call("table2_3", "--cell", "f1/he", "--runs", "5", "--out", str(out), "--json", *SMALL)
    assert more.stderr.splitlines() == ["f1/he: runs 3 to 4"]
    after = json.loads((out / "results.jsonl").read_text().splitlines()[0])
    assert len(after["losses"]) == 5
    assert after["losses"][:3] == before["losses"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table2"], "unknown baseline 'table2'; did you mean "),
        (["table2_3", "--cell", "f9/he"], "unknown cell 'f9/he'"),
        (["table2_3", "--runs", "0"], "--runs"),
        (["table2_3", "--device", "cuda:99"], "cuda:99"),
        (["table2_3", "--set", "experiment.epoch=3"], "experiment.epoch is not allowed; did you mean epochs?"),
        (
            ["table2_3", "--set", "arms.rai.experiment.epoch=3"],
            "arms.rai.experiment.epoch is not allowed; did you mean epochs?",
        ),
        (["table2_3", "--set", "targets.f4.experiment.width=0"], "targets.f4.experiment.width is 0"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("runs/*/results.jsonl"))


def test_damaged_results_are_refused_with_their_line(first: tuple[Path, Result], tmp_path: Path) -> None:
    line = (first[0] / "results.jsonl").read_text().splitlines()[0]
    (tmp_path / "results.jsonl").write_text(f"{line}\n{line[:100]}\n")
    result = call("table2_3", "--out", str(tmp_path), *SMALL)
    assert result.exit_code == 2
    assert f"{tmp_path}/results.jsonl:2: this line is damaged" in result.stderr


def test_other_settings_are_refused_before_training(first: tuple[Path, Result]) -> None:
    result = call("table2_3", "--cell", "f2/he", "--runs", "1", "--out", str(first[0]))
    assert result.exit_code == 2
    assert "with other settings" in result.stderr
    assert "f2/he: runs" not in result.stderr
