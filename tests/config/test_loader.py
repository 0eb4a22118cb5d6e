"""From file to checked model: every fault at once, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sugarsearch.config import loader
from sugarsearch.config.schema import SearchSpace, StudyConfig
from sugarsearch.errors import ConfigurationError, UnknownNameError

STUDY = """\
name: small
space: space.yaml
recipe:
  data: digits
  model: {name: mlp, options: {depth: 4}}
  epochs: 3
search:
  candidates: 4
  learning_rates: [1e-3, 0.01]
final:
  learning_rates: [0.01]
"""
SPACE = "name: s\ntemplate: whole_line\nunary: [exp]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def faults(path: Path, *overrides: str, model: type[StudyConfig] | type[SearchSpace] = StudyConfig) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loader.load(path, model, overrides=overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_study_is_loaded_with_its_space_from_the_file_beside_it(folder: Path) -> None:
    study = loader.load(folder / "study.yaml", StudyConfig)
    assert study.space.name == "s"
    assert study.search.learning_rates == (0.001, 0.01)
    assert study.recipe.data.name == "digits"
    assert study.recipe.model.options == {"depth": 4}
    assert study.recipe.optimizer.name == "sgd"


def test_all_faults_come_at_once_with_their_places(folder: Path) -> None:
    path = folder / "study.yaml"
    path.write_text(
        STUDY.replace("epochs: 3", 'epochs: "3"\n  epoch: 3').replace("candidates: 4", "candidates: 0\n  sampler: tpee")
    )
    (folder / "space.yaml").write_text(SPACE + "max_depth: 99\nmax_dept: 3\n")
    lines = faults(path)
    assert f'{path}:6:3: recipe.epochs is "3"; should be a valid integer.' in lines
    assert f"{path}:7:3: recipe.epoch is not allowed; did you mean epochs?" in lines
    assert f"{path}:9:3: search.candidates is 0; should be greater than or equal to 1." in lines
    assert any(
        line.startswith(f'{path}:10:3: search.sampler is "tpee"; should be') and "'tpe'" in line for line in lines
    )
    space = folder / "space.yaml"
    assert f"{space}:4:1: space.max_depth is 99; should be less than or equal to 8." in lines
    assert f"{space}:5:1: space.max_dept is not allowed; did you mean max_depth or max_nodes?" in lines
    assert len(lines) == 6


def test_a_faulty_item_of_a_list_is_one_fault(folder: Path) -> None:
    lines = faults(folder / "study.yaml", "final.learning_rates=[on]")
    assert lines == ['--set final.learning_rates=[on]: final.learning_rates.0 is "on"; should be a valid number.']
    assert "at least 1 item" in faults(folder / "study.yaml", "final.learning_rates=[]")[0]


def test_an_unknown_space_is_one_fault(folder: Path) -> None:
    lines = faults(folder / "study.yaml", "space=whole_lin")
    assert len(lines) == 1
    assert "--set space=whole_lin: space: unknown search space 'whole_lin'; did you mean whole_line" in lines[0]


def test_overrides_set_values_and_are_named_in_faults(folder: Path) -> None:
    path = folder / "study.yaml"
    study = loader.load(
        path, StudyConfig, overrides=["recipe.epochs=7", "recipe.data.validation=2e-1", "execution.workers=2"]
    )
    assert (study.recipe.epochs, study.recipe.data.validation, study.execution.workers) == (7, 0.2, 2)
    assert study.recipe.data.name == "digits"
    assert faults(path, "recipe.epochs=many") == [
        '--set recipe.epochs=many: recipe.epochs is "many"; should be a valid integer.'
    ]
    assert "write key.key=value" in faults(path, "recipe.epochs")[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.learning_rates=[0.1, 0.01]", "must increase"),
        ("search.learning_rates=[-0.1]", "greater than 0"),
        ("search.pruning={rungs: [3]}", "must lie before the last epoch"),
        ("recipe.optimizer={name: adam, momentum: 0.9}", "belong to sgd"),
        ("recipe.optimizer={nesterov: true}", "needs momentum"),
        ("recipe.schedule=milestones", "needs milestones"),
        ("recipe.schedule={milestones: [3]}", "belong to schedule 'milestones'"),
        ("search.sampler=tpe", "tunes families"),
        ("space.gain=own", "ranks gain"),
        ("execution.device=gpu", "write auto, cpu, cuda or cuda:N"),
        ("recipe.batch_size=true", "valid integer"),
        ("name=../up", "match pattern"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder: Path, override: str, message: str) -> None:
    (folder / "study.yaml").write_text(
        STUDY.replace("space: space.yaml", "space: {name: s, template: whole_line, unary: [exp]}")
    )
    assert message in "\n".join(faults(folder / "study.yaml", override))


@pytest.mark.parametrize(
    ("override", "place", "message"),
    [
        (
            "final={learning_rates: [0.1], replicates: 7, finalists: 2}",
            "final.finalists is not allowed: ",
            "with 7 seeds an arm no lead could be told from chance; a verdict on 2 finalists needs at least 8.",
        ),
        (
            "final={learning_rates: [0.1], replicates: 6}",
            "final.replicates is not allowed: ",
            "with 6 seeds an arm no lead could be told from chance; a verdict on 1 finalist needs at least 7.",
        ),
        (
            "final={learning_rates: [0.1], finalists: 3, rerun: {candidates: 2}}",
            "final.rerun is not allowed: ",
            "2 candidates; at least as many as finalists, 3, must be re-run.",
        ),
    ],
)
def test_a_verdict_that_could_say_nothing_is_refused(folder: Path, override: str, place: str, message: str) -> None:
    (fault,) = faults(folder / "study.yaml", override)
    assert fault.endswith(f": {place}{message}")


def test_a_fault_of_the_whole_is_the_sentence_itself(folder: Path) -> None:
    path = folder / "study.yaml"
    path.write_text(STUDY.replace("epochs: 3", "epochs: 3\n  optimizer: adamw"))
    assert faults(path, "final.ablations=[adam]") == [
        f"{path}:1:1: the ablation adam is for recipes of sgd; this one's optimizer is adamw already."
    ]


def test_gain_ranking_can_be_asked_for_by_name(folder: Path) -> None:
    (folder / "space.yaml").write_text(SPACE + "gain: own\n")
    assert "ranks gain" in faults(folder / "study.yaml")[0]
    loader.load(folder / "study.yaml", StudyConfig, overrides=["search.allow_gain_ranking=true"])
    loader.load(folder / "study.yaml", StudyConfig, overrides=["search.learning_rates=[0.001, 0.01, 0.1]"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("template: family\n", "needs family"),
        ("template: whole_line\n", "needs operators"),
        ("template: gate\nunary: [exp]\nfamily: elu\n", "belong to template 'family'"),
        ("template: family\nfamily: b_silu\nparameters: {alpha: {low: 2, high: 1}}\n", "must be below high"),
        ("template: family\nfamily: b_silu\nparameters: {alpha: {low: 0, high: 1, log: true}}\n", "needs low > 0"),
    ],
)
def test_search_spaces_are_checked(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "space.yaml").write_text("name: s\n" + text)
    assert message in "\n".join(faults(tmp_path / "space.yaml", model=SearchSpace))


def test_names_come_from_the_catalogue_handed_in(folder: Path) -> None:
    class Nothing:
        def surrogate(self, text: str) -> None:
            raise UnknownNameError("surrogate", text, ["relu6"])

        def operator(self, name: str, arity: int) -> None:
            raise UnknownNameError("operator", name, ["expm1"])

        def family(self, text: str, parameters: frozenset[str]) -> None:
            raise UnknownNameError("family", text, [])

        def model(self, name: str, options: dict[str, bool | int | float | str]) -> None:
            raise UnknownNameError("model", name, ["mlp2"])

        def data(self, name: str, root: str | None) -> None:
            raise UnknownNameError("data set", name, [])

    with pytest.raises(ConfigurationError) as caught:
        loader.load(folder / "study.yaml", StudyConfig, Nothing())
    text = str(caught.value)
    for part in (
        "unknown operator 'exp'; did you mean expm1?",
        "unknown model 'mlp'; did you mean mlp2?",
        "unknown data set",
    ):
        assert part in text


def test_every_shipped_file_loads() -> None:
    assert len(loader.shipped("search_spaces")) >= 4
    for path in loader.shipped("search_spaces").values():
        assert loader.load(path, SearchSpace).name == path.stem
    assert {"quickstart", "cifar10_small"} <= set(loader.shipped("studies"))
    for path in loader.shipped("studies").values():
        assert loader.load(path, StudyConfig).name == path.stem


def test_find_names_the_nearest_shipped_file() -> None:
    with pytest.raises(UnknownNameError, match="did you mean quickstart"):
        loader.find("studies", "quikstart")
