"""The command landscape: its numbers are the network's own, its files are whole, bad input makes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from sugarsearch.cli import app
from sugarsearch.config.schema import DataConfig, ModelConfig
from sugarsearch.data.splits import training_split
from sugarsearch.models.build import build_seeded

MODEL = ModelConfig(name="deep_narrow_mlp", options={"depth": 2})
COMMON = ["--data", "digits", "--model", "deep_narrow_mlp", "--device", "cpu"]
COMMON += ["--set", "recipe.model.options.depth=2", "--set", "recipe.data.train_limit=400"]
# Whoever runs the tests in the background may have them ignore Ctrl-C, and children inherit that.
HEARING = "import signal; signal.signal(2, signal.default_int_handler); from sugarsearch.cli import main; main()"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def network(seed: int) -> nn.Module:
    return build_seeded(MODEL, (1, 8, 8), 10, seed, nn.ReLU)


@pytest.fixture
def weights(tmp_path: Path) -> list[Path]:
    """Two files, in a folder that holds nothing else."""
    paths = [tmp_path / "given" / name for name in ("first.pt", "second.pt")]
    paths[0].parent.mkdir()
    for seed, path in enumerate(paths):
        torch.save(network(seed).state_dict(), path)
    return paths


def landscape(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["landscape", *map(str, arguments), *COMMON])


def samples(split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first `count`, normalised without the package's own code."""
    parts = training_split(DataConfig(name="digits", train_limit=400))
    whole = parts.train.images.astype(np.float64)
    part = parts.train if split == "train" else parts.validation
    inputs = (part.images[:count] - whole.mean()) / whole.std()
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(part.labels[:count])


@pytest.mark.parametrize(("split", "asked", "used"), [("train", 100, 100), ("validation", 2000, 40)])
def test_numbers_are_those_of_the_weights_on_the_samples(
    weights: list[Path], tmp_path: Path, split: str, asked: int, used: int
) -> None:
    out = tmp_path / "new" / "out"
    options = ["--points", "5", "--reach", "0.5", "--samples", str(asked), "--split", split, "--out", str(out)]
    result = landscape(*weights, *options, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document == json.loads((out / "landscape.json").read_text())
    assert document["samples"] == used
    assert document["versions"]["torch"] == torch.__version__
    assert document["settings"]["seed"] == 0
    assert document["settings"]["recipe"]["model"] == {"name": "deep_narrow_mlp", "options": {"depth": 2}}
    assert "epochs" not in document["settings"]["recipe"]
    inputs, labels = samples(split, used)
    for seed, made in enumerate(document["networks"]):
        assert made["weights"] == str(weights[seed])
        assert made["alphas"] == made["betas"] == [-0.5, -0.25, 0, 0.25, 0.5]
        with torch.no_grad():
            logits = network(seed)(inputs)
        assert made["losses"][2][2] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
        assert made["accuracies"][2][2] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
        assert len({loss for row in made["losses"] for loss in row}) == 25
    assert sorted(path.name for path in out.iterdir()) == ["contour.png", "landscape.json", "surface.png"]
    for name in ("contour.png", "surface.png"):
        with Image.open(out / name) as picture:
            picture.load()
            assert picture.width > 1500


def test_progress_goes_to_stderr_and_results_to_stdout(weights: list[Path], tmp_path: Path) -> None:
    result = landscape(weights[0], "--points", "3", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [f"first: row {row} of 3" for row in (1, 2, 3)]
    assert result.stdout.startswith("first    loss ")
    assert f"written  {tmp_path / 'out' / 'surface.png'}" in result.stdout


def test_seed_and_normalisation_matter_and_the_same_command_gives_the_same_numbers(
    weights: list[Path], tmp_path: Path
) -> None:
    def losses(*options: str) -> Any:
        result = landscape(weights[0], "--points", "3", "--out", tmp_path / "out", "--json", *options)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["networks"][0]["losses"]

    plain = losses()
    assert losses() == plain
    assert losses("--normalise", "layer", "--seed", "0") == plain
    assert losses("--normalise", "filter") != plain
    assert losses("--seed", "1") != plain


def test_what_train_writes_is_read_and_has_the_accuracy_that_train_reports(tmp_path: Path) -> None:
    path = tmp_path / "trained.pt"
    options = ["--optimizer", "adam", "--lr", "0.01", "--epochs", "2", "--surrogate", "b_silu"]
    trained = CliRunner().invoke(app, ["train", *COMMON, *options, "--out", str(path), "--json"])
    assert trained.exit_code == 0, trained.stderr
    result = landscape(path, "--points", "3", "--split", "validation", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    (made,) = json.loads(result.stdout)["networks"]
    last = json.loads(trained.stdout)["epochs"][-1]
    assert made["accuracies"][1][1] == pytest.approx(last["accuracy"])
    assert made["losses"][1][1] == pytest.approx(last["loss"], rel=1e-5)


def test_losses_that_are_not_finite_are_null_and_said(weights: list[Path], tmp_path: Path) -> None:
    state = {name: value * 1e18 for name, value in network(0).state_dict().items()}
    torch.save(state, weights[0])
    result = landscape(weights[0], "--points", "3", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "9 points not finite" in result.stdout
    (made,) = json.loads((tmp_path / "out" / "landscape.json").read_text())["networks"]
    assert made["losses"] == [[None] * 3] * 3
    assert (tmp_path / "out" / "surface.png").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--points", "4"], "points is not allowed: 4 is even"),
        (["--points", "1"], "points is 1"),
        (["--points", "-3"], "points is -3"),
        (["--reach", "0"], "reach is 0.0"),
        (["--reach", "nan"], "reach is NaN"),
        (["--normalise", "row"], "normalise is"),
        (["--samples", "0"], "samples is 0"),
        (["--split", "test"], "split is"),
        (["--seed", "-1"], "seed is -1"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--model", "resnet17"], "did you mean resnet18"),
        (["--set", "recipe.model.options.depth=3"], "they lack "),
        (["--set", "recipe.model.options.depth=1"], "which the model has not"),
        (["--set", "recipe.model.options.width=13"], "the model's [13, 64]"),
        (["--set", "recipe.bach_size=3"], "did you mean batch_size?"),
        (["--data", "digitz"], "did you mean digits"),
        (["--out", "/dev/null/out"], "--out"),
        (["--out", "given/first.pt"], "--out"),
        (["--out", "n" * 300], "--out"),
    ],
)
def test_bad_options_are_one_message_and_exit_code_2(
    weights: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # COMMON comes first: of an option given twice the last one counts.
    command = ["landscape", *COMMON, *map(str, weights), "--out", "out", *options]
    assert_refused(CliRunner().invoke(app, command), part, tmp_path)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "no such file"),
        (b"", "not a checkpoint"),
        (b"no weights", "not a checkpoint"),
        (b"PK\x03\x04 half a zip", "not a checkpoint"),
        ([1, 2], "no state_dict"),
        ({}, "no state_dict"),
        ({"epoch": 3}, "no state_dict"),
        (network(2), "not a checkpoint"),  # a pickled module would run code
        ({"weight": torch.zeros(2)}, "they lack "),
        ({name: value * torch.nan for name, value in network(3).state_dict().items()}, "not finite"),
    ],
    ids=["missing", "empty", "text", "torn", "list", "nothing", "numbers", "module", "other", "nan"],
)
def test_files_that_hold_no_weights_of_the_model_are_refused(
    weights: list[Path], tmp_path: Path, content: Any, part: str
) -> None:
    if content is None:
        weights[1].unlink()
    elif isinstance(content, bytes):
        weights[1].write_bytes(content)
    else:
        torch.save(content, weights[1])
    for paths in (weights, weights[1:]):
        assert_refused(landscape(*paths, "--out", tmp_path / "out"), part, tmp_path)


@pytest.mark.parametrize("kind", ["same", "copy", "link"])
def test_two_equal_files_are_refused(weights: list[Path], tmp_path: Path, kind: str) -> None:
    first, other = weights
    other.unlink()
    if kind == "copy":
        other.write_bytes(first.read_bytes())
    elif kind == "link":
        other.symlink_to(first)
    else:
        other = first
    assert_refused(landscape(first, other, "--out", tmp_path / "out"), "are the same", tmp_path)


def test_weights_of_another_model_are_refused(weights: list[Path], tmp_path: Path) -> None:
    command = ["landscape", str(weights[0]), "--data", "digits", "--model", "resnet8", "--out", str(tmp_path / "out")]
    assert_refused(CliRunner().invoke(app, command), "do not fit model resnet8", tmp_path)


def test_a_folder_and_a_third_file_are_refused(weights: list[Path], tmp_path: Path) -> None:
    assert_refused(landscape(tmp_path, "--out", tmp_path / "out"), "no such file", tmp_path)
    assert_refused(landscape(*weights, weights[0], "--out", tmp_path / "out"), "unexpected extra argument", tmp_path)
    assert_refused(landscape("--out", tmp_path / "out"), "WEIGHTS.pt", tmp_path)


def assert_refused(result: Result, part: str, folder: Path) -> None:
    assert result.exit_code == 2, result.output
    assert part in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert [path.name for path in folder.iterdir()] == ["given"]


def test_ctrl_c_is_one_line_and_leaves_nothing(weights: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", HEARING, "landscape", str(weights[0]), "--out", str(tmp_path / "out"), *COMMON]
    process = subprocess.Popen(
        [*command, "--points", "999"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert first == "first: row 1 of 999\n"
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "sugarsearch: stopped by Ctrl-C."
    assert "Traceback" not in stderr
    assert stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
