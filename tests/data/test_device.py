"""Batches on the device against NumPy: normalised with the training data's numbers, cropped and flipped right."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sugarsearch.data.arrays import Arrays, from_pairs
from sugarsearch.data.device import DeviceArrays, Normalisation, normalisation
from sugarsearch.errors import UsageError

RNG = np.random.default_rng(0)


def arrays(count: int = 40, shape: tuple[int, ...] = (3, 16, 24)) -> Arrays:
    images = RNG.integers(0, 256, (count, *shape), dtype=np.uint8)
    return from_pairs({"train": (images, np.arange(count) % 2)})["train"]


def expected(images: np.ndarray, numbers: Normalisation) -> np.ndarray:
    mean, std = np.array([numbers.mean, numbers.std])[..., None, None]
    normal: np.ndarray = (images.astype(np.float64) - mean) / std
    return normal


def test_normalisation_equals_numpy() -> None:
    data = arrays(count=5000, shape=(3, 4, 4))  # more than one piece
    numbers = normalisation(data)
    assert numbers is not None
    np.testing.assert_allclose(numbers.mean, data.images.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(numbers.std, data.images.std(axis=(0, 2, 3), dtype=np.float64), rtol=1e-12)


def test_normalisation_by_name_takes_nothing_from_the_data() -> None:
    data = arrays(count=6, shape=(2, 4, 4))
    share = data.images.astype(np.float64) / 255
    for name, wanted in (("half", (share - 0.5) / 0.5), ("unit", share)):
        numbers = normalisation(data, name)  # type: ignore[arg-type]
        batch = DeviceArrays(data, numbers).batch(torch.arange(6))
        np.testing.assert_allclose(batch.numpy(), wanted, rtol=1e-6, atol=1e-6)
    assert normalisation(data, "channel") == normalisation(data)
    floats = from_pairs({"train": (np.zeros((4, 3), np.float32), [0, 1, 0, 1])})["train"]
    assert normalisation(floats, "half") is normalisation(floats, "unit") is None


def test_a_constant_channel_stays_finite() -> None:
    data = from_pairs({"train": (np.full((4, 1, 2, 2), 7, np.uint8), [0, 1, 0, 1])})["train"]
    assert normalisation(data) == Normalisation((7.0,), (1.0,))
    assert DeviceArrays(data, normalisation(data)).batch(torch.arange(4)).eq(0).all()


@pytest.mark.parametrize("channels_last", [False, True])
def test_batch_is_the_normalised_images(channels_last: bool) -> None:
    train, validation = arrays(), arrays(10)
    numbers = normalisation(train)
    assert numbers is not None
    device = DeviceArrays(validation, numbers, channels_last=channels_last)
    index = torch.tensor([7, 0, 7, 3])
    batch = device.batch(index)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    np.testing.assert_allclose(batch.numpy(), expected(validation.images[index], numbers), rtol=1e-5, atol=1e-6)
    assert device.labels[index].tolist() == [1, 0, 1, 1]
    assert (len(device), device.classes, device.shape) == (10, 2, (3, 16, 24))


def test_a_population_sees_its_rows() -> None:
    data = arrays()
    device = DeviceArrays(data, normalisation(data))
    index = torch.from_numpy(RNG.integers(0, len(data), (3, 5)))
    batch = device.batch(index)
    assert batch.shape == (3, 5, 3, 16, 24)
    for member, row in zip(batch, index, strict=True):
        assert torch.equal(member, device.batch(row))


def test_floats_are_used_as_given() -> None:
    inputs = RNG.normal(3.0, 2.0, (6, 7)).astype(np.float32)
    data = from_pairs({"train": (inputs, np.arange(6) % 2)})["train"]
    assert normalisation(data) is None
    device = DeviceArrays(data, None)
    np.testing.assert_array_equal(device.batch(torch.tensor([2, 5])).numpy(), inputs[[2, 5]])


def test_uint8_without_normalisation_is_refused() -> None:
    with pytest.raises(UsageError, match="need the normalisation of the training data"):
        DeviceArrays(arrays(), None)


def crop_flip_by_hand(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """Pad with black, cut out a window, mirror it: RandomCrop(padding) and RandomHorizontalFlip, done slowly."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (height // 8,) * 2, (width // 8,) * 2))
    window = padded[:, down : down + height, right : right + width]
    return window[:, :, ::-1] if mirrored else window


def test_augmented_images_are_windows_of_the_padded_ones() -> None:
    data = arrays(count=150)
    numbers = normalisation(data)
    assert numbers is not None
    batch = DeviceArrays(data, numbers).batch(torch.arange(150), torch.Generator().manual_seed(0)).numpy()
    mean, std = np.array([numbers.mean, numbers.std])[..., None, None]
    seen = set()
    for got, image in zip(np.rint(batch * std + mean), data.images, strict=True):
        matches = [
            (down, right, mirrored)
            for down in range(5)
            for right in range(7)
            for mirrored in (False, True)
            if np.array_equal(got, crop_flip_by_hand(image, down, right, mirrored))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    # All 70 windows are equally likely: 150 draws leave out about 8 of them.
    assert len(seen) >= 50
    assert {down for down, _, _ in seen} == set(range(5))
    assert {right for _, right, _ in seen} == set(range(7))
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_a_member_is_augmented_as_it_would_be_alone() -> None:
    data = arrays()
    device = DeviceArrays(data, normalisation(data))
    index = torch.from_numpy(RNG.integers(0, len(data), (2, 20)))
    both = device.batch(index, [torch.Generator().manual_seed(s) for s in (5, 6)])
    for member, row, seed in zip(both, index, (5, 6), strict=True):
        assert torch.equal(member, device.batch(row, torch.Generator().manual_seed(seed)))
    assert not torch.equal(device.batch(index[0], torch.Generator().manual_seed(6)), both[0])


def test_augmentation_keeps_channels_last_and_its_values() -> None:
    data = arrays()
    plain, last = (DeviceArrays(data, normalisation(data), channels_last=on) for on in (False, True))
    batches = [d.batch(torch.arange(8), torch.Generator().manual_seed(1)) for d in (plain, last)]
    assert torch.equal(*batches)
    assert batches[1].is_contiguous(memory_format=torch.channels_last)


def test_augmentation_of_features_is_refused() -> None:
    data = from_pairs({"train": (np.zeros((4, 3), np.float32), [0, 1, 0, 1])})["train"]
    with pytest.raises(UsageError, match="crop_flip"):
        DeviceArrays(data, None).batch(torch.arange(4), torch.Generator())


def test_the_data_is_not_changed_by_reading_it() -> None:
    data = arrays()
    device = DeviceArrays(data, normalisation(data))
    before = device.images.clone()
    device.batch(torch.arange(10), torch.Generator().manual_seed(0)).zero_()
    device.batch(torch.arange(10)).zero_()
    assert torch.equal(device.images, before)
    data.images[:] = 0
    assert torch.equal(device.images, before)


def test_data_mapped_from_disk_and_read_only(tmp_path: Path) -> None:
    data = arrays()
    np.save(tmp_path / "images.npy", data.images)
    mapped = dataclasses.replace(data, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    assert torch.equal(DeviceArrays(mapped, normalisation(mapped)).images, torch.from_numpy(data.images))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_batch_on_a_gpu_without_synchronisation() -> None:
    data = arrays()
    index = torch.arange(8)
    on_gpu = DeviceArrays(data, normalisation(data), "cuda")
    index_gpu, generator = index.cuda(), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch, augmented = on_gpu.batch(index_gpu), on_gpu.batch(index_gpu, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(batch.cpu(), DeviceArrays(data, normalisation(data)).batch(index))
    assert augmented.shape == batch.shape
