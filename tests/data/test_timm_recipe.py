"""The transforms that timm makes, part by part; and timm missing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sugarsearch.data.device import Normalisation
from sugarsearch.data.timm_recipe import image_transform, mixing
from sugarsearch.errors import UsageError

pytest.importorskip("timm")
NUMBERS = Normalisation((127.5, 51.0, 0.0), (127.5, 102.0, 255.0))


def parts(shape: tuple[int, ...]) -> list[Any]:
    transform: Any = image_transform(shape, NUMBERS)
    return list(transform.transforms)


@pytest.mark.parametrize("side", [32, 64])
def test_small_images_are_shifted_mirrored_augmented_normalised_and_erased_in_that_order(side: int) -> None:
    crop, flip, augment, tensor, normal, erasing = parts((3, side, side))
    assert type(crop).__name__ == "RandomCrop"
    assert (crop.size, crop.padding, crop.fill) == ((side, side), 4, 0)
    assert (type(flip).__name__, flip.p) == ("RandomHorizontalFlip", 0.5)
    assert type(augment).__name__ == "RandAugment"
    assert augment.num_layers == 2
    assert {(op.magnitude, op.magnitude_std, op.prob) for op in augment.ops} == {(9, 0.5, 0.5)}
    assert "SolarizeIncreasing" in [op.name for op in augment.ops], "inc1"
    assert {tuple(op.hparams["img_mean"]) for op in augment.ops} == {(128, 51, 0)}, "borders have the data's mean"
    assert type(tensor).__name__ == "MaybeToTensor"
    assert normal.mean.tolist() == pytest.approx([0.5, 0.2, 0.0])
    assert normal.std.tolist() == pytest.approx([0.5, 0.4, 1.0])
    assert (erasing.probability, erasing.mode, erasing.min_count, erasing.max_count) == (0.25, "pixel", 1, 1)


def test_larger_images_are_cut_out_and_enlarged() -> None:
    crop = parts((3, 65, 48))[0]
    assert type(crop).__name__ == "RandomResizedCropAndInterpolation"
    assert (tuple(crop.size), crop.scale) == ((65, 48), (0.08, 1.0))
    assert parts((3, 64, 48))[0].size == (64, 48)


@pytest.mark.parametrize("strength", [0, 9, 10])
def test_every_operation_works_at_every_strength(strength: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    shown = {}
    for operation in parts((3, 8, 8))[2].ops:
        operation.prob, operation.magnitude, operation.magnitude_std = 1.0, strength, 0
        shown[operation.name] = np.asarray(operation(image))
    assert len(shown) == 15
    assert {result.shape for result in shown.values()} == {(8, 8, 3)}
    bits = 4 - int(strength * 0.4)
    assert np.array_equal(shown["PosterizeIncreasing"], np.asarray(image) >> (8 - bits) << (8 - bits))


def test_an_image_that_nothing_befalls_is_normalised_as_the_recipe_says() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    _, _, _, tensor, normal, _ = parts((3, 8, 8))
    mean, std = np.array([NUMBERS.mean, NUMBERS.std])
    expected = ((image - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(normal(tensor(Image.fromarray(image))).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_mixing_is_mixup_or_cutmix_with_smoothed_labels() -> None:
    made: Any = mixing(10)
    assert (made.mixup_alpha, made.cutmix_alpha, made.mix_prob, made.switch_prob) == (0.8, 1.0, 1.0, 0.5)
    assert (made.label_smoothing, made.num_classes, made.mode) == (0.1, 10, "batch")
    made.mixup_enabled = False
    _, targets = made(torch.zeros(2, 3, 4, 4), torch.tensor([1, 9]))
    assert targets[0].tolist() == pytest.approx([0.01, 0.91] + [0.01] * 8)


def test_without_timm_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.data", None)
    for make in (lambda: image_transform((3, 32, 32), NUMBERS), lambda: mixing(10)):
        with pytest.raises(UsageError, match=r"needs timm: pip install 'sugarsearch\[timm\]'"):
            make()
