"""Stratified splits: every class by its share, nothing lost, nothing twice, nothing from the test part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.arrays import Arrays, from_pairs
from sugarsearch.data.splits import split, subset, tensor_split, training_split
from sugarsearch.data.stratify import SUBSET, VALIDATION, hold_out, stratified
from sugarsearch.data.test_split import open_test
from sugarsearch.errors import UsageError


def numbered(labels: np.ndarray) -> Arrays:
    """A data set whose inputs are their own numbers."""
    return from_pairs({"train": (np.arange(len(labels), dtype=np.float32)[:, None], labels)})["train"]


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=8), st.floats(0.01, 0.99), st.integers(0, 2**32), st.booleans()
)
def test_stratified_is_exact_complete_and_fair(sizes, share, seed, is_sorted) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if not is_sorted:
        labels = np.random.default_rng(0).permutation(labels)
    count = round(share * len(labels))
    chosen, rest = stratified(labels, count, seed, SUBSET)
    assert len(chosen) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([chosen, rest])), np.arange(len(labels)))
    got = np.bincount(labels[chosen], minlength=len(sizes))
    assert np.all(np.abs(got - np.array(sizes) * count / len(labels)) < 1)


def test_same_seed_same_choice_and_streams_are_independent() -> None:
    labels = np.repeat(np.arange(10), 50)
    first = stratified(labels, 100, 3, SUBSET)
    for again, part in zip(stratified(labels, 100, 3, SUBSET), first, strict=True):
        np.testing.assert_array_equal(again, part)
    assert not np.array_equal(stratified(labels, 100, 4, SUBSET)[0], first[0])
    assert not np.array_equal(stratified(labels, 100, 3, VALIDATION)[0], first[0])


def test_sorted_data_comes_out_mixed() -> None:
    parts = split(numbered(np.repeat(np.arange(10), 100)), DataConfig(name="x", validation=0.2))
    for part in (parts.train, parts.validation):
        # A head of 50 in class order would hold one class or two; a random one misses a class once in 20 draws.
        assert len(set(part.labels[:50])) >= 8
        np.testing.assert_array_equal(part.images[:, 0] // 100, part.labels)


def test_limit_then_validation() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 100))
    config = DataConfig(name="x", validation=0.25, train_limit=80)
    parts = split(subset(numbered(labels), config.train_limit, config.split_seed, SUBSET), config)
    assert parts.train.counts.tolist() == [15] * 4
    assert parts.validation.counts.tolist() == [5] * 4
    used = np.concatenate([parts.train.images, parts.validation.images])
    assert len(np.unique(used)) == 80


def test_no_limit_leaves_the_data_untouched() -> None:
    arrays = numbered(np.array([0, 1, 0, 1]))
    assert subset(arrays, None, 0, SUBSET) is arrays


def test_a_limit_above_what_is_there_is_refused() -> None:
    with pytest.raises(UsageError, match="limit of 2000 images is more than the 1438"):
        training_split(DataConfig(name="digits", train_limit=2000))
    with pytest.raises(UsageError, match="limit of 360 images is more than the 359"):
        open_test(DataConfig(name="digits", test_limit=360))


@pytest.mark.parametrize(("sizes", "fraction"), [((1, 9), 0.6), ((2, 2), 0.9)])
def test_a_class_without_training_images_is_refused(sizes, fraction) -> None:
    with pytest.raises(UsageError, match="no training image is left of class 0"):
        split(numbered(np.repeat([0, 1], sizes)), DataConfig(name="x", validation=fraction))


def test_digits_parts_are_disjoint_and_make_up_the_whole() -> None:
    from sklearn.datasets import load_digits

    config = DataConfig(name="digits")
    parts = training_split(config)
    test = open_test(config)
    assert (len(parts.train), len(parts.validation), len(test)) == (1294, 144, 359)
    images = np.concatenate([parts.train.images, parts.validation.images, test.images])[:, 0]
    labels = np.concatenate([parts.train.labels, parts.validation.labels, test.labels])
    bundle = load_digits()
    whole = zip(bundle.images.astype(np.uint8), bundle.target, strict=True)
    parts_together = zip(images, labels, strict=True)
    assert sorted((x.tobytes(), y) for x, y in parts_together) == sorted((x.tobytes(), y) for x, y in whole)


def test_the_test_part_does_not_hang_on_the_configuration() -> None:
    one, other = (open_test(DataConfig(name="digits", split_seed=s, validation=v)) for s, v in ((0, 0.1), (7, 0.3)))
    assert one.fingerprint == other.fingerprint
    part = open_test(DataConfig(name="digits", test_limit=100))
    assert len(part) == 100
    assert part.counts.min() >= 9


def test_hold_out_is_a_fifth_of_each_class() -> None:
    train, test = hold_out(np.repeat(np.arange(3), 50))
    assert (len(train), len(test)) == (120, 30)
    assert np.bincount(test // 50).tolist() == [10, 10, 10]


def test_tensor_split_shares_classes() -> None:
    x = np.zeros((4, 2), np.float32)
    parts = tensor_split((x, np.array([0, 1, 0, 1])), (x, np.array([2, 1, 0, 1])))
    assert parts.train.classes == parts.validation.classes == ("0", "1", "2")
