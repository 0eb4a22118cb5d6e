"""The verdict: comparisons of finalists with their controls, corrected, and the one phrase that they allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sugarsearch.config.verdict import fewest_seeds
from sugarsearch.verdict.arms import Against, Entrant
from sugarsearch.verdict.decision import KINDS, Row, Sign, decide
from sugarsearch.verdict.stages import Scores, Sweep
from sugarsearch.verdict.statistics import CONFIDENCE, Contrast, contrast, holm

_ORDER: Final[tuple[Against, ...]] = ("relu", "unit", "random")


@dataclass(frozen=True)
class Comparison:
    """A finalist's difference to one control (accuracy, 0 to 1).

    Attributes:
        arm, against: labels.
        control: "relu", "unit" (the finalist at unit gain) or "random" (a random g of the same gain).
        rate, against_rate: the learning rates of the two.
        mean, low, high: of the difference; the interval is as wide as Holm's correction asks.
        p, p_holm: two-sided, before and after the correction over the comparisons of the verdict.
        n: seeds that both have.
        paired: whether the difference was taken seed by seed.
    """

    arm: str
    against: str
    control: Against
    rate: float
    against_rate: float
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    paired: bool


@dataclass(frozen=True)
class AtRate:
    """The finalist's difference to ReLU where both have one learning rate, from the sweeps, corrected over rates."""

    rate: float
    mean: float
    low: float
    high: float
    p_holm: float
    n: int


@dataclass(frozen=True)
class Optimism:
    """What the re-run promised of the lead over ReLU (accuracy), what the final runs showed, and the gap.

    points: promised minus shown, in points; sd: the same in standard deviations of a single final run of ReLU.
    """

    promised: float
    shown: float
    points: float
    sd: float | None


@dataclass(frozen=True)
class Verdict:
    """What may be said.

    Attributes:
        kind: see `decision.Kind`.
        phrase: the row's phrase with its numbers.
        sentence: the phrase with the finalist's name and the evidence.
        explanation: one sentence on what the phrase means.
        finalist: label of the finalist that is spoken of.
        comparisons: with its controls; corrected for those of all finalists.
        at_same_rate: where it and ReLU have one learning rate.
        detectable: the smallest true difference to ReLU that would have been seen, in accuracy.
        n: seeds of the comparison with ReLU.
    """

    kind: str
    phrase: str
    sentence: str
    explanation: str
    finalist: str
    comparisons: list[Comparison]
    at_same_rate: list[AtRate]
    detectable: float
    n: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """The verdict that `dataclasses.asdict` wrote."""
        comparisons = [Comparison(**item) for item in value["comparisons"]]
        rates = [AtRate(**item) for item in value["at_same_rate"]]
        return cls(**{**value, "comparisons": comparisons, "at_same_rate": rates})


@dataclass(frozen=True)
class Contender:
    """A finalist's runs, and those of its controls.

    Attributes:
        entrant: the finalist.
        scores: its final runs by learning rate, at its best one and its second best.
        controls: final runs of what it is compared with, likewise; of controls but ReLU at the best rate alone.
        sweep, relu_sweep: validation scores by learning rate, of the finalist and of ReLU.
        paired: whether its differences are taken seed by seed.
    """

    entrant: Entrant
    scores: Mapping[float, Scores]
    controls: Mapping[Against, Mapping[float, Scores]]
    sweep: Sweep
    relu_sweep: Sweep
    paired: bool = True

    def against(self, control: Against) -> Meeting | None:
        """The difference to a control; None with fewer than two common seeds.

        With a few seeds a rate, the second best may be taken for the best, and that alone makes a lead: in up to 7 of
        100 studies without a difference, where the rates lie one spread of the runs apart. So where the finalist
        leads ReLU, ReLU counts at whichever of its two rates leaves less of the lead, and where it is behind, it
        counts itself at whichever of its own leaves less of that: a lead is then seen in 2 of 100.
        """
        others = self.controls.get(control, {})
        if not self.scores or not others:
            return None
        rate, against_rate = next(iter(self.scores)), next(iter(others))
        best = self._meeting(control, rate, against_rate)
        if best is None or control != "relu":
            return best
        if best.difference.mean > 0:
            doubtful = [self._meeting(control, rate, other) for other in others]
            return min(filter(None, doubtful), key=lambda met: met.difference.interval(CONFIDENCE)[0])
        doubtful = [self._meeting(control, own, against_rate) for own in self.scores]
        return max(filter(None, doubtful), key=lambda met: met.difference.interval(CONFIDENCE)[1])

    def _meeting(self, control: Against, rate: float, against_rate: float) -> Meeting | None:
        difference = contrast(self.scores[rate], self.controls[control][against_rate], self.paired)
        return None if difference is None else Meeting(rate, against_rate, difference)


@dataclass(frozen=True)
class Meeting:
    """The difference of two arms, and the learning rates at which they were set against each other."""

    rate: float
    against_rate: float
    difference: Contrast


def judge(contenders: Sequence[Contender]) -> list[Verdict]:
    """A verdict on each finalist that can be compared with ReLU, first the one of which most can be said."""
    found = [
        (contender, name, met)
        for contender in contenders
        for name in _ORDER
        if (met := contender.against(name)) is not None
    ]
    corrected = holm([met.difference.p for *_, met in found])
    compared = [
        (contender, _comparison(contender, name, met, p_holm, level))
        for (contender, name, met), (p_holm, level) in zip(found, corrected, strict=True)
    ]
    verdicts = []
    for contender in contenders:
        raw = next((met.difference for owner, name, met in found if owner is contender and name == "relu"), None)
        if raw is not None:
            own = [comparison for owner, comparison in compared if owner is contender]
            verdicts.append(_verdict(contender, own, raw, len(contenders), len(compared)))
    return sorted(verdicts, key=lambda verdict: (KINDS.index(verdict.kind), -verdict.comparisons[0].mean))


def _row(contender: Contender, own: Sequence[Comparison], rates: Sequence[AtRate], finalists: int) -> Row:
    """Of the decision table."""
    needed = fewest_seeds(finalists)
    against = {comparison.control: comparison for comparison in own}
    signs: dict[Against, Sign] = {name: _sign(against.get(name), needed) for name in _ORDER}
    # A lead at ReLU's own best rate is none that hangs on the rate.
    leads = {rate.rate for rate in rates if rate.low > 0 and against["relu"].n >= needed}
    at_a_rate = bool(leads) and contender.relu_sweep.best not in leads
    return decide(signs["relu"], signs["unit"], signs["random"], at_a_rate)


def _comparison(contender: Contender, name: Against, met: Meeting, p_holm: float, level: float) -> Comparison:
    made = met.difference
    low, high = made.interval(level)
    return Comparison(
        arm=contender.entrant.label,
        against=contender.entrant.against[name].label,
        control=name,
        rate=met.rate,
        against_rate=met.against_rate,
        mean=made.mean,
        low=low,
        high=high,
        p=made.p,
        p_holm=p_holm,
        n=made.n,
        paired=made.paired,
    )


def _sign(comparison: Comparison | None, needed: int) -> Sign:
    """Of a comparison; with too few seeds left by the machine's faults, none is shown."""
    if comparison is None:
        return "."
    if comparison.n < needed:
        return "0"
    return "+" if comparison.low > 0 else "-" if comparison.high < 0 else "0"


def _at_same_rates(contender: Contender) -> list[AtRate]:
    """Over all rates that both were run at: the finalist's best one alone would have been picked for its luck."""
    own, relu = contender.sweep.scores, contender.relu_sweep.scores
    made = {rate: contrast(own[rate], relu[rate], contender.paired) for rate in sorted(own.keys() & relu.keys())}
    known = [(rate, difference) for rate, difference in made.items() if difference is not None]
    corrected = holm([difference.p for _, difference in known])
    return [
        AtRate(rate, difference.mean, *difference.interval(level), p_holm, difference.n)
        for (rate, difference), (p_holm, level) in zip(known, corrected, strict=True)
    ]


def _verdict(contender: Contender, own: list[Comparison], raw: Contrast, finalists: int, compared: int) -> Verdict:
    """Of `compared` comparisons of all `finalists`, its `own`; `raw` is that with ReLU, which comes first."""
    relu, rates = own[0], _at_same_rates(contender)
    row = _row(contender, own, rates, finalists)
    low, high = sorted((abs(relu.low), abs(relu.high)))
    detectable = raw.detectable(compared)
    phrase = row.phrase.format(low=points(low), high=points(high), n=relu.n, detectable=points(detectable))
    kind = "paired" if relu.paired else "unpaired"
    corrected = f"; corrected for {compared} comparisons" if compared > 1 else ""
    doubt = ""
    if relu.against_rate != next(iter(contender.controls["relu"])):
        doubt = f" at its second best rate, {relu.against_rate:g},"
    elif relu.rate != next(iter(contender.scores)):
        doubt = f", itself at its second best rate, {relu.rate:g},"
    evidence = (
        f"difference to tuned ReLU{doubt} {signed(relu.mean)} points, {100 * CONFIDENCE:.0f} % interval "
        f"{signed(relu.low)} to {signed(relu.high)}, {relu.n} {kind} seeds{corrected}"
    )
    if row.kind == "only_at_this_rate":
        best = max(rates, key=lambda rate: rate.low)
        evidence = f"at {best.rate:g} by {points(best.low)} to {points(best.high)} points; {evidence}"
    return Verdict(
        kind=row.kind,
        phrase=phrase,
        sentence=f"{contender.entrant.title}: {phrase} ({evidence}).",
        explanation=row.explanation,
        finalist=relu.arm,
        comparisons=own,
        at_same_rate=rates,
        detectable=detectable,
        n=relu.n,
    )


def points(value: float) -> str:
    """A difference of accuracies in points: one decimal, or as many as show that it is not 0."""
    text = f"{100 * value:.1f}"
    return f"{100 * value:.1g}" if float(text) == 0 and abs(value) > 1e-12 else text


def signed(value: float) -> str:
    """As `points`, with its sign."""
    return f"{'+' if value > 0 else ''}{points(value)}"
