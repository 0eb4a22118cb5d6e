"""A small baseline: the shipped one with fewer layers, samples and epochs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.reproduction.load import load

SMALL = ("experiment.samples=150", "experiment.epochs=10", "experiment.milestones=[6]", "experiment.hidden_layers=3")


def narrow(overrides: Sequence[str] = ()) -> NarrowNetsBaseline:
    baseline = load("table2_3", overrides)
    assert isinstance(baseline, NarrowNetsBaseline)
    return baseline


@pytest.fixture(scope="session")
def small() -> NarrowNetsBaseline:
    """Three hidden layers, 150 samples, 10 epochs with a milestone."""
    return narrow(SMALL)


@pytest.fixture(scope="session")
def paper() -> NarrowNetsBaseline:
    """The shipped baseline as it is."""
    return narrow()
