"""The decision table: every combination of signs has one row, and the rows say what the signs mean."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from sugarsearch.verdict.decision import KINDS, TABLE, Kind, Sign, decide

SIGNS = get_args(Sign)
COMBINATIONS = list(itertools.product(SIGNS[:3], SIGNS, SIGNS, (True, False)))


@pytest.mark.parametrize("signs", COMBINATIONS)
def test_every_combination_has_exactly_one_row(signs: tuple[Sign, Sign, Sign, bool]) -> None:
    fitting = [row for row in TABLE if row.fits(*signs)]
    assert fitting == [decide(*signs)]


def test_no_row_is_idle_and_every_kind_has_one() -> None:
    assert {id(decide(*signs)) for signs in COMBINATIONS} == {id(row) for row in TABLE}
    assert set(KINDS) == set(get_args(Kind))
    for kind in KINDS:
        assert len({row.phrase for row in TABLE if row.kind == kind}) == 1, "one phrase a kind"
    for row in TABLE:
        assert row.explanation.endswith(".")
        assert row.explanation.count(". ") == 0, "one sentence"
        row.phrase.format(low="1", high="2", n=3, detectable="4")


@pytest.mark.parametrize("signs", COMBINATIONS)
def test_the_rows_mean_what_they_should(signs: tuple[Sign, Sign, Sign, bool]) -> None:
    relu, unit, random, at_a_rate = signs
    kind = decide(*signs).kind
    assert (kind in ("better", "explained_by_gain")) == (relu == "+")
    assert (kind == "worse") == (relu == "-")
    assert (kind == "only_at_this_rate") == (relu == "0" and at_a_rate)
    if relu == "+" and unit == ".":
        assert kind == "better", "a g of ReLU's gain is not better by gain"
    if relu == "+" and random == "+":
        assert kind == "better", "what beats a g of its gain is not better by gain alone"
    if relu == "+" and unit == "+" and random != "+":
        assert kind == "explained_by_gain"
    if relu == "+" and unit == "0" and random != "+":
        assert kind == "explained_by_gain", "the burden of proof is on the claim"
