"""sugarsearch reproduce of tables of accuracies: the tables on the terminal, resumption, choices, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sugarsearch.cli import app

BASELINE = """\
name: digits
kind: accuracies
source: a table on digits
seeds: [1, 2]
models:
  deep:
    title: a deep net
    learning_rates: [0.01]
    recipe:
      data: {name: digits, train_limit: 200, test_limit: 100}
      model: {name: deep_narrow_mlp, options: {depth: 2}}
      optimizer: adam
      epochs: 2
rows:
  relu: {title: ReLU, surrogate: relu, arms: [sugar]}
  elu: {title: ELU, surrogate: elu}
printed: {deep: {relu: {sugar: [50.0, 1.0]}}}
execution: {device: cpu, threads: 1}
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reproduce", *arguments])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """The baseline's file, the folder, and a call for two of its three cells with one seed."""
    folder = tmp_path_factory.mktemp("reproduced")
    file, out = folder / "digits.yaml", folder / "out"
    file.write_text(BASELINE)
    return file, out, call(str(file), "--arm", "sugar", "--seeds", "1", "--out", str(out))


def test_the_table_sets_ours_beside_the_papers(first: tuple[Path, Path, Result]) -> None:
    _, out, result = first
    assert result.exit_code == 0, result.stderr
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["1 of 2", "2 of 2"]
    assert "a deep net: accuracy %, mean ± standard deviation" in result.stdout
    (relu,) = [line for line in result.stdout.splitlines() if line.startswith("ReLU ")]
    assert "50.00 ± 1.00" in relu
    assert "(n 1)" in relu
    assert max(map(len, result.stdout.splitlines())) <= 100 or "written" in result.stdout
    assert (out / "table.md").exists()


def test_later_calls_add_and_train_nothing_again(first: tuple[Path, Path, Result]) -> None:
    file, out, _ = first
    same = call(str(file), "--arm", "sugar", "--seeds", "1", "--out", str(out))
    assert same.stderr == ""
    more = call(str(file), "--surrogate", "relu", "--out", str(out), "--json")
    assert more.stderr.startswith("1 of 1: deep/relu, seed 2: ")
    cells = {cell["cell"]: cell for cell in json.loads(more.stdout)["cells"]}
    assert cells["deep/relu"]["scores"].keys() == {"1", "2"}
    assert cells["deep/relu"]["printed"] == [0.5, 0.01]
    assert cells["deep/relu"]["difference"] is not None
    assert cells["deep/elu/sugar"]["scores"].keys() == {"1"}
    assert "deep/elu/non_sugar" not in cells


def test_show_trains_nothing(tmp_path: Path) -> None:
    result = call("table4", "--show", "--out", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("B-SiLU ") and "86.42" in line]
    assert " ".join(line.split()) == "B-SiLU 76.76 ± 0.52 not run 86.42 ± 0.33 not run"
    assert "SUGAR with B-SiLU is better than ReLU in ResNet-18" in result.stdout


def test_a_figure_is_the_pictures_of_its_baseline(tmp_path: Path) -> None:
    small = [
        word
        for setting in ("samples=64", "epochs=1", "milestones=[]", "hidden_layers=2")
        for word in ("--set", f"experiment.{setting}")
    ]
    result = call("figure7", "--cell", "f1/he", "--runs", "2", "--out", str(tmp_path), *small)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [f"written: {tmp_path / 'figures/activity_f1.png'}"]
    drawn = call("figure8", "--out", str(tmp_path))
    assert drawn.stdout.splitlines() == [f"written: {tmp_path / 'figure8.png'}"]
    assert (tmp_path / "figure8.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "vgg"], "unknown model 'vgg'. Known: deep."),
        (["--surrogate", "elu,gelu"], "unknown surrogate 'gelu'"),
        (["--arm", "both"], "unknown arm 'both'"),
        (["--seeds", "1,x"], "--seeds is '1,x'; write whole numbers from 0, such as 1,10."),
        (["--seeds", "-1"], "--seeds is '-1'"),
        (["--seeds", "1,,2"], "--seeds is '1,,2'; write one or more"),
        (["--lr", "fast"], "--lr is 'fast'; write numbers"),
        (["--runs", "5"], "--runs chooses nothing in digits; options that do: --cell, --model"),
        (["--set", "models.deep.recipe.epoch=3"], "models.deep.recipe.epoch is not allowed; did you mean epochs?"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str], said: str, first: tuple[Path, Path, Result], tmp_path: Path
) -> None:
    result = call(str(first[0]), "--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out/records.jsonl").exists()


def test_data_that_is_not_there_is_refused_before_training(
    tmp_path: Path, first: tuple[Path, Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = call(str(first[0]), "--set", "models.deep.recipe.data.name=./none", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr
