"""The augmentation of the Swin and ConvNeXt recipes, as timm has it; timm itself is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final, Protocol

from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomCrop

from sugarsearch.data.device import Normalisation
from sugarsearch.errors import UsageError

SMALL: Final = 64
"""Pixels of a side up to which images are shifted, not cut out and enlarged."""


class ImageTransform(Protocol):
    """What becomes of one image in training."""

    def __call__(self, image: Any) -> Tensor:
        """Of a PIL image, float32 [C, H, W]."""
        ...


class Mixing(Protocol):
    """What becomes of one batch in training."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of an even number, mixed in place, and probabilities [B, classes]; draws from NumPy's generator."""
        ...


def image_transform(shape: tuple[int, ...], normalisation: Normalisation) -> ImageTransform:
    """RandAugment rand-m9-mstd0.5-inc1, normalisation, then random erasing with noise of 0.25 of the images.

    Images of up to 64 pixels a side are shifted by up to 4 pixels with black borders, which those recipes' code does
    up to 32; larger ones are cut out and enlarged at random. Both are mirrored every other time. Colour jitter of 0.4
    is asked for as the recipes ask for it; timm leaves it out beside RandAugment.

    Args:
        shape: of the images, (C, H, W).
        normalisation: of the training data.

    Raises:
        UsageError: timm is not installed.
    """
    size = shape[1:]
    transform = _timm().create_transform(
        size,
        is_training=True,
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
        mean=tuple(value / 255 for value in normalisation.mean),
        std=tuple(value / 255 for value in normalisation.std),
    )
    if max(size) <= SMALL:
        transform.transforms[0] = RandomCrop(size, padding=4)
    for operation in transform.transforms[2].ops:
        if operation.name == "PosterizeIncreasing":
            operation.aug_fn = partial(_posterize, operation.aug_fn)
    made: ImageTransform = transform
    return made


def mixing(classes: int) -> Mixing:
    """Mixup of 0.8 or cutmix of 1.0, by the toss of a coin, and label smoothing of 0.1.

    Raises:
        UsageError: timm is not installed.
    """
    made: Mixing = _timm().Mixup(
        mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, label_smoothing=0.1, num_classes=classes
    )
    return made


def _posterize(posterize: Callable[..., Image.Image], image: Image.Image, bits: int, **settings: Any) -> Image.Image:
    """timm's own, also of 0 bits, which its strongest grade asks for: black, an error from Pillow 13 on."""
    return posterize(image, bits, **settings) if bits else Image.new(image.mode, image.size)


def _timm() -> ModuleType:
    try:
        import timm.data
    except ImportError:
        raise UsageError("augmentation 'timm' needs timm: pip install 'sugarsearch[timm]'.") from None
    module: ModuleType = timm.data
    return module
