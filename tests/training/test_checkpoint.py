"""Checkpoints: a run taken up again equals the uninterrupted one; files that were cut or changed are never used."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.device import DeviceArrays
from sugarsearch.errors import SugarsearchWarning
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.checkpoint import CheckpointFile
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")
Data = tuple[DeviceArrays, DeviceArrays]
MakeRecipe = Callable[..., Recipe]
OPTIMISERS = [OptimizerConfig(), OptimizerConfig(momentum=0.9, nesterov=True), OptimizerConfig(name="adam")]


def states(run: TrainingRun) -> list[dict[str, Tensor]]:
    return [run.state(member) for member in run.alive]


def assert_identical(left: TrainingRun, right: TrainingRun) -> None:
    assert (left.epoch, left.alive) == (right.epoch, right.alive)
    for ours, theirs in zip(states(left), states(right), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("optimizer", OPTIMISERS, ids=["plain", "nesterov", "adam"])
@pytest.mark.parametrize("mode", ["eager", "population"])
@pytest.mark.parametrize("form", ["closed", "table"])
def test_a_run_taken_up_again_equals_the_uninterrupted_one(
    make_recipe: MakeRecipe,
    vectors: Data,
    tmp_path: Path,
    optimizer: OptimizerConfig,
    mode: Any,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sugarsearch.training.network.population_form", lambda surrogates, device: form)
    recipe = make_recipe(optimizer=optimizer, schedule=ScheduleConfig(name="cosine"), clip_gradient=1.0)
    texts = ("relu", "b_silu", "sigmoid(4*x)", "relu") if mode == "population" else ("b_silu",)
    members = [Member(surrogate(text), seed) for seed, text in enumerate(texts)]

    def fresh() -> TrainingRun:
        return TrainingRun(members, 0.02, recipe, recipe.epochs, *vectors, CPU, mode)

    whole, file = fresh(), CheckpointFile(tmp_path / "run.pt")
    whole.advance()
    if mode == "population":
        whole.drop([0])
    whole.advance()
    file.save(whole.snapshot())
    resumed, state = fresh(), file.load()
    assert state is not None
    resumed.restore(state)
    assert_identical(resumed, whole)
    for _ in range(3):
        assert resumed.advance() == whole.advance()
        assert_identical(resumed, whole)


@pytest.mark.parametrize("model", ["small_conv", "resnet8"])
def test_batch_statistics_come_back_too(make_recipe: MakeRecipe, pictures: Data, tmp_path: Path, model: str) -> None:
    recipe = make_recipe(ModelConfig(name=model), epochs=3, augmentation="crop_flip")

    def fresh() -> TrainingRun:
        return TrainingRun([Member(surrogate("b_silu"), 7)], 0.05, recipe, 3, *pictures, CPU, "eager")

    whole, file = fresh(), CheckpointFile(tmp_path / "run.pt")
    whole.advance()
    file.save(whole.snapshot())
    resumed = fresh()
    resumed.restore(file.load() or {})
    assert resumed.advance() == whole.advance()
    assert_identical(resumed, whole)


def test_a_snapshot_of_another_network_is_refused(make_recipe: MakeRecipe, vectors: Data) -> None:
    def fresh(width: int) -> TrainingRun:
        recipe = make_recipe(ModelConfig(name="deep_narrow_mlp", options={"depth": 4, "width": width}))
        return TrainingRun([Member(surrogate("relu"), 7)], 0.05, recipe, 3, *vectors, CPU, "eager")

    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh(8).restore(fresh(9).snapshot())


STATE: dict[str, Any] = {
    "epoch": 3,
    "weights": torch.arange(500.0),
    "scores": [[0.1, 0.25], []],
    "status": None,
    "reason": "none",
}
OLDER: dict[str, Any] = {**STATE, "epoch": 2}


def written(folder: Path) -> CheckpointFile:
    file = CheckpointFile(folder / "checkpoints" / "run.pt")
    file.save(OLDER)
    file.save(STATE)
    return file


def spoil(content: bytes, number: int) -> bytes:
    """The 50 damages: cut at 25 places, and a bit flipped at 25 others."""
    place = random.Random(number).randrange(len(content))
    if number % 2:
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << number % 8]) + content[place + 1 :]


@pytest.mark.parametrize("number", range(50))
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, number: int) -> None:
    file = written(tmp_path)
    assert (file.load() or {})["epoch"] == 3
    file.path.write_bytes(spoil(file.path.read_bytes(), number))
    with pytest.warns(SugarsearchWarning, match=r"run\.pt: this checkpoint cannot be used"):
        state = file.load()
    assert state is not None
    assert state["epoch"] == 2
    assert torch.equal(state["weights"], OLDER["weights"])
    previous = file.path.with_name("run.pt.previous")
    previous.write_bytes(spoil(previous.read_bytes(), number))
    with pytest.warns(SugarsearchWarning) as told:
        assert file.load() is None
    assert len(told) == 2


def test_a_missing_newest_gives_way_too_and_remove_leaves_nothing(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.path.unlink()  # as a kill between the two moves leaves it
    assert (file.load() or {})["epoch"] == 2
    file.save(STATE)
    assert (file.load() or {})["epoch"] == 3
    file.remove()
    assert list(file.path.parent.iterdir()) == []
    assert file.load() is None


class Payload:
    """What would run code if it were unpickled freely."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch canary",)


def test_a_checkpoint_with_code_in_it_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = CheckpointFile(tmp_path / "run.pt")
    file.save({"epoch": Payload()})
    with pytest.warns(SugarsearchWarning, match="cannot be used"):
        assert file.load() is None
    assert not (tmp_path / "canary").exists()


def test_a_full_disk_costs_the_new_checkpoint_alone(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "run.pt")
    file.save(OLDER)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        with pytest.warns(SugarsearchWarning, match=r"no checkpoint can be written \(File too large\)"):
            file.save(STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (file.load() or {})["epoch"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


_WRITER = """
import sys
from pathlib import Path
import torch
from sugarsearch.training.checkpoint import CheckpointFile
file, epoch = CheckpointFile(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
while True:
    file.save({"epoch": epoch, "weights": torch.full((100_000,), float(epoch))})
    epoch += 1
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    file, moments, last = CheckpointFile(tmp_path / "run.pt"), random.Random(0), -1
    file.save({"epoch": -1, "weights": torch.full((100_000,), -1.0)})
    for life in range(3):
        command = [sys.executable, "-c", _WRITER, str(file.path), str(100_000 * life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
                # Stopped, not killed, to look at the files at many moments of one life; a kill leaves the same files.
                for _ in range(12):
                    with pytest.raises(subprocess.TimeoutExpired):
                        writer.wait(moments.uniform(0.001, 0.02))
                    writer.send_signal(signal.SIGSTOP)
                    with warnings.catch_warnings():
                        warnings.simplefilter("error")
                        state = file.load()
                    assert state is not None
                    assert torch.equal(state["weights"], torch.full((100_000,), float(state["epoch"])))
                    assert state["epoch"] >= last
                    last = state["epoch"]
                    writer.send_signal(signal.SIGCONT)
            finally:
                writer.kill()
    assert last > 200_000
