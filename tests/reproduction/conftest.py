"""A small baseline: the shipped one with fewer layers, samples and epochs."""

from __future__ import annotations

import pytest

from sugarsearch.config.baseline import NarrowNetsBaseline
from sugarsearch.reproduction.reproduce import load

SMALL = ("experiment.samples=150", "experiment.epochs=10", "experiment.milestones=[6]", "experiment.hidden_layers=3")


@pytest.fixture(scope="session")
def small() -> NarrowNetsBaseline:
    """Three hidden layers, 150 samples, 10 epochs with a milestone."""
    return load("table2_3", SMALL)


@pytest.fixture(scope="session")
def paper() -> NarrowNetsBaseline:
    """The shipped baseline as it is."""
    return load("table2_3")
