"""Users' tensors become data sets, or are refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sugarsearch.data.arrays import fingerprint, from_pairs
from sugarsearch.errors import DataError

IMAGES = np.arange(6 * 3 * 4 * 4, dtype=np.uint8).reshape(6, 3, 4, 4)
LABELS = np.array([0, 0, 1, 1, 2, 2])


def test_uint8_images_and_labels_are_kept() -> None:
    arrays = from_pairs({"train": (IMAGES, LABELS)}, ["a", "b", "c"], "mine")["train"]
    np.testing.assert_array_equal(arrays.images, IMAGES)
    np.testing.assert_array_equal(arrays.labels, LABELS)
    assert (arrays.images.dtype.name, arrays.labels.dtype.name) == ("uint8", "int64")
    assert (arrays.classes, arrays.name, arrays.shape, len(arrays)) == (("a", "b", "c"), "mine", (3, 4, 4), 6)
    np.testing.assert_array_equal(arrays.counts, [2, 2, 2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_torch_floats_of_any_shape_become_float32(dtype: torch.dtype) -> None:
    inputs = torch.randn(6, 5, dtype=dtype, requires_grad=True)
    arrays = from_pairs({"train": (inputs, torch.tensor(LABELS))})["train"]
    assert arrays.images.dtype == np.float32
    np.testing.assert_array_equal(arrays.images, inputs.detach().float().numpy())
    assert arrays.classes == ("0", "1", "2")


def test_splits_share_the_classes_of_the_largest_label() -> None:
    parts = from_pairs({"train": (IMAGES[:4], LABELS[:4]), "test": (IMAGES[4:], LABELS[4:])})
    assert parts["train"].classes == parts["test"].classes == ("0", "1", "2")


def test_fingerprint_sees_a_pixel_a_label_a_name_and_a_shape() -> None:
    pixel, label = IMAGES.copy(), LABELS.copy()
    pixel[3, 1, 2, 0] += 1
    label[3] = 0
    prints = {
        fingerprint(IMAGES, LABELS, "abc"),
        fingerprint(pixel, LABELS, "abc"),
        fingerprint(IMAGES, label, "abc"),
        fingerprint(IMAGES, LABELS, "abd"),
        fingerprint(IMAGES.reshape(6, 3, 2, 8), LABELS, "abc"),
        fingerprint(IMAGES.view(np.int8), LABELS, "abc"),
    }
    assert len(prints) == 6
    assert fingerprint(IMAGES.copy(), LABELS.copy(), "abc") in prints


def test_take_keeps_the_order_and_has_its_own_fingerprint() -> None:
    arrays = from_pairs({"train": (IMAGES, LABELS)})["train"]
    part = arrays.take(np.array([4, 0]))
    np.testing.assert_array_equal(part.images, IMAGES[[4, 0]])
    np.testing.assert_array_equal(part.labels, [2, 0])
    assert part.classes == arrays.classes
    assert len({arrays.fingerprint, part.fingerprint, arrays.take(np.array([0, 4])).fingerprint}) == 3
    assert part.fingerprint == arrays.take(np.array([4, 0])).fingerprint


@pytest.mark.parametrize(
    ("inputs", "labels", "classes", "reason"),
    [
        (IMAGES.transpose(0, 2, 3, 1).repeat(2, axis=1), LABELS, None, "channels, height, width"),
        (IMAGES[:, 0], LABELS, None, "uint8 inputs of shape"),
        (IMAGES.astype(np.int64), LABELS, None, "int64"),
        (IMAGES[:0], LABELS[:0], None, "at least one"),
        (IMAGES, LABELS[:5], None, "6 inputs and 5 labels"),
        (IMAGES, LABELS.astype(np.float32), None, "labels of type float32"),
        (IMAGES, LABELS - 1, None, "negative"),
        (IMAGES, np.zeros(6, int), None, "only one class"),
        (IMAGES, LABELS, ["a", "b"], "label 2 but only 2 class names"),
        (np.full((6, 2), np.nan), LABELS, None, "NaN"),
        (np.full((6, 2), -np.inf), LABELS, None, "infinite"),
        (np.full((6, 2), 1e39), LABELS, None, "beyond float32"),
        (torch.full((6, 2), torch.nan), torch.tensor(LABELS), None, "NaN"),
        ([[1.0], [2.0, 3.0]], [0, 1], None, "not an array"),
        (torch.zeros(6, 2, dtype=torch.bfloat16), LABELS, None, "not an array"),
        (torch.zeros(6, 2).to_sparse(), LABELS, None, "not an array"),
        (torch.zeros(6, 2, device="meta"), LABELS, None, "not an array"),
        (np.zeros((6, 2), complex), LABELS, None, "complex128"),
        (np.full((6, 2), "pixel"), LABELS, None, "<U5"),
        (None, LABELS, None, "shape"),
        (np.zeros((6, 0)), LABELS, None, "at least one"),
        (IMAGES, np.array([0, 1, 2, 3, 4, 6]), None, "label 6 with only 6 labels"),
        (IMAGES, np.array([0, 0, 1, 1, 2, 2**62]), None, "label 4611686018427387904"),
        (IMAGES, LABELS.astype(np.uint64) + np.uint64(2**64 - 2), None, "negative"),
        (IMAGES, LABELS[:, None], None, r"shape \(6, 1\)"),
        (IMAGES, np.eye(6, dtype=int), None, r"shape \(6, 6\)"),
        (IMAGES, LABELS > 0, None, "labels of type bool"),
        (IMAGES, None, None, "labels of type object"),
        (IMAGES, LABELS, 3, "class names of type int"),
    ],
)
def test_unfit_tensors_are_refused(inputs, labels, classes, reason) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        from_pairs({"train": (inputs, labels)}, classes, "mine")
    assert caught.value.path.startswith("mine")


@pytest.mark.parametrize("given", [None, IMAGES, (IMAGES,), (IMAGES, LABELS, LABELS), "ab"])
def test_what_is_no_pair_is_refused(given) -> None:
    with pytest.raises(DataError, match="a pair of inputs and labels"):
        from_pairs({"train": given})


def test_splits_of_different_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="different kinds"):
        from_pairs({"train": (IMAGES, LABELS), "test": (IMAGES.astype(np.float32), LABELS)})
    with pytest.raises(DataError, match="different kinds"):
        from_pairs({"train": (IMAGES, LABELS), "test": (IMAGES[..., :2], LABELS)})
