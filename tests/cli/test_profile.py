"""The command profile: networks at initialisation, from a file and in training; remedies; and bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from sugarsearch.analysis.advice import REMEDIES
from sugarsearch.analysis.profile import LayerProfile
from sugarsearch.analysis.profile import profile as count
from sugarsearch.cli import app
from sugarsearch.config.schema import DataConfig, ModelConfig
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import training_split
from sugarsearch.models.build import build_seeded

DEPTH, IMAGES = 3, 400
SUBJECT = ["--data", "digits", "--model", "deep_narrow_mlp", "--device", "cpu"]
SUBJECT += ["--set", f"recipe.model.options.depth={DEPTH}", "--set", f"recipe.data.train_limit={IMAGES}"]
TRAINING = ["--optimizer", "adam", "--lr", "0.01", "--epochs", "2"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def profile(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["profile", *SUBJECT, *arguments])


def document(*arguments: str) -> Any:
    result = profile(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def plain(seed: int) -> nn.Module:
    return build_seeded(ModelConfig(name="deep_narrow_mlp", options={"depth": DEPTH}), (1, 8, 8), 10, seed, nn.ReLU)


def counted(network: nn.Module, *, validation: bool = False) -> list[LayerProfile]:
    split = training_split(DataConfig(name="digits", train_limit=IMAGES))
    part = DeviceArrays(split.validation if validation else split.train, normalisation(split.train))
    return count(network, [part.batch(torch.arange(len(part)))])


def test_at_initialisation_the_layers_are_those_of_the_seeds_network() -> None:
    found = document("--seed", "3")
    (moment,) = found["profiles"]
    assert moment["epoch"] == 0
    assert moment["layers"] == [layer.to_json() for layer in counted(plain(3))]
    assert "epochs" not in found["recipe"]
    assert found["remedies"] == found["files"] == []
    assert found["advice"]


def test_split_and_samples_choose_what_is_seen() -> None:
    whole, part = document("--split", "validation"), document("--split", "validation", "--samples", "11")
    assert whole["profiles"][0]["layers"] == [layer.to_json() for layer in counted(plain(0), validation=True)]
    assert [layer["samples"] for layer in part["profiles"][0]["layers"]] == [11] * DEPTH
    assert document("--samples", "1000000")["profiles"] == document()["profiles"]


def test_the_table_is_printed_and_without_out_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = profile()
    assert result.exit_code == 0, result.stderr
    assert "deep_narrow_mlp on digits, at initialisation, over 360 samples (train)" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines() if line.startswith("activations.")] == [
        f"activations.{index}" for index in range(DEPTH)
    ]
    assert list(tmp_path.iterdir()) == []


def test_training_is_that_of_the_command_train_and_each_epoch_is_profiled(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    trained = CliRunner().invoke(
        app, ["train", *SUBJECT, *TRAINING, "--surrogate", "b_silu", "--out", str(weights), "--json"]
    )
    assert trained.exit_code == 0, trained.stderr
    out = tmp_path / "new" / "folder"
    found = document(*TRAINING, "--surrogate", "b_silu", "--out", str(out))
    network = plain(0)
    network.load_state_dict(torch.load(weights, weights_only=True))
    assert [moment["epoch"] for moment in found["profiles"]] == [0, 1, 2]
    assert found["profiles"][-1]["layers"] == [layer.to_json() for layer in counted(network)]
    assert found["profiles"][0] == document()["profiles"][0]
    assert found["files"] == [
        str(out / name) for name in ("table.md", "profile.csv", "profile.json", "profile.png", "epochs.png")
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(Path(file).name for file in found["files"])
    with (out / "profile.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["layer"]) for row in rows] == [
        (str(epoch), f"activations.{index}") for epoch in range(3) for index in range(DEPTH)
    ]
    assert int(rows[-1]["dead"]) == len(found["profiles"][-1]["layers"][-1]["dead_units"])
    assert json.loads((out / "profile.json").read_text()) == {k: v for k, v in found.items() if k != "files"}

    of_file = document("--weights", str(weights), "--out", str(tmp_path / "given"))
    assert [moment["epoch"] for moment in of_file["profiles"]] == [0, None]
    assert of_file["profiles"][-1]["layers"] == found["profiles"][-1]["layers"]
    assert not (tmp_path / "given" / "epochs.png").exists()


def test_remedies_stand_beside_the_run_and_no_way_is_called_better() -> None:
    found = document(*TRAINING, "--try", "--surrogate", "sigmoid(4*x)")
    titles = [row["title"] for row in found["remedies"]]
    assert titles == [REMEDIES[0].title, "SUGAR: sigmoid(4*x)", *(remedy.title for remedy in REMEDIES[1:])]
    rows = {row["title"]: (row["dead"], row["accuracy"]) for row in found["remedies"]}
    assert all(0 <= share <= 1 for row in rows.values() for share in row)
    assert len(set(rows.values())) >= len(rows) - 1, "each way is a training of its own"
    for surrogate, title in (("relu", "ReLU"), ("sigmoid(4*x)", "SUGAR: sigmoid(4*x)"), ("b_silu", "SUGAR: b_silu")):
        result = CliRunner().invoke(app, ["train", *SUBJECT, *TRAINING, "--surrogate", surrogate, "--json"])
        last = json.loads(result.stdout)["epochs"][-1]
        assert rows[title] == (last["dead_units"], last["accuracy"])
    assert "One seed each: differences in accuracy below" in found["advice"][-1]
    assert "40 validation samples" in found["advice"][-1]


def test_a_surrogate_among_the_remedies_is_not_trained_twice() -> None:
    result = profile(*TRAINING, "--try", "--surrogate", "b_silu", "--epochs", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("trying") == len(REMEDIES) - 1
    assert "trying SUGAR: b_silu" not in result.stderr


def test_a_remedy_that_diverges_is_a_row_and_not_the_end() -> None:
    found = document("--lr", "0.5", "--epochs", "2", "--try", "--set", "recipe.model.options.depth=20")
    remarks = {row["title"]: row["remark"] for row in found["remedies"]}
    assert remarks["ReLU"] == ""
    assert "diverged" in remarks.values()
    assert all((row["accuracy"] is None) == (row["remark"] == "diverged") for row in found["remedies"])


OWN = """
from torch import nn
def make(depth):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
def functional(depth):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def test_a_network_of_ones_own_is_tried_without_the_non_sugar_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "network_to_profile.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = document(*TRAINING, "--try", "--model", "network_to_profile:make")
    assert [layer["layer"] for layer in found["profiles"][-1]["layers"]] == ["2"]
    refused = {remedy.title for remedy in REMEDIES if remedy.arm == "non_sugar"}
    assert {row["title"] for row in found["remedies"] if row["remark"]} == refused
    assert {row["title"] for row in found["remedies"] if row["accuracy"] is None} == refused
    result = profile("--model", "network_to_profile:functional")
    assert result.exit_code == 2
    assert "nn.ReLU, not F.relu" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--weights", "no.pt"], "no such file"),
        (["--weights", "text.pt"], "not a checkpoint"),
        (["--weights", "other.pt"], "do not fit model deep_narrow_mlp"),
        (["--weights", "other.pt", "--epochs", "1"], "give one of them"),
        (["--try"], "--epochs N"),
        (["--set", "recipe.epochs=3"], "give --epochs N"),
        (["--epochs", "0"], "recipe.epochs"),
        (["--samples", "0"], "--samples"),
        (["--split", "test"], "--split"),
        (["--surrogate", "sigmoid(4*y)"], "unknown name 'y'"),
        (["--surrogate", "1000000*exp(x)"], "not admitted"),
        (["--model", "resnet17"], "did you mean resnet18"),
        (["--seed", "-1"], "seed is -1"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--out", "text.pt"], "--out"),
        (["--out", "text.pt/below"], "--out"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2_and_nothing_is_created(
    arguments: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("no weights")
    torch.save(nn.Linear(3, 3).state_dict(), "other.pt")
    result = profile("--out", "made", *arguments)
    assert result.exit_code == 2, result.output
    assert part in result.stderr
    assert result.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pt", "text.pt"]
