"""The command train: per-epoch lines, the same numbers for the same seed, plain ReLU weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from sugarsearch.cli import app
from sugarsearch.config.schema import ModelConfig
from sugarsearch.models.build import build

SMALL = ["--data", "digits", "--model", "deep_narrow_mlp", "--optimizer", "adam", "--lr", "0.01", "--epochs", "2"]
SMALL += ["--set", "recipe.model.options.depth=2", "--set", "recipe.data.train_limit=400", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def train(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", *SMALL, *arguments])


def test_weights_are_those_of_a_plain_relu_network_and_of_the_reported_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    result = train("--surrogate", "sigmoid(4*x)", "--out", str(path), "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
    model = ModelConfig(name="deep_narrow_mlp", options={"depth": 2})
    network = build(model, (1, 8, 8), 10, nn.ReLU)
    network.load_state_dict(torch.load(path, weights_only=True))

    from sugarsearch.config.schema import DataConfig
    from sugarsearch.data.device import DeviceArrays, normalisation
    from sugarsearch.data.splits import training_split

    split = training_split(DataConfig(name="digits", train_limit=400))
    arrays = DeviceArrays(split.validation, normalisation(split.train))
    guesses = network(arrays.batch(torch.arange(len(arrays)))).argmax(dim=1)
    accuracy = (guesses == arrays.labels).double().mean().item()
    assert accuracy == pytest.approx(report["epochs"][-1]["accuracy"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.pt"]


def test_the_other_arm_trains_the_primitive(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    result = train("--surrogate", "elu", "--arm", "non_sugar", "--out", str(path), "--json")
    assert result.exit_code == 0, result.stderr
    assert "weights of a network whose activation is elu" in result.stderr
    network = build(ModelConfig(name="deep_narrow_mlp", options={"depth": 2}), (1, 8, 8), 10, nn.ELU)
    network.load_state_dict(torch.load(path, weights_only=True))

    from sugarsearch.config.schema import DataConfig
    from sugarsearch.data.device import DeviceArrays, normalisation
    from sugarsearch.data.splits import training_split

    split = training_split(DataConfig(name="digits", train_limit=400))
    arrays = DeviceArrays(split.validation, normalisation(split.train))
    loss = nn.functional.cross_entropy(network(arrays.batch(torch.arange(len(arrays)))), arrays.labels)
    assert loss.item() == pytest.approx(json.loads(result.stdout)["epochs"][-1]["loss"], rel=1e-5)


def test_one_line_an_epoch_and_seeds_that_matter() -> None:
    first, again, other = train("--seed", "1"), train("--seed", "1"), train("--seed", "2")
    assert first.exit_code == 0, first.stderr
    lines = first.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert first.stdout == again.stdout
    assert first.stdout != other.stdout


def test_the_surrogate_is_what_is_trained_with() -> None:
    relu, step, soft = train(), train("--surrogate", "step(x)"), train("--surrogate", "sigmoid(4*x)")
    assert relu.stdout == step.stdout
    assert relu.stdout != soft.stdout


def test_divergence_is_said_and_is_exit_code_3() -> None:
    result = train("--lr", "100", "--optimizer", "sgd", "--set", "recipe.model.options.depth=16")
    assert result.exit_code == 3
    assert "diverged in epoch" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--arm", "both"], 'arm is "both"'),
        (["--arm", "non_sugar", "--surrogate", "sigmoid(4*x)"], "has no known primitive"),
        (["--surrogate", "sigmoid(4*y)"], "unknown name 'y'"),
        (["--surrogate", "1000000*exp(x)"], "not admitted"),
        (["--model", "resnet17"], "did you mean resnet18"),
        (["--optimizer", "adagrad"], "recipe.optimizer"),
        (["--epochs", "0"], "recipe.epochs"),
        (["--epochs", "many"], "valid integer"),
        (["--seed", "-1"], "seed is -1"),
        (["--set", "recipe.bach_size=3"], "did you mean batch_size?"),
        (["--set", "recipe.precision=bf16"], "CUDA"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--out", "no/such/folder/w.pt"], "--out"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: list[str], part: str) -> None:
    result = train(*arguments)
    assert result.exit_code == 2, result.output
    assert part in result.stderr
    assert result.stdout == ""
