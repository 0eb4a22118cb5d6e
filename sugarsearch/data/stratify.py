"""Stratified, seeded choice: every class by its share."""

from __future__ import annotations

import numpy as np

from sugarsearch.data.arrays import Indices

# Streams of a split seed: what is drawn for one purpose must not depend on another.
SUBSET, VALIDATION, TEST_SUBSET, HOLD_OUT = range(4)


def stratified(labels: Indices, count: int, seed: int, stream: int) -> tuple[Indices, Indices]:
    """Choose `count` of the labels at random, each class by its share; returns (chosen, rest) as indices.

    Shares are rounded by largest remainder, so `count` is met exactly. Both parts are shuffled: data is
    often handed over sorted by class, and the head of either part shall be a fair sample of it.
    """
    rng = np.random.default_rng([seed, stream])
    quotas = _quotas(np.bincount(labels), count)
    chosen, rest = [], []
    for label, quota in enumerate(quotas):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[:quota])
        rest.append(members[quota:])
    return rng.permutation(np.concatenate(chosen)), rng.permutation(np.concatenate(rest))


def hold_out(labels: Indices) -> tuple[Indices, Indices]:
    """(train, test) for data that comes without a test part: always the same 80 and 20 % of each class."""
    test, train = stratified(labels, round(0.2 * len(labels)), 0, HOLD_OUT)
    return train, test


def _quotas(sizes: Indices, count: int) -> Indices:
    shares = sizes * count / sizes.sum()
    quotas: Indices = np.floor(shares).astype(np.int64)
    # Ties go to the lowest label (stable sort), so that the choice does not hang on the sort's whims.
    order = np.argsort(quotas - shares, kind="stable")
    quotas[order[: count - quotas.sum()]] += 1
    return quotas
