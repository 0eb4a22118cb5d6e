"""show, validate and data list|check: what they print, and how they refuse; none of them loads torch."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sugarsearch.cli import app
from sugarsearch.symbolic.library import LIBRARY
from sugarsearch.symbolic.surrogate import Surrogate

STUDY = """\
name: mine
space: whole_line
recipe: {data: digits, model: deep_narrow_mlp, epochs: 2}
search: {candidates: 4, learning_rates: [0.01]}
final: {learning_rates: [0.01]}
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def refused(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_show_prints_json_that_gives_the_same_surrogate(name: str) -> None:
    result = call("show", name, "--json")
    facts = json.loads(result.stdout)
    g = Surrogate.from_json(facts["surrogate"])
    assert g.name == name
    assert facts["gain"] == g.gain
    assert facts["at_zero"] == g.at_zero


def test_show_states_the_papers_figures_of_b_silu() -> None:
    facts = json.loads(call("show", "b_silu", "--json").stdout)
    assert math.isclose(facts["gain"], 1.303, abs_tol=1e-3)
    assert math.isclose(facts["at_zero"], 0.9175, abs_tol=1e-9)
    assert math.isclose(facts["bounds"][0], -0.0237, abs_tol=1e-4)
    assert math.isclose(facts["bounds"][1], 1.2904, abs_tol=1e-4)


def test_show_takes_parameters_and_does_not_cut_long_formulas() -> None:
    assert "alpha=2" in call("show", "b_silu", "--set", "alpha=2").stdout
    assert "0.7310585786300049" in call("show", "k*step(x)", "--set", "k=0.7310585786300049").stdout
    long = " + ".join(["exp(-abs(x))"] * 12)
    assert long in call("show", long).stdout


def test_show_draws_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "g.png"
    assert str(path) in call("show", "b_silu", "--plot", str(path)).stdout.replace("\n", "")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["show", "b_silo"], "did you mean b_silu"),
        (["show", "sigmoid(4*y)"], "column 11: unknown name 'y'"),
        (["show", "nelu", "--set", "beta=1"], "its parameters: alpha"),
        (["show", "nelu", "--set", "alpha"], "write name=number"),
        (["show", "nelu", "--set", "alpha=nan"], "alpha = nan is not allowed"),
        (["show"], "Missing argument"),
        (["shaw"], "No such command"),
        (["validate", "quickstat"], "did you mean quickstart?"),
        (["validate", "no/such.yaml"], "cannot be read"),
        (["data", "check", "digitz"], "did you mean digits?"),
        (["data", "check", ""], "data list"),
    ],
)
def test_bad_input_is_one_message_on_stderr_and_exit_code_2(arguments: list[str], part: str) -> None:
    assert part in refused(*arguments)


def test_validate_names_all_faults_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("digits", "digitz").replace("epochs: 2", "epochs: 0") + "extra: 1\n")
    lines = refused("validate", str(path)).splitlines()
    assert len(lines) == 3
    assert f"{path}:3:" in lines[0]
    assert "did you mean digits?" in "".join(lines)
    assert f"{path}:6:1" in lines[-1]


def test_validate_takes_a_comparison_too(tmp_path: Path) -> None:
    file = tmp_path / "comparison.yaml"
    file.write_text(
        "name: mine\nsurrogates: [elu]\nspace: gate\n"
        "recipe: {data: digits, model: deep_narrow_mlp, epochs: 3}\nfinal: {learning_rates: [0.1, 0.3]}\n"
    )
    said = call("validate", str(file)).stdout
    assert f"comparison {file}" in said
    assert "deep_narrow_mlp on digits, 3 epochs, sgd" in said
    assert "16 seeds an arm, learning rates from 0.1, 0.3" in said
    file.write_text(file.read_text().replace("[elu]", "[elou]"))
    refused = call("validate", str(file))
    assert refused.exit_code == 2
    assert f"{file}:2:" in refused.stderr
    assert "did you mean elu" in refused.stderr


def test_validate_takes_a_baseline_too() -> None:
    said = call("validate", "table4").stdout.splitlines()
    assert said[0].startswith("valid   baseline ")
    assert said[2] == "source  SUGAR (Horuz et al. 2025), table 4: CIFAR-10"
    assert "models.vgg16.recipe.epoch is not allowed" in refused(
        "validate", "table4", "--set", "models.vgg16.recipe.epoch=3"
    )


def test_validate_says_what_a_study_will_do(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    result = call("validate", str(path), "--set", "search.learning_rates=[0.01, 0.02]")
    assert result.exit_code == 0, result.stderr
    assert "up to 8 training runs" in result.stdout
    config = json.loads(call("validate", str(path), "--json", "--set", "recipe.epochs=3").stdout)["config"]
    assert config["recipe"]["epochs"] == 3
    assert config["space"]["template"] == "whole_line"


@pytest.mark.parametrize("name", ["whole_line", "nelu_alpha", "quickstart"])
def test_validate_takes_shipped_names_of_both_kinds(name: str) -> None:
    assert call("validate", name).stdout.startswith("valid")


def test_data_list_and_check(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(call("data", "list", "--json", "--root", str(tmp_path)).stdout)}
    assert rows["digits"]["ready"]
    assert not rows["cifar10"]["ready"]
    assert list(tmp_path.iterdir()) == []
    summary = json.loads(call("data", "check", "digits", "--json").stdout)
    assert summary["train"] + summary["validation"] + summary["test"] == 1797
    assert "1 x 8 x 8" in call("data", "check", "digits").stdout
    assert "cifar10" in call("data", "list", "--root", str(tmp_path)).stdout


def test_data_import_makes_a_data_set_that_studies_know(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    root = tmp_path / "root"
    done = call("data", "import", str(tmp_path / "images"), "--name", "pets", "--root", str(root), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == ["cat", "dog"]
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.replace("digits", f"{{name: pets, root: {root}}}"))
    assert call("validate", str(study)).exit_code == 0
    study.write_text(STUDY.replace("digits", "pets"))
    assert "pets" in refused("validate", str(study))


def test_version_and_help() -> None:
    assert call("--version").stdout == "sugarsearch 0.1.0\n"
    looking = ("show", "validate", "report", "verdict", "export", "data list", "data import", "data check")
    for command in ("search", "tune", "train", *looking):
        result = call(*command.split(), "--help")
        assert result.exit_code == 0
        assert "Example" in result.stdout, f"{command} --help has no example"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["search", "--help"], ["show", "b_silu"], ["validate", "quickstart"], ["search", "no/such.yaml"]],
)
def test_looking_at_things_loads_neither_torch_nor_optuna(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom sugarsearch.cli import main\n"
        f"sys.argv = ['sugarsearch', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'optuna', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"
