"""Comparisons beside those that the verdict rests on: finalists with each other, and ablations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from sugarsearch.config.ablation import Ablation
from sugarsearch.verdict.arms import Entrant, is_relu
from sugarsearch.verdict.stages import Scores
from sugarsearch.verdict.statistics import contrast, holm

FINALISTS: Final = "which of the two is better"
ADAM: Final = "whether the lead stays where steps do not hang on gain"
ADAM_ALONE: Final = "whether ReLU by Adam does as well"
GRAFTED: Final = "whether g's direction helps without its norm"
NORM: Final = "what the norm of g's gradient adds to its direction"


@dataclass(frozen=True)
class Pair:
    """A difference between two arms (accuracy, 0 to 1), each at its own best learning rate.

    Attributes:
        first, second: labels.
        asks: what it is to show.
        mean, low, high: of first minus second; the interval is as wide as Holm's correction over all pairs asks.
        p, p_holm: two-sided, before and after that correction.
        n: seeds that both have.
        paired: whether the difference was taken seed by seed.
    """

    first: str
    second: str
    asks: str
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    paired: bool


def pairs_of(arms: Sequence[tuple[Entrant, Scores]], paired: bool) -> list[Pair]:
    """All further comparisons that these arms, with the scores of their final runs, allow."""
    found = [
        (first, second, asks, made)
        for (first, own), (second, other), asks in _wanted(arms)
        if (made := contrast(own, other, paired)) is not None
    ]
    corrected = holm([made.p for *_, made in found])
    return [
        Pair(first.label, second.label, asks, made.mean, *made.interval(level), made.p, p_holm, made.n, made.paired)
        for (first, second, asks, made), (p_holm, level) in zip(found, corrected, strict=True)
    ]


Run = tuple[Entrant, Scores]


def _wanted(arms: Sequence[Run]) -> Iterator[tuple[Run, Run, str]]:
    finalists = [arm for arm in arms if arm[0].role == "finalist"]
    yield from ((first, second, FINALISTS) for first, second in combinations(finalists, 2))
    changed: Mapping[tuple[Ablation, int], Run] = {(arm[0].ablation, id(arm[0].surrogate)): arm for arm in arms}
    relu = next(arm for arm in arms if is_relu(arm[0].surrogate) and not arm[0].ablation)
    relu_by_adam = changed.get(("adam", id(relu[0].surrogate)))
    for finalist in finalists:
        by_adam = changed.get(("adam", id(finalist[0].surrogate)))
        grafted = changed.get(("grafted", id(finalist[0].surrogate)))
        if by_adam is not None and relu_by_adam is not None:
            yield by_adam, relu_by_adam, ADAM
            yield finalist, relu_by_adam, ADAM_ALONE
        if grafted is not None:
            yield grafted, relu, GRAFTED
            yield finalist, grafted, NORM
