"""A small baseline: the shipped one with fewer layers, samples and epochs, f4 and RAI again with others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.reproduction.load import load

SMALL = (
    *("experiment.samples=150", "experiment.epochs=10", "experiment.milestones=[6]", "experiment.hidden_layers=3"),
    "targets.f4.experiment={hidden_layers: 4, width: 3}",
    "arms.rai.experiment={learning_rate: 0.002, milestones: [3, 7], epochs: 12}",
)


def narrow(overrides: Sequence[str] = ()) -> NarrowNetsBaseline:
    baseline = load("table2_3", overrides)
    assert isinstance(baseline, NarrowNetsBaseline)
    return baseline


@pytest.fixture(scope="session")
def small() -> NarrowNetsBaseline:
    """Three hidden layers, 150 samples, 10 epochs with a milestone; f4's net is larger, RAI trains longer."""
    return narrow(SMALL)


@pytest.fixture(scope="session")
def paper() -> NarrowNetsBaseline:
    """The shipped baseline as it is."""
    return narrow()
