"""Statistics of a final table: an arm's runs, its difference to ReLU, and one honest sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

CONFIDENCE: Final = 0.95
FEWEST_PAIRS: Final = 5
"""Below this an interval excludes 0 too easily: with 4 seeds all differences have one sign by chance in 1 case of 8."""
_RESAMPLES: Final = 9_999


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of the paired differences to ReLU, seed by seed, with a bootstrap interval (accuracy, 0 to 1)."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0, and there are enough pairs for that to mean something."""
        return self.pairs >= FEWEST_PAIRS and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Summary:
    """Accuracies of an arm's runs: mean, standard deviation (n - 1), standard error, and share of collapsed runs."""

    n: int
    mean: float
    sd: float
    sem: float
    collapse_share: float


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


def paired_difference(arm: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """Difference of two arms over the replicates that both have; None with fewer than two.

    Replicates share seeds, so weights at the start and batches are the same for both arms.
    """
    common = sorted(arm.keys() & reference.keys())
    if len(common) < 2:
        return None
    values = np.array([arm[replicate] - reference[replicate] for replicate in common])
    mean = float(values.mean())
    if np.ptp(values) == 0:  # nothing to resample
        return Difference(mean, mean, mean, len(common))
    interval = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Difference(mean, float(interval.low), float(interval.high), len(common))


def winner_text(means: Mapping[str, float], differences: Mapping[str, Difference | None], reference: str | None) -> str:
    """One sentence on who won. Keys are labels; `reference` is ReLU's, or None where it was not run.

    The difference stated is that of the best other arm to ReLU, whichever of the two is ahead.
    """
    others = [label for label in means if label != reference]
    if reference is None or not others:
        best = max(means, key=lambda label: means[label])
        alone = "nothing else was run" if others == [] else "ReLU was not run, so nothing is said against it"
        return f"{best} has the highest mean, {100 * means[best]:.1f} %; {alone}."
    rival = max(others, key=lambda label: means[label])
    relu = f"ReLU's is {100 * means[reference]:.1f} %"
    lead = f"{rival} has a mean of {100 * means[rival]:.1f} %, {relu}"
    difference = differences[rival]
    if difference is None or difference.pairs < FEWEST_PAIRS:
        return f"{lead}; fewer than {FEWEST_PAIRS} paired seeds are too few to tell."
    evidence = (
        f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f} points, "
        f"{100 * CONFIDENCE:.0f} % interval over {difference.pairs} paired seeds"
    )
    if not difference.is_clear:
        return f"No difference is shown: {lead} ({evidence})."
    if difference.mean < 0:
        return f"ReLU wins: {lead} ({evidence})."
    return f"{rival} wins: its mean is {100 * means[rival]:.1f} %, {relu} ({evidence})."
