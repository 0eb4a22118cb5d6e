"""Targets at points worked out by hand, and the data of a run."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from sugarsearch.reproduction.narrow.targets import FUNCTIONS, sample


@pytest.mark.parametrize(
    ("name", "x", "wanted"),
    [
        ("f1", [-1.5], [1.5]),
        ("f1", [0.25], [0.25]),
        ("f2", [math.pi / 10], [math.pi / 10]),
        ("f2", [-math.pi / 10], [math.pi / 10]),
        ("f3", [math.pi / 10], [1.2]),
        ("f3", [-math.pi / 10], [-0.2]),
        ("f3", [0.0], [0.0]),
        ("f4", [1.0, -0.25], [0.75, 1.25]),
        ("f4", [-1.0, -1.0], [2.0, 0.0]),
    ],
)
def test_targets_at_points(name: str, x: list[float], wanted: list[float]) -> None:
    function = FUNCTIONS[name]
    assert (function.inputs, function.outputs) == (len(x), len(wanted))
    members = torch.tensor(x).view(-1, 1, 1).expand(-1, 4, 3)
    expected = torch.tensor(wanted).view(-1, 1, 1).expand(-1, 4, 3)
    torch.testing.assert_close(function.values(members), expected)


def test_samples_are_uniform_and_each_run_has_its_own() -> None:
    drawn = sample(0, 2, 3000)
    assert drawn.shape == (2, 3000)
    for row in drawn.double().numpy():
        assert stats.kstest(row, stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)).cdf).pvalue > 1e-3
    assert torch.equal(drawn, sample(0, 2, 3000))
    assert not torch.equal(drawn, sample(1, 2, 3000))
