"""From what a user gives to a comparison: names, expressions, files and runs; and from there to other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sugarsearch as ss
from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.errors import ConfigurationError, RunError, UnknownNameError, UsageError
from sugarsearch.runs import folder as run_folder
from sugarsearch.runs.comparison import compared
from sugarsearch.runs.compose import compose, transferred
from sugarsearch.runs.export import export
from sugarsearch.runs.load import load_space, load_study
from sugarsearch.runs.results import ScreeningRow, StudyResult

GIVEN = {"data": "digits", "model": "deep_narrow_mlp"}
FOUND = ss.surrogate("sigmoid(4*x)").at_unit_gain()


def make_run(folder: Path, *changes: str, name: str = "quickstart") -> Path:
    """A search that has found FOUND."""
    study = load_study("quickstart", [f"name={name}", "recipe.epochs=4", "final.replicates=9", *changes])
    row = ScreeningRow(
        0, FOUND.label, FOUND.to_json(), "random", "COMPLETED", 0.5, 0.01, {}, [], 1.0, FOUND.at_zero, "", 1.0
    )
    config = study.model_dump(mode="json")
    folder.mkdir()
    StudyResult(name, str(folder), config, [row], None, {}, "cpu", 1.0).save(folder / "results.json")
    return folder


def entries(config: ComparisonConfig) -> dict[str, tuple[str, str]]:
    return {title: (entry.g, entry.gain) for title, entry in config.surrogates.items()}


def test_names_and_expressions_are_called_by_their_text_and_keep_their_order_and_gain() -> None:
    made = compose(["sigmoid(4*x)", "elu", "b_silu(alpha=2)"], **GIVEN)
    assert list(entries(made.config).items()) == [
        (text, (text, "own")) for text in ("sigmoid(4*x)", "elu", "b_silu(alpha=2)")
    ]
    assert made.home is None
    assert made.config.name == "compare_sigmoid_4_x_elu_b_silu_alpha_2"
    assert (made.config.recipe.data.name, made.config.recipe.model.name) == ("digits", "deep_narrow_mlp")
    assert made.config.seed == 0
    assert made.config.space == load_space("gate")


def test_settings_override_and_a_space_may_be_named() -> None:
    overrides = ["space.max_nodes=9", "space=gate", "recipe.epochs=3", "final.ablations=[adam, grafted]"]
    config = compose(["elu"], **GIVEN, overrides=overrides).config
    assert config.space is not None
    assert (config.space.name, config.space.max_nodes) == ("gate", 9)
    assert (config.recipe.epochs, config.final.ablations) == (3, ("adam", "grafted"))


def test_a_long_list_still_has_a_name_that_is_allowed() -> None:
    config = compose([f"sigmoid({k}*x)" for k in range(2, 12)], **GIVEN, overrides=["final.replicates=12"]).config
    assert len(config.name) <= 64


def test_a_g_in_a_file_is_taken_as_it_is_and_the_file_may_go(tmp_path: Path) -> None:
    export(FOUND, tmp_path)
    made = compose([str(tmp_path / "g.yaml"), "elu"], **GIVEN)
    (tmp_path / "g.yaml").unlink()
    assert entries(made.config) == {"sigmoid(4*x) at unit gain": ("sigmoid(4*x)", "unit"), "elu": ("elu", "own")}
    assert compared(made.config)["sigmoid(4*x) at unit gain"] == FOUND


def test_a_run_brings_recipe_budgets_space_and_fresh_seeds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "search.seed=6", "space.max_nodes=7", "final.learning_rates=[0.2]")
    study = load_study("quickstart", ["recipe.epochs=4", "space.max_nodes=7"])
    made = compose([str(run)])
    assert entries(made.config) == {"best of quickstart": ("sigmoid(4*x)", "unit")}
    assert made.config.recipe == study.recipe
    assert made.config.space == study.space
    assert made.config.seed == 7
    assert (made.config.final.replicates, made.config.final.learning_rates) == (9, (0.2,))
    assert made.home is not None
    assert made.home.folder == str(run)


@pytest.mark.parametrize(
    ("changes", "home"),
    [
        ({"overrides": ["execution.workers=2", "execution.device=cpu"]}, True),
        ({"overrides": ["recipe.epochs=5"]}, False),
        ({"data": "digits"}, False),
        ({"model": "deep_narrow_mlp"}, False),
    ],
)
def test_a_runs_own_verdict_stands_only_where_its_recipe_does(
    tmp_path: Path, changes: dict[str, Any], home: bool
) -> None:
    assert (compose([str(make_run(tmp_path / "run"))], **changes).home is not None) is home


def test_beside_a_run_other_surrogates_are_trained_so_its_verdict_does_not_stand(tmp_path: Path) -> None:
    made = compose([str(make_run(tmp_path / "run")), "elu"])
    assert entries(made.config).keys() == {"best of quickstart", "elu"}
    assert made.home is None


def test_two_runs_of_one_study_are_told_apart_and_seeds_are_fresh_to_both(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", "search.seed=1")]
    config = compose([str(run) for run in runs]).config
    assert list(config.surrogates) == [f"best of {run}" for run in runs]
    assert config.seed == 2
    other = make_run(tmp_path / "c", name="other")
    assert list(compose([str(runs[0]), str(other)]).config.surrogates) == ["best of quickstart", "best of other"]


def test_a_comparison_file_is_the_comparison(tmp_path: Path) -> None:
    given = compose(["elu"], **GIVEN, overrides=["space=gate"]).config
    run_folder.settle(tmp_path, given)
    assert compose([str(tmp_path / "comparison.yaml")]).config == given
    changed = compose([str(tmp_path / "comparison.yaml")], overrides=["recipe.epochs=3"]).config
    assert changed.recipe.epochs == 3
    with pytest.raises(UsageError, match="is a whole comparison: give it alone"):
        compose(["elu", str(tmp_path / "comparison.yaml")], **GIVEN)


SHORT = """\
name: short
surrogates: [elu, "sigmoid(4*x)"]
space: gate
recipe: {data: digits, model: deep_narrow_mlp, epochs: 2}
final:
  learning_rates: [0.1]
  replicates: 9
"""


def test_a_short_file_will_do(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(SHORT)
    config = compose([str(tmp_path / "c.yaml")]).config
    assert entries(config) == {"elu": ("elu", "own"), "sigmoid(4*x)": ("sigmoid(4*x)", "own")}
    assert config.space is not None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("replicates: 9", "replicate: 9", ":7:3: final.replicate is not allowed; did you mean replicates"),
        ('[elu, "sigmoid(4*x)"]', "[elu, elu]", ":2:1: surrogates is not allowed: 'elu' is given twice"),
        ("[elu,", "[sliu,", ":2:1: surrogates.sliu.g is not allowed: unknown surrogate 'sliu'"),
        (
            "replicates: 9",
            "replicates: 7",
            ":1:1: with 7 seeds an arm no lead could be told from chance; a verdict on 2",
        ),
        ("epochs: 2", "epochs: 2, optimizer: adam", ":1:1: the ablation adam is for recipes of sgd"),
        ("space: gate", "space: gat", ":3:1: space: unknown search space 'gat'; did you mean gate"),
    ],
)
def test_faults_of_a_file_are_named_with_their_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    text = SHORT + ("  ablations: [adam]\n" if "adam" in new else "")
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError) as refusal:
        compose([str(path)])
    (problem,) = refusal.value.problems
    assert str(problem).startswith(str(path) + words)


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        (["elu"], {}, UsageError, "--data and --model must be given"),
        (["elu"], {"data": "digits"}, UsageError, "--model must be given: on what"),
        (["elu", "elu"], GIVEN, UsageError, "'elu' is given twice"),
        (["elu"], {**GIVEN, "data": "digitz"}, ConfigurationError, "did you mean digits"),
        (["sliu"], GIVEN, ConfigurationError, "unknown surrogate 'sliu'; did you mean silu"),
        (["no.yaml"], GIVEN, ConfigurationError, "^no.yaml: cannot be read"),
        (["elu"], {**GIVEN, "overrides": ["final.replicates=6"]}, ConfigurationError, "with 6 seeds"),
        (
            ["elu"],
            {**GIVEN, "overrides": ["recipe.optimizer=adam", "final.ablations=[adam]"]},
            ConfigurationError,
            "^compare: the ablation adam is for recipes of sgd; this one's optimizer is adam already.$",
        ),
    ],
)
def test_what_makes_no_comparison_is_refused(
    given: list[str], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        compose(given, **options)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="give the folder of a run that has ended"):
        compose([str(tmp_path)])
    with pytest.raises(UnknownNameError):
        ss.surrogate("no_such_folder")


@pytest.fixture
def home() -> ComparisonConfig:
    data = "recipe.data={name: digits, train_limit: 300}"
    return compose(["elu"], **GIVEN, overrides=[data, "recipe.model.options={depth: 3, width: 10}"]).config


@pytest.mark.parametrize(
    ("text", "name", "changes"),
    [
        ("data=digits", "data=digits", {"recipe.data.train_limit": None}),
        ("model=small_conv", "model=small_conv", {"recipe.model.name": "small_conv", "recipe.model.options": {}}),
        ("data=cifar10, model=vgg16", "data=cifar10,model=vgg16", {"recipe.data.name": "cifar10"}),
        ("recipe.model.options.depth=6", "recipe.model.options.depth=6", {"recipe.model.options.depth": 6}),
        ("recipe.model.options.depth=6", "recipe.model.options.depth=6", {"recipe.model.options.width": 10}),
        ("final.learning_rates=[0.1, 0.2],recipe.epochs=3", None, {"final.learning_rates": [0.1, 0.2]}),
        ("final.learning_rates=[0.1, 0.2],recipe.epochs=3", None, {"recipe.epochs": 3}),
        (
            "recipe.model={name: deep_narrow_mlp, options: {depth: 2, width: 4}},seed=3",
            None,
            {"recipe.model.options": {"depth": 2, "width": 4}, "seed": 3},
        ),
        ("final.controls=[relu, 'max(x, 0.1)'],seed=3", None, {"final.controls": ["relu", "max(x, 0.1)"]}),
    ],
)
def test_other_settings_by_short_and_dotted_keys(
    home: ComparisonConfig, text: str, name: str | None, changes: dict[str, Any]
) -> None:
    folder, other = transferred(home, text)
    assert name is None or folder == name
    for key, expected in changes.items():
        value: Any = other.model_dump(mode="json")
        for part in key.split("."):
            value = value[part]
        assert value == expected
    assert other.surrogates == home.surrogates


def test_folders_are_safe_short_and_differ_where_settings_do(home: ComparisonConfig, tmp_path: Path) -> None:
    texts = [f"description={'../' * 9}{'a' * 70}{tail},recipe.epochs=3" for tail in ("b", "c", "/b", "?b", "ä")]
    texts += ["description=..,seed=9", "description=a/b", "description=a-b", "description=a b", "description=ab"]
    names = [transferred(home, text)[0] for text in texts]
    assert len(set(names)) == len(texts)
    assert transferred(home, "description = ab")[0] == transferred(home, "description=ab")[0]
    for name in names:
        assert "/" not in name
        assert len(name) <= 60
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert name.strip(".-") != ""


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", UsageError, "changes nothing"),
        ("model=deep_narrow_mlp,recipe.model.options={depth: 3, width: 10}", UsageError, "changes nothing"),
        ("cifar10", ConfigurationError, '^--transfer: "cifar10" is not allowed; write key.key=value'),
        ("data=digitz", ConfigurationError, "^--transfer recipe.data=digitz: .* did you mean digits"),
        ("recipe.epoch=3", ConfigurationError, "recipe.epoch is not allowed; did you mean epochs"),
    ],
)
def test_what_is_no_transfer_is_refused(home: ComparisonConfig, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        transferred(home, text)


def test_transfers_beside_a_search_do_not_keep_its_comparison_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "transfer" / "data=cifar10").mkdir(parents=True)
    config = compose(["elu"], **GIVEN).config
    run_folder.settle(tmp_path, config)
    assert run_folder.stored(tmp_path) == config
