"""sugarsearch reproduce of figures: nets trained once and kept, what is seen of them, --show, stops and bad input."""

from __future__ import annotations

import json
import signal
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
from sugarsearch.cli.reproduce import figures
from sugarsearch.config import loader
from sugarsearch.config.figure import LandscapesBaseline, ProfilesBaseline
from sugarsearch.config.schema import DataConfig, ModelConfig, StudyConfig
from sugarsearch.data.splits import training_split
from sugarsearch.errors import ConfigurationError
from sugarsearch.models.build import build_seeded
from sugarsearch.reproduction.load import load

B_SILU = "b_silu(alpha=1.67)"
TITLES = ("relu", B_SILU)
MODEL = ModelConfig(name="deep_narrow_mlp", options={"depth": 2})
SETTINGS = (
    "recipe.data={name: digits, train_limit: 200}",
    "recipe.model={name: deep_narrow_mlp, options: {depth: 2}}",
    "recipe.epochs=2",
    "learning_rate=0.1",
    "samples=100",
    "execution.threads=1",
)
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]
GRID = [*SMALL, "--set", "points=3"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments), "--device", "cpu"])


def document(*arguments: str | Path) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def weights_of(folder: Path) -> dict[str, Path]:
    """The weights in a folder, by surrogate, as the files beside them say."""
    return {
        json.loads(path.read_text())["surrogate"]: path.with_suffix(".pt") for path in folder.glob("weights/*.json")
    }


def network(path: Path) -> nn.Module:
    plain = build_seeded(MODEL, (1, 8, 8), 10, 0, nn.ReLU)
    plain.load_state_dict(torch.load(path, weights_only=True))
    return plain.eval()


def samples(count: int) -> tuple[Tensor, Tensor]:
    """The first `count` of the training split, normalised without the package's own code."""
    part = training_split(DataConfig(name="digits", train_limit=200)).train
    whole = part.images.astype(np.float64)
    inputs = torch.tensor((whole - whole.mean()) / whole.std(), dtype=torch.float32)
    return inputs[:count], torch.tensor(part.labels[:count])


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("profiles") / "out"
    return out, call("activation_profile", *SMALL, "--out", out)


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("landscapes") / "out"
    return out, call("loss_landscape", *GRID, "--out", out)


def test_the_papers_settings_are_shipped() -> None:
    profile, landscape, table = load("activation_profile"), load("loss_landscape"), load("table5")
    assert isinstance(profile, ProfilesBaseline)
    assert isinstance(landscape, LandscapesBaseline)
    asked = [(one.recipe.model.name, one.recipe.data.name, one.recipe.epochs) for one in (profile, landscape)]
    assert asked == [("vgg16", "cifar100", 40), ("resnet18", "cifar100", 10)]
    assert profile.surrogates == landscape.surrogates == TITLES
    assert (profile.learning_rate, landscape.reach, landscape.normalise) == (0.001, 0.25, "layer")
    shared = {"data", "model", "epochs"}
    like = table.model_dump()["models"]["vgg16"]["recipe"]
    for baseline in (profile, landscape):
        assert baseline.recipe.model_dump(exclude=shared) == {k: like[k] for k in like if k not in shared}


def test_profiles_are_those_of_the_kept_weights_on_the_training_split(profiled: tuple[Path, Result]) -> None:
    out, result = profiled
    assert result.exit_code == 0, result.stderr
    assert [line.partition(": validation")[0] for line in result.stderr.splitlines()] == [
        f"{title}: epoch {epoch} of 2" for title in TITLES for epoch in (1, 2)
    ]
    numbers = document("activation_profile", *SMALL, "--out", out)["numbers"]
    inputs, _ = samples(100)
    fired = []
    for text, path in weights_of(out).items():
        hidden, found = inputs.flatten(1), json.loads(Path(numbers[text]).read_text())
        linear = [module for module in network(path).modules() if isinstance(module, nn.Linear)]
        assert len(found["layers"]) == len(linear) - 1 > 1
        for layer, seen in zip(linear, found["layers"], strict=False):
            hidden = layer(hidden).relu()
            assert seen["fired"] == (hidden > 0).sum(0).tolist()
            assert seen["samples"] == 100
        fired.append(found["layers"][0]["fired"])
    assert fired[0] != fired[1]
    assert f"\n{B_SILU}: after 2 epochs, over 100 samples (train)\n" in result.stdout
    assert len(list(out.glob("figures/profile_*.png"))) == 2
    assert "- one run each" in (out / "table.md").read_text()


def test_landscapes_are_those_of_the_kept_weights_on_one_scale(surveyed: tuple[Path, Result]) -> None:
    out, result = surveyed
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if "row" in line] == [
        f"{title}: row {row} of 3" for title in TITLES for row in (1, 2, 3)
    ]
    numbers = document("loss_landscape", *GRID, "--out", out)["numbers"]
    inputs, labels = samples(100)
    for text, path in weights_of(out).items():
        found = json.loads(Path(numbers[text]).read_text())
        loss = F.cross_entropy(network(path)(inputs), labels).item()
        assert found["alphas"] == found["betas"] == [-0.25, 0, 0.25]
        assert found["losses"][1][1] == pytest.approx(loss, rel=1e-5)
        (row,) = [line for line in result.stdout.splitlines() if line.startswith(f"{text} ")]
        assert row.split()[2] == f"{loss:.4g}"
    for name in ("contour", "surface"):
        with Image.open(out / f"figures/{name}.png") as picture:
            assert picture.width > 1500


def test_nothing_is_done_twice_and_other_settings_are_another_net(profiled: tuple[Path, Result]) -> None:
    out, first = profiled
    again = call("activation_profile", *SMALL, "--out", out)
    assert (again.stderr, again.stdout) == ("", first.stdout)
    more = document("activation_profile", *SMALL, "--set", "samples=50", "--out", out)
    assert call("activation_profile", *SMALL, "--set", "samples=50", "--out", out).stderr == ""
    assert len(weights_of(out)) == len(list(out.glob("weights/*.pt"))) == 2  # looked at anew, not trained
    assert json.loads(Path(more["numbers"]["relu"]).read_text())["layers"][0]["samples"] == 50
    for setting in ("seed=2", "recipe.epochs=1", "learning_rate=0.2"):
        shown = document("activation_profile", *SMALL, "--set", setting, "--show", "--out", out)
        assert shown["numbers"] == dict.fromkeys(TITLES), setting


def test_show_draws_what_is_there_and_trains_nothing(profiled: tuple[Path, Result], tmp_path: Path) -> None:
    out, first = profiled
    assert call("activation_profile", *SMALL, "--show", "--out", out).stdout == first.stdout
    with_another = ["--set", f"surrogates=[relu, elu, {B_SILU!r}]"]
    partly = document("activation_profile", *SMALL, *with_another, "--show", "--out", out)
    assert partly["numbers"]["elu"] is None
    assert partly["cautions"][0] == "elu(alpha=1): not run"
    assert sum(Path(file).name.startswith("profile_") and file.endswith(".png") for file in partly["files"]) == 2
    for name in ("activation_profile", "loss_landscape"):
        nothing = call(name, "--show", "--out", tmp_path / "none")
        assert nothing.exit_code == 0, nothing.stderr
        assert nothing.stderr == ""
        assert f"- {B_SILU}: not run" in nothing.stdout
        assert "written" not in nothing.stdout
    assert not (tmp_path / "none").exists()


def test_a_stop_keeps_the_nets_that_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def say_and_stop(line: str) -> None:
        said.append(line)
        if line.startswith(f"{B_SILU}: epoch 1"):
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(figures, "_say", say_and_stop)
        stopped = call("loss_landscape", *GRID, "--out", tmp_path)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert said[-1].startswith(f"{B_SILU}: epoch 1")
    assert weights_of(tmp_path).keys() == {"relu"}
    assert len(list(tmp_path.glob("numbers/*"))) == 1
    going_on = call("loss_landscape", *GRID, "--out", tmp_path)
    assert going_on.exit_code == 0, going_on.stderr
    assert {line.partition(": ")[0] for line in going_on.stderr.splitlines()} == {B_SILU}
    assert weights_of(tmp_path).keys() == set(TITLES)


def test_damaged_files_are_named(profiled: tuple[Path, Result], tmp_path: Path) -> None:
    weights = weights_of(profiled[0])["relu"]
    kept = tmp_path / "weights" / weights.name
    kept.parent.mkdir()
    kept.write_bytes(weights.read_bytes()[:1000])
    kept.with_suffix(".json").write_text(weights.with_suffix(".json").read_text())
    result = call("activation_profile", *SMALL, "--out", tmp_path)
    assert result.exit_code == 2
    assert f"{kept} is damaged. Delete it" in result.stderr
    kept.with_suffix(".json").write_text("{")
    result = call("activation_profile", *SMALL, "--out", tmp_path)
    assert result.exit_code == 2
    assert f"{kept.with_suffix('.json')} cannot be used" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "vgg16"], "--model chooses nothing in loss_landscape; options that do: none."),
        (["--runs", "2"], "--runs chooses nothing in loss_landscape"),
        (["--set", "recipe.epoch=2"], "recipe.epoch is not allowed; did you mean epochs?"),
        (["--set", "points=4"], "4 is even; the network itself is in the middle"),
        (["--set", "surrogates=[elu]"], "['elu'] lacks relu, which the others are set against."),
        (["--set", "surrogates=[relu, elu, elu]"], "names one twice; give each once."),
        (["--set", "surrogates=[relu, 'exp(9*x)']"], "exp(9*x) is not admitted"),
        (["--set", "recipe.data=./none"], "is not a folder"),
        (["--set", "recipe.optimizer.weight_decay=1e12"], "relu: the run diverged in epoch"),
    ],
)
def test_bad_input_is_one_message_and_leaves_no_numbers(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = call("loss_landscape", *GRID, *arguments, "--out", tmp_path)
    assert result.exit_code == (3 if "diverged" in said else 2)
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*/*"))


def test_pictures_of_the_table_are_named_and_not_run_is_said(tmp_path: Path) -> None:
    recipe = [f"models.vgg16.{one}" for one in SETTINGS if one.startswith("recipe.")]
    small = [word for setting in recipe for word in ("--set", setting)]
    assert call("convergence", *small, "--show", "--out", tmp_path).stdout == "not run\n"
    chosen = ["--model", "vgg16", "--surrogate", "relu", "--seeds", "1"]
    result = call("convergence", *chosen, *small, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"written: {tmp_path / 'figures/convergence_vgg16.png'}\n"
    bars = call("accuracy_bars", *small, "--show", "--out", tmp_path)
    assert bars.stdout == f"written: {tmp_path / 'figures/accuracy_vgg16.png'}\n"


def test_a_recipe_of_any_file_may_be_like_a_shipped_one(tmp_path: Path) -> None:
    text = loader.find("studies", "quickstart").read_text()
    begin = text.index("recipe:")
    end = begin + text[begin:].index("\nsearch:")
    path = tmp_path / "study.yaml"
    path.write_text(f"{text[:begin]}recipe: {{like: cifar_cnn, data: digits, epochs: 3}}{text[end:]}")
    recipe = loader.load(path, StudyConfig).recipe
    assert (recipe.model.name, recipe.data.name, recipe.epochs) == ("resnet18", "digits", 3)
    assert recipe.schedule.milestones == (100,)
    for given, said in (
        ("cifar", "recipe.like: unknown recipe 'cifar'; did you mean cifar_cnn?"),
        (3, "recipe.like is 3; write the name of a shipped recipe or a path."),
        ({"epochs": 3}, 'recipe.like is {"epochs": 3}; write'),
    ):
        path.write_text(f"{text[:begin]}recipe: {json.dumps({'like': given})}{text[end:]}")
        with pytest.raises(ConfigurationError) as caught:
            loader.load(path, StudyConfig)
        (problem,) = caught.value.problems
        assert said in problem.message
        assert problem.line == text[:begin].count("\n") + 1
