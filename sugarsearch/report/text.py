"""Short forms of formulas, numbers and times for tables, pictures and progress lines."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?:[eE][-+]?\d+)?")


def rounded(formula: str, digits: int = 3) -> str:
    """`formula` with its decimal numbers at `digits` significant figures: for reading, not for parsing back."""
    return _NUMBER.sub(lambda match: f"{float(match.group()):.{digits}g}", formula)


def shorten(formula: str, width: int) -> str:
    """`formula` with rounded numbers and at most `width` characters, its middle left out."""
    text = rounded(formula)
    if len(text) <= width:
        return text
    tail = max(width // 3, 1)
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"


def percent(value: float, digits: int = 1) -> str:
    """A share or an accuracy in [0, 1] as a percentage, without the sign."""
    return f"{100 * value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
