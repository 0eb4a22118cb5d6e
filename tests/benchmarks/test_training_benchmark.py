"""The benchmark of one training run: that all ways train by one recipe, and what the section says; never times."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, Sampler

from benchmarks import training
from benchmarks.harness import Settings
from benchmarks.training import DetachedBSiLU, Loaders, PlainImages, PlainRun, Sizes
from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import tensor_split
from sugarsearch.models.build import build_seeded
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.batches import shuffled
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")
TINY = Sizes(images=80, scoring=32, turns=1, side=8, batch=32, workers=0)
SEED = 5


class OwnOrder(Sampler[int]):
    """The order of TrainingRun's batches, epoch by epoch."""

    def __init__(self, count: int) -> None:
        self._count, self._epoch = count, 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        self._epoch += 1
        return iter(shuffled(self._count, SEED, self._epoch - 1).tolist())


@contextmanager
def counted_steps() -> Iterator[list[object]]:
    """An entry for every step of any optimiser."""
    steps: list[object] = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(optimizer))
    try:
        yield steps
    finally:
        handle.remove()


@pytest.mark.parametrize(("text", "activation"), [("relu", nn.ReLU), ("b_silu", DetachedBSiLU)])
def test_the_plain_loop_trains_as_training_run(text: str, activation: Callable[[], nn.Module]) -> None:
    images, labels = training.made_up(144, 8)["train"]
    split = tensor_split((images[:80], labels[:80]), (images[80:], labels[80:]))
    recipe = Recipe(
        data=DataConfig(name="corners"),
        model=ModelConfig(name="resnet8"),
        optimizer=OptimizerConfig(momentum=0.9),
        schedule=ScheduleConfig(name="cosine"),
        epochs=2,
        batch_size=32,
    )
    rate, scale = 0.05, normalisation(split.train)
    assert scale is not None
    network = build_seeded(recipe.model, split.train.shape, len(split.train.classes), SEED, activation)
    train, scoring = (PlainImages(part, scale) for part in (split.train, split.validation))
    loaders = Loaders(DataLoader(train, 32, sampler=OwnOrder(80)), DataLoader(scoring, 32))
    plain = PlainRun(network, recipe, rate, loaders, CPU)
    data = [DeviceArrays(part, scale) for part in (split.train, split.validation)]
    own = TrainingRun([Member(surrogate(text), SEED)], rate, recipe, 2, data[0], data[1], CPU, "eager")
    with counted_steps() as steps:
        for _ in range(2):
            (report,), epoch = own.advance(), plain.advance()
            assert epoch.train_loss == pytest.approx(report.train_loss, rel=2e-3)
            assert epoch.loss == pytest.approx(report.loss, rel=5e-3)
            assert epoch.accuracy == pytest.approx(report.accuracy, abs=0.05)
    assert (plain.steps, len(steps)) == (6, 12)


def no_compiler(bench: training.Bench) -> float:
    raise RuntimeError("no C++ compiler was found")


def test_every_way_is_trained_to_the_same_end_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "compile_seconds", no_compiler)
    threads = torch.get_num_threads()
    with counted_steps() as steps:
        section = training.measure(Settings(CPU, threads=1), TINY)
    assert torch.get_num_threads() == threads
    # Six ways of two epochs of three batches, and the epoch that is profiled.
    assert len(steps) == 6 * 2 * 3 + 3
    targets = {figure.name: figure.target for figure in section.figures}
    assert targets == {
        "mode eager, ReLU": ">= 1.4",
        "mode eager, SUGAR B-SiLU": ">= 1.4",
        "straightforward loop without workers, ReLU": "",
        "SUGAR B-SiLU, mode eager": "<= 1.03",
        "B-SiLU in detach form, straightforward loop": "",
    }
    for figure in section.figures:
        assert figure.value > 0
        assert len(figure.detail["validation_accuracies"]) == len(figure.detail["reference_validation_accuracies"]) == 2
    skipped, profile = section.notes
    assert "skipped (RuntimeError: no C++ compiler was found)" in skipped
    assert sum(int(share) for share in re.findall(r"(\d+)%", profile)) == pytest.approx(100, abs=5)
    assert "made-up images, batch 32" in section.what
    json.dumps(section.to_json(), allow_nan=False)


def test_torchs_own_relu_stands_at_every_site_of_the_reference() -> None:
    bench = training.Bench(Settings(CPU), TINY)
    modules = list(bench.own("torch", "eager")._network.module.modules())
    assert any(isinstance(part, training.TorchsReLU) for part in modules)
    x = torch.randn(50, requires_grad=True)
    (site,) = {part for part in modules if isinstance(part, training.TorchsReLU)}
    assert type(site(x).grad_fn).__name__ == "ReluBackward0"
    (epoch,) = bench.own("torch", "eager").advance()
    (sugar,) = bench.own("relu", "eager").advance()
    assert epoch.train_loss == pytest.approx(sugar.train_loss, rel=1e-3)


def test_a_profile_names_what_an_epoch_consists_of() -> None:
    bench = training.Bench(Settings(CPU), TINY)
    shares = training.profile(bench.own("b_silu", "eager"), CPU)
    kinds = set(training.KINDS) - {"fused batch norm, activation, sum"}
    assert shares.keys() == kinds | {"scoring", "the rest"}
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0


def test_real_images_come_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUGARSEARCH_DATA", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(folder / f"{number}.png")
    split = training.images(Settings(CPU, data=tmp_path / "images"), Sizes(images=24, scoring=8, turns=1))
    assert (len(split.train), len(split.validation)) == (24, 8)
    assert split.train.classes == ("cat", "dog")


def test_made_up_images_are_of_four_classes_and_always_the_same() -> None:
    (images, labels), (again, _) = (training.made_up(200, 8)["train"] for _ in range(2))
    assert images.shape == (200, 3, 8, 8)
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert np.array_equal(images, again)
