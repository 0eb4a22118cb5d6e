"""timm's augmentation: every image and mixture against ones made by hand, whatever processes do the work."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sugarsearch.config.schema import ModelConfig, OptimizerConfig, Recipe
from sugarsearch.data.arrays import from_pairs
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.timm_recipe import image_transform, mixing
from sugarsearch.errors import UsageError
from sugarsearch.models.build import build_seeded
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training import augmentation
from sugarsearch.training.augmentation import TimmBatches
from sugarsearch.training.network import Member
from sugarsearch.training.streams import Stream, number, seeded
from sugarsearch.training.trainer import TrainingRun, choose_mode

pytest.importorskip("timm")
CPU = torch.device("cpu")
MakeRecipe = Callable[..., Recipe]
Batch = tuple[Tensor, Tensor]
CONV = ModelConfig(name="small_conv")
SEED = 2**50 + 7


def images(count: int, channels: int = 3) -> DeviceArrays:
    rng = np.random.default_rng(count)
    pixels = rng.integers(0, 256, (count, channels, 16, 12), dtype=np.uint8)
    arrays = from_pairs({"train": (pixels, np.arange(count) % 3)})["train"]
    return DeviceArrays(arrays, normalisation(arrays, "half"))


def epoch_of(data: DeviceArrays, size: int, epoch: int = 1, seed: int = SEED, workers: int = 0) -> list[Batch]:
    return list(TimmBatches(data, size, workers).epoch([seed], epoch))


def by_hand(data: DeviceArrays, size: int, epoch: int, seed: int = SEED) -> Iterator[Batch]:
    """Each image and each mixture after seeding all generators anew."""
    assert data.normalisation is not None
    transform, mix = image_transform(data.shape, data.normalisation), mixing(data.classes)

    def reseed(stream: Stream, place: int) -> None:
        value = number(seed, epoch, stream, place)
        random.seed(value)
        np.random.seed(value % 2**32)
        torch.manual_seed(value)

    generator = torch.Generator().manual_seed(number(seed, epoch, Stream.ORDER))
    order = torch.randperm(len(data), generator=generator)[: len(data) // 2 * 2]
    for at, indices in enumerate(torch.split(order, size)):
        made = []
        for offset, index in enumerate(indices):
            reseed(Stream.IMAGE, at * size + offset)
            made.append(transform(Image.fromarray(data.images[index].permute(1, 2, 0).numpy().copy())))
        reseed(Stream.MIXING, at)
        yield mix(torch.stack(made), data.labels[indices])


def equal(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, b) for ours, theirs in zip(left, right, strict=True) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def data() -> DeviceArrays:
    return images(27)


def test_every_image_and_mixture_has_numbers_of_its_own(data: DeviceArrays) -> None:
    batches = epoch_of(data, 8)
    with seeded(0):
        assert equal(batches, list(by_hand(data, 8, 1)))
    assert [len(inputs) for inputs, _ in batches] == [8, 8, 8, 2], "of 27 images the last has no partner"
    assert not equal(batches, epoch_of(data, 8, epoch=2))
    assert not equal(batches, epoch_of(data, 8, seed=SEED + 1))
    for inputs, targets in batches:
        assert (inputs.dtype, inputs.shape[1:]) == (torch.float32, (3, 16, 12))
        assert targets.shape == (len(inputs), 3)
        torch.testing.assert_close(targets.sum(1), torch.ones(len(inputs)))
        assert targets.min() > 0.03, "smoothed"


# From Python 3.12 on: torch's threads do nothing that a forked process would miss.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_number_of_processes_changes_nothing(data: DeviceArrays) -> None:
    assert equal(epoch_of(data, 8, workers=2), epoch_of(data, 8))


def test_the_callers_random_numbers_are_the_callers(data: DeviceArrays) -> None:
    def states() -> tuple[object, bytes, bytes]:
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # type: ignore[index]

    before = states()
    batches = TimmBatches(data, 8, 0).epoch([SEED], 0)
    first = next(batches)
    assert states() == before, "also between two batches, where a network draws its dropout"
    drawn = random.random(), np.random.rand(), torch.rand(1)
    assert states() != before, drawn
    assert equal([first, *batches], epoch_of(data, 8, epoch=0))


def test_an_even_number_of_images_are_all_seen() -> None:
    assert [len(inputs) for inputs, _ in epoch_of(images(28), 8)] == [8, 8, 8, 4]
    assert [len(inputs) for inputs, _ in epoch_of(images(9), 8)] == [8], "one that is left alone makes no batch"


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (images(6, channels=1), r"6 inputs of type uint8 and shape \(1, 16, 12\)"),
        (images(4, channels=4), r"4 inputs of type uint8 and shape \(4, 16, 12\)"),
        (
            DeviceArrays(from_pairs({"a": (np.zeros((6, 3, 8, 8), np.float32), np.arange(6) % 2)})["a"], None),
            r"6 inputs of type float32 and shape \(3, 8, 8\)",
        ),
    ],
    ids=["grey", "four channels", "floats"],
)
def test_other_data_is_refused(make_recipe: MakeRecipe, given: DeviceArrays, what: str) -> None:
    recipe = make_recipe(CONV, augmentation="timm")
    with pytest.raises(UsageError, match=f"needs uint8 images of 3 channels, two at least; .* {what}"):
        TrainingRun([Member(surrogate("relu"), 1)], 0.1, recipe, 1, given, given, CPU, "eager")


def test_populations_are_refused_and_never_chosen(make_recipe: MakeRecipe, data: DeviceArrays) -> None:
    recipe = make_recipe(augmentation="timm")
    with pytest.raises(UsageError, match="'timm' works on one network's images at a time"):
        TrainingRun([Member(surrogate("relu"), 1)], 0.1, recipe, 1, data, data, CPU, "population")
    with pytest.raises(UsageError, match="'timm' works on one network's images at a time"):
        choose_mode(recipe, CPU, 8, "population")
    assert choose_mode(recipe, CPU, 8) == "eager"
    assert choose_mode(recipe, torch.device("cuda"), 8) == "compiled"


@pytest.mark.parametrize(
    ("threads", "cores", "workers"), [(1, 64, 0), (2, 64, 0), (64, 2, 0), (4, 64, 3), (64, 4, 3), (64, 64, 8)]
)
def test_processes_leave_a_core_for_training(
    threads: int, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert augmentation.worker_count() == workers


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_trains_on_these_batches_bit_for_bit_and_is_scored_on_plain_images(
    make_recipe: MakeRecipe, data: DeviceArrays, accumulation: int
) -> None:
    optimizer = OptimizerConfig(momentum=0.9)
    recipe = make_recipe(CONV, optimizer, batch_size=8, augmentation="timm", accumulation=accumulation)
    run = TrainingRun([Member(surrogate("relu"), 3)], 0.02, recipe, 2, data, data, CPU, "eager")
    network = build_seeded(CONV, data.shape, data.classes, 3, nn.ReLU).to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(network.parameters(), 0.02, 0.9, fused=True)
    for epoch in range(2):
        (report,) = run.advance()
        total, batches = 0.0, epoch_of(data, 8, epoch, seed=3)
        network.train()
        for at, (inputs, targets) in enumerate(batches):
            if at % accumulation == 0:
                sgd.zero_grad()
            own = sum(len(batch[0]) for batch in batches[at // accumulation * accumulation :][:accumulation])
            logits = network(inputs.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, targets)
            torch.autograd.backward(loss * (len(inputs) / own))
            total += loss.item() * len(inputs)
            if (at + 1) % accumulation == 0 or at + 1 == len(batches):
                sgd.step()
        assert report.train_loss == pytest.approx(total / 26)
    expected = network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in run.state(0).items())
    network.eval()
    plain = network(data.batch(torch.arange(27)).contiguous(memory_format=torch.channels_last))
    assert report.accuracy == pytest.approx((plain.argmax(1) == data.labels).float().mean().item())
    assert report.loss == pytest.approx(F.cross_entropy(plain, data.labels).item(), rel=1e-5)


class Dropped(nn.Sequential):
    """A user's network: dropout draws between the images' draws."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(576, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def test_dropout_draws_what_it_would_without_images_augmented_beside_it(
    make_recipe: MakeRecipe, data: DeviceArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Tensor] = []
    dropout = F.dropout

    def recording(inputs: Tensor, *settings: bool) -> Tensor:
        masks.append(dropout(torch.ones_like(inputs), *settings))
        return inputs

    monkeypatch.setattr(F, "dropout", recording)
    for name in ("timm", "none"):
        recipe = make_recipe(batch_size=8, augmentation=name)
        run = TrainingRun([Member(surrogate("relu"), 3)], 0.02, recipe, 1, images(24), data, CPU, "eager", Dropped)
        run.advance()
    training = [mask for mask in masks if len(mask) == 8]
    assert len(training) == 6
    assert all(torch.equal(*pair) for pair in zip(training[:3], training[3:], strict=True))


def test_grafting_and_clipping_go_with_it(make_recipe: MakeRecipe, data: DeviceArrays) -> None:
    recipe = make_recipe(CONV, batch_size=8, augmentation="timm", clip_gradient=1.0)

    def state(text: str, ablation: str) -> dict[str, Tensor]:
        member = [Member(surrogate(text), 3)]
        run = TrainingRun(member, 0.02, recipe, 1, data, data, CPU, "eager", None, ablation)  # type: ignore[arg-type]
        run.advance()
        return run.state(0)

    plain, grafted = state("relu", ""), state("relu", "grafted")
    assert all(torch.equal(value, grafted[name]) for name, value in plain.items())
