"""Printed accuracies and ours: intervals against scipy's own tests, best rates, claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.reproduction.accuracy.cells import Cell, cells_of
from sugarsearch.reproduction.accuracy.comparison import accuracy, best_rates, cautions, findings, lead_over_relu
from tests.reproduction.accuracy.conftest import Filled

OURS = {3: 0.52, 4: 0.55, 5: 0.50}


def test_a_difference_is_by_welchs_test(filled: Filled, named: dict[str, Cell], tmp_path: Path) -> None:
    found = accuracy(named["deep/relu"], filled(tmp_path, {"deep/relu": OURS}))
    scores = np.array(list(OURS.values()))
    assert found.mean == pytest.approx(scores.mean())
    assert found.sd == pytest.approx(scores.std(ddof=1))
    assert found.interval == pytest.approx(stats.ttest_1samp(scores, 0).confidence_interval(0.95))
    # A sample with exactly the printed mean, deviation and number.
    printed = np.array([-1, -1, 0, 1, 1]) * 0.01 + 0.5
    assert (printed.mean(), printed.std(ddof=1)) == (pytest.approx(0.5), pytest.approx(0.01))
    expected = stats.ttest_ind(scores, printed, equal_var=False).confidence_interval(0.95)
    assert found.difference == pytest.approx((expected.low, expected.high))
    assert found.words == "agrees"


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({}, "not run"),
        ({3: 0.9}, "one run: no interval"),
        ({3: 0.60, 4: 0.61, 5: 0.62}, "differs: 11.0 points higher"),
        ({3: 0.40, 4: 0.39, 5: 0.38}, "differs: 11.0 points lower"),
    ],
)
def test_what_a_comparison_says(
    scores: dict[int, float], words: str, filled: Filled, named: dict[str, Cell], tmp_path: Path
) -> None:
    assert accuracy(named["deep/relu"], filled(tmp_path, {"deep/relu": scores})).words == words


def test_where_nothing_is_printed_nothing_is_said(filled: Filled, named: dict[str, Cell], tmp_path: Path) -> None:
    found = accuracy(named["deep/unit/sugar"], filled(tmp_path, {"deep/unit/sugar": OURS}))
    assert (found.printed, found.difference, found.words) == (None, None, "")


def test_equal_runs_have_an_interval_of_no_width_around_their_mean(
    filled: Filled, named: dict[str, Cell], tmp_path: Path
) -> None:
    found = accuracy(named["swept/relu@0.1"], filled(tmp_path, {"swept/relu@0.1": {3: 0.5, 4: 0.5}}))
    assert found.interval == (0.5, 0.5)


def test_a_run_that_diverged_counts_as_chance_and_is_told(
    tiny: AccuracyBaseline, filled: Filled, named: dict[str, Cell], tmp_path: Path
) -> None:
    found = accuracy(named["deep/relu"], filled(tmp_path, {"deep/relu": {3: None, 4: 0.5}}))
    assert found.mean == pytest.approx(0.3)
    assert found.diverged == 1
    said = cautions(tiny, [found])
    assert "deep/relu: 1 runs diverged; they count as chance" in said
    assert "a note to readers" in said


def test_the_best_rate_of_each_arm_and_its_paired_lead_over_relus_best(
    tiny: AccuracyBaseline, filled: Filled, tmp_path: Path
) -> None:
    relu, elu = {3: 0.50, 4: 0.55, 5: 0.60}, {3: 0.54, 4: 0.58, 5: 0.65}
    runs = filled(
        tmp_path,
        {
            "swept/relu@0.001": {3: 0.2, 4: 0.2, 5: 0.2},
            "swept/relu@0.01": relu,
            "swept/relu@0.1": {3: 0.1, 4: 0.1, 5: 0.1},
            "swept/elu/sugar@0.01": {3: 0.3, 4: 0.3, 5: 0.3},
            "swept/elu/sugar@0.1": elu,
            "swept/elu/non_sugar@0.1": elu,
            "deep/relu": relu,
        },
    )
    best = {one.cell.setting: one for one in best_rates(cells_of(tiny), runs)}
    assert best.keys() == {"swept/relu", "swept/elu/sugar"}  # the others were run at one rate
    assert (best["swept/relu"].cell.learning_rate, best["swept/relu"].at_end, best["swept/relu"].lead) == (
        0.01,
        "",
        None,
    )
    leader = best["swept/elu/sugar"]
    assert (leader.cell.learning_rate, leader.at_end) == (0.1, "highest")
    pairs = [elu[seed] - relu[seed] for seed in relu]
    assert leader.lead == pytest.approx(stats.ttest_1samp(pairs, 0).confidence_interval(0.95))


def test_the_lead_over_relu_at_the_same_rate(filled: Filled, named: dict[str, Cell], tmp_path: Path) -> None:
    relu, elu = {3: 0.50, 4: 0.55, 5: 0.60}, {3: 0.54, 4: 0.58, 6: 0.65}
    runs = filled(tmp_path, {"swept/relu@0.01": relu, "swept/elu/sugar@0.01": elu, "swept/elu/sugar@0.1": elu})
    expected = stats.ttest_1samp([0.04, 0.03], 0).confidence_interval(0.95)
    assert lead_over_relu(named["swept/elu/sugar@0.01"], runs) == pytest.approx((expected.low, expected.high))
    assert lead_over_relu(named["swept/elu/sugar@0.1"], runs) is None
    assert lead_over_relu(named["swept/relu@0.01"], runs) is None


@pytest.mark.parametrize(
    ("relu", "elu", "verdict"),
    [
        ({3: 0.5, 4: 0.6, 5: 0.7}, {3: 0.6, 4: 0.71, 5: 0.8}, "supported"),
        ({3: 0.5, 4: 0.6, 5: 0.7}, {3: 0.4, 4: 0.51, 5: 0.6}, "contradicted"),
        ({3: 0.5, 4: 0.6, 5: 0.7}, {3: 0.4, 4: 0.65, 5: 0.7}, "open"),
        ({3: 0.5}, {3: 0.9}, "open"),
        ({3: 0.5, 4: 0.6}, {}, "not run"),
    ],
)
def test_what_runs_say_of_a_claim(
    relu: dict[int, float],
    elu: dict[int, float],
    verdict: str,
    tiny: AccuracyBaseline,
    filled: Filled,
    tmp_path: Path,
) -> None:
    runs = filled(tmp_path, {"deep/relu": relu, "deep/elu/sugar": elu})
    first, second = findings(tiny, cells_of(tiny), runs)
    assert first.verdict == verdict
    assert second.verdict == "not run"
    if verdict == "supported":
        assert first.words == "70.3 % against 60.0 %, +8.9 to +11.8 points, 3 seeds"


def test_a_claim_over_several_rates_is_judged_at_the_best_of_each_side(
    tiny: AccuracyBaseline, filled: Filled, tmp_path: Path
) -> None:
    runs = filled(
        tmp_path,
        {
            "swept/relu@0.001": {3: 0.2, 4: 0.2},
            "swept/elu/sugar@0.001": {3: 0.5, 4: 0.51},
            "swept/relu@0.1": {3: 0.8, 4: 0.81},
        },
    )
    assert findings(tiny, cells_of(tiny), runs)[1].verdict == "contradicted"
