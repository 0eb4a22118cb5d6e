"""Statistics of the verdict against textbook formulas, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sugarsearch.config.verdict import fewest_seeds
from sugarsearch.verdict.statistics import Contrast, Difference, contrast, difference, holm, pairing_helps, summarise


def by_replicate(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


def made(first: np.ndarray, second: np.ndarray, paired: bool = True) -> Contrast:
    found = contrast(by_replicate(first), by_replicate(second), paired)
    assert found is not None
    return found


def test_summary_is_the_textbooks() -> None:
    scores = [0.5, 0.7, 0.9, 0.1]
    summary = summarise(scores, collapse_below=0.1)
    assert summary.n == 4
    assert summary.mean == pytest.approx(0.55)
    assert summary.sd == pytest.approx(stats.tstd(scores))
    assert summary.sem == pytest.approx(stats.sem(scores))
    assert summary.collapse_share == 0.25
    assert summarise([0.4], 0.2).sd == 0.0


def test_where_seeds_matter_the_difference_is_paired() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0.6, 0.2, 200)  # what the seed brings, common to both arms
    gaps = rng.normal(0.03, 0.05, 200)
    found = made(shared + gaps, shared)
    expected = stats.t.interval(0.95, 199, gaps.mean(), stats.sem(gaps))
    assert found.paired
    assert found.n == 200
    assert found.mean == pytest.approx(gaps.mean())
    assert found.interval(0.95) == pytest.approx(expected, abs=1.5e-3)
    assert found.p == pytest.approx(stats.ttest_rel(shared + gaps, shared).pvalue, abs=1e-3)


def test_where_they_do_not_the_arms_own_spreads_count() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.62, 0.02, 30), rng.normal(0.6, 0.06, 30)
    found = made(first, second, paired=False)
    welch = stats.ttest_ind(first, second, equal_var=False)
    assert not found.paired
    assert found.freedom == pytest.approx(welch.df)
    assert found.interval(0.95) == pytest.approx(welch.confidence_interval(0.95), abs=1.5e-3)
    assert found.p == pytest.approx(welch.pvalue, abs=0.02)


def test_whether_seeds_matter_is_asked_of_all_arms_together() -> None:
    rng = np.random.default_rng(5)
    shared, own = rng.normal(0, 1, 40), rng.normal(0, 1, (4, 40))
    assert pairing_helps([by_replicate(shared + values) for values in own])
    opposed = [by_replicate(sign * shared + 0.3 * values) for sign, values in zip((1, -1), own, strict=False)]
    assert not pairing_helps(opposed)
    assert pairing_helps([*opposed, *(by_replicate(shared) for _ in range(3))])
    assert pairing_helps([{0: 0.5}, {1: 0.4}]), "nothing speaks against it"
    assert pairing_helps([])


def test_a_few_seeds_get_students_interval_and_two_heaps_the_bootstraps() -> None:
    rng = np.random.default_rng(3)
    few = rng.normal(0, 1, 7)
    low, high = made(few, np.zeros(7)).interval(0.95)
    expected = stats.t.interval(0.95, 6, few.mean(), stats.sem(few))
    assert (low, high) == pytest.approx(expected)
    heaps = np.where(np.arange(40) < 4, -0.7, 0.02)  # one arm collapses now and then
    low, _ = made(heaps, np.zeros(40)).interval(0.95)
    assert low < stats.t.interval(0.95, 39, heaps.mean(), stats.sem(heaps))[0] - 0.001


def test_only_common_replicates_are_compared() -> None:
    found = difference({0: 0.9, 1: 0.8, 5: 0.1}, {0: 0.7, 1: 0.5, 9: 0.9})
    assert found is not None
    assert found.pairs == 2
    assert found.mean == pytest.approx(0.25)
    assert difference({0: 0.5}, {0: 0.4}) is None
    assert difference({0: 0.5, 1: 0.5}, {2: 0.4, 3: 0.4}) is None


def test_equal_arms_differ_by_nothing_and_a_constant_gap_is_certain() -> None:
    assert difference({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}) == Difference(0.0, 0.0, 0.0, 2, True)
    scores = np.array([0.5, 0.6, 0.7])
    same, ahead = made(scores, scores), made(scores + 0.1, scores)
    assert (same.p, ahead.p) == (1.0, 0.0)
    assert ahead.interval(0.999) == pytest.approx((0.1, 0.1))
    flat = made(np.full(4, 0.5), np.full(4, 0.5))
    assert flat.p == 1.0


@given(
    st.integers(2, 12).flatmap(
        lambda n: st.tuples(*(st.lists(st.integers(0, 50), min_size=n, max_size=n) for _ in range(2)))
    ),
    st.floats(0.5, 0.999),
)
def test_p_and_interval_never_contradict_each_other(scores: tuple[list[int], list[int]], level: float) -> None:
    first, second = (np.array(side) / 50 for side in scores)
    found = made(first, second)
    low, high = found.interval(level)
    assert low <= found.mean <= high
    assert 0 <= found.p <= 1
    leaves_out = low > 1e-12 or high < -1e-12
    if abs(found.p - (1 - level)) > 2e-3:  # the bootstrap's steps
        assert leaves_out == (found.p < 1 - level)


def test_holm_is_the_textbooks() -> None:
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert [p for p, _ in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    levels = [1 - 0.05 / 3, 1 - 0.05 / 2, 1 - 0.05 / 2, 1 - 0.05 / 4]
    assert [level for _, level in found] == pytest.approx(levels)  # 0.03 fails at 0.05 / 2, so 0.04 is not tested
    assert holm([]) == []
    assert holm([0.2]) == [(0.2, 0.95)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holms_p_and_levels_agree(p_values: list[float]) -> None:
    for p, (corrected, level) in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= 1
        if abs(corrected - 0.05) > 1e-9:
            assert (corrected < 0.05) == (p < 1 - level)


def test_the_fewest_seeds_are_those_that_all_leading_say_something() -> None:
    for finalists in range(1, 20):
        n = fewest_seeds(finalists)
        assert 2 * 0.5**n <= 0.05 / (3 * finalists) < 2 * 0.5 ** (n - 1)
    assert (fewest_seeds(1), fewest_seeds(2)) == (7, 8)


def test_the_detectable_difference_is_found_in_eighty_of_a_hundred_studies() -> None:
    rng = np.random.default_rng(4)
    n, sd, comparisons = 10, 0.01, 3
    true = float(stats.t.isf(0.05 / 6, n - 1) + stats.t.ppf(0.8, n - 1)) * sd / n**0.5
    found, stated = 0, []
    for _ in range(400):
        shared = rng.normal(0.6, 0.05, n)
        difference = made(shared + rng.normal(true, sd, n), shared)
        found += difference.interval(1 - 0.05 / comparisons)[0] > 0
        stated.append(difference.detectable(comparisons))
    assert 0.74 < found / 400 < 0.86  # 80 % by the approximation, +- 3 standard errors
    assert np.mean(stated) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("n", [7, 10, 30])
@pytest.mark.parametrize("shape", ["normal", "two heaps"])
def test_without_a_difference_a_lead_is_seen_in_at_most_a_fortieth(n: int, shape: str) -> None:
    """One-sided: 2.5 % of 600, and 3 standard errors of that."""
    rng = np.random.default_rng(n)

    def scores() -> np.ndarray:
        values = rng.normal(0.8, 0.04, n)
        return values if shape == "normal" else np.where(rng.random(n) < 0.3, values - 0.5, values)

    leads = 0
    for _ in range(600):
        arms = [scores() for _ in range(4)]
        paired = pairing_helps([by_replicate(values) for values in arms])
        leads += made(arms[0], arms[1], paired).interval(0.95)[0] > 0
    assert leads / 600 < 0.025 + 3 * (0.025 * 0.975 / 600) ** 0.5
