"""He-normal and randomized asymmetric weights against their distributions."""

from __future__ import annotations

import numpy as np
from scipy import stats

from sugarsearch.reproduction.narrow.initialisation import he, initial, rai


def test_he_is_normal_with_variance_two_over_inputs_and_zero_biases() -> None:
    weights, biases = he(np.random.default_rng(0), 8, 2000)
    assert weights.shape == (2000, 8)
    assert stats.kstest(weights.ravel(), stats.norm(0, 0.5).cdf).pvalue > 1e-3
    assert biases.shape == (2000,)
    assert not biases.any()


def test_each_entry_of_rai_is_its_mixture() -> None:
    """With 2 inputs one of 3 entries, the bias as likely as a weight, is Beta(2, 1), whose distribution is x^2."""
    weights, biases = rai(np.random.default_rng(0), 2, 20_000)
    normal = stats.norm(0, 0.6007 / np.sqrt(2))

    def mixture(x: float) -> float:
        return float(2 / 3 * normal.cdf(x) + 1 / 3 * min(max(x, 0), 1) ** 2)

    for entries in (weights[:, 0], weights[:, 1], biases):
        assert stats.kstest(entries, np.vectorize(mixture)).pvalue > 1e-3


def test_rai_draws_exactly_one_entry_of_a_unit_anew() -> None:
    """With 400 inputs the normal entries (sd 0.03) stay below 0.2, where 96 % of Beta(2, 1) lies above."""
    weights, biases = rai(np.random.default_rng(1), 400, 4000)
    vectors = np.concatenate([weights, biases[:, None]], axis=1)
    large = vectors > 0.2
    assert large.sum(axis=1).max() == 1
    assert stats.binomtest(int(large.sum()), 4000, 0.96).pvalue > 1e-3
    # Mean of x^2's density 2x above 0.2.
    mean, sd = (2 / 3) * (1 - 0.2**3) / 0.96, 0.23
    assert abs(vectors[large].mean() - mean) < 4 * sd / np.sqrt(large.sum())


def test_a_run_has_weights_of_its_own_of_the_right_shapes() -> None:
    layers = initial("he", 5, [1, 2, 2, 3])
    assert [(weight.shape, bias.shape) for weight, bias in layers] == [((2, 1), (2,)), ((2, 2), (2,)), ((3, 2), (3,))]
    again, other = initial("he", 5, [1, 2, 2, 3]), initial("he", 6, [1, 2, 2, 3])
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(layers, again, strict=True))
    assert not np.array_equal(layers[0][0], other[0][0])
