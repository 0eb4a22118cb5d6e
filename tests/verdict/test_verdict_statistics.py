"""Statistics of the final table against textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sugarsearch.verdict.statistics import Difference, paired_difference, summarise, winner_text


def test_summary_is_the_textbooks() -> None:
    scores = [0.5, 0.7, 0.9, 0.1]
    summary = summarise(scores, collapse_below=0.1)
    assert summary.n == 4
    assert summary.mean == pytest.approx(0.55)
    assert summary.sd == pytest.approx(stats.tstd(scores))
    assert summary.sem == pytest.approx(stats.sem(scores))
    assert summary.collapse_share == 0.25
    assert summarise([0.4], 0.2).sd == 0.0


def test_the_difference_is_paired_by_replicate_and_its_interval_is_close_to_the_t_interval() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0.6, 0.2, 200)  # what the seed brings, common to both arms
    gaps = rng.normal(0.03, 0.05, 200)
    arm, reference = dict(enumerate(shared + gaps)), dict(enumerate(shared))
    difference = paired_difference(arm, reference)
    assert difference is not None
    expected = stats.t.interval(0.95, 199, gaps.mean(), stats.sem(gaps))
    assert difference.mean == pytest.approx(gaps.mean())
    assert (difference.low, difference.high) == pytest.approx(expected, abs=1.5e-3)
    assert difference.is_clear
    # Unpaired, the same numbers show nothing: the spread between seeds is four times that of the gaps.
    shuffled = paired_difference(dict(enumerate(rng.permutation(shared + gaps))), reference)
    assert shuffled is not None
    assert shuffled.high - shuffled.low > 2 * (difference.high - difference.low)


def test_only_common_replicates_are_compared() -> None:
    difference = paired_difference({0: 0.9, 1: 0.8, 5: 0.1}, {0: 0.7, 1: 0.6, 9: 0.9})
    assert difference is not None
    assert difference.pairs == 2
    assert difference.mean == pytest.approx(0.2)
    assert paired_difference({0: 0.5}, {0: 0.4}) is None
    assert paired_difference({0: 0.5, 1: 0.5}, {2: 0.4, 3: 0.4}) is None


def test_equal_arms_differ_by_nothing() -> None:
    difference = paired_difference({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})
    assert difference == Difference(0.0, 0.0, 0.0, 2)
    assert not difference.is_clear


@pytest.mark.parametrize(
    ("means", "difference", "sentence"),
    [
        (
            {"g": 0.80, "h": 0.75, "relu": 0.73},
            Difference(0.07, 0.05, 0.09, 100),
            "g wins: its mean is 80.0 %, ReLU's is 73.0 % (+5.0 to +9.0 points, 95 % interval over 100 paired seeds).",
        ),
        (
            {"g": 0.74, "relu": 0.73},
            Difference(0.01, -0.01, 0.03, 20),
            "No difference is shown: g has a mean of 74.0 %, ReLU's is 73.0 % "
            "(-1.0 to +3.0 points, 95 % interval over 20 paired seeds).",
        ),
        (
            {"relu": 0.73, "g": 0.72},
            Difference(-0.01, -0.03, 0.01, 20),
            "No difference is shown: g has a mean of 72.0 %, ReLU's is 73.0 % "
            "(-3.0 to +1.0 points, 95 % interval over 20 paired seeds).",
        ),
        (
            {"g": 0.70, "relu": 0.73},
            Difference(-0.03, -0.05, -0.01, 20),
            "ReLU wins: g has a mean of 70.0 %, ReLU's is 73.0 % "
            "(-5.0 to -1.0 points, 95 % interval over 20 paired seeds).",
        ),
        (
            {"g": 0.80, "relu": 0.73},
            Difference(0.07, 0.05, 0.09, 4),
            "g has a mean of 80.0 %, ReLU's is 73.0 %; fewer than 5 paired seeds are too few to tell.",
        ),
        (
            {"g": 0.74, "relu": 0.73},
            None,
            "g has a mean of 74.0 %, ReLU's is 73.0 %; fewer than 5 paired seeds are too few to tell.",
        ),
    ],
)
def test_the_sentence_says_what_the_interval_allows(
    means: dict[str, float], difference: Difference | None, sentence: str
) -> None:
    small = Difference(0.0, -0.1, 0.1, 20)
    assert winner_text(means, {"g": difference, "h": small, "relu": None}, "relu") == sentence


def test_without_relu_nothing_is_said_against_it() -> None:
    assert "ReLU was not run" in winner_text({"g": 0.7}, {"g": None}, None)
    assert winner_text({"relu": 0.7}, {"relu": None}, "relu").endswith("nothing else was run.")
