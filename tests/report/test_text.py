"""Short forms: never longer than asked for, and honest about numbers."""

from __future__ import annotations

import pytest

from sugarsearch.report.text import duration, percent, rounded, shorten


@pytest.mark.parametrize(
    ("formula", "short"),
    [
        ("1.0507009873554805*sigmoid(4.2*x)", "1.05*sigmoid(4.2*x)"),
        ("x + 0.000123456", "x + 0.000123"),
        ("1.23456e-07*x", "1.23e-07*x"),
        ("log1p_abs(x)**2", "log1p_abs(x)**2"),
        ("b_silu(alpha=1.67)", "b_silu(alpha=1.67)"),
    ],
)
def test_numbers_are_rounded_and_words_kept(formula: str, short: str) -> None:
    assert rounded(formula) == short


@pytest.mark.parametrize("width", [5, 20, 40])
def test_shortening_keeps_both_ends_and_the_width(width: int) -> None:
    formula = "sigmoid(x) + " * 10 + "exp(-abs(x))"
    short = shorten(formula, width)
    assert len(short) == width
    assert formula.startswith(short.partition("…")[0])
    assert formula.endswith(short.partition("…")[2])
    assert shorten("x", width) == "x"


def test_shares_and_times() -> None:
    assert percent(0.8765) == "87.6"
    assert duration(0.4) == "0 s"
    assert duration(59.6) == "1 min 00 s"
    assert duration(200) == "3 min 20 s"
    assert duration(7500) == "2 h 05 min"
