"""Printed shares and ours: counts, intervals, the test and its words."""

from __future__ import annotations

from math import comb

import pytest

from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.reproduction.narrow.cells import CellResult, chosen
from sugarsearch.reproduction.narrow.comparison import cautions, shares

LOSSES: dict[str, float] = {"A": 16.0, "B": 10.8, "C": 0.01}


def result(name: str, counts: dict[str, int], diverged: int = 0) -> CellResult:
    losses: list[float | None] = [LOSSES[key] for key, count in counts.items() for _ in range(count)]
    return CellResult(name, "", losses + [None] * diverged, [], [], [], {}, 1.0, "cpu", {})


def hypergeometric(a: int, n: int, b: int, m: int) -> float:
    """Fisher's exact test, two-sided, by its definition."""
    total = a + b
    chances = {k: comb(n, k) * comb(m, total - k) for k in range(max(0, total - m), min(n, total) + 1)}
    return sum(chance for chance in chances.values() if chance <= chances[a]) / comb(n + m, total)


@pytest.mark.parametrize(("count", "words"), [(95, "agrees (p = 0."), (80, "differs: 13.6 points fewer (p < 0.001)")])
def test_the_tested_class_is_compared_by_fishers_exact_test(paper: NarrowNetsBaseline, count: int, words: str) -> None:
    (cell,) = chosen(paper, ["f1/he"])
    first, second, third = shares(cell, result("f1/he", {"A": count, "B": 3, "C": 97 - count}))
    assert first.p == pytest.approx(hypergeometric(count, 100, 936, 1000))
    assert first.words.startswith(words)
    assert (first.printed, first.printed_runs, first.ours, first.runs) == (0.936, 1000, count / 100, 100)
    assert [second.words, third.words, second.p] == ["", "", None]
    assert (second.printed, second.ours) == (0.042, 0.03)


def test_intervals_are_wilsons(paper: NarrowNetsBaseline) -> None:
    (cell,) = chosen(paper, ["f1/he"])
    first, *_ = shares(cell, result("f1/he", {"A": 45, "B": 5}))
    z, n, share = 1.959963984540054, 50, 0.9
    centre, reach = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    wanted = [(centre + sign * reach) / (1 + z * z / n) for sign in (-1, 1)]
    assert first.interval == pytest.approx(wanted)


def test_what_was_not_run_says_so_and_what_is_ours_alone_is_not_tested(paper: NarrowNetsBaseline) -> None:
    printed, own = chosen(paper, ["f1/sugar", "f1/elu"])
    first, second, _ = shares(printed, None)
    assert (first.words, first.ours, first.runs, first.printed) == ("not run", None, 0, 0.15)
    assert (second.words, second.printed) == ("", 0.08)
    first, *_ = shares(own, result("f1/elu", {"A": 1, "C": 3}))
    assert (first.words, first.printed, first.p, first.ours) == ("", None, None, 0.25)


def test_a_run_that_did_not_stay_finite_counts_as_collapsed_and_is_told(paper: NarrowNetsBaseline) -> None:
    cells = chosen(paper, ["f1/he"])
    ended = result("f1/he", {"C": 3}, diverged=1)
    assert shares(cells[0], ended)[0].ours == 0.25
    assert any("f1/he: 1 runs did not stay finite" in caution for caution in cautions(cells, [ended]))


def test_cautions_name_the_cells_with_settings_of_their_own(paper: NarrowNetsBaseline) -> None:
    wide = "f4/* trains with hidden_layers 19 (others: 9), width 4 (others: 2)"
    rai = (
        "*/rai trains with epochs 500 (others: 250), learning_rate 0.0001 (others: 0.005), "
        "milestones [] (others: [100, 150, 200, 225])"
    )
    for pattern, wanted in (("f1/he", []), ("f2/rai", [rai]), ("f4/he", [wide]), ("f4/*", [wide, rai])):
        cells = chosen(paper, [pattern])
        said = cautions(cells, [None] * len(cells))
        assert [caution for caution in said if " trains with " in caution] == wanted


def test_cautions_name_the_readings_and_why_nelu_revives_nothing(paper: NarrowNetsBaseline) -> None:
    cells = chosen(paper, ["f1/sugar", "f1/nelu", "f4/he"])
    said = cautions(cells, [result("f1/sugar", {"A": 1}), result("f1/nelu", {"A": 1}), None])
    assert sum("g(0) is 0" in caution for caution in said) == 1
    assert any(caution.startswith("He + SUGAR NeLU: its g(0) is 0") for caution in said)
    assert any("without the bars" in caution for caution in said)
    assert any("bounds" in caution for caution in said)
    said = cautions(cells[:1], [None])
    assert not any("without the bars" in caution or "g(0)" in caution for caution in said)
