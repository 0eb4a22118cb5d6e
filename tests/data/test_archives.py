"""CIFAR and Tiny-ImageNet from small archives on localhost, in the published formats."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.archives import ARCHIVES
from sugarsearch.data.catalog import DATASETS
from sugarsearch.data.sources import open_training
from sugarsearch.data.test_split import open_test
from sugarsearch.errors import DataError


def test_every_known_name_but_the_bundled_one_has_an_archive() -> None:
    assert set(ARCHIVES) | {"digits"} == set(DATASETS)


def test_the_published_addresses_and_checksums_are_torchvisions() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100

    assert (ARCHIVES["cifar10"].url, ARCHIVES["cifar10"].md5) == (CIFAR10.url, CIFAR10.tgz_md5)
    assert (ARCHIVES["cifar100"].url, ARCHIVES["cifar100"].md5) == (CIFAR100.url, CIFAR100.tgz_md5)


def stacked(files: dict[str, bytes], names: list[str], key: str) -> tuple[np.ndarray, list[int]]:
    batches = [pickle.loads(files[name]) for name in names]
    images = np.concatenate([batch["data"].reshape(-1, 3, 32, 32) for batch in batches])
    return images, [label for batch in batches for label in batch[key]]


def test_cifar10(small_cifar, server, root: Path) -> None:
    files, config = small_cifar["cifar10"], DataConfig(name="cifar10")
    train, test = open_training(config), open_test(config)
    names = [f"cifar-10-batches-py/data_batch_{n}" for n in range(1, 6)]
    for arrays, batches in ((train, names), (test, ["cifar-10-batches-py/test_batch"])):
        images, labels = stacked(files, batches, "labels")
        np.testing.assert_array_equal(arrays.images, images)
        np.testing.assert_array_equal(arrays.labels, labels)
    assert train.classes == test.classes == tuple(f"class{n}" for n in range(10))
    assert server.requests == ["/cifar-10-python.tar.gz"]
    assert sorted(path.name for path in root.iterdir()) == [".cifar10.lock", "cifar10", "downloads"]


def test_cifar100_has_fine_labels(small_cifar) -> None:
    config = DataConfig(name="cifar100")
    for arrays, name in ((open_training(config), "train"), (open_test(config), "test")):
        images, labels = stacked(small_cifar["cifar100"], [f"cifar-100-python/{name}"], "fine_labels")
        np.testing.assert_array_equal(arrays.images, images)
        np.testing.assert_array_equal(arrays.labels, labels)
        assert len(arrays.classes) == 100


def test_a_damaged_cache_is_built_from_the_archive_at_hand(small_cifar, server, root: Path) -> None:
    config = DataConfig(name="cifar10")
    first = open_training(config)
    (root / "cifar10" / "test_labels.npy").unlink()
    assert open_training(config).fingerprint == first.fingerprint
    assert len(server.requests) == 1


def test_an_archive_with_a_wrong_batch_is_refused(small_cifar, publish, pack, root: Path) -> None:
    files = {**small_cifar["cifar10"], "cifar-10-batches-py/data_batch_3": b"something else"}
    publish("cifar10", pack("tar", files))
    with pytest.raises(DataError, match="does not hold what it should") as caught:
        open_training(DataConfig(name="cifar10"))
    assert caught.value.path == str(root / "downloads" / "cifar-10-python.tar.gz")
    assert not (root / "cifar10").exists()


def test_offline_says_where_to_put_the_archive(publish, server, root: Path) -> None:
    publish("cifar10", b"")
    server.files.clear()
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        open_training(DataConfig(name="cifar10"))
    assert f"put the file at {root / 'downloads' / 'cifar-10-python.tar.gz'} yourself" in caught.value.remedy


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


def test_tiny_imagenet_takes_its_labelled_val_for_the_test_part(publish, pack, tiny_files) -> None:
    publish("tiny_imagenet", pack("zip", tiny_files))
    config = DataConfig(name="tiny_imagenet")
    train, test = open_training(config), open_test(config)
    assert train.classes == test.classes == ("n01", "n02")
    assert (train.counts.tolist(), test.counts.tolist()) == ([6, 6], [2, 2])
    base = "tiny-imagenet-200"
    np.testing.assert_array_equal(train.images[7], decoded(tiny_files[f"{base}/train/n02/images/n02_1.JPEG"]))
    # The annotations say 1 and 3 are n01, 0 and 2 are n02.
    for image, number in zip(test.images, (1, 3, 0, 2), strict=True):
        np.testing.assert_array_equal(image, decoded(tiny_files[f"{base}/val/images/val_{number}.JPEG"]))


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("val/val_annotations.txt", "val/val_annotations.txt is missing"),
        ("val/images/val_2.JPEG", "val/images/val_2.JPEG is missing"),
    ],
)
def test_an_incomplete_tiny_imagenet_is_refused(publish, pack, tiny_files, root: Path, missing, reason) -> None:
    publish("tiny_imagenet", pack("zip", {k: v for k, v in tiny_files.items() if not k.endswith(missing)}))
    with pytest.raises(DataError, match=reason) as caught:
        open_training(DataConfig(name="tiny_imagenet"))
    assert caught.value.path == str(root / "downloads" / "tiny-imagenet-200.zip")
    assert sorted(path.name for path in root.iterdir()) == [".tiny_imagenet.lock", "downloads"]


def test_a_tiny_imagenet_with_a_broken_image_names_it(publish, pack, tiny_files) -> None:
    name = "tiny-imagenet-200/train/n01/images/n01_3.JPEG"
    publish("tiny_imagenet", pack("zip", {**tiny_files, name: b"no image"}))
    with pytest.raises(DataError, match=f"{name} cannot be read as an image"):
        open_training(DataConfig(name="tiny_imagenet"))
