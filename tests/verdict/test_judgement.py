"""From runs to the phrase: signs, corrections, and the lead at one learning rate."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sugarsearch.symbolic.library import surrogate
from sugarsearch.verdict.arms import Against, Entrant
from sugarsearch.verdict.judgement import Contender, Verdict, judge, points, signed
from sugarsearch.verdict.stages import Scores, Sweep

SEEDS = 20
RELU = Entrant(surrogate("relu"), "control", "relu")
G = surrogate("2*sigmoid(3*x)")
UNIT, RANDOM = (Entrant(surrogate(text), "control", text) for text in ("sigmoid(3*x)", "2*tanh(x)"))


def runs(lead: float, noise: int, seeds: int = SEEDS) -> Scores:
    """Scores that share what the seed brings and lie `lead` apart, but for a little noise of their own."""
    shared = np.random.default_rng(0).normal(0.6, 0.03, seeds)
    return dict(enumerate((shared + lead + np.random.default_rng(noise).normal(0, 0.003, seeds)).tolist()))


def contender(
    relu: float,
    unit: float | None,
    random: float | None,
    at: dict[float, tuple[float, float]] | None = None,
    n: int = SEEDS,
) -> Contender:
    """A finalist that leads its controls by so much; `at`: mean of the finalist and of ReLU by learning rate."""
    others: dict[Against, float | None] = {"relu": relu, "unit": unit, "random": random}
    entrants: dict[Against, Entrant] = {"relu": RELU, "unit": UNIT, "random": RANDOM}
    made = {name: lead for name, lead in others.items() if lead is not None}
    rates = at or {0.1: (0.0, 0.0)}
    own = {rate: runs(mean, 50 + i, 3) for i, (rate, (mean, _)) in enumerate(rates.items())}
    relus = {rate: runs(mean, 70 + i, 3) for i, (rate, (_, mean)) in enumerate(rates.items())}
    return Contender(
        Entrant(G, "finalist", "best found", against={name: entrants[name] for name in made}),
        {0.1: runs(0.0, 1, n)},
        {name: {0.1: runs(-lead, 2 + i, n)} for i, (name, lead) in enumerate(made.items())},
        Sweep(0.1, own),
        Sweep(0.1, relus),
    )


def said(*contenders: Contender) -> Verdict:
    return judge(contenders)[0]


@pytest.mark.parametrize(
    ("leads", "kind", "word"),
    [
        ((0.02, None, 0.02), "better", "shape"),
        ((0.02, None, 0.0), "better", "no better than others"),
        ((0.02, 0.02, 0.02), "better", "gain alone"),
        ((0.02, -0.02, 0.0), "better", "use it at unit gain"),
        ((0.02, 0.02, 0.0), "explained_by_gain", "unit gain does worse"),
        ((0.02, 0.0, 0.0), "explained_by_gain", "nothing excludes"),
        ((0.0, 0.02, 0.02), "no_difference", "80 of 100"),
        ((-0.02, 0.0, 0.0), "worse", "does better"),
    ],
)
def test_leads_become_a_phrase(leads: tuple[float, float | None, float | None], kind: str, word: str) -> None:
    verdict = said(contender(*leads))
    assert verdict.kind == kind
    assert word in verdict.explanation
    assert verdict.sentence.startswith(f"best found: {verdict.phrase} (")
    assert Verdict.from_json(json.loads(json.dumps(dataclasses.asdict(verdict)))) == verdict


def test_the_numbers_are_those_of_the_corrected_interval() -> None:
    verdict = said(contender(0.02, 0.02, 0.0))
    relu, unit, random = verdict.comparisons
    assert (relu.control, unit.control, random.control) == ("relu", "unit", "random")
    assert (relu.arm, relu.against) == ("2*sigmoid(3*x)", "relu")
    assert relu.low < 0.02 < relu.high
    assert relu.p_holm == pytest.approx(3 * relu.p, abs=1e-9) or unit.p_holm == pytest.approx(3 * unit.p, abs=1e-9)
    assert random.p_holm == random.p, "the last is tested as if it stood alone"
    better = said(contender(0.02, None, 0.02))
    low, high = points(better.comparisons[0].low), points(better.comparisons[0].high)
    assert better.phrase == f"better than tuned ReLU by {low} to {high} points"
    worse = said(contender(-0.02, None, 0.02))
    bounds = points(-worse.comparisons[0].high), points(-worse.comparisons[0].low)
    assert worse.phrase == f"worse than tuned ReLU by {bounds[0]} to {bounds[1]} points"
    assert float(bounds[0]) < float(bounds[1])
    nothing = said(contender(0.0, None, 0.0))
    seen = f"{points(nothing.detectable)} points could have been seen"
    assert nothing.phrase == f"no difference shown with {SEEDS} seeds; {seen}"
    assert nothing.n == SEEDS
    assert 0.001 < nothing.detectable < 0.005  # spread of a difference: 0.003 * sqrt(2), 20 seeds


def test_better_only_at_one_rate_is_said_where_tuning_takes_the_lead_away() -> None:
    low_rate = {0.01: (0.0, -0.2), 0.1: (0.0, 0.0)}
    verdict = said(contender(0.0, None, 0.0, low_rate))
    assert verdict.kind == "only_at_this_rate"
    assert "at 0.01 by " in verdict.sentence
    assert [rate.rate for rate in verdict.at_same_rate] == [0.01, 0.1]
    assert verdict.at_same_rate[0].low > 0
    assert said(contender(0.02, None, 0.0, low_rate)).kind == "better", "the lead stays when both are tuned"
    at_relus_best = {0.01: (0.0, -0.3), 0.1: (0.2, 0.0)}
    assert said(contender(0.0, None, 0.0, at_relus_best)).kind == "no_difference", "it does not hang on the rate"


def test_relu_has_the_benefit_of_the_doubt_about_its_rate() -> None:
    taken = contender(0.03, None, 0.02)
    by_rate = {0.1: runs(-0.03, 2), 0.3: runs(-0.02, 9)}
    doubted = said(dataclasses.replace(taken, controls={**taken.controls, "relu": by_rate}))
    assert doubted.kind == "better"
    assert doubted.comparisons[0].against_rate == 0.3
    assert doubted.comparisons[0].mean == pytest.approx(0.02, abs=0.003)
    assert "tuned ReLU at its second best rate, 0.3, +" in doubted.sentence
    as_good = {0.1: runs(-0.03, 2), 0.3: runs(0.0, 9)}
    assert said(dataclasses.replace(taken, controls={**taken.controls, "relu": as_good})).kind == "no_difference"


def test_so_has_the_finalist_where_it_is_behind() -> None:
    behind = contender(-0.03, None, 0.0)
    relus = {0.1: runs(0.03, 2), 0.3: runs(0.05, 9)}
    mended = dataclasses.replace(
        behind, controls={**behind.controls, "relu": relus}, scores={0.1: runs(0.0, 1), 0.2: runs(0.01, 4)}
    )
    verdict = said(mended)
    assert (verdict.comparisons[0].rate, verdict.comparisons[0].against_rate) == (0.2, 0.1)
    assert verdict.comparisons[0].mean == pytest.approx(-0.02, abs=0.003)
    assert verdict.kind == "worse"
    assert "tuned ReLU, itself at its second best rate, 0.2, -" in verdict.sentence
    as_good = dataclasses.replace(mended, scores={0.1: runs(0.0, 1), 0.2: runs(0.03, 4)})
    assert said(as_good).kind == "no_difference"


def test_the_finalist_of_which_most_can_be_said_is_spoken_of() -> None:
    worse, better, best = (contender(lead, None, None) for lead in (-0.02, 0.02, 0.03))
    for index, one in enumerate((worse, better, best)):
        one.entrant.title = f"found {index}"
    verdicts = judge([worse, better, best])
    assert [verdict.sentence.partition(" than")[0] for verdict in verdicts] == [
        "found 2: better",
        "found 1: better",
        "found 0: worse",
    ]
    assert all(len(verdict.comparisons) == 1 for verdict in verdicts)
    assert all("corrected for 3 comparisons" in verdict.sentence for verdict in verdicts)
    assert said(worse, contender(0.0, None, None)).kind == "no_difference"


def test_too_few_seeds_left_say_nothing() -> None:
    for n in (2, 6):
        verdict = said(contender(0.1, None, None, {0.01: (0.0, -0.2), 0.1: (0.0, 0.0)}, n=n))
        assert verdict.kind == "no_difference"
        assert verdict.n == n
    assert said(contender(0.1, None, None, n=7)).kind == "better"
    assert judge([contender(0.1, None, None, n=1)]) == judge([]) == []


def test_points_never_hide_a_difference() -> None:
    assert [points(value) for value in (0.0234, 0.0003, 0.0, -0.00012)] == ["2.3", "0.03", "0.0", "-0.01"]
    assert [signed(value) for value in (0.0234, -0.0234, 0.0)] == ["+2.3", "-2.3", "0.0"]
