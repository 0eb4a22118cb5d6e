"""The decision table: from intervals to one phrase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Sign = Literal["+", "0", "-", "."]
"""Of a finalist's difference to a control: its interval lies above 0, holds 0, or lies below; "." there is none."""

Kind = Literal["better", "explained_by_gain", "only_at_this_rate", "no_difference", "worse"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: which signs it is for, and what is then said.

    Attributes:
        kind: names the phrase.
        relu: signs of finalist - tuned ReLU that fit.
        unit: signs of finalist - its form at unit gain; "." where the finalist's gain is 1 already.
        random: signs of finalist - a random g of the same gain; "." where none was found.
        at_a_rate: whether the finalist beats ReLU at some one learning rate, but not at ReLU's own best.
        phrase: with the fields low, high, n and detectable.
        explanation: one sentence on what the phrase means here.
    """

    kind: Kind
    relu: str
    unit: str
    random: str
    at_a_rate: tuple[bool, ...]
    phrase: str
    explanation: str

    def fits(self, relu: Sign, unit: Sign, random: Sign, at_a_rate: bool) -> bool:
        """Whether the row is for these signs."""
        return relu in self.relu and unit in self.unit and random in self.random and at_a_rate in self.at_a_rate


_BETTER: Final = "better than tuned ReLU by {low} to {high} points"
_GAIN: Final = "explained by gain"
_ANY: Final = "+0-."
_EITHER: Final = (True, False)

TABLE: Final = (
    Row(
        "better", "+", ".", "+.", _EITHER, _BETTER,
        "Each has its own best learning rate and both have the same gain, so it is the shape of g that helps.",
    ),
    Row(
        "better", "+", ".", "0-", _EITHER, _BETTER,
        "Each has its own best learning rate and both have the same gain, so gain is not the reason; but a random g of "
        "the search space is not shown to do worse, so this very g may be no better than others there.",
    ),
    Row(
        "better", "+", "+0-", "+", _EITHER, _BETTER,
        "Each has its own best learning rate, and a random g of the same gain does worse, so gain alone does not "
        "explain it.",
    ),
    Row(
        "better", "+", "-", "0-.", _EITHER, _BETTER,
        "Each has its own best learning rate, and at unit gain this g does better still, so gain does not explain it; "
        "use it at unit gain.",
    ),
    Row(
        "explained_by_gain", "+", "+", "0-.", _EITHER, _GAIN,
        "It beats tuned ReLU, but its own form at unit gain does worse and no random g of the same gain is shown to: "
        "the larger or smaller gradient is enough to explain the lead.",
    ),
    Row(
        "explained_by_gain", "+", "0", "0-.", _EITHER, _GAIN,
        "It beats tuned ReLU, but no random g of the same gain is shown to do worse: nothing excludes its gain as the "
        "reason for the lead.",
    ),
    Row(
        "only_at_this_rate", "0", _ANY, _ANY, (True,), "better only at this learning rate",
        "It beats ReLU where both have one learning rate, but no difference is shown once each has its own best.",
    ),
    Row(
        "no_difference", "0", _ANY, _ANY, (False,),
        "no difference shown with {n} seeds; {detectable} points could have been seen",
        "A true difference of that many points would have been found in 80 of 100 such studies; a smaller one may be "
        "there.",
    ),
    Row(
        "worse", "-", _ANY, _ANY, _EITHER, "worse than tuned ReLU by {low} to {high} points",
        "Each has its own best learning rate, and ReLU's own derivative does better.",
    ),
)  # fmt: skip
"""Exactly one row fits each combination of signs. Of several finalists the one whose kind comes first stands first."""

KINDS: Final = tuple(dict.fromkeys(row.kind for row in TABLE))


def decide(relu: Sign, unit: Sign, random: Sign, at_a_rate: bool) -> Row:
    """The row for these signs; see `Row` for their meaning. `relu` is never "."."""
    return next(row for row in TABLE if row.fits(relu, unit, random, at_a_rate))
