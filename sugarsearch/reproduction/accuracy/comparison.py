"""Printed accuracies and ours side by side, what our runs say of the source's claims, and the best learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Final

import numpy as np
from scipy import stats

from sugarsearch.config.accuracy_table import AccuracyBaseline, Claim
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.reproduction.accuracy.cells import Cell
from sugarsearch.reproduction.accuracy.run import Runs

CONFIDENCE: Final = 0.95
NOT_RUN: Final = "not run"
ONE_RUN: Final = "one run: no interval"


@dataclass(frozen=True)
class Accuracy:
    """What is known of a cell; accuracies from 0 to 1.

    Attributes:
        cell, title: the cell's name, and its row's and arm's.
        printed: the source's mean and standard deviation; None where it has none.
        printed_runs: of how many runs.
        scores: ours, by seed; a run that diverged counts as chance.
        diverged: how many of them did.
    """

    cell: str
    title: str
    printed: tuple[float, float] | None
    printed_runs: int
    scores: Mapping[int, float]
    diverged: int

    @property
    def mean(self) -> float | None:
        """Of ours; None where nothing was run."""
        return fmean(self.scores.values()) if self.scores else None

    @property
    def sd(self) -> float | None:
        """Standard deviation of ours; None with fewer than two runs."""
        return stdev(self.scores.values()) if len(self.scores) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of our mean, by Student's t; None with fewer than two runs."""
        if self.mean is None or self.sd is None:
            return None
        half = _quantile(len(self.scores) - 1) * self.sd / math.sqrt(len(self.scores))
        return self.mean - half, self.mean + half

    @property
    def difference(self) -> tuple[float, float] | None:
        """The interval of ours less the printed mean, by Welch's t; None where one of them has no spread."""
        if self.printed is None or self.mean is None or self.sd is None or self.printed_runs < 2:
            return None
        return _welch((self.mean, self.sd, len(self.scores)), (*self.printed, self.printed_runs))

    @property
    def words(self) -> str:
        """What the comparison says; empty where nothing is printed."""
        if self.mean is None:
            return NOT_RUN
        if self.printed is None:
            return ""
        if self.difference is None:
            return ONE_RUN
        low, high = self.difference
        if low <= 0 <= high:
            return "agrees"
        return f"differs: {100 * abs(self.mean - self.printed[0]):.1f} points {'higher' if low > 0 else 'lower'}"


def accuracy(cell: Cell, runs: Runs) -> Accuracy:
    """What is known of `cell`."""
    known = runs.all_of(cell)
    scores = {seed: record.value for seed, record in known.items()}
    diverged = sum(record.status is not Status.COMPLETED for record in known.values())
    return Accuracy(cell.name, cell.title, cell.printed, cell.baseline.printed_runs, scores, diverged)


def courses(cell: Cell, runs: Runs) -> list[Record]:
    """The records of the runs of `cell` that came to their end, for their accuracies over epochs."""
    return [record for record in runs.all_of(cell).values() if record.status is Status.COMPLETED]


def lead_over_relu(cell: Cell, runs: Runs) -> tuple[float, float] | None:
    """The interval of the lead over plain ReLU in the same model at the same rate, paired over common seeds.

    None for ReLU itself, where the baseline has none, and where fewer than two seeds are common.
    """
    relu = next((name for name, row in cell.baseline.rows.items() if row.is_relu), None)
    if cell.row.is_relu or relu is None:
        return None
    return _paired(accuracy(cell, runs), accuracy(replace(cell, row_name=relu, arm="sugar"), runs))


@dataclass(frozen=True)
class Best:
    """The best learning rate of a setting, by the mean of our runs.

    Attributes:
        cell: the setting at that rate.
        accuracy: there.
        at_end: "lowest" or "highest" where it is the end of the rates run, beyond which a better one may lie; else "".
        lead: the interval of its lead over plain ReLU at ReLU's best rate, paired over common seeds; None for ReLU, and
            where fewer than two seeds are common.
    """

    cell: Cell
    accuracy: Accuracy
    at_end: str
    lead: tuple[float, float] | None


def best_rates(cells: Sequence[Cell], runs: Runs) -> list[Best]:
    """Of every setting of `cells` that was run at several learning rates."""
    found: list[Best] = []
    for model in dict.fromkeys(cell.model_name for cell in cells):
        settings: dict[str, list[tuple[Cell, Accuracy]]] = {}
        for cell in cells:
            if cell.model_name == model and (known := accuracy(cell, runs)).scores:
                settings.setdefault(cell.setting, []).append((cell, known))
        swept = [tried for tried in settings.values() if len(tried) > 1]
        bests = [max(tried, key=lambda one: _mean(one[1])) for tried in swept]
        relu = next((best for cell, best in bests if cell.row.is_relu), None)
        for tried, (cell, best) in zip(swept, bests, strict=True):
            rates = sorted(one.learning_rate for one, _ in tried)
            end = {rates[0]: "lowest", rates[-1]: "highest"}.get(cell.learning_rate, "")
            lead = None if relu is None or cell.row.is_relu else _paired(best, relu)
            found.append(Best(cell, best, end, lead))
    return found


@dataclass(frozen=True)
class Finding:
    """What our runs say of a claim so far: "supported", "contradicted", "open" or "not run", with the numbers."""

    text: str
    verdict: str
    words: str


def findings(baseline: AccuracyBaseline, cells: Sequence[Cell], runs: Runs) -> list[Finding]:
    """One for each claim of the baseline; where there are several learning rates, at the best of each side."""
    known: dict[str, list[Accuracy]] = {}
    for cell in cells:
        if (found := accuracy(cell, runs)).scores:
            known.setdefault(cell.setting, []).append(found)
    best = {name: max(found, key=_mean) for name, found in known.items()}
    return [_finding(claim, best.get(claim.higher), best.get(claim.lower)) for claim in baseline.claims]


def _finding(claim: Claim, higher: Accuracy | None, lower: Accuracy | None) -> Finding:
    if higher is None or lower is None:
        return Finding(claim.text, NOT_RUN, "")
    numbers = f"{100 * _mean(higher):.1f} % against {100 * _mean(lower):.1f} %"
    lead = _paired(higher, lower)
    if lead is None:
        return Finding(claim.text, "open", f"{numbers}; fewer than two seeds in common")
    verdict = "supported" if lead[0] > 0 else "contradicted" if lead[1] < 0 else "open"
    seeds = len(higher.scores.keys() & lower.scores.keys())
    return Finding(
        claim.text, verdict, f"{numbers}, {100 * lead[0]:+.1f} to {100 * lead[1]:+.1f} points, {seeds} seeds"
    )


def cautions(baseline: AccuracyBaseline, accuracies: Sequence[Accuracy]) -> list[str]:
    """What a reader must know before believing the comparison."""
    diverged = [f"{one.cell}: {one.diverged} runs diverged; they count as chance" for one in accuracies if one.diverged]
    test = [
        f"differences from printed means are by Welch's t at {100 * CONFIDENCE:g} %, with the printed deviation taken "
        f"as that of {baseline.printed_runs} runs"
    ]
    return [*(test if baseline.printed else []), *baseline.notes, *diverged]


def _mean(found: Accuracy) -> float:
    assert found.mean is not None
    return found.mean


def _paired(one: Accuracy, other: Accuracy) -> tuple[float, float] | None:
    """The interval of the mean difference over common seeds, by Student's t; None with fewer than two."""
    common = sorted(one.scores.keys() & other.scores.keys())
    if len(common) < 2:
        return None
    leads = np.array([one.scores[seed] - other.scores[seed] for seed in common])
    half = _quantile(len(leads) - 1) * float(leads.std(ddof=1)) / math.sqrt(len(leads))
    return float(leads.mean()) - half, float(leads.mean()) + half


def _welch(one: tuple[float, float, int], other: tuple[float, float, int]) -> tuple[float, float]:
    """The interval of the difference of two means, from (mean, standard deviation, n) of each."""
    variances = [sd**2 / n for _, sd, n in (one, other)]
    total = sum(variances)
    if total == 0:
        return one[0] - other[0], one[0] - other[0]
    freedom = total**2 / sum(variance**2 / (n - 1) for variance, (_, _, n) in zip(variances, (one, other), strict=True))
    half = _quantile(freedom) * math.sqrt(total)
    return one[0] - other[0] - half, one[0] - other[0] + half


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
