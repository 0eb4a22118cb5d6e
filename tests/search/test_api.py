"""The Python call: a user's own model and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sugarsearch as ss
from sugarsearch.config.schema import Recipe, StudyConfig
from sugarsearch.errors import ConfigurationError, DataError, RunError, UnknownNameError, UsageError
from sugarsearch.runs.load import load_space, load_study, tune_study
from sugarsearch.search.api import search

RECIPE = {"epochs": 2, "optimizer": "adam", "batch_size": 32}
FINAL = {"learning_rates": [0.01], "replicates": 7}
SETTINGS: dict[str, Any] = {"batch": 3, "queue": ["relu"], "learning_rates": (0.003, 0.03), "threads": 1}


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))


class OtherNet(Net):
    pass


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three clouds of points around different corners."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return 2 * torch.eye(6)[labels] + torch.randn(count, 6, generator=generator), labels


TRAIN, VAL = blobs(200, 0), blobs(90, 1)


def call(run: Path, model: Any = Net, train: Any = TRAIN, val: Any = VAL, **changes: Any) -> Any:
    recipe = changes.pop("recipe", RECIPE)
    space = changes.pop("space", "negative_side")
    return search(model, train, val, space, recipe, trials=6, run=run, final=FINAL, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "run"
    call(path)
    return path


def test_the_result_holds_a_surrogate_that_can_be_used(folder: Path) -> None:
    result = call(folder)
    assert len(result.screening) == 6
    assert result.ranking[0].score > 0.6  # chance is 1/3
    model = Net()
    report = ss.apply(model, result.best)
    assert len(report.sites) == 2
    assert model(TRAIN[0]).shape == (200, 3)


def test_the_final_table_says_that_it_was_scored_on_validation_data(folder: Path) -> None:
    final = call(folder).final
    assert final["scored_on"] == "validation"
    assert {row["label"] for row in final["rows"]} >= {"relu", "b_silu(alpha=1.67)"}


def test_the_same_call_resumes_without_training(folder: Path) -> None:
    before = (folder / "records.jsonl").read_bytes()
    call(folder)
    assert (folder / "records.jsonl").read_bytes() == before


def test_numpy_and_torch_give_the_same_study(folder: Path, tmp_path: Path) -> None:
    arrays = [(x.numpy().astype(np.float64), y.numpy().astype(np.int32)) for x, y in (TRAIN, VAL)]
    rows = call(tmp_path, train=arrays[0], val=arrays[1]).screening
    assert [row.score for row in rows] == [row.score for row in call(folder).screening]


def test_other_data_is_refused_in_the_same_folder(folder: Path) -> None:
    changed = TRAIN[0].clone()
    changed[0, 0] += 1
    with pytest.raises(RunError, match=r"recipe\.data\.name"):
        call(folder, train=(changed, TRAIN[1]))


def test_another_model_is_refused_in_the_same_folder(folder: Path) -> None:
    with pytest.raises(RunError, match=r"recipe\.model\.name.*Net.*OtherNet"):
        call(folder, model=OtherNet)


def test_a_space_and_a_recipe_may_be_objects(folder: Path) -> None:
    recipe = Recipe.model_validate_json(
        '{"epochs": 2, "optimizer": {"name": "adam"}, "batch_size": 32, "data": {"name": "d"}, "model": {"name": "m"}}'
    )
    assert len(call(folder, space=load_space("negative_side"), recipe=recipe).screening) == 6


def test_learning_rates_have_defaults_by_optimiser(tmp_path: Path) -> None:
    result = search(
        Net, TRAIN, VAL, "gate", {"epochs": 1, "optimizer": "adam"}, 2, tmp_path, final=FINAL, queue=[], threads=1
    )
    assert list(result.screening[0].scores_by_learning_rate) == ["0.0003", "0.001", "0.003"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"learning_rate": 0.1}, UnknownNameError, "did you mean learning_rates"),
        ({"candidates": 9}, UnknownNameError, "unknown setting 'candidates'"),
        ({"seed": "one"}, ConfigurationError, "search.seed"),
        ({"recipe": {"optimizer": "adam"}}, ConfigurationError, "recipe.epochs is missing"),
        ({"space": "negative"}, UnknownNameError, "negative_side"),
        ({"train": (TRAIN[0], TRAIN[1].float())}, DataError, "labels"),
        ({"val": (VAL[0][:5], VAL[1])}, DataError, "90 labels"),
    ],
)
def test_bad_input_is_named_before_there_is_a_folder(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "ranges", "expected", "queue"),
    [
        ("b_silu", None, {"alpha": (0.167, 16.7, True)}, ("relu", "b_silu")),
        ("b_silu(alpha=2)", None, {"alpha": (0.2, 20.0, True)}, ("relu", "b_silu(alpha=2)")),
        ("swish", {"beta": (0, 3)}, {"beta": (0.0, 3.0, False)}, ("relu", "swish")),
        ("sigmoid(k*x)", {"k": (0.5, 8)}, {"k": (0.5, 8.0, True)}, ("relu",)),
    ],
)
def test_tuning_makes_a_study_of_the_familys_parameters(
    text: str, ranges: Any, expected: dict[str, tuple[float, float, bool]], queue: tuple[str, ...]
) -> None:
    config = tune_study(text, "digits", "deep_narrow_mlp", ranges=ranges, overrides=["recipe.epochs=7"])
    found = {name: (r.low, r.high, r.log) for name, r in config.space.parameters.items()}
    assert found == {name: pytest.approx(values) for name, values in expected.items()}
    assert config.search.queue == config.final.controls == queue
    assert (config.search.sampler, config.space.gain, config.recipe.epochs) == ("tpe", "own", 7)


@pytest.mark.parametrize("text", ["gelu", "sigmoid(4*x)", "b_silu(alpha=0)"])
def test_what_cannot_be_tuned_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        tune_study(text, "digits", "deep_narrow_mlp")


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(UnknownNameError, match="b_silu"):
        tune_study("b_sliu", "digits", "deep_narrow_mlp")


STUDIES = (
    "quickstart", "cifar10_small", "cifar10_resnet18", "cifar10_vgg16", "cifar100_resnet18",
    "tiny_imagenet_resnet18", "b_silu_alpha", "nelu_alpha",
)  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_every_shipped_study_is_sound(name: str) -> None:
    config: StudyConfig = load_study(name)
    assert config.name == name
    assert "relu" in config.final.controls
    assert len(config.search.learning_rates) >= 3
