"""The verdict's table as data: arms, verdicts, and what else was compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sugarsearch.config.ablation import Ablation
from sugarsearch.verdict.judgement import Comparison, Optimism, Verdict
from sugarsearch.verdict.pairs import Pair
from sugarsearch.verdict.statistics import Difference, Summary


@dataclass(frozen=True)
class Arm:
    """One row of the table: a surrogate with its sweep on validation data and its final runs.

    Attributes:
        label: for people; see `label_of`.
        role: "finalist", "control" or "ablation".
        surrogate: `Surrogate.to_json()` of what was trained.
        formula: g with all numbers.
        gain, at_zero: of g as trained.
        tuning: mean validation accuracy by learning rate.
        learning_rate: the best of them.
        scores: accuracy of the final runs by replicate.
        summary: of `scores`.
        difference: to ReLU, not corrected; None for ReLU itself and where there is none to compare with.
        faults: final runs left out because the machine failed.
        title: what the arm is in this table, such as "best found"; empty in files of earlier versions.
        ablation: what is changed of the recipe's update.
    """

    label: str
    role: str
    surrogate: dict[str, Any]
    formula: str
    gain: float
    at_zero: float
    tuning: dict[str, float]
    learning_rate: float
    scores: dict[str, float]
    summary: Summary
    difference: Difference | None
    faults: int
    title: str = ""
    ablation: Ablation = ""

    @property
    def sweep_end(self) -> str | None:
        """ "smallest" or "largest", if the best rate is that of the sweep: a wider one may favour this arm."""
        rates = sorted(map(float, self.tuning))
        if len(rates) > 1 and self.learning_rate == rates[0]:
            return "smallest"
        return "largest" if len(rates) > 1 and self.learning_rate == rates[-1] else None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Arm:
        """The arm that `dataclasses.asdict` wrote."""
        difference = value["difference"]
        return cls(
            **{
                **value,
                "summary": Summary(**value["summary"]),
                "difference": None if difference is None else Difference(**difference),
            }
        )


@dataclass(frozen=True)
class Rerun:
    """A candidate of the re-run, or ReLU beside them.

    Attributes:
        label, surrogate: as in `Arm`.
        learning_rate: its best of the screening.
        screening: its score there; None where ReLU was no candidate.
        scores: validation accuracy by replicate.
    """

    label: str
    surrogate: dict[str, Any]
    learning_rate: float
    screening: float | None
    scores: dict[str, float]


@dataclass(frozen=True)
class FinalTable:
    """Arms, best mean first, and what may be said of the finalists.

    Attributes:
        rows: the arms.
        winner: the verdict's sentence, or why there is none.
        scored_on: "test" or "validation".
        collapse_below: accuracy at or below which a run counts as collapsed.
        verdicts: on each finalist, first the one of which most can be said; none where no finalist can be compared
            with ReLU, and in files of earlier versions.
        pairs: further comparisons.
        rerun: who was run again, best mean first.
        optimism: of the re-run, for the finalist of the verdict.
    """

    rows: list[Arm]
    winner: str
    scored_on: str
    collapse_below: float
    verdicts: list[Verdict] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    rerun: list[Rerun] = field(default_factory=list)
    optimism: Optimism | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The first."""
        return self.verdicts[0] if self.verdicts else None

    @property
    def comparisons(self) -> list[Comparison]:
        """Of all finalists with their controls."""
        return [comparison for verdict in self.verdicts for comparison in verdict.comparisons]

    def to_json(self) -> dict[str, Any]:
        """Plain data, fit for `json.dump`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FinalTable:
        """The table that `to_json` wrote, in this version or one before verdicts."""
        optimism = value.get("optimism")
        return cls(
            **{
                **value,
                "rows": [Arm.from_json(row) for row in value["rows"]],
                "verdicts": [Verdict.from_json(verdict) for verdict in value.get("verdicts", ())],
                "pairs": [Pair(**pair) for pair in value.get("pairs", ())],
                "rerun": [Rerun(**row) for row in value.get("rerun", ())],
                "optimism": None if optimism is None else Optimism(**optimism),
            }
        )
