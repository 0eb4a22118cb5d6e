"""export: a g to take away as Python, LaTeX and a study, and read back from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import sugarsearch as ss
from sugarsearch.cli import app
from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import AdmissionError, ConfigurationError, UsageError
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.runs.load import load_study
from sugarsearch.runs.results import StudyResult
from sugarsearch.search.study import run_study
from sugarsearch.symbolic.library import LIBRARY
from sugarsearch.symbolic.surrogate import Surrogate

TINY = (
    "recipe.data.train_limit=100",
    "recipe.data.test_limit=50",
    "recipe.model.options.depth=2",
    "recipe.model.options.width=8",
    "recipe.epochs=1",
    "search.candidates=6",
    "search.batch=3",
    "search.population=4",
    "search.replicates=1",
    "search.learning_rates=[0.01]",
    "final.learning_rates=[0.01]",
    "final.tuning_replicates=3",
    "final.replicates=8",
    "execution.workers=1",
    "execution.threads=1",
)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def done(*arguments: str) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def refused(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    folder = tmp_path_factory.mktemp("run")
    return run_study(load_study("quickstart", TINY), folder, make_executor=InlineExecutor)


def finalist(run: StudyResult) -> Surrogate:
    assert run.final is not None
    (row,) = (row for row in run.final["rows"] if row["role"] == "finalist")
    return Surrogate.from_json(row["surrogate"])


def test_a_run_gives_its_best_as_three_files_and_is_read_back_equal(run: StudyResult) -> None:
    result = done("export", run.folder, "--best")
    folder = Path(run.folder) / "export"
    assert sorted(path.name for path in folder.iterdir()) == ["g.py", "g.tex", "g.yaml"]
    best = finalist(run)
    assert best.formula in result.stdout.replace("\n", "")
    assert ss.surrogate(folder / "g.yaml") == best
    assert ss.surrogate(str(folder / "g.yaml")).scale == best.scale
    assert best.latex() in (folder / "g.tex").read_text()
    code = "import sys; sys.modules['sugarsearch'] = None; import torch, g; print(float(g.g(torch.tensor(0.5))))"
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert float(alone.stdout) == pytest.approx(float(best(0.5)), rel=1e-5)


def test_the_study_keeps_all_of_the_run_but_its_candidates(run: StudyResult, tmp_path: Path) -> None:
    done("export", run.folder, "--to", str(tmp_path))
    study = load_study(tmp_path / "g.yaml")
    old = StudyConfig.model_validate_json(json.dumps(run.config))
    assert study.recipe == old.recipe
    assert study.final.learning_rates == old.final.learning_rates
    assert study.search.learning_rates == old.search.learning_rates
    assert study.search.seed == old.search.seed
    assert study.search.candidates == 1
    assert done("validate", str(tmp_path / "g.yaml")).stdout.startswith("valid")


def test_the_study_is_run_by_search_and_ends_with_this_g_beside_its_controls(run: StudyResult, tmp_path: Path) -> None:
    done("export", run.folder, "--to", str(tmp_path))
    done("search", str(tmp_path / "g.yaml"), "--run", str(tmp_path / "again"))
    again = StudyResult.load(tmp_path / "again" / "results.json")
    assert [row.restore() for row in again.screening] == [finalist(run)]
    assert finalist(again) == finalist(run)
    assert again.final is not None
    assert {row["label"].split("(")[0] for row in again.final["rows"]} >= {"relu", "b_silu"}


def test_any_candidate_can_be_had(run: StudyResult, tmp_path: Path) -> None:
    for row in run.screening:
        value = json.loads(
            done("export", run.folder, "--candidate", str(row.index), "--to", str(tmp_path), "--json").stdout
        )
        assert Surrogate.from_json(value["surrogate"]) == row.restore() == ss.surrogate(tmp_path / "g.yaml")
        assert f"candidate {row.index} of the study quickstart" in (tmp_path / "g.py").read_text()
        assert value["files"] == [str(tmp_path / name) for name in ("g.py", "g.tex", "g.yaml")]


def test_without_a_final_table_the_best_of_the_screening_is_taken(run: StudyResult, tmp_path: Path) -> None:
    result = StudyResult.from_json({**run.to_json(), "final": None})
    result.save(tmp_path / "results.json")
    done("export", str(tmp_path))
    assert ss.surrogate(tmp_path / "export" / "g.yaml") == run.best


@pytest.mark.parametrize(
    "name", [*LIBRARY, "sigmoid(4*x)", "0.3*atan(x) if x > 0 else exp(x) - 0.1", "b_silu(alpha=2.125)"]
)
@pytest.mark.parametrize("unit", [False, True])
def test_names_and_expressions_are_read_back_equal(name: str, unit: bool, tmp_path: Path) -> None:
    g = ss.surrogate(name).at_unit_gain() if unit else ss.surrogate(name)
    ss.export(g, tmp_path)
    assert ss.surrogate(tmp_path / "g.yaml") == g
    load_study(tmp_path / "g.yaml")


def test_parameters_of_an_expression_and_another_scale_become_numbers(tmp_path: Path) -> None:
    ss.export(ss.surrogate("sigmoid(k*x)", k=3.0), tmp_path)
    assert ss.surrogate(tmp_path / "g.yaml") == ss.surrogate("sigmoid(3*x)")
    twice = Surrogate.of(ss.surrogate("b_silu").bound, scale=2.0)
    ss.export(twice, tmp_path)
    back = ss.surrogate(tmp_path / "g.yaml")
    assert back.formula == twice.formula
    assert back.gain == twice.gain


def test_an_expression_takes_the_recipe_of_the_study_given(tmp_path: Path) -> None:
    done("export", "sigmoid(4*x)", "--to", str(tmp_path), "--study", "cifar10_small")
    study = load_study(tmp_path / "g.yaml")
    assert study.recipe == load_study("cifar10_small").recipe
    assert study.name == "cifar10_small_g"


@pytest.mark.filterwarnings("default::sugarsearch.errors.SugarsearchWarning")
def test_a_run_on_ones_own_tensors_takes_a_recipe_that_can_be_run(run: StudyResult, tmp_path: Path) -> None:
    own = {**run.config["recipe"], "data": {**run.config["recipe"]["data"], "name": "tensors 0123+4567"}}
    result = StudyResult.from_json({**run.to_json(), "config": {**run.config, "recipe": own}})
    result.save(tmp_path / "results.json")
    warned = done("export", str(tmp_path)).stderr
    assert warned.startswith("sugarsearch: warning: g.yaml takes the recipe of quickstart")
    assert "tensors 0123+4567" in warned
    assert ss.surrogate(tmp_path / "export" / "g.yaml") == finalist(run)
    assert load_study(tmp_path / "export" / "g.yaml").recipe == load_study("quickstart").recipe


def test_a_g_that_must_not_be_trained_with_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(AdmissionError, match="is above 100"):
        ss.export("exp(x)**8", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_faults_are_one_message_and_nothing_is_written(run: StudyResult, tmp_path: Path) -> None:
    to = ("--to", str(tmp_path / "new"))
    for arguments, part in [
        ((run.folder, "--candidate", "99"), "has no candidate 99; its numbers are 0 to 5"),
        ((run.folder, "--candidate", "1", "--best"), "give one of them"),
        (("b_silu", "--best"), "'b_silu' is no folder"),
        (("b_silo",), "did you mean b_silu"),
        (("x*" * 300 + "x",), "at most 512 are read"),
        (("log1p_abs(x)/0.05",), "is not admitted"),
        ((str(tmp_path),), "does not exist: give the folder of a run that has ended"),
        ((run.folder, "--study", "quickstat"), "did you mean quickstart?"),
    ]:
        assert part in refused("export", *arguments, *to).replace("\n", " ")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("export", "b_silu", "--to", str(tmp_path / "file"))


def test_files_that_hold_no_g_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a study of 80 candidates; give a file that"):
        ss.surrogate(Path(__file__).parents[2] / "studies" / "quickstart.yaml")
    ss.export("b_silu", tmp_path)
    path = tmp_path / "g.yaml"
    with pytest.raises(UsageError, match="give no parameters beside it"):
        ss.surrogate(path, alpha=2)
    itself = path.read_text().replace("b_silu(alpha=1.67)", str(path))
    assert str(path) in itself
    path.write_text(itself)
    with pytest.raises(UsageError, match="no g of its own"):
        ss.surrogate(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ss.surrogate(tmp_path / "none.yaml")


def test_a_study_cannot_hang_on_a_file_that_may_change(tmp_path: Path) -> None:
    ss.export("b_silu", tmp_path)
    path = str(tmp_path / "g.yaml")
    assert "is a file; write the g that stands under" in refused(
        "validate", "quickstart", "--set", f"search.queue=[{path}]"
    )
    assert "gain          1.30" in done("show", path).stdout


def test_an_exported_file_can_be_used_for_surgery_at_once(tmp_path: Path) -> None:
    from torch import nn

    ss.export("sigmoid(4*x)", tmp_path)
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    ss.apply(net, str(tmp_path / "g.yaml"))
    assert "sigmoid(4*x)" in str(net)
