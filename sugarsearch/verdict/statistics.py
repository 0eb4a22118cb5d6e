"""Statistics of a final table: an arm's runs, differences between arms, and corrections for several comparisons.

Arms share their seeds, so that differences are taken seed by seed where that makes them sharper. An interval is
the wider of two: the bootstrap's alone is too narrow with few seeds, Student's alone where outcomes are skewed or fall
into two heaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sugarsearch.config.verdict import FAMILY_ERROR

CONFIDENCE: Final = 1 - FAMILY_ERROR
POWER: Final = 0.8
"""The chance with which a difference that is called detectable would have been found."""
_RESAMPLES: Final = 9_999
_SAME: Final = 1e-12  # accuracies are ratios of small whole numbers; what is nearer than this is equal


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference to ReLU with its 95 % interval, not corrected for other comparisons (accuracy, 0 to 1).

    pairs: how many seeds both have; paired: whether it was taken seed by seed.
    """

    mean: float
    low: float
    high: float
    pairs: int
    paired: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """Accuracies of an arm's runs: mean, standard deviation (n - 1), standard error, and share of collapsed runs."""

    n: int
    mean: float
    sd: float
    sem: float
    collapse_share: float


@dataclass(frozen=True)
class Contrast:
    """The difference of two arms, with an interval at any level.

    Attributes:
        mean: of the first arm minus that of the second.
        n: how many seeds both have.
        paired: whether differences were taken seed by seed; else the arms' own spreads count.
        error: standard error of `mean`.
        freedom: its degrees of freedom: n - 1 where paired, else Welch's.
        p: two-sided; the smallest 1 - level whose interval leaves out 0.
    """

    mean: float
    n: int
    paired: bool
    error: float
    freedom: float
    p: float
    resampled: NDArray[np.float64]

    def interval(self, level: float) -> tuple[float, float]:
        """Low and high end; Student's or the bootstrap's percentiles, whichever lies further out."""
        if self.error <= _SAME:
            return self.mean, self.mean
        tail = (1 - level) / 2
        reach = self.error * float(stats.t.isf(tail, self.freedom))
        low, high = np.quantile(self.resampled, [tail, 1 - tail])
        return min(float(low), self.mean - reach), max(float(high), self.mean + reach)

    def detectable(self, comparisons: int) -> float:
        """The smallest true difference found with probability `POWER` among so many comparisons, at this spread."""
        t = stats.t(self.freedom)
        return self.error * float(t.isf(FAMILY_ERROR / (2 * comparisons)) + t.ppf(POWER))


def summarise(scores: Sequence[float], collapse_below: float) -> Summary:
    """Summary of one arm; a run is collapsed at or below `collapse_below`. With one run the spread is 0."""
    values = np.asarray(scores, float)
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Summary(
        len(values),
        float(values.mean()),
        sd,
        sd / len(values) ** 0.5,
        float(np.mean(values <= collapse_below)),
    )


def pairing_helps(arms: Sequence[Mapping[int, float]]) -> bool:
    """Whether arms, scores by replicate, rise and fall together over the seeds that all have.

    Asked of all arms of a table at once: where each pair of arms chose for itself, it would choose the narrower of two
    intervals, and see a lead where there is none in 3.2 instead of 2.5 of 100 cases (10 seeds, no correlation).
    """
    common = set.intersection(*(set(arm) for arm in arms)) if arms else set()
    if len(common) < 2:
        return True
    table = np.array([[arm[replicate] for replicate in sorted(common)] for arm in arms], float)
    covariance = np.atleast_2d(np.cov(table))
    return bool(covariance.sum() > np.trace(covariance))


def contrast(arm: Mapping[int, float], reference: Mapping[int, float], paired: bool = True) -> Contrast | None:
    """Difference of two arms, scores by replicate, over the replicates that both have; None with fewer than two.

    paired: take it seed by seed; see `pairing_helps`.
    """
    common = sorted(arm.keys() & reference.keys())
    n = len(common)
    if n < 2:
        return None
    first, second = (np.array([side[replicate] for replicate in common], float) for side in (arm, reference))
    mean = float(np.mean(first - second))
    samples = (first - second,) if paired else (first, second)
    parts = [float(np.var(sample, ddof=1)) / n for sample in samples]
    error = sum(parts) ** 0.5
    if error <= _SAME:
        return Contrast(mean, n, paired, 0.0, n - 1, float(abs(mean) <= _SAME), np.array([mean]))
    freedom = (n - 1) * sum(parts) ** 2 / sum(part**2 for part in parts)
    resampled = _resampled(samples)
    tails = min(np.mean(resampled <= 0), np.mean(resampled >= 0))
    p = max(2 * float(tails), 2 * float(stats.t.sf(abs(mean) / error, freedom)))
    return Contrast(mean, n, paired, error, freedom, min(p, 1.0), resampled)


def _resampled(samples: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Bootstrap distribution of the mean of one sample, or of the difference of the means of two."""

    def mean(*drawn: NDArray[np.float64], axis: int = -1) -> Any:
        return drawn[0].mean(axis) - (drawn[1].mean(axis) if len(drawn) > 1 else 0.0)

    result = stats.bootstrap(
        samples, mean, vectorized=True, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return np.asarray(result.bootstrap_distribution)


def difference(arm: Mapping[int, float], reference: Mapping[int, float], paired: bool = True) -> Difference | None:
    """The difference of two arms with its 95 % interval; None with fewer than two common replicates."""
    found = contrast(arm, reference, paired)
    if found is None:
        return None
    return Difference(found.mean, *found.interval(CONFIDENCE), found.n, found.paired)


def holm(p_values: Sequence[float]) -> list[tuple[float, float]]:
    """Holm's step-down correction: for each p the corrected p and the level of the interval that goes with it.

    A corrected p is below `FAMILY_ERROR` exactly where p is below 1 - level. (Holm 1979, Scand. J. Stat. 6, 65.)
    """
    corrected = [(1.0, CONFIDENCE)] * len(p_values)
    floor, level = 0.0, 0.0
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        left = len(p_values) - step
        if floor < FAMILY_ERROR:  # after the first that fails, none is tested at a milder level
            level = 1 - FAMILY_ERROR / left
        floor = max(floor, min(1.0, left * p_values[index]))
        corrected[index] = floor, level
    return corrected
